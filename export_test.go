package resdet

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/png"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"resdet/internal/box"
	"resdet/internal/fixture"
	"resdet/internal/formula"
	"resdet/internal/transform"
	"resdet/roihead"
	"resdet/rpn"
)

// floatImage gives an image as the model takes it: float32 [3 H W] in 0…1.
func floatImage(t *testing.T, img image.Image) fixture.ONNXImage {
	w, h := img.Bounds().Dx(), img.Bounds().Dy()
	plain := transform.Config{Order: transform.RGB, Scale: 1.0 / 255, Std: [3]float32{1, 1, 1}}
	pixels := make([]float32, 3*h*w)
	if err := plain.Write(pixels, h, w, img, View{Width: w, Height: h, ScaledWidth: w, ScaledHeight: h}, transform.NewScratch(1)); err != nil {
		t.Fatal(err)
	}
	return fixture.ONNXImage{Height: h, Width: w, Pixels: pixels}
}

// compareONNX exports a detector and holds ONNX Runtime's detections against
// its own.
func compareONNX(t *testing.T, d *Detector, images []image.Image) (detections int) {
	t.Helper()
	runtime := fixture.FindONNXRuntime(t)
	if fixture.Race || testing.Short() {
		t.Skip("full-size networks are left out under the race detector and -short")
	}
	model := filepath.Join(t.TempDir(), "model.onnx")
	if err := d.WriteONNX(model); err != nil {
		t.Fatal(err)
	}
	var inputs []fixture.ONNXImage
	for _, img := range images {
		inputs = append(inputs, floatImage(t, img))
	}
	for i, found := range runtime.Run(t, model, inputs) {
		want, err := d.Detect(context.Background(), images[i])
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("image %d, %v: %d detections", i, images[i].Bounds().Size(), len(want))
		sameDetections(t, d.cfg, found, want)
		detections += len(want)
	}
	return detections
}

// sameDetections compares another program's detections with ours, in any order
// among equals: of two scores that differ by rounding either may be first.
func sameDetections(t *testing.T, cfg Config, found fixture.ONNXFound, want []Detection) {
	t.Helper()
	if len(found.Labels) != len(want) {
		t.Errorf("%d detections, want %d", len(found.Labels), len(want))
		return
	}
	worst, worstScore := 0.0, 0.0
	used := make([]bool, len(want))
	for k, label := range found.Labels {
		b, score := found.Boxes[4*k:][:4], found.Scores[k]
		got := Box{X0: b[0], Y0: b[1], X1: b[2], Y1: b[3]}
		j := 0
		for j < len(want) && (used[j] || cfg.Classes[want[j].Class].ID != label ||
			!(boxDistance(got, want[j].Box) <= boxTolerance) || !(math.Abs(float64(score-want[j].Score)) <= scoreTolerance)) {
			j++
		}
		if j == len(want) || k > 0 && score > found.Scores[k-1] {
			t.Errorf("detection %d, of class %d, score %v, box %v, is not there or comes too late", k, label, score, got)
			continue
		}
		used[j] = true
		worst = max(worst, boxDistance(got, want[j].Box))
		worstScore = max(worstScore, math.Abs(float64(score-want[j].Score)))
	}
	t.Logf("boxes within %.1e pixels, scores within %.1e", worst, worstScore)
}

