package onnx

import (
	"bytes"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"resdet/internal/device"
	"resdet/internal/fixture"
	"resdet/internal/formula"
	"resdet/internal/nd"
	"resdet/internal/nn"
	"resdet/internal/transform"
	"resdet/roihead"
	"resdet/rpn"
)

// tiny is a whole detector of one convolution and one level.
func tiny(t testing.TB) Detector {
	t.Helper()
	d := Detector{Transform: transform.DefaultConfig(), Strides: []int{4}, ROI: roihead.DefaultConfig(), IDs: []int64{3, 90},
		RPN: rpn.DefaultConfig(rpn.Anchors{Sizes: [][]float32{{16}}, Ratios: []float32{1}, Round: true, GridStride: true})}
	d.Transform.ShortSide, d.Transform.LongSide, d.Transform.PadMultiple = 32, 64, 4
	d.ROI.Score = 0.1
	d.Metadata = [][2]string{{"resdet", "{}"}}
	var err error
	d.Stage1, err = nn.Build(func(b *nn.Builder) {
		x := b.ReLU(b.ConvBias("backbone", b.Input("pixels", 1, 3, 32, 32), 8, 5, 4, 2))
		logits, deltas := d.RPN.Head(b, []nn.Value{x})
		b.Output("rpn_logits_0", logits[0])
		b.Output("rpn_deltas_0", deltas[0])
		b.Keep("feat_0", x)
	})
	if err != nil {
		t.Fatal(err)
	}
	d.Stage2, err = nn.Build(func(b *nn.Builder) {
		x := b.RoIAlign(nn.RoIAlign{Pyramid: nn.Pyramid{Scales: []float64{0.25}}, H: 2, W: 2, Sampling: 2}, []nn.Value{b.Input("feat_0", 1, 8, 8, 8)}, b.Input("rois", 1, 5))
		x = b.Flatten(x)
		b.Output("class_logits", b.Linear("cls", x, 3))
		b.Output("box_regression", b.Linear("box", x, 12))
	})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// fields returns the fields of a message by number.
func fields(t *testing.T, m []byte) map[protowire.Number][][]byte {
	t.Helper()
	out := map[protowire.Number][][]byte{}
	for len(m) > 0 {
		num, typ, n := protowire.ConsumeTag(m)
		if n < 0 {
			t.Fatal(protowire.ParseError(n))
		}
		m = m[n:]
		if n = protowire.ConsumeFieldValue(num, typ, m); n < 0 {
			t.Fatal(protowire.ParseError(n))
		}
		value := m[:n]
		if typ == protowire.BytesType {
			value, _ = protowire.ConsumeBytes(m)
		}
		out[num] = append(out[num], value)
		m = m[n:]
	}
	return out
}

// tensors returns the initializers of a model by name.
func tensors(t *testing.T, model []byte) map[string]map[protowire.Number][][]byte {
	out := map[string]map[protowire.Number][][]byte{}
	for _, m := range fields(t, fields(t, model)[7][0])[5] {
		f := fields(t, m)
		out[string(f[8][0])] = f
	}
	return out
}

// The file says how long it is before its parameters are known: every one of
// them is found again, in the model or beside it.
func TestParametersAreInTheFile(t *testing.T) {
	d := tiny(t)
	want := append(d.Stage1.Params(), d.Stage2.Params()...)
	for _, tt := range []struct {
		name  string
		limit int64
	}{{"inside", protobufLimit}, {"beside", 1000}} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "m.onnx")
			if err := write(path, d, formula.Params{}, tt.limit); err != nil {
				t.Fatal(err)
			}
			model, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if tt.limit < protobufLimit && int64(len(model)) > 40_000 {
				t.Errorf("the model has %d bytes", len(model))
			}
			got := tensors(t, model)
			for _, p := range want {
				values, err := formula.Params{}.Param(p.Key, p.Shape)
				if err != nil {
					t.Fatal(err)
				}
				raw := got[p.Key][9]
				if e := got[p.Key][13]; e != nil {
					place := map[string]string{}
					for _, pair := range e {
						f := fields(t, pair)
						place[string(f[1][0])] = string(f[2][0])
					}
					data, err := os.ReadFile(filepath.Join(filepath.Dir(path), place["location"]))
					if err != nil {
						t.Fatal(err)
					}
					from, n := number(t, place["offset"]), number(t, place["length"])
					if from%alignment != 0 {
						t.Errorf("%s begins at %d", p.Key, from)
					}
					raw = [][]byte{data[from : from+n]}
				}
				if len(raw) != 1 || !bytes.Equal(raw[0], littleEndian(values)) {
					t.Errorf("%s is not in the file", p.Key)
				}
			}
		})
	}
}

