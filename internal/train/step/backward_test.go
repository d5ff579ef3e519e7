package step

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"resdet"
	"resdet/internal/box"
	"resdet/internal/det"
	"resdet/internal/device"
	"resdet/internal/device/cpu"
	"resdet/internal/formula"
	"resdet/internal/nd"
	"resdet/internal/nn"
	"resdet/internal/train/data"
)

// learner is a detector on the fast device with a small head, a few regions and
// an object in every image.
type learner struct {
	*Network
	model  Model
	frozen int
}

func newLearner(t *testing.T, arch string, params device.Params, frozen int, change ...func(*resdet.Config, *Config)) *learner {
	t.Helper()
	dev, err := cpu.Open(cpu.Options{})
	if errors.Is(err, device.ErrUnsupported) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dev.Close() })
	m, err := resdet.NewConfig(arch, resdet.IndexedClasses("one", "two"))
	if err != nil {
		t.Fatal(err)
	}
	if m.Backbone.FPN != nil {
		m.Backbone.FPN.Channels = 128
	}
	m.ROI.Hidden = min(m.ROI.Hidden, 128)
	cfg := DefaultConfig()
	cfg.PreNMS, cfg.PostNMS, cfg.Regions.Batch = 100, 50, 8
	for _, c := range change {
		c(&m, &cfg)
	}
	l := &learner{model: Model{Backbone: m.Backbone, RPN: m.RPN, ROI: m.ROI, Classes: 2}, frozen: frozen}
	learned, err := l.model.Trainable(frozen)
	if err != nil {
		t.Fatal(err)
	}
	l.Network, err = New(dev.(device.Trainer), l.model, cfg, params, learned)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Network.Close)
	return l
}

// tiny is a pyramid over conv2 and conv3 with a level on top.
func tiny(m *resdet.Config, _ *Config) {
	m.Backbone.FPN.Stages, m.Backbone.FPN.Channels = []int{2, 3}, 32
	m.RPN.Anchors.Sizes = [][]float32{{16}, {32}, {64}}
}

// formulaParams are an architecture's weights by formula, which are kept:
// computing a backbone's takes longer than a step with it.
type formulaParams struct {
	formula.Params
	known map[string][]float32
}

func paramsOf(arch string) formulaParams {
	basic := strings.HasPrefix(arch, "resnet18") || strings.HasPrefix(arch, "resnet34")
	return formulaParams{formula.Params{Basic: basic}, map[string][]float32{}}
}

func (p formulaParams) Param(key string, shape nd.Shape) (v []float32, err error) {
	if v = p.known[key]; v == nil {
		v, err = p.Params.Param(key, shape)
		p.known[key] = v
	}
	return v, err
}

// photo is one image with an object.
func photo(height, width int, fill float32) *data.Batch {
	view := det.View{Width: width, Height: height, ScaledWidth: width, ScaledHeight: height}
	b := &data.Batch{
		Pixels: nd.New[float32](1, 3, height, width), Views: []det.View{view},
		Truths: [][]det.Truth{{{Class: 1, Box: box.Box{X0: 10 + fill, Y0: 12, X1: 50, Y1: 58 - fill}}}}, Seed: 1,
	}
	for i := range b.Pixels.Data {
		b.Pixels.Data[i] = fill * float32(i%17-8)
	}
	return b
}

// both makes one batch of two images.
func both(a, b *data.Batch) *data.Batch {
	shape := a.Pixels.Shape.Clone()
	shape[0] = 2
	return &data.Batch{
		Pixels: nd.Of(slices.Concat(a.Pixels.Data, b.Pixels.Data), shape...), Views: slices.Concat(a.Views, b.Views),
		Truths: slices.Concat(a.Truths, b.Truths), Seed: a.Seed,
	}
}

// learn makes a step of two images.
func (l *learner) learn(t *testing.T, height, width int) {
	t.Helper()
	l.step(t, both(photo(height, width, 0), photo(height, width, 0)))
}

