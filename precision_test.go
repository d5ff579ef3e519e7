package resdet

import (
	"errors"
	"image"
	"math"
	"slices"
	"strings"
	"testing"

	"resdet/internal/formula"
	"resdet/internal/nn"
)

// What reads the image and what gives logits and deltas stays in f32, in every
// architecture; everything else may be lower.
func TestLayersBelowF32(t *testing.T) {
	for _, arch := range Archs() {
		cfg, err := NewConfig(arch, IndexedClasses("cat", "dog"))
		if err != nil {
			t.Fatal(err)
		}
		layers, err := cfg.Layers()
		if err != nil {
			t.Fatal(err)
		}
		params, err := cfg.Params()
		if err != nil {
			t.Fatal(err)
		}
		var kept []string
		for _, p := range params {
			name, ok := trimWeight(p)
			if ok && !slices.Contains(layers, name) {
				kept = append(kept, name)
			}
		}
		if len(kept) != 5 { // conv1, two of the RPN, two of the head
			t.Errorf("%s: %v stay in f32", arch, kept)
		}
	}
}

func trimWeight(p ParamSpec) (string, bool) {
	const suffix = ".weight"
	if len(p.Shape) < 2 {
		return "", false
	}
	return p.Key[:len(p.Key)-len(suffix)], true
}

func TestPrecisionOptions(t *testing.T) {
	cfg := small(t, Options{Device: "ref"}).Config()
	if _, err := New(cfg, formula.Params{Basic: true}, Options{Precision: Int8}); !errors.Is(err, ErrNotQuantised) {
		var lacks *nn.PrecisionError
		if !errors.As(err, &lacks) {
			t.Errorf("int8 without calibration: %v", err)
		}
	}
	var lacks *nn.PrecisionError
	if _, err := New(cfg, formula.Params{Basic: true}, Options{Precision: "int4"}); !errors.As(err, &lacks) {
		t.Errorf("int4: %v", err)
	}
	cfg.Quantization = &Quantization{Layers: map[string]Numbers{"no.such.layer": {Precision: Int8, Scale: 1}}}
	if _, err := New(cfg, formula.Params{Basic: true}, Options{Device: "ref", Precision: Int8}); err == nil {
		t.Error("a layer that does not exist was accepted")
	}
	cfg.Quantization.Layers["no.such.layer"] = Numbers{Precision: Int8}
	if err := cfg.Validate(); err == nil {
		t.Error("int8 without a scale was accepted")
	}
}

// A calibrated network finds in int8 about what it finds in f32.
func TestCalibrate(t *testing.T) {
	for _, device := range []string{"ref", ""} {
		t.Run("device "+device, func(t *testing.T) {
			if device == "ref" && testing.Short() {
				t.Skip("five seconds of plain Go")
			}
			d := small(t, Options{Device: device})
			img := picture(96, 64, "calibrate")
			q, err := d.Calibrate(t.Context(), img, picture(64, 64, "other"))
			if err != nil {
				t.Fatal(err)
			}
			cfg := d.Config()
			layers, err := cfg.Layers()
			if err != nil {
				t.Fatal(err)
			}
			if len(q.Layers) != len(layers) {
				t.Errorf("%d of %d layers have a scale", len(q.Layers), len(layers))
			}
			if q.Layers["backbone.body.layer1.0.conv1"].Signed || !q.Layers["rpn.head.conv.0.0"].Signed && !q.Layers["rpn.head.conv"].Signed {
				t.Errorf("signs are wrong: %v", q.Layers)
			}
			cfg.Quantization = q
			low := inInt8(t, cfg, Options{Device: device})
			if low.Precision() != Int8 {
				t.Errorf("the precision is %s", low.Precision())
			}
			if _, err := low.Calibrate(t.Context(), img); err == nil {
				t.Error("a detector in int8 was calibrated")
			}
			far, largest, got := 0.0, 0.0, logits(t, low, img)
			for i, want := range logits(t, d, img) {
				far = max(far, math.Abs(float64(got[i]-want)))
				largest = max(largest, math.Abs(float64(want)))
			}
			if far == 0 || far > 0.1*largest {
				t.Errorf("the RPN's logits differ by up to %v; the largest is %v", far, largest)
			}
		})
	}
}

// inInt8 opens small's network in int8 until the test ends, which is skipped where
// the CPU does not compute in it.
func inInt8(t *testing.T, cfg Config, opt Options) *Detector {
	t.Helper()
	opt.Precision = Int8
	d, err := New(cfg, formula.Params{Basic: true}, opt)
	var lacks *nn.PrecisionError
	if errors.As(err, &lacks) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// logits returns those of the RPN's finest level.
func logits(t *testing.T, d *Detector, img image.Image) []float32 {
	t.Helper()
	if _, err := d.DetectBatch(t.Context(), []image.Image{img}, d.Settings()); err != nil {
		t.Fatal(err)
	}
	return slices.Clone(d.profile.one.Output(0).Data())
}

// In int8 those layers stay in f32 that are faster so on this CPU, unless all are
// asked for.
func TestEveryLayer(t *testing.T) {
	d := small(t, Options{})
	img := picture(96, 64, "every layer")
	q, err := d.Calibrate(t.Context(), img)
	if err != nil {
		t.Fatal(err)
	}
	for _, every := range []bool{false, true} {
		low := inInt8(t, d.Config(), Options{Quantization: q, EveryLayer: every})
		logits(t, low, img)
		one, two := low.Profile().Steps()
		own := 0
		for _, s := range append(one, two...) {
			if s.Algorithm == "winograd" {
				own++
			}
			if every && s.Algorithm == "winograd" {
				t.Errorf("%s is computed in %s by %s though all layers are asked for in int8", s.Name, s.Precision, s.Algorithm)
			}
			if s.Algorithm == "winograd" && s.Precision != F32 {
				t.Errorf("%s: Winograd in %s", s.Name, s.Precision)
			}
		}
		if !every && own == 0 && strings.Contains(low.Device(), " avx2,") {
			t.Error("all layers are in int8, also those that are faster in f32")
		}
	}
}