func number(t *testing.T, s string) int {
	n := 0
	for _, c := range s {
		if c < '0' || c > '9' {
			t.Fatalf("%q is no number", s)
		}
		n = 10*n + int(c-'0')
	}
	return n
}

// A model whose parameters lie beside it runs as one that has them inside.
func TestParametersBesideTheModelRun(t *testing.T) {
	runtime := fixture.FindONNXRuntime(t)
	d, dir := tiny(t), t.TempDir()
	img := fixture.ONNXImage{Height: 40, Width: 52, Pixels: make([]float32, 3*40*52)}
	for i := range img.Pixels {
		img.Pixels[i] = float32(formula.Unit(7, i)+1) / 2
	}
	var found []fixture.ONNXFound
	for name, limit := range map[string]int64{"a.onnx": protobufLimit, "b.onnx": 1000} {
		path := filepath.Join(dir, name)
		if err := write(path, d, formula.Params{}, limit); err != nil {
			t.Fatal(err)
		}
		found = append(found, runtime.Run(t, path, []fixture.ONNXImage{img})...)
	}
	if len(found[0].Labels) == 0 || !slices.Equal(found[0].Boxes, found[1].Boxes) || !slices.Equal(found[0].Scores, found[1].Scores) {
		t.Errorf("%v and %v", found[0], found[1])
	}
}

// The thresholds of areas divide regions as the law with its logarithm does.
func TestLeastArea(t *testing.T) {
	p := nn.Pyramid{Scales: []float64{0.25, 0.125, 0.0625, 0.03125}, CanonicalLevel: 4, CanonicalSize: 224}
	law := func(area float32) int {
		size := float32(math.Sqrt(float64(area)))
		k := float32(4) + float32(math.Log2(float64(size/224))) + 1e-6
		return min(max(int(math.Floor(float64(k)))-2, 0), 3)
	}
	for level := 1; level <= 3; level++ {
		least := leastArea(p, level)
		if want := float32(math.Pow(112*math.Pow(2, float64(level-1)), 2)); math.Abs(float64(least/want-1)) > 1e-5 {
			t.Errorf("level %d from an area of %v on, want about %v", level, least, want)
		}
		area := least
		for range 1000 { // on both sides of the step
			if below := math.Nextafter32(area, 0); law(area) < level || law(below) >= level && below == math.Nextafter32(least, 0) {
				t.Fatalf("level %d: the law says %d of %v and %d of %v", level, law(area), area, law(below), below)
			}
			area = math.Nextafter32(area, math.MaxFloat32)
		}
	}
}

func TestAtMost(t *testing.T) {
	for _, v := range []float32{0.3, 0.5, 0.7, 1} {
		got := atMost(v)
		for _, overlap := range []float32{math.Nextafter32(v, 0), v, math.Nextafter32(v, 2)} {
			written := map[float32]float64{0.3: 0.3, 0.5: 0.5, 0.7: 0.7, 1: 1}[v]
			if (overlap > got) != (float64(overlap) > written) {
				t.Errorf("overlap %v against %v: %v", overlap, v, overlap > got)
			}
		}
	}
}

// failing gives no parameters.
type failing struct{ err error }

func (f failing) Param(string, nd.Shape) ([]float32, error) { return nil, f.err }

// An error leaves no file behind, and says what it is about.
func TestErrors(t *testing.T) {
	dir, broken := t.TempDir(), errors.New("broken disk")
	path := filepath.Join(dir, "m.onnx")
	err := Write(path, tiny(t), failing{broken})
	if !errors.Is(err, broken) || !strings.Contains(err.Error(), "onnx: writing ") || !strings.Contains(err.Error(), "backbone.weight") {
		t.Errorf("error %v", err)
	}
	short := device.MapParams{}
	if err := Write(path, tiny(t), short); err == nil {
		t.Error("missing parameters were written")
	}
	if err := Write(filepath.Join(dir, "no", "m.onnx"), tiny(t), formula.Params{}); err == nil {
		t.Error("a folder that does not exist was written to")
	}
	lonely := tiny(t)
	if lonely.Stage1, err = nn.Build(func(b *nn.Builder) {
		x := b.Input("pixels", 1, 3, 32, 32)
		b.Output("rpn_logits_0", b.Upsample(x, x))
	}); err != nil {
		t.Fatal(err)
	}
	if err := Write(path, lonely, formula.Params{}); err == nil || !strings.Contains(err.Error(), "upsample: only an upsampling that is added") {
		t.Errorf("error %v", err)
	}
	if files, _ := os.ReadDir(dir); len(files) != 0 {
		t.Errorf("%v was left behind", files)
	}
}