func (l *learner) step(t *testing.T, b *data.Batch) Losses {
	t.Helper()
	losses, err := l.Step(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	return losses
}

// taken returns the gradients and sets them to zero.
func (l *learner) taken() map[string][]float32 {
	out := map[string][]float32{}
	for _, p := range l.Params() {
		out[p.Name()] = slices.Clone(p.Gradient())
		clear(p.Gradient())
	}
	return out
}

// products counts the matrix products and convolutions of a backward pass, by
// what they compute.
type products struct{ weights, inputs int }

// backward are those of the last step's backward pass. It also reports kernels
// that are plain loop nests: conv1's gradient as one took a minute.
func (l *learner) backward(t *testing.T) (p products) {
	for _, s := range l.Steps() {
		if s.Algorithm == "plain" {
			t.Errorf("frozen %d: %s, %s of %v, is a plain loop nest", l.frozen, s.Name, s.Op, s.Shape)
		}
		switch {
		case s.FLOPs == 0: // what follows a product
		case strings.Contains(s.Op, "conv_weight") || strings.Contains(s.Op, "linear_weight"):
			p.weights++
		case strings.Contains(s.Op, "conv_input") || strings.Contains(s.Op, "linear_input"):
			p.inputs++
		}
	}
	return p
}

// needed are those that the network's gradients need: a product's weight where
// it is learned, and its input where something before it is.
func (l *learner) needed(t *testing.T) (p products) {
	t.Helper()
	g, err := l.model.build(2, 64, 64, 16, false)
	if err != nil {
		t.Fatal(err)
	}
	learned, err := l.model.Trainable(l.frozen)
	if err != nil {
		t.Fatal(err)
	}
	needs := make([]bool, len(g.Nodes))
	for v, n := range g.Nodes {
		switch op := n.Op.(type) {
		case nn.Param:
			needs[v] = slices.Contains(learned, op.Key)
			continue
		case nn.Conv, nn.Linear:
			if needs[n.In[1]] {
				p.weights++
			}
			if needs[n.In[0]] {
				p.inputs++
			}
		}
		needs[v] = slices.ContainsFunc(n.In, func(in nn.Value) bool { return needs[in] })
	}
	return p
}

// Frozen layers cost no backward work, and no layer is computed by a plain loop
// nest, whatever is frozen.
func TestBackwardWork(t *testing.T) {
	for arch, stages := range map[string][]int{
		"resnet18-fpn": {0, 1, 2, 3, 4, 5},
		"resnet50-c4":  {0},
		"vgg16":        {0},
	} {
		if testing.Short() && arch != "resnet18-fpn" {
			continue
		}
		params := paramsOf(arch)
		for _, frozen := range stages {
			t.Run(fmt.Sprint(arch, "/", frozen), func(t *testing.T) {
				l := newLearner(t, arch, params, frozen)
				l.learn(t, 64, 64)
				if got, want := l.backward(t), l.needed(t); got != want {
					t.Errorf("the backward pass has %+v, the gradients need %+v", got, want)
				}
			})
		}
	}
}

// A batch is its images: where every loss is divided by what a full batch has,
// the losses and gradients of two images together are the means of theirs alone.
// All that is sampled is taken, so that nothing is random.
func TestBatchIsItsImages(t *testing.T) {
	l := newLearner(t, "resnet18-fpn", paramsOf("resnet18-fpn"), 2, tiny, func(_ *resdet.Config, c *Config) {
		c.FullBatch = true
		c.Anchors.Batch, c.Regions.Batch, c.Regions.Fraction = 50_000, 60, 1
	})
	one, two := photo(64, 96, 0.05), photo(64, 96, 0.3)
	var losses [3]Losses
	var grads [3]map[string][]float32
	for i, b := range []*data.Batch{one, two, both(one, two)} {
		losses[i] = l.step(t, b)
		grads[i] = l.taken()
	}
	terms := func(l Losses) []float64 { return []float64{l.Classifier, l.Box, l.Objectness, l.RPNBox} }
	for i, got := range terms(losses[2]) {
		a, b := terms(losses[0])[i], terms(losses[1])[i]
		if want := (a + b) / 2; !(a > 0 && b > 0 && a != b && math.Abs(got-want) <= 1e-5*want) {
			t.Errorf("loss %d of both is %v, of each %v and %v", i, got, a, b)
		}
	}
	for key, got := range grads[2] {
		var off, norm float64
		for i, g := range got {
			want := (float64(grads[0][key][i]) + float64(grads[1][key][i])) / 2
			off += (float64(g) - want) * (float64(g) - want)
			norm += want * want
		}
		if !(norm > 0 && off <= 1e-8*norm) {
			t.Errorf("the gradient of %s is off by %.1e of its norm", key, math.Sqrt(off/norm))
		}
	}
}

// Dropout follows from the batch's seed, changes what is learned, and drops the
// part that it should.
func TestDropout(t *testing.T) {
	l := newLearner(t, "resnet18-fpn", paramsOf("resnet18-fpn"), 2, tiny, func(_ *resdet.Config, c *Config) { c.Dropout = 0.5 })
	b := photo(64, 64, 0.2)
	first := l.step(t, b)
	grads := l.taken()
	if again := l.step(t, b); again != first {
		t.Errorf("the same seed gives the losses %+v and %+v", first, again)
	}
	for key, g := range l.taken() {
		if !slices.Equal(g, grads[key]) {
			t.Errorf("the same seed gives %s another gradient", key)
		}
	}
	masks := l.cache[0].masks
	if len(masks) != 2 {
		t.Fatalf("%d layers drop, want fc6 and fc7", len(masks))
	}
	for _, m := range masks {
		kept := 0
		for _, v := range m {
			if v == 2 {
				kept++
			}
		}
		if share := float64(kept) / float64(len(m)); share < 0.4 || share > 0.6 {
			t.Errorf("%d of %d outputs of a layer are kept", kept, len(m))
		}
	}
	b.Seed = 2
	if other := l.step(t, b); other.Classifier == first.Classifier {
		t.Errorf("another seed drops the same: losses %+v and %+v", first, other)
	}
	mask := make([]float32, 100_000)
	for _, part := range []float64{0.5, 0.1} {
		h := host{cfg: Config{Dropout: part}, rng: rand.New(rand.NewPCG(1, 2))}
		h.drop(mask)
		dropped, sum := 0.0, 0.0
		for _, m := range mask {
			if m == 0 {
				dropped++
			}
			sum += float64(m)
		}
		if n := float64(len(mask)); math.Abs(dropped/n-part) > 0.01 || math.Abs(sum/n-1) > 0.01 {
			t.Errorf("dropout %g: %g are dropped, the mask's mean is %g", part, dropped/n, sum/n)
		}
	}
}

// A head with one box for all classes learns it from whatever objects there are.
func TestClassAgnostic(t *testing.T) {
	l := newLearner(t, "resnet18-fpn", paramsOf("resnet18-fpn"), 2, tiny, func(m *resdet.Config, _ *Config) { m.ROI.ClassAgnostic = true })
	if losses := l.step(t, photo(64, 64, 0.2)); !(losses.Box > 0) {
		t.Errorf("losses %+v", losses)
	}
	const hidden = 128
	got := l.taken()["roi_heads.box_predictor.bbox_pred.weight"]
	if len(got) != 4*hidden {
		t.Fatalf("the weights of the boxes have %d elements", len(got))
	}
	for i := range 4 {
		if row := got[i*hidden:][:hidden]; !slices.ContainsFunc(row, func(g float32) bool { return g != 0 }) {
			t.Errorf("coordinate %d learns nothing", i)
		}
	}
}
