package step_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"resdet"
	"resdet/internal/box"
	"resdet/internal/det"
	"resdet/internal/device"
	"resdet/internal/device/cpu"
	"resdet/internal/device/ref"
	"resdet/internal/fixture"
	"resdet/internal/formula"
	"resdet/internal/nd"
	"resdet/internal/train/data"
	"resdet/internal/train/step"
	"resdet/internal/transform"
)

// Tolerances of a whole step beside torchvision's, relative to what is
// compared: float32 through a hundred layers and back in another order.
const (
	lossTolerance = 1e-4
	normTolerance = 1e-3
	// Single elements and sums, relative to the norm: rounding moves the maximum
	// of some windows and the sign of some ReLU's input, so that torch's own
	// float32 is up to 3e-3 from its float64 in VGG-16's first layers.
	elementTolerance = 1e-2
)

// stepCase is one training step of a whole detector whose weights follow from
// their names (package formula).
type stepCase struct {
	Arch    string             `json:"arch"`
	MinSize int                `json:"min_size"`
	MaxSize int                `json:"max_size"`
	Boxes   [][4]float32       `json:"boxes"`
	Labels  []int              `json:"labels"` // 1…K
	RPNPre  int                `json:"rpn_pre"`
	RPNPost int                `json:"rpn_post"`
	RPNNMS  float32            `json:"rpn_nms"`
	Losses  map[string]float64 `json:"losses"`
	Grads   map[string]struct {
		Shape nd.Shape  `json:"shape"`
		L2    float64   `json:"l2"`
		Sum   float64   `json:"sum"`
		First []float64 `json:"first"`
	} `json:"grads"`
}

func (c *stepCase) classes() int {
	if g, ok := c.Grads["roi_heads.box_predictor.cls_score.bias"]; ok {
		return g.Shape[0] - 1
	}
	most := 0
	for _, l := range c.Labels {
		most = max(most, l)
	}
	return most
}

// devices are those that train.
var devices = map[string]func() (device.Device, error){
	"ref": func() (device.Device, error) { return ref.Open(0), nil },
	"cpu": func() (device.Device, error) { return cpu.Open(cpu.Options{}) },
}

func open(t *testing.T, name string) device.Trainer {
	t.Helper()
	dev, err := devices[name]()
	if errors.Is(err, device.ErrUnsupported) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dev.Close() })
	trainer, ok := dev.(device.Trainer)
	if !ok {
		t.Skipf("%s does not train", dev.Name())
	}
	return trainer
}

// TestParity runs every training case of the folder, and our own: the losses
// and gradients of torchvision's training mode, with torchvision's choices. The
// oracle, whose operations have torchvision's gradients each by itself (package
// lower), computes the smallest network here, and all of them where
// RESDET_THOROUGH is set or there is nothing faster: plain Go takes a minute or
// two for the larger ones.
func TestParity(t *testing.T) {
	if fixture.Race {
		t.Skip("full-size networks are left out under the race detector")
	}
	metas, _ := filepath.Glob(filepath.Join(fixture.Dir(t, "models"), "train_*", "meta.json"))
	if len(metas) == 0 {
		t.Fatal("no cases were found")
	}
	own, _ := filepath.Glob(filepath.Join("testdata", "train_*", "meta.json"))
	for _, meta := range append(metas, own...) {
		t.Run(filepath.Base(filepath.Dir(meta)), func(t *testing.T) {
			c := &stepCase{}
			b, err := os.ReadFile(meta)
			if err == nil {
				err = json.Unmarshal(b, c)
			}
			if err != nil {
				t.Fatal(err)
			}
			small := c.Arch == "resnet18-fpn" && c.MaxSize <= 256
			if testing.Short() && !small {
				t.Skip("only the smallest network under -short")
			}
			fast := false
			t.Run("cpu", func(t *testing.T) {
				dev := open(t, "cpu")
				fast = true
				c.check(t, dev, filepath.Dir(meta))
			})
			t.Run("ref", func(t *testing.T) {
				if fast && !small && os.Getenv("RESDET_THOROUGH") == "" {
					t.Skip("takes a minute or two: set RESDET_THOROUGH=1")
				}
				c.check(t, open(t, "ref"), filepath.Dir(meta))
			})
		})
	}
}