// The built-in model on a photo and on parts of it: one ONNX model takes all
// sizes.
func TestONNXOfTheDefaultModel(t *testing.T) {
	fixture.FindONNXRuntime(t)
	d, err := OpenDefault(Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	f, err := os.Open(filepath.Join(fixture.Root(), "testdata", "road.jpg"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	img, err := transform.Decode(f, transform.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	part := func(x0, y0, x1, y1 int) image.Image {
		return img.(interface {
			SubImage(image.Rectangle) image.Image
		}).SubImage(image.Rect(x0, y0, x1, y1))
	}
	if n := compareONNX(t, d, []image.Image{img, part(300, 0, 487, 300), part(60, 250, 300, 350)}); n < 10 {
		t.Errorf("%d detections in all: the test sees nothing", n)
	}
}

// waves is a picture without a file: smooth colours in every direction.
func waves(width, height int) image.Image {
	img := image.NewNRGBA(image.Rect(0, 0, width, height))
	for y := range height {
		for x := range width {
			for c := range 3 {
				v := math.Sin(float64(x*(c+2))/17) + math.Cos(float64(y*(3-c))/13) + math.Sin(float64(x+y)/(7+float64(c)))
				img.Pix[img.PixOffset(x, y)+c] = uint8(128 + 40*v)
			}
			img.Pix[img.PixOffset(x, y)+3] = 255
		}
	}
	return img
}

// narrow gives a head fewer parameters, most of which are fc6's.
func narrow(c *Config) {
	if c.ROI.Kind == "mlp" {
		c.ROI.Hidden = 64
	}
}

// Every architecture and convention, with weights by formula: what the
// detector computes is what its ONNX model computes.
func TestONNXOfEveryConvention(t *testing.T) {
	fixture.FindONNXRuntime(t)
	for _, tt := range []struct {
		name, arch string
		change     func(c *Config)
		found      bool
	}{
		{"pyramid", "resnet18-fpn", func(c *Config) {}, true},
		{"pyramid of odd maps, two levels above", "resnet18-fpn", func(c *Config) {
			c.Transform.PadMultiple = 1
			c.Backbone.CeilPool = true
			c.Backbone.FPN.Stages, c.Backbone.FPN.Top = []int{2, 3, 4}, "p6p7"
			c.Backbone.NormEps = 0
		}, true},
		{"res5 as detectron2 has it", "resnet18-c4", func(c *Config) {
			c.Transform = transform.Config{Order: transform.BGR, Scale: 1, Mean: [3]float32{103.53, 116.28, 123.675}, Std: [3]float32{57, 58, 59},
				ShortSide: 128, LongSide: 213, PadMultiple: 1}
			c.RPN.Anchors.Round, c.RPN.Anchors.GridStride = false, false
			c.ROI.BackgroundLast, c.ROI.Pool.Aligned, c.ROI.Pool.Sampling = true, true, 0
			c.ROI.Score = 0 // more than a thousand candidates
		}, true},
		{"vgg16", "vgg16", func(c *Config) {}, true},
		{"vgg16 as py-faster-rcnn has it", "vgg16", func(c *Config) {
			c.Transform.RoundSize = true
			c.ROI.Pool.Kind, c.ROI.BoxWeights = "max", [4]float32{1, 1, 1, 1}
			c.Backbone.CeilPool = true
			c.RPN.Anchors.Round, c.RPN.Anchors.GridStride, c.RPN.Anchors.Bases = false, false, []float32{16}
			// Many anchors are too small: where they are left out is seen.
			c.RPN.Anchors.Sizes = [][]float32{{16, 32, 64}}
			c.RPN.MinSize, c.RPN.PreNMS, c.RPN.Boxes = 24, 100, box.Caffe
			c.ROI.NMS, c.ROI.Boxes, c.ROI.MinSize = 0.3, box.Caffe, 0
		}, true},
		{"pyramid as Detectron has it", "resnet18-fpn", func(c *Config) {
			c.Transform.RoundSize = true
			c.RPN.Anchors.Bases = []float32{4, 8, 16, 32, 64}
			c.RPN.Boxes, c.ROI.Boxes, c.ROI.Pool.Sampling = box.Detectron, box.Detectron, 0
		}, true},
		{"one box for all classes", "resnet18-c4", func(c *Config) { c.ROI.ClassAgnostic = true; c.RPN.Channels = 64 }, true},
		{"no proposals", "resnet18-fpn", func(c *Config) { c.RPN.MinSize = 1e6 }, false},
		{"no detections", "resnet18-fpn", func(c *Config) { c.ROI.Score = 1 }, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg, err := NewConfig(tt.arch, numberedClasses(7))
			if err != nil {
				t.Fatal(err)
			}
			cfg.Classes[6].ID = 90
			cfg.Transform.ShortSide, cfg.Transform.LongSide = 128, 213
			cfg.RPN.PreNMS, cfg.RPN.PostNMS = min(cfg.RPN.PreNMS, 2000), 100
			narrow(&cfg)
			if cfg.Backbone.FPN != nil {
				cfg.Backbone.FPN.Channels = 64
			}
			tt.change(&cfg)
			if levels := len(cfg.Backbone.Strides()); cfg.Backbone.FPN != nil && levels != len(cfg.RPN.Anchors.Sizes) {
				cfg.RPN.Anchors.Sizes = cfg.RPN.Anchors.Sizes[:levels]
			}
			d, err := New(cfg, formula.Params{Basic: strings.HasPrefix(tt.arch, "resnet18")}, Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			n := compareONNX(t, d, []image.Image{waves(160, 128), waves(57, 103)})
			if found := n > 0; found != tt.found {
				t.Errorf("%d detections", n)
			}
		})
	}
}

// Every member of the configuration is known to the exporter: one that is
// added changes what a detector computes, and the ONNX model must follow. (The
// backbone's are not here: they are in the graph.)
func TestONNXKnowsTheConfiguration(t *testing.T) {
	known := map[reflect.Type]string{
		reflect.TypeFor[Config]():         "Arch Classes Transform Backbone RPN ROI Quantization Provenance", // the ONNX model is f32
		reflect.TypeFor[Transform]():      "Order Scale Mean Std ShortSide LongSide RoundSize PadMultiple",
		reflect.TypeFor[rpn.Config]():     "Anchors Convs Channels PreNMS PostNMS NMS MinSize Boxes",
		reflect.TypeFor[rpn.Anchors]():    "Sizes Ratios Round Bases GridStride",
		reflect.TypeFor[roihead.Config](): "Pool Kind Hidden BackgroundLast ClassAgnostic BoxWeights Score NMS Max MinSize Boxes",
		reflect.TypeFor[roihead.Pool]():   "Kind Size Sampling Aligned CanonicalLevel CanonicalSize",
	}
	for typ, want := range known {
		var fields []string
		for i := range typ.NumField() {
			fields = append(fields, typ.Field(i).Name)
		}
		if got := strings.Join(fields, " "); got != want {
			t.Errorf("%v has %s; the exporter knows %s", typ, got, want)
		}
	}
}

// What WriteSafetensors writes is a model of the same parameters, with the
// background first.
func TestWriteSafetensors(t *testing.T) {
	cfg, err := NewConfig("resnet18-fpn", numberedClasses(3))
	if err != nil {
		t.Fatal(err)
	}
	cfg.ROI.BackgroundLast = true
	d, err := New(cfg, formula.Params{Basic: true}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	path := filepath.Join(t.TempDir(), "model.safetensors")
	if err := d.WriteSafetensors(path); err != nil {
		t.Fatal(err)
	}
	again, err := Open(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if again.Config().ROI.BackgroundLast {
		t.Error("the background is still last")
	}
	specs, err := cfg.Params()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range specs {
		want, _ := d.params.Param(s.Key, s.Shape)
		got, err := again.params.Param(s.Key, s.Shape)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(s.Key, "roi_heads.box_predictor.") {
			block := len(want) / 4
			want = slices.Concat(want[3*block:], want[:3*block])
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s differs", s.Key)
		}
	}
	if d.Close(); d.WriteSafetensors(path) != ErrClosed || d.WriteONNX(path) != ErrClosed {
		t.Error("a closed detector was written")
	}
}

// python returns an interpreter that has torchvision, and skips the test where
// there is none.
func python(t *testing.T) string {
	t.Helper()
	if testing.Short() || fixture.Race {
		t.Skip("torchvision is left out under -short and under the race detector")
	}
	const has = `import sys, importlib.util as u; sys.exit(not all(map(u.find_spec, ("torchvision", "PIL"))))`
	for _, name := range []string{os.Getenv("RESDET_PYTHON"), "/usr/bin/python3", "python3"} {
		if name != "" && exec.Command(name, "-c", has).Run() == nil {
			return name
		}
	}
	t.Skip("no python3 with torchvision: exported files are not loaded (Debian: python3-torchvision; RESDET_PYTHON names another interpreter)")
	return ""
}

// torchvision loads exported files strictly, as it is told by their metadata,
// and finds what the detector finds.
func TestTorchvisionLoadsTheExport(t *testing.T) {
	if testing.Short() {
		t.Skip("full-size networks are left out under -short")
	}
	interpreter := python(t)
	formulaModel := func(arch string, change func(c *Config)) func() (*Detector, error) {
		return func() (*Detector, error) {
			cfg, err := NewConfig(arch, numberedClasses(7))
			if err != nil {
				return nil, err
			}
			cfg.Transform.ShortSide, cfg.Transform.LongSide = 128, 213
			cfg.RPN.PreNMS, cfg.RPN.PostNMS = 1000, 100
			narrow(&cfg)
			change(&cfg)
			return New(cfg, formula.Params{Basic: strings.HasPrefix(arch, "resnet18")}, Options{})
		}
	}
	dir := t.TempDir()
	img, photo := waves(160, 128), filepath.Join(dir, "photo.png")
	f, err := os.Create(photo)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(png.Encode(f, img), f.Close()); err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		name string
		open func() (*Detector, error)
	}{
		{"the default model", func() (*Detector, error) { return OpenDefault(Options{}) }},
		{"pyramid, one box for all classes", formulaModel("resnet18-fpn", func(c *Config) { c.ROI.BackgroundLast, c.ROI.ClassAgnostic = true, true })},
		{"pyramid, background last", formulaModel("resnet18-fpn", func(c *Config) { c.ROI.BackgroundLast = true; c.Backbone.NormEps = 0 })},
		{"res5, BGR, aligned", formulaModel("resnet18-c4", func(c *Config) {
			c.Transform.Order, c.Transform.Scale = transform.BGR, 1
			c.Transform.Mean, c.Transform.Std = [3]float32{103.53, 116.28, 123.675}, [3]float32{57, 58, 59}
			c.ROI.Pool.Aligned, c.Backbone.CeilPool = true, true
		})},
		{"vgg16, whole pixels", formulaModel("vgg16", func(c *Config) {
			c.ROI.Pool.Kind, c.Backbone.CeilPool, c.RPN.MinSize = "max", true, 16
		})},
	}
	// One interpreter for all: to import torchvision takes longer than to run it.
	args := []string{filepath.Join("scripts", "torchvision-detector.py")}
	configs, wanted := make([]Config, len(cases)), make([][]Detection, len(cases))
	for i, tt := range cases {
		d, err := tt.open()
		if err != nil {
			t.Fatal(err)
		}
		model := filepath.Join(dir, fmt.Sprint(i, ".safetensors"))
		if err := d.WriteSafetensors(model); err != nil {
			t.Fatal(err)
		}
		configs[i] = d.cfg
		if wanted[i], err = d.Detect(context.Background(), img); err != nil {
			t.Fatal(err)
		}
		d.Close()
		args = append(args, model, photo)
	}
	var errs strings.Builder
	cmd := exec.Command(interpreter, args...)
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, errs.String())
	}
	lines := json.NewDecoder(bytes.NewReader(out))
	for i, tt := range cases {
		t.Run(tt.name, func(t *testing.T) {
			var got struct {
				Detections []struct {
					ClassID int `json:"class_id"`
					Score   float32
					Box     [4]float32
				}
			}
			if err := lines.Decode(&got); err != nil {
				t.Fatal(err)
			}
			want := wanted[i]
			if len(got.Detections) != len(want) || len(want) == 0 {
				t.Fatalf("torchvision finds %d, the detector %d", len(got.Detections), len(want))
			}
			found := fixture.ONNXFound{}
			for _, g := range got.Detections {
				found.Labels, found.Scores, found.Boxes = append(found.Labels, g.ClassID), append(found.Scores, g.Score), append(found.Boxes, g.Box[:]...)
			}
			sameDetections(t, configs[i], found, want)
		})
	}
}
