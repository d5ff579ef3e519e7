package resdet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"resdet/internal/box"
	"resdet/internal/device"
	"resdet/internal/fixture"
	"resdet/internal/formula"
	"resdet/internal/nd"
	"resdet/internal/nn"
	"resdet/internal/transform"
	"resdet/rpn"
)

const (
	// tensorTolerance is relative to the tensor's largest value: two hundred
	// layers of float32 in another order of summation, or by Winograd.
	tensorTolerance = 1e-3
	boxTolerance    = 0.05 // network → original pixels
	scoreTolerance  = 1e-3
)

// modelCase is a folder of reference outputs of a whole detector whose weights
// follow from their names (package formula).
type modelCase struct {
	Arch      string           `json:"arch"`
	MinSize   int              `json:"min_size"`
	MaxSize   int              `json:"max_size"`
	Input     []int            `json:"transformed_shape"`
	ImageSize []int            `json:"image_size"`
	Score     float32          `json:"score_thresh"`
	NMS       float32          `json:"box_nms"`
	Max       int              `json:"max_dets"`
	RPNPre    int              `json:"rpn_pre"`
	RPNPost   int              `json:"rpn_post"`
	RPNNMS    float32          `json:"rpn_nms"`
	Keys      []keyShape       `json:"keys"`
	Checksums map[string]check `json:"checksums"`
	dir       string
}

type check struct {
	Shape       nd.Shape `json:"shape"`
	AbsMax      float64  `json:"absmax"`
	Mean        float64  `json:"mean"`
	ChannelStep int      `json:"kept_channel_step"` // every n-th channel is stored
	Rows        int      `json:"kept_rows"`         // the first rows are stored
}

type keyShape struct {
	key   string
	shape nd.Shape
}

func (k *keyShape) UnmarshalJSON(b []byte) error {
	return json.Unmarshal(b, &[]any{&k.key, &k.shape})
}

func (c *modelCase) config(t *testing.T) Config {
	classes := 0
	for _, k := range c.Keys {
		if strings.HasSuffix(k.key, "cls_score.bias") {
			classes = k.shape[0] - 1
		}
	}
	cfg, err := NewConfig(c.Arch, numberedClasses(classes))
	if err != nil {
		t.Fatal(err)
	}
	cfg.Transform.ShortSide, cfg.Transform.LongSide = c.MinSize, c.MaxSize
	cfg.RPN.PreNMS, cfg.RPN.PostNMS, cfg.RPN.NMS = c.RPNPre, c.RPNPost, c.RPNNMS
	cfg.ROI.Score, cfg.ROI.NMS, cfg.ROI.Max = c.Score, c.NMS, c.Max
	return cfg
}

func numberedClasses(n int) []Class {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprint("class ", i+1)
	}
	return IndexedClasses(names...)
}

// params computes the case's parameters, once for all devices: VGG-16 has 138
// million.
func (c *modelCase) params(t *testing.T) Params {
	law := formula.Params{Basic: strings.HasPrefix(c.Arch, "resnet18") || strings.HasPrefix(c.Arch, "resnet34")}
	params := device.MapParams{}
	for _, k := range c.Keys {
		params[k.key] = nd.New[float32](k.shape...)
	}
	var wait sync.WaitGroup
	for _, k := range c.Keys {
		wait.Go(func() {
			v, err := law.Param(k.key, k.shape)
			if err != nil {
				t.Error(err)
			}
			params[k.key].Data = v
		})
	}
	wait.Wait()
	return params
}

// TestParity runs every case of the folder: torchvision's features, RPN
// outputs, proposals, logits and detections.
func TestParity(t *testing.T) {
	if fixture.Race {
		t.Skip("full-size networks are left out under the race detector")
	}
	metas, _ := filepath.Glob(filepath.Join(fixture.Dir(t, "models"), "*", "meta.json"))
	ran := 0
	for _, meta := range metas {
		dir := filepath.Dir(meta)
		if strings.HasPrefix(filepath.Base(dir), "train_") {
			continue // one step of training: losses and gradients
		}
		ran++
		t.Run(filepath.Base(dir), func(t *testing.T) {
			c := &modelCase{dir: dir}
			b, err := os.ReadFile(meta)
			if err == nil {
				err = json.Unmarshal(b, c)
			}
			if err != nil {
				t.Fatal(err)
			}
			cfg := c.config(t)
			if testing.Short() && c.Arch != "resnet18-fpn" {
				t.Skip("only the smallest network under -short")
			}
			t.Run("params", func(t *testing.T) { c.checkParams(t, cfg) })
			params := c.params(t)
			for _, name := range []string{"ref", "cpu"} {
				t.Run(name, func(t *testing.T) {
					d, err := New(cfg, params, Options{Device: name})
					if errors.Is(err, device.ErrUnsupported) {
						t.Skip(err)
					}
					if err != nil {
						t.Fatal(err)
					}
					defer d.Close()
					t.Log(d.Device())
					t.Run("stage1", func(t *testing.T) { c.checkStage1(t, d) })
					t.Run("detections", func(t *testing.T) { c.checkDetections(t, d) })
					t.Run("stage2", func(t *testing.T) { c.checkStage2(t, d) })
				})
			}
		})
	}
	if ran == 0 {
		t.Fatal("no cases were found")
	}
}

