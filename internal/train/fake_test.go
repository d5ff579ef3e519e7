package train

import (
	"context"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"resdet/coco"
	"resdet/internal/device"
	"resdet/internal/nd"
	"resdet/internal/nn"
	"resdet/internal/train/checkpoint"
	"resdet/internal/train/data"
	"resdet/internal/train/schedule"
	"resdet/internal/train/step"
	"resdet/internal/transform"
)

// param is a parameter in memory.
type param struct {
	name        string
	value, grad *tensor.Dense
}

func (p *param) Name() string                  { return p.name }
func (p *param) Value() gorgonia.Value         { return p.value }
func (p *param) Grad() (gorgonia.Value, error) { return p.grad, nil }

// fake is a network of a few numbers whose losses and gradients depend on
// everything that a real one's depend on.
type fake struct {
	params []*param
	steps  int
	pause  time.Duration
	// spoil, if not nil, changes what a step returns.
	spoil func(n int, l *step.Losses, f *fake)
}

var fakeSpecs = []nn.ParamSpec{
	{Key: "frozen.weight", Shape: nd.Shape{3}}, {Key: "a.weight", Shape: nd.Shape{4, 5}}, {Key: "a.bias", Shape: nd.Shape{1}},
}

func fakeParams() device.MapParams {
	r := rand.New(rand.NewPCG(5, 5))
	out := device.MapParams{}
	for _, s := range fakeSpecs {
		t := nd.New[float32](s.Shape...)
		for i := range t.Data {
			t.Data[i] = float32(r.NormFloat64())
		}
		out[s.Key] = t
	}
	return out
}

func newFake(t testing.TB, params device.Params) *fake {
	t.Helper()
	f := &fake{}
	for _, s := range fakeSpecs[1:] {
		values, err := params.Param(s.Key, s.Shape)
		if err != nil {
			t.Fatal(err)
		}
		dense := func(v []float32) *tensor.Dense {
			return tensor.New(tensor.WithShape(s.Shape...), tensor.WithBacking(v))
		}
		f.params = append(f.params, &param{s.Key, dense(append([]float32{}, values...)), dense(make([]float32, len(values)))})
	}
	return f
}

func (f *fake) ValueGrads() []gorgonia.ValueGrad {
	out := make([]gorgonia.ValueGrad, len(f.params))
	for i, p := range f.params {
		out[i] = p
	}
	return out
}

func (f *fake) Step(ctx context.Context, b *data.Batch) (step.Losses, error) {
	select {
	case <-ctx.Done():
		return step.Losses{}, ctx.Err()
	case <-time.After(f.pause):
	}
	r := rand.New(rand.NewPCG(b.Seed, 0))
	var mean, side float32
	for _, v := range b.Pixels.Data {
		mean += v / float32(len(b.Pixels.Data))
	}
	for _, truths := range b.Truths {
		for _, o := range truths {
			side += o.Box.Width() / 100
		}
	}
	var loss float64
	for _, p := range f.params {
		w, g := p.value.Float32s(), p.grad.Float32s()
		for i := range w {
			d := w[i] - mean - side + 0.1*float32(r.NormFloat64())
			g[i] += d
			loss += float64(d*d) / 2
		}
	}
	f.steps++
	l := step.Losses{Classifier: loss / 2, Box: loss / 4, Objectness: loss / 8, RPNBox: loss / 8}
	if f.spoil != nil {
		f.spoil(f.steps, &l, f)
	}
	return l, nil
}

// photos writes n small photos with an object each.
func photos(t testing.TB, dir string, n int) *data.Set {
	t.Helper()
	d := &coco.Dataset{Path: dir, Classes: coco.NamedClasses([]string{"thing"})}
	for i := range n {
		img := image.NewGray(image.Rect(0, 0, 20+i, 16))
		for x := range img.Rect.Dx() {
			img.SetGray(x, 8, color.Gray{Y: uint8(20 * i)})
		}
		path := filepath.Join(dir, fmt.Sprintf("%d.png", i))
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := png.Encode(f, img); err != nil {
			t.Fatal(err)
		}
		f.Close()
		d.Images = append(d.Images, coco.Image{
			File: filepath.Base(path), Path: path, Width: img.Rect.Dx(), Height: 16,
			Objects: []coco.Object{{Box: coco.Box{X: 2, Y: 2, W: float64(3 + i), H: 5}}},
		})
	}
	s, err := data.NewSet(d, data.DefaultConfig())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// recipe is one for the fake network.
func recipe() Recipe {
	r := DefaultRecipe()
	r.Schedule.Kind, r.Schedule.Rate, r.Schedule.Steps, r.Schedule.Decay = schedule.Steps, 0.01, 40, []int{30}
	r.Schedule.Warmup = schedule.Warmup{Steps: 5, From: 0.1}
	r.Data.Augment.Brightness, r.Data.Augment.Scale = 0.2, [2]float64{0.8, 1.2}
	r.Accumulate, r.Save, r.Log, r.Seed = 2, 3, 4, 7
	r.Evaluate.Every = 8
	return r
}

var machine = checkpoint.Machine{Device: "fake", Threads: 1, Features: []string{"NONE"}}

// newRun prepares a run in dir, or continues the one that is there.
func newRun(t testing.TB, dir string, set *data.Set, r Recipe) (*Run, *fake) {
	t.Helper()
	id := Identity{Recipe: r, Model: map[string]int{"fake": 1}, Data: "photos"}
	start, err := Begin(id, machine)
	if err != nil {
		t.Fatal(err)
	}
	var params device.Params = fakeParams()
	if checkpoint.Exists(filepath.Join(dir, CheckpointFile)) {
		if start, params, _, err = Resume(dir, id, machine); err != nil {
			t.Fatal(err)
		}
	}
	net := newFake(t, params)
	tc := transform.DefaultConfig()
	tc.ShortSide, tc.LongSide, tc.PadMultiple = 16, 32, 8
	run := &Run{Dir: dir, Recipe: r, Set: set, Transform: tc, Network: net, Params: params, Specs: fakeSpecs, From: start}
	run.Evaluate = func(context.Context, int) (Score, error) {
		w := net.params[0].value.Float32s()
		return Score{Value: 1 / (1 + float64(w[0]*w[0])), Figures: []Figure{{"first", float64(w[0])}}}, nil
	}
	return run, net
}
