package devicetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"resdet/internal/device"
	"resdet/internal/nd"
	"resdet/internal/nn"
)

// programs tests what package device promises of devices, programs and
// buffers.
func programs(t *testing.T, open Opener) {
	for _, c := range []struct {
		name string
		test func(t *testing.T, open Opener)
	}{
		{"stages", stages},
		{"three stages", threeStages},
		{"bound wrongly", boundWrongly},
		{"same bits again", sameBits},
		{"goroutines", goroutines},
		{"cancelled", cancelled},
		{"parameters", parameters},
		{"two models", twoModels},
		{"steps", steps},
		{"closed", closed},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, open) })
	}
}

// stage1 keeps a pyramid of two levels and hands out the logits of a head.
func stage1(h, w int) func(b *nn.Builder) {
	return func(b *nn.Builder) {
		x := b.Input("x", 1, 3, h, w)
		x = b.ReLU(b.Norm("bn1", b.Conv("conv1", x, 24, 3, 2, 1), 1e-5))
		fine := b.ReLU(b.Norm("bn2", b.Conv("conv2", x, 24, 3, 2, 1), 1e-5))
		coarse := b.ReLU(b.Norm("bn3", b.Conv("conv3", fine, 24, 3, 2, 1), 1e-5))
		for i, level := range []nn.Value{fine, coarse} {
			b.Keep(fmt.Sprint("p", i+2), level)
			b.Output(fmt.Sprint("logits", i+2), b.ConvBias("logits", level, 3, 1, 1, 0))
		}
	}
}

// stage2 pools regions from the kept pyramid.
func stage2(h, w, regions int) func(b *nn.Builder) {
	return func(b *nn.Builder) {
		features := []nn.Value{b.Input("p2", 1, 24, ceil(h, 4), ceil(w, 4)), b.Input("p3", 1, 24, ceil(h, 8), ceil(w, 8))}
		p := nn.Pyramid{Scales: []float64{1. / 4, 1. / 8}, CanonicalLevel: 3, CanonicalSize: 40}
		x := b.RoIAlign(nn.RoIAlign{Pyramid: p, H: 7, W: 7, Sampling: 2}, features, b.Input("rois", regions, 5))
		b.Output("y", b.Linear("fc7", b.ReLU(b.Linear("fc6", b.Flatten(x), 40)), 13))
	}
}

func ceil(a, b int) int { return (a + b - 1) / b }

// detector is both stages compiled for one size, and what they must give.
type detector struct {
	graph1, graph2   *nn.Graph
	inputs1, inputs2 arrays
	want1, want2     map[string]*nd.Tensor[float64]
	first, second    device.Program
}

func newDetector(t *testing.T, d device.Device, params arrays, h, w, n int) *detector {
	t.Helper()
	s := &detector{graph1: build(t, stage1(h, w)), graph2: build(t, stage2(h, w, n))}
	for key, a := range randomParams(s.graph1) {
		if params[key] == nil {
			params[key] = a
		}
	}
	for key, a := range randomParams(s.graph2) {
		if params[key] == nil {
			params[key] = a
		}
	}
	rois := nd.New[float32](n, 5)
	r := random(fmt.Sprint(h, w, n))
	for i := range n {
		x, y := r.Float32()*float32(w), r.Float32()*float32(h)
		copy(rois.Data[5*i:], []float32{0, x - 30*r.Float32(), y - 30*r.Float32(), x + 30*r.Float32(), y + 30*r.Float32()})
	}
	s.inputs1 = randomInputs(s.graph1, nil)
	s.want1 = expected(t, s.graph1, params, s.inputs1)
	s.inputs2 = arrays{"rois": rois, "p2": nd.Convert[float32](s.want1["p2"]), "p3": nd.Convert[float32](s.want1["p3"])}
	s.want2 = expected(t, s.graph2, params, s.inputs2)

	s.first = compile(t, d, s.graph1, params, nil)
	s.second = compile(t, d, s.graph2, params, kept(s.first, s.graph1))
	return s
}

// kept returns the kept outputs of p by name.
func kept(p device.Program, g *nn.Graph) map[string]device.Buffer {
	m := map[string]device.Buffer{}
	for i, o := range g.Outputs {
		if o.Kept {
			m[o.Name] = p.Output(i)
		}
	}
	return m
}