func (c *stepCase) check(t *testing.T, dev device.Trainer, dir string) {
	names := make([]string, c.classes())
	for i := range names {
		names[i] = fmt.Sprint("class ", i+1)
	}
	model, err := resdet.NewConfig(c.Arch, resdet.IndexedClasses(names...))
	if err != nil {
		t.Fatal(err)
	}
	model.Transform.ShortSide, model.Transform.LongSide = c.MinSize, c.MaxSize
	model.RPN.NMS = c.RPNNMS
	cfg := step.DefaultConfig()
	cfg.PreNMS, cfg.PostNMS = c.RPNPre, c.RPNPost
	// Both samplers take all: as many regions as there can be, and so many
	// anchors that neither kind runs out.
	cfg.Regions.Batch, cfg.Regions.Fraction = c.RPNPost+len(c.Boxes), 1
	cfg.Anchors.Batch = 1 << 21
	var trainable []string
	for key := range c.Grads {
		trainable = append(trainable, key)
	}
	params := formula.Params{Basic: strings.HasPrefix(c.Arch, "resnet18") || strings.HasPrefix(c.Arch, "resnet34")}
	net, err := step.New(dev, step.Model{Backbone: model.Backbone, RPN: model.RPN, ROI: model.ROI, Classes: len(model.Classes)}, cfg, params, trainable)
	if err != nil {
		t.Fatal(err)
	}
	defer net.Close()
	losses, err := net.Step(t.Context(), c.batch(t, dir, model.Transform))
	if err != nil {
		t.Fatal(err)
	}
	for name, got := range map[string]float64{
		"loss_classifier": losses.Classifier, "loss_box_reg": losses.Box,
		"loss_objectness": losses.Objectness, "loss_rpn_box_reg": losses.RPNBox,
	} {
		if d := math.Abs(got/c.Losses[name] - 1); !(d <= lossTolerance) {
			t.Errorf("%s is %v, want %v: off by %.1e", name, got, c.Losses[name], d)
		}
	}
	worst, worstElement := 0.0, 0.0
	for _, p := range net.Params() {
		want := c.Grads[p.Name()]
		if !p.Shape().Equal(want.Shape) {
			t.Errorf("%s has shape %v, want %v", p.Name(), p.Shape(), want.Shape)
		}
		var sum, squares float64
		for _, v := range p.Gradient() {
			sum += float64(v)
			squares += float64(v) * float64(v)
		}
		norm := math.Sqrt(squares)
		d := math.Abs(norm/want.L2 - 1)
		element := math.Abs(sum-want.Sum) / math.Sqrt(float64(want.Shape.Len()))
		for i, v := range want.First {
			element = max(element, math.Abs(float64(p.Gradient()[i])-v))
		}
		element /= want.L2
		if !(d <= normTolerance && element <= elementTolerance) {
			t.Errorf("gradient of %s: norm %v, sum %v, first %v; want %v, %v, %v: off by %.1e and %.1e",
				p.Name(), norm, sum, p.Gradient()[:len(want.First)], want.L2, want.Sum, want.First, d, element)
		}
		worst, worstElement = max(worst, d), max(worstElement, element)
	}
	t.Logf("losses %+v; of %d gradients the worst norm is off by %.1e, the worst element by %.1e", losses, len(net.Params()), worst, worstElement)
}

// batch is the case's image, transformed, with its objects.
func (c *stepCase) batch(t *testing.T, dir string, cfg transform.Config) *data.Batch {
	shape, v := fixture.Ints(t, filepath.Join(dir, "pixels.npy"))
	h, w := shape[1], shape[2]
	img := image.NewNRGBA(image.Rect(0, 0, w, h))
	for i := range h * w {
		for ch := range 3 {
			img.Pix[4*i+ch] = uint8(v[ch*h*w+i])
		}
		img.Pix[4*i+3] = 255
	}
	view, padded := cfg.Plan(w, h)
	pixels := nd.New[float32](padded...)
	if err := cfg.Write(pixels.Data, padded[2], padded[3], img, view, transform.NewScratch(2)); err != nil {
		t.Fatal(err)
	}
	sx, sy := float32(view.ScaledWidth)/float32(w), float32(view.ScaledHeight)/float32(h)
	var truths []det.Truth
	for i, b := range c.Boxes {
		truths = append(truths, det.Truth{Class: c.Labels[i] - 1, Box: box.Box{X0: b[0], Y0: b[1], X1: b[2], Y1: b[3]}.Scale(sx, sy)})
	}
	return &data.Batch{Pixels: pixels, Views: []det.View{view}, Truths: [][]det.Truth{truths}, Seed: 1}
}
