package devicetest

import (
	"context"
	"errors"
	"slices"
	"testing"

	"resdet/internal/device"
	"resdet/internal/nd"
	"resdet/internal/nn"
)

// learner is a block compiled for one map size, on arrays that others share.
type learner struct {
	graph  *nn.Graph
	params arrays
	inputs arrays
	step   device.StepProgram
}

func newLearner(t *testing.T, d device.Trainer, shared map[string]device.Array, h, w int) *learner {
	t.Helper()
	learned, model := bottleneck(64, 64, 256, h, w, 1)
	l := &learner{graph: build(t, model)}
	l.params, l.inputs = randomParams(l.graph), randomInputs(l.graph, nil)
	for _, name := range learned {
		scaleWeights(l.inputs[name])
		for _, key := range []string{name, "grad/" + name} {
			if shared[key] != nil {
				continue
			}
			a, err := d.NewArray(l.inputs[name].Shape)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(a.Close)
			shared[key] = a
		}
		copy(shared[name].Data(), l.inputs[name].Data)
	}
	var err error
	if l.step, err = d.CompileStep(l.graph, l.params, shared); err != nil {
		t.Fatalf("compile: %v", err)
	}
	t.Cleanup(l.step.Close)
	return l
}

// expected returns the oracle's outputs with the weights that the arrays hold.
func (l *learner) expected(t *testing.T, shared map[string]device.Array) map[string]*nd.Tensor[float64] {
	for name, in := range l.inputs {
		if a := shared[name]; a != nil {
			copy(in.Data, a.Data())
		}
	}
	return expected(t, l.graph, l.params, l.inputs)
}

// sharedSteps runs steps of two shapes in turn on the same weights, which
// change in between as a solver changes them, and inference beside them.
func sharedSteps(t *testing.T, d device.Trainer) {
	shared := map[string]device.Array{}
	learners := []*learner{newLearner(t, d, shared, 13, 17), newLearner(t, d, shared, 20, 9)}
	inference := newDetector(t, d, arrays{}, 64, 96, 20)
	for range 3 {
		sums := map[string]*nd.Tensor[float64]{}
		for name, a := range shared {
			if isGradient(name) {
				clear(a.Data())
				sums[name] = nd.New[float64](a.Shape()...)
			} else {
				for i := range a.Data() {
					a.Data()[i] *= -0.9
				}
			}
		}
		for _, l := range learners {
			runStep(t, l.step, l.graph, l.inputs)
			for name, v := range l.expected(t, shared) {
				for i := range v.Data {
					if s := sums[name]; s != nil {
						s.Data[i] += v.Data[i]
					}
				}
			}
			inference.run(t)
		}
		for name, want := range sums {
			compare(t, name, shared[name].Data(), want, summed)
		}
	}
}

// cancelledSteps cancels before each part; the next run is whole again.
func cancelledSteps(t *testing.T, d device.Trainer) {
	shared := map[string]device.Array{}
	l := newLearner(t, d, shared, 13, 17)
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.step.RunPart(over, 0); !errors.Is(err, context.Canceled) {
		t.Errorf("part 0: %v", err)
	}
	if err := l.step.RunPart(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	if err := l.step.RunPart(over, 1); !errors.Is(err, context.Canceled) {
		t.Errorf("part 1: %v", err)
	}
	var first []float32
	for range 2 {
		for name, a := range shared {
			if isGradient(name) {
				clear(a.Data())
			}
		}
		runStep(t, l.step, l.graph, l.inputs)
		got := shared["grad/w2"].Data()
		compare(t, "grad/w2", got, l.expected(t, shared)["grad/w2"], summed)
		if first == nil {
			first = slices.Clone(got)
		}
		if !slices.Equal(got, first) {
			t.Error("the same step gives other bits")
		}
	}
}

// closedSteps closes the device before its programs and arrays.
func closedSteps(t *testing.T, d device.Trainer) {
	l := newLearner(t, d, map[string]device.Array{}, 8, 8)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if err := l.step.RunPart(t.Context(), 0); err == nil {
		t.Error("a program of a closed device runs")
	}
	if _, err := d.NewArray(nd.Shape{3}); err == nil {
		t.Error("a closed device makes arrays")
	}
	if _, err := d.CompileStep(l.graph, l.params, nil); err == nil {
		t.Error("a closed device compiles")
	}
}