func (s *detector) run(t *testing.T) {
	t.Helper()
	run(t, s.first, s.graph1, s.inputs1, nil)
	compareAll(t, s.first, s.graph1, s.want1, summed)
	run(t, s.second, s.graph2, s.inputs2, kept(s.first, s.graph1))
	compareAll(t, s.second, s.graph2, s.want2, summed)
}

// stages binds the kept outputs of one program to the next, for several sizes
// in turn: they share memory and weights.
func stages(t *testing.T, open Opener) {
	d := opened(t, open)
	params := arrays{}
	small, large := newDetector(t, d, params, 50, 70, 9), newDetector(t, d, params, 111, 90, 30)
	small.run(t)
	large.run(t)
	tiny := newDetector(t, d, params, 17, 16, 1) // compiled between runs
	small.run(t)
	tiny.run(t)
	large.run(t)

	// A bound input has no buffer of its own.
	for i := range small.graph2.Inputs {
		own := small.graph2.InputName(i) == "rois"
		if (small.second.Input(i) != nil) != own {
			t.Errorf("input %q of the second stage: buffer %v", small.graph2.InputName(i), small.second.Input(i))
		}
	}
	// A program compiled likewise gives as good a buffer.
	twin := compile(t, d, small.graph1, params, nil)
	run(t, twin, small.graph1, small.inputs1, nil)
	run(t, small.second, small.graph2, small.inputs2, kept(twin, small.graph1))
	compareAll(t, small.second, small.graph2, small.want2, summed)

	// Closing one size leaves the others.
	tiny.first.Close()
	tiny.second.Close()
	large.run(t)
}

// threeStages keeps an output of a program that has bound ones.
func threeStages(t *testing.T, open Opener) {
	d := opened(t, open)
	a := build(t, func(b *nn.Builder) {
		b.Keep("x1", b.ReLU(b.Conv("a", b.Input("x0", 1, 5, 13, 17), 20, 3, 1, 1)))
	})
	c := build(t, func(b *nn.Builder) {
		b.Keep("x2", b.ReLU(b.Conv("b", b.Input("x1", 1, 20, 13, 17), 33, 3, 1, 1)))
	})
	e := build(t, func(b *nn.Builder) {
		x1, x2 := b.Input("x1", 1, 20, 13, 17), b.Input("x2", 1, 33, 13, 17)
		b.Output("y", b.Add(b.Conv("c", x1, 8, 3, 1, 1), b.Conv("d", x2, 8, 1, 1, 0)))
	})
	all := build(t, func(b *nn.Builder) {
		x1 := b.ReLU(b.Conv("a", b.Input("x0", 1, 5, 13, 17), 20, 3, 1, 1))
		x2 := b.ReLU(b.Conv("b", x1, 33, 3, 1, 1))
		b.Output("y", b.Add(b.Conv("c", x1, 8, 3, 1, 1), b.Conv("d", x2, 8, 1, 1, 0)))
	})
	params, inputs := randomParams(all), randomInputs(all, nil)

	first := compile(t, d, a, params, nil)
	second := compile(t, d, c, params, kept(first, a))
	both := map[string]device.Buffer{"x1": first.Output(0), "x2": second.Output(0)}
	third := compile(t, d, e, params, both)
	for range 2 {
		run(t, first, a, inputs, nil)
		run(t, second, c, nil, kept(first, a))
		run(t, third, e, nil, both)
		compareAll(t, third, e, expected(t, all, params, inputs), summed)
	}
}

// boundWrongly leaves out a buffer, and gives one of another shape and one
// of another device.
func boundWrongly(t *testing.T, open Opener) {
	d := opened(t, open)
	params := arrays{}
	s, other := newDetector(t, d, params, 50, 70, 9), newDetector(t, d, params, 60, 40, 9)
	foreign := newDetector(t, opened(t, open), params, 50, 70, 9)
	s.run(t)
	good := kept(s.first, s.graph1)
	for name, bound := range map[string]map[string]device.Buffer{
		"missing":        {"p2": good["p2"]},
		"another shape":  {"p2": good["p2"], "p3": kept(other.first, other.graph1)["p3"]},
		"another device": {"p2": good["p2"], "p3": kept(foreign.first, foreign.graph1)["p3"]},
	} {
		err := s.second.Run(t.Context(), bound)
		if err == nil || !strings.Contains(err.Error(), "p3") {
			t.Errorf("%s: error %v does not name the input p3", name, err)
		}
	}
	s.run(t)
}