// TestParityAVX2 has the default model and one network of each kind of head equal
// torchvision's on CPUs without wider vectors too, by the library's and our own
// AVX2 code.
func TestParityAVX2(t *testing.T) {
	if testing.Short() || fixture.Race {
		t.Skip("full-size networks again")
	}
	if d, err := OpenDefault(Options{Device: "cpu"}); errors.Is(err, device.ErrUnsupported) {
		t.Skip(err)
	} else if err != nil {
		t.Fatal(err)
	} else if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "-test.v", "-test.timeout=5m", "-test.run=^(TestParity|TestDefaultModel)$/^(resnet18-fpn|resnet50-c4|vgg16|cpu).*$/^cpu$")
	cmd.Env = append(os.Environ(), "ONEDNN_MAX_CPU_ISA=AVX2")
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), " avx2,") || !strings.Contains(string(out), "--- PASS: TestParity/") {
		t.Errorf("%v\n%s", err, out)
	}
}

// checkParams compares the network's parameters with the reference's.
func (c *modelCase) checkParams(t *testing.T, cfg Config) {
	specs, err := cfg.Params()
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]nd.Shape{}
	for _, k := range c.Keys {
		want[k.key] = k.shape
	}
	for _, s := range specs {
		if !want[s.Key].Equal(s.Shape) {
			t.Errorf("%s has shape %v, the reference %v", s.Key, s.Shape, want[s.Key])
		}
		delete(want, s.Key)
	}
	for k := range want {
		t.Errorf("%s is missing", k)
	}
}

