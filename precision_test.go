package resdet

import (
	"errors"
	"image"
	"math"
	"slices"
	"strings"
	"testing"

	"resdet/internal/device"
	"resdet/internal/formula"
	"resdet/internal/nn"
)

// withLayers returns an architecture's configuration and its layers that may be
// below float32.
func withLayers(t *testing.T, arch string) (Config, []string) {
	t.Helper()
	cfg, err := NewConfig(arch, IndexedClasses("cat", "dog"))
	if err != nil {
		t.Fatal(err)
	}
	layers, err := cfg.Layers()
	if err != nil {
		t.Fatal(err)
	}
	return cfg, layers
}

// What reads the image and what gives logits and deltas stays in f32, in every
// architecture; everything else may be lower.
func TestLayersBelowF32(t *testing.T) {
	for _, arch := range Archs() {
		cfg, layers := withLayers(t, arch)
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

// Layers are told by the finest map that they make; what is shared by levels of a
// pyramid counts for its finest one.
func TestLayerStrides(t *testing.T) {
	for arch, want := range map[string]map[string]int{
		"resnet18-fpn": {
			"backbone.body.layer1.0.conv1": 4, "backbone.body.layer2.0.conv1": 8, "backbone.body.layer4.1.conv2": 32,
			"backbone.fpn.layer_blocks.2.0": 16, "rpn.head.conv.0.0": 4, "roi_heads.box_head.fc6": 0,
		},
		"resnet50-c4": {"backbone.layer3.0.conv2": 16, "rpn.head.conv.0.0": 16, "roi_heads.box_head.layer4.0.conv1": 0},
		"vgg16":       {"backbone.2": 1, "roi_heads.box_head.fc6": 0},
	} {
		cfg, layers := withLayers(t, arch)
		strides, err := cfg.LayerStrides()
		if err != nil || len(strides) != len(layers) {
			t.Errorf("%s: %d strides of %d layers, %v", arch, len(strides), len(layers), err)
		}
		for name, stride := range want {
			if got, ok := strides[name]; !ok || got != stride {
				t.Errorf("%s: %s has stride %d, %v; want %d, among %v", arch, name, got, ok, stride, strides)
			}
		}
		work, err := cfg.LayerFLOPs(128, 192, 10)
		if err != nil || len(work) != len(layers) {
			t.Errorf("%s: FLOPs of %d of %d layers, %v", arch, len(work), len(layers), err)
		}
		twice, err := cfg.LayerFLOPs(128, 192, 20)
		if err != nil {
			t.Fatal(err)
		}
		for name, stride := range strides {
			if of := twice[name] / work[name]; work[name] == 0 || of != 1 && stride > 0 || of != 2 && stride == 0 {
				t.Errorf("%s: %s: %d FLOPs, with twice the regions %d", arch, name, work[name], twice[name])
			}
		}
	}
}

// In bf16 layers of fine maps stay in f32, unless all are asked for; what a
// quantization has in bf16 is in f32 where the CPU lacks it.
func TestLayersInBF16(t *testing.T) {
	d := small(t, Options{Device: "ref"})
	cfg, dev := d.Config(), d.workers[0].dev
	strides, err := cfg.LayerStrides()
	if err != nil {
		t.Fatal(err)
	}
	for _, every := range []bool{false, true} {
		_, layers, err := cfg.numerics(dev, Options{Precision: BF16, EveryLayer: every})
		if err != nil {
			t.Fatal(err)
		}
		for name, stride := range strides {
			if got := layers[name].Precision == BF16; got != (every || stride == 0 || stride >= 32) {
				t.Errorf("every layer %v: %s of stride %d is in bf16: %v", every, name, stride, got)
			}
		}
	}
	const layer = "backbone.body.layer1.0.conv1"
	cfg.Quantization = &Quantization{Layers: map[string]Numbers{layer: {Precision: BF16}}}
	for _, c := range []struct {
		dev  device.Device
		want Precision
	}{{dev, BF16}, {lacking{dev}, ""}} {
		_, layers, err := cfg.numerics(c.dev, Options{Precision: Int8, EveryLayer: true})
		if err != nil || layers[layer].Precision != c.want {
			t.Errorf("%v: %v, %v; want %q", c.dev.Precisions(), layers, err, c.want)
		}
	}
}

// lacking is a device without bf16.
type lacking struct{ device.Device }

func (lacking) Precisions() []Precision { return []Precision{F32, Int8} }

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