// sameBits runs a program again, with others in between.
func sameBits(t *testing.T, open Opener) {
	d := opened(t, open)
	params := arrays{}
	s, other := newDetector(t, d, params, 64, 96, 20), newDetector(t, d, params, 50, 70, 9)
	var first []float32
	for range 3 {
		s.run(t)
		y := s.second.Output(0).Data()
		if first == nil {
			first = slices.Clone(y)
		}
		if !slices.Equal(y, first) {
			t.Fatal("a second run gives other bits")
		}
		other.run(t)
	}
}

// goroutines uses a device from several goroutines at once. Outputs are read
// under a lock that keeps others from running, as package device asks for.
func goroutines(t *testing.T, open Opener) {
	d := opened(t, open)
	g := make([]*nn.Graph, 4)
	params := arrays{}
	for i := range g {
		g[i] = build(t, func(b *nn.Builder) {
			x := b.ReLU(b.Norm("bn", b.Conv("conv", b.Input("x", 1, 8, 20+i, 30-i), 24, 3, 1, 1), 1e-5))
			b.Output("y", b.Conv("out", x, 8, 1, 1, 0))
		})
		for key, a := range randomParams(g[i]) {
			params[key] = a
		}
	}
	var reading sync.RWMutex
	var all sync.WaitGroup
	for i := range g {
		inputs := randomInputs(g[i], nil)
		want := expected(t, g[i], params, inputs)
		all.Go(func() {
			for range 3 {
				p, err := d.Compile(g[i], params, nil)
				if err != nil {
					t.Error(err)
					return
				}
				fill(p, g[i], inputs, nil)
				reading.RLock() // many run
				err = p.Run(t.Context(), nil)
				reading.RUnlock()
				if err != nil {
					t.Error(err)
				}
				reading.Lock() // one runs and reads
				if err := p.Run(t.Context(), nil); err != nil {
					t.Error(err)
				}
				compareAll(t, p, g[i], want, summed)
				reading.Unlock()
				p.Close()
			}
		})
	}
	all.Wait()
}

// cancelled runs under contexts that end before and during the run.
func cancelled(t *testing.T, open Opener) {
	d := opened(t, open)
	g := build(t, func(b *nn.Builder) {
		x := b.Input("x", 1, 32, 40, 40)
		for i := range 30 {
			x = b.ReLU(b.Conv(fmt.Sprint("conv", i), x, 32, 3, 1, 1))
		}
		b.Output("y", x)
	})
	params, inputs := randomParams(g), randomInputs(g, nil)
	want := expected(t, g, params, inputs)
	p := compile(t, d, g, params, nil)
	fill(p, g, inputs, nil)

	before, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.Run(before, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled before the run: %v", err)
	}
	late, cancel := context.WithDeadline(t.Context(), time.Unix(0, 0))
	defer cancel()
	if err := p.Run(late, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("deadline before the run: %v", err)
	}
	for range 5 { // at whatever step it then is; also after the last
		during, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			time.Sleep(time.Millisecond)
			cancel()
			close(done)
		}()
		if err := p.Run(during, nil); err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled during the run: %v", err)
		}
		<-done
	}
	run(t, p, g, inputs, nil)
	compareAll(t, p, g, want, summed)
}

// counted counts how often each parameter is asked for.
type counted struct {
	arrays
	asked map[string]int
}

func (c *counted) Param(key string, shape nd.Shape) ([]float32, error) {
	c.asked[key]++
	return c.arrays.Param(key, shape)
}

// short gives an element less than it should of one parameter.
type short struct {
	arrays
	key string
}

func (s short) Param(key string, shape nd.Shape) ([]float32, error) {
	data, err := s.arrays.Param(key, shape)
	if key == s.key && err == nil {
		data = data[:len(data)-1]
	}
	return data, err
}