// checkStage1 compares features, RPN outputs and proposals.
func (c *modelCase) checkStage1(t *testing.T, d *Detector) {
	cfg, in := d.cfg, c.Input
	g, err := nn.Build(func(b *nn.Builder) {
		levels := cfg.Backbone.Build(b, b.Input("pixels", in...))
		logits, deltas := cfg.RPN.Head(b, levels)
		for i, v := range levels {
			name := featureName(i)
			if cfg.Backbone.FPN != nil && i == len(levels)-1 {
				name = "feat_pool"
			}
			b.Output(name, v)
			b.Output(fmt.Sprintf("rpn_logits_%d", i), logits[i])
			b.Output(fmt.Sprintf("rpn_deltas_%d", i), deltas[i])
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	p, err := d.workers[0].dev.Compile(g, d.params, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	view := c.transformInto(t, cfg, p.Input(0).Data())
	if err := p.Run(context.Background(), nil); err != nil {
		t.Fatal(err)
	}
	var levels []rpn.Level
	strides := cfg.Backbone.Strides()
	for i, o := range g.Outputs {
		shape := g.Nodes[o.Value].Shape
		c.compare(t, o.Name, p.Output(i).Data(), shape)
		if strings.HasPrefix(o.Name, "rpn_logits") {
			l := len(levels)
			levels = append(levels, rpn.Level{Grid: cfg.RPN.Anchors.Grid(l, shape[2], shape[3], in[2], in[3], strides[l]),
				Logits: p.Output(i).Data(), Deltas: p.Output(i + 1).Data()})
		}
	}
	got := rpn.NewProposer(cfg.RPN).Propose(nil, levels, []View{view})
	want := fixture.Floats(t, filepath.Join(c.dir, "proposals.npy"))
	if len(got) != want.Shape[0] {
		t.Fatalf("%d proposals, want %d", len(got), want.Shape[0])
	}
	for i := range want.Shape[0] {
		w := box.Box{X0: want.Data[4*i], Y0: want.Data[4*i+1], X1: want.Data[4*i+2], Y1: want.Data[4*i+3]}
		if !slices.ContainsFunc(got, func(p Proposal) bool { return boxDistance(p.Box, w) < boxTolerance }) {
			t.Errorf("proposal %d, %v, was not made", i, w)
		}
	}
}

// transformInto writes the case's pixels and compares the geometry.
func (c *modelCase) transformInto(t *testing.T, cfg Config, dst []float32) View {
	img := c.image(t)
	view, shape := cfg.Transform.Plan(img.Bounds().Dx(), img.Bounds().Dy())
	if view.ScaledHeight != c.ImageSize[0] || view.ScaledWidth != c.ImageSize[1] {
		t.Fatalf("scaled to %d×%d, want %v", view.ScaledHeight, view.ScaledWidth, c.ImageSize)
	}
	if !shape.Equal(c.Input) {
		t.Fatalf("padded to %v, want %v", shape, c.Input)
	}
	if err := cfg.Transform.Write(dst, c.Input[2], c.Input[3], img, view, transform.NewScratch(2)); err != nil {
		t.Fatal(err)
	}
	return view
}

// image is the case's picture, stored as uint8 [3 H W].
func (c *modelCase) image(t *testing.T) image.Image {
	shape, v := fixture.Ints(t, filepath.Join(c.dir, "pixels.npy"))
	if len(shape) != 3 || shape[0] != 3 {
		t.Fatalf("pixels have shape %v", shape)
	}
	h, w := shape[1], shape[2]
	img := image.NewNRGBA(image.Rect(0, 0, w, h))
	for i := range h * w {
		for ch := range 3 {
			img.Pix[4*i+ch] = uint8(v[ch*h*w+i])
		}
		img.Pix[4*i+3] = 255
	}
	return img
}

// checkStage2 compares what the head computed in the detection before: its rows
// for the reference's proposals. Running it on those again would take plain Go
// half a minute more for ResNet-101.
func (c *modelCase) checkStage2(t *testing.T, d *Detector) {
	proposals := d.workers[0].proposals
	want := fixture.Floats(t, filepath.Join(c.dir, "proposals.npy"))
	rows := make([]int, want.Shape[0])
	for i := range rows {
		w := box.Box{X0: want.Data[4*i], Y0: want.Data[4*i+1], X1: want.Data[4*i+2], Y1: want.Data[4*i+3]}
		rows[i] = slices.IndexFunc(proposals, func(p Proposal) bool { return boxDistance(p.Box, w) < boxTolerance })
		if rows[i] < 0 {
			t.Fatalf("proposal %d, %v, was not made", i, w)
		}
	}
	for i, name := range []string{"class_logits", "box_regression"} {
		out := d.profile.two.Output(i)
		columns := out.Shape()[1]
		var got []float32
		for _, r := range rows {
			got = append(got, out.Data()[r*columns:][:columns]...)
		}
		c.compare(t, name, got, nd.Shape{len(rows), columns})
	}
}

// compare holds a tensor against the stored part of the reference's.
func (c *modelCase) compare(t *testing.T, name string, got []float32, shape nd.Shape) {
	t.Helper()
	sum, ok := c.Checksums[name]
	if !ok {
		t.Fatalf("no reference for %s", name)
	}
	if !shape.Equal(sum.Shape) && shape[0] < sum.Shape[0] {
		t.Fatalf("%s has shape %v, want %v", name, shape, sum.Shape)
	}
	want := fixture.Floats(t, filepath.Join(c.dir, name+".npy"))
	step, n := max(sum.ChannelStep, 1), len(want.Data)
	if len(shape) == 4 {
		area := shape[2] * shape[3]
		part := make([]float32, 0, n)
		for ch := 0; ch < shape[1]; ch += step {
			part = append(part, got[ch*area:][:area]...)
		}
		got = part
	} else {
		got = got[:n]
	}
	if len(got) != n {
		t.Fatalf("%s: %d values to compare with %d", name, len(got), n)
	}
	worst, at := 0.0, 0
	for i, v := range got {
		if d := math.Abs(float64(v) - float64(want.Data[i])); d > worst || math.IsNaN(d) {
			worst, at = d, i
		}
	}
	if !(worst <= tensorTolerance*sum.AbsMax) {
		t.Errorf("%s: element %d is %v, want %v: off by %.2g of the largest value", name, at, got[at], want.Data[at], worst/sum.AbsMax)
	}
	t.Logf("%s: largest difference %.1e of the largest value", name, worst/sum.AbsMax)
}

// checkDetections runs the whole detector.
func (c *modelCase) checkDetections(t *testing.T, d *Detector) {
	var want struct {
		Boxes  [][4]float32 `json:"boxes"`
		Scores []float32    `json:"scores"`
		Labels []int        `json:"labels"`
	}
	b, err := os.ReadFile(filepath.Join(c.dir, "detections.json"))
	if err == nil {
		err = json.Unmarshal(b, &want)
	}
	if err != nil {
		t.Fatal(err)
	}
	got, err := d.Detect(context.Background(), c.image(t))
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != len(want.Boxes) {
		t.Errorf("%d detections, want %d", len(got), len(want.Boxes))
	}
	used := make([]bool, len(got))
	for i, w := range want.Boxes {
		wb := box.Box{X0: w[0], Y0: w[1], X1: w[2], Y1: w[3]}
		found := -1
		for j, g := range got {
			if !used[j] && g.Class+1 == want.Labels[i] && boxDistance(g.Box, wb) <= boxTolerance &&
				math.Abs(float64(g.Score-want.Scores[i])) <= scoreTolerance {
				found = j
				break
			}
		}
		if found < 0 {
			t.Errorf("detection %d is missing: label %d, score %v, box %v", i, want.Labels[i], want.Scores[i], w)
			continue
		}
		used[found] = true
	}
}

func boxDistance(a, b box.Box) float64 {
	d := func(x, y float32) float64 { return math.Abs(float64(x - y)) }
	return max(d(a.X0, b.X0), d(a.Y0, b.Y0), d(a.X1, b.X1), d(a.Y1, b.Y1))
}