// parameters tests that wrong ones are refused by name, that good ones are
// packed once, and that the device has a copy.
func parameters(t *testing.T, open Opener) {
	d := opened(t, open)
	model := func(h int) func(b *nn.Builder) {
		return func(b *nn.Builder) {
			b.Scope("body", func() {
				x := b.ReLU(b.Norm("bn", b.Conv("conv", b.Input("x", 1, 3, h, 9), 16, 3, 1, 1), 1e-5))
				b.Output("y", b.Linear("fc", b.Mean(x), 5))
			})
		}
	}
	g := build(t, model(8))
	good := randomParams(g)
	for key := range good {
		missing, misshapen := arrays{}, arrays{}
		for k, a := range good {
			if k != key {
				missing[k], misshapen[k] = a, a
			}
		}
		misshapen[key] = nd.New[float32](append([]int{2}, good[key].Shape...)...)
		for what, params := range map[string]device.Params{"missing": missing, "misshapen": misshapen, "short": &short{good, key}} {
			_, err := d.Compile(g, params, nil)
			if err == nil || !strings.Contains(err.Error(), key) {
				t.Errorf("%s %s: error %v does not name it", what, key, err)
			}
		}
	}

	params := &counted{arrays: arrays{}, asked: map[string]int{}}
	for key, a := range good {
		params.arrays[key] = nd.Of(slices.Clone(a.Data), a.Shape...)
	}
	for _, h := range []int{8, 11, 8, 30} {
		g := build(t, model(h))
		inputs := randomInputs(g, nil)
		p := compile(t, d, g, params, nil)
		for _, a := range params.arrays { // after Compile they are nobody's
			clear(a.Data)
		}
		run(t, p, g, inputs, nil)
		compareAll(t, p, g, expected(t, g, good, inputs), summed)
	}
	for key, n := range params.asked {
		if n != 1 {
			t.Errorf("parameter %s was asked for %d times, by four programs of one device", key, n)
		}
	}
}

// twoModels compiles two models whose parameters have the same keys.
func twoModels(t *testing.T, open Opener) {
	d := opened(t, open)
	g := build(t, func(b *nn.Builder) {
		x := b.ReLU(b.Norm("bn", b.Conv("conv", b.Input("x", 1, 16, 8, 9), 16, 3, 1, 1), 1e-5))
		b.Output("y", b.Linear("fc", b.Flatten(x), 5))
	})
	one, inputs := randomParams(g), randomInputs(g, nil)
	two := arrays{}
	for key, a := range one {
		two[key] = nd.New[float32](a.Shape...)
		for i, v := range a.Data {
			two[key].Data[i] = 0.5 + v/4
		}
	}
	first, second := compile(t, d, g, one, nil), compile(t, d, g, two, nil)
	for range 2 {
		run(t, first, g, inputs, nil)
		compareAll(t, first, g, expected(t, g, one, inputs), summed)
		run(t, second, g, inputs, nil)
		compareAll(t, second, g, expected(t, g, two, inputs), summed)
	}
}

// steps tests the description of a program.
func steps(t *testing.T, open Opener) {
	d := opened(t, open)
	if d.Name() == "" {
		t.Error("the device has no name")
	}
	s := newDetector(t, d, arrays{}, 64, 96, 20)
	s.run(t)
	for i, p := range []device.Program{s.first, s.second} {
		g := []*nn.Graph{s.graph1, s.graph2}[i]
		var want, got int64
		for v := range g.Nodes {
			want += g.FLOPs(nn.Value(v))
		}
		var spent time.Duration
		for _, step := range p.Steps() {
			got += step.FLOPs
			spent += step.Time
			if step.Name == "" || step.Op == "" || step.Algorithm == "" || step.Layout == "" || len(step.Shape) == 0 || step.Time < 0 {
				t.Errorf("incomplete step %+v", step)
			}
		}
		if got != want {
			t.Errorf("the steps count %d floating-point operations, the graph %d", got, want)
		}
		if spent <= 0 {
			t.Error("the steps took no time")
		}
	}
}

// closed closes things twice.
func closed(t *testing.T, open Opener) {
	d := open(t)
	s := newDetector(t, d, arrays{}, 50, 70, 9)
	s.run(t)
	s.first.Close()
	s.first.Close()
	for range 2 {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
	// Another device is not concerned.
	newDetector(t, opened(t, open), arrays{}, 50, 70, 9).run(t)
}
