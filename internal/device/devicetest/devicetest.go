// Package devicetest is the conformance suite that every device passes: every
// operation and every combination that a compiler may fuse or rewrite, on odd
// shapes, and the behaviour that package device promises.
//
//	model + random arrays ─┬─▶ the device, float32 ──┐
//	                       └─▶ ref.Run, float64 ─────┴─▶ compared
//
// A device's own test is one line: devicetest.Run(t, open). Bench measures it
// on the shapes of real networks.
package devicetest

import (
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"resdet/internal/device"
	"resdet/internal/device/ref"
	"resdet/internal/fixture"
	"resdet/internal/nd"
	"resdet/internal/nn"
)

// Tolerances are relative to the largest magnitude of the expected array.
const (
	// Values that are only moved and compared: ReLU, maxima, copies.
	exact = 0

	// One or two roundings of an element: addition, normalisation, a mean.
	rounded = 1e-6

	// Sums of up to some thousand products in any order lose about 2e-6; the
	// transforms of Winograd's F(4×4, 3×3) amplify that some thirty times.
	summed = 1e-4

	// A sample's place in a map of 64 pixels is rounded to 4e-6 pixels,
	// whatever the order of operations, between pixels that differ by up to
	// twice the largest value.
	sampled = 2e-5

	// Operands of bf16 that a device rounds from values that differ in their
	// last bits, with a norm in the weights or before them, are now and then one
	// step of 2⁻⁸ apart; so are those of the layers after it.
	halved = 1e-2

	// In bf16 a ReLU whose input is next to zero passes in one and not in the
	// other: few elements of a gradient differ, but wholly. This is relative to
	// the root of the sum of all squares; see compareNorm.
	flipped = 5e-2

	// Values that are stored in 8 bits between layers are half a step of 1/127
	// off, those of residual sums a whole one, and layers that follow add up.
	stored = 6e-2
)

// Opener returns a new device; the suite closes it.
type Opener func(t testing.TB) device.Device

// Run tests a device. Each group has a device of its own, whose programs
// share it as those of a detector do.
func Run(t *testing.T, open func(t testing.TB) device.Device) {
	t.Run("ops", func(t *testing.T) { operations(t, open) })
	t.Run("regions", func(t *testing.T) { regions(t, open) })
	t.Run("fusion", func(t *testing.T) { fusions(t, open) })
	if !fixture.Race { // rounding is all that differs
		t.Run("precision", func(t *testing.T) { precisions(t, open) })
	}
	t.Run("programs", func(t *testing.T) { programs(t, open) })
	t.Run("training", func(t *testing.T) { training(t, open) })
	t.Run("torchvision", func(t *testing.T) { torchvision(t, open) })
}

// arrays are values by input name.
type arrays map[string]*nd.Tensor[float32]

// opened returns a device that is closed when the test ends.
func opened(t testing.TB, open Opener) device.Device {
	t.Helper()
	d := open(t)
	if d == nil {
		t.Fatal("no device")
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return d
}

// check compiles a model, runs it on random parameters and inputs (but for
// those given) and compares every output with the oracle's.
func check(t *testing.T, d device.Device, tolerance float64, given arrays, model func(b *nn.Builder)) {
	t.Helper()
	g := build(t, model)
	params := randomParams(g)
	inputs := randomInputs(g, given)
	p := compile(t, d, g, params, nil)
	defer p.Close()
	run(t, p, g, inputs, nil)
	compareAll(t, p, g, expected(t, g, params, inputs), tolerance)
}

func build(t testing.TB, model func(b *nn.Builder)) *nn.Graph {
	t.Helper()
	g, err := nn.Build(model)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func compile(t testing.TB, d device.Device, g *nn.Graph, params device.Params, from map[string]device.Buffer) device.Program {
	t.Helper()
	p, err := d.Compile(g, params, from)
	if err != nil {
		t.Fatalf("compile: %v", err)
	}
	return p
}

// run fills the inputs that are not bound and runs p.
func run(t testing.TB, p device.Program, g *nn.Graph, inputs arrays, bound map[string]device.Buffer) {
	t.Helper()
	fill(p, g, inputs, bound)
	if err := p.Run(t.Context(), bound); err != nil {
		t.Fatalf("run: %v", err)
	}
}

func fill(p device.Program, g *nn.Graph, inputs arrays, bound map[string]device.Buffer) {
	for i := range g.Inputs {
		if name := g.InputName(i); bound[name] == nil {
			copy(p.Input(i).Data(), inputs[name].Data)
		}
	}
}

// expected returns the oracle's outputs.
func expected(t testing.TB, g *nn.Graph, params, inputs arrays) map[string]*nd.Tensor[float64] {
	t.Helper()
	out, err := ref.Run(t.Context(), g, exactly(params), exactly(inputs))
	if err != nil {
		t.Fatalf("oracle: %v", err)
	}
	return out
}

func exactly(a arrays) map[string]*nd.Tensor[float64] {
	b := map[string]*nd.Tensor[float64]{}
	for name, t := range a {
		b[name] = nd.Convert[float64](t)
	}
	return b
}

// compareAll compares every output that the host can read.
func compareAll(t *testing.T, p device.Program, g *nn.Graph, want map[string]*nd.Tensor[float64], tolerance float64) {
	t.Helper()
	for i, o := range g.Outputs {
		b := p.Output(i)
		if !b.Shape().Equal(g.Nodes[o.Value].Shape) {
			t.Errorf("output %q: shape %v, want %v", o.Name, b.Shape(), g.Nodes[o.Value].Shape)
			continue
		}
		if o.Kept {
			if b.Data() != nil {
				t.Errorf("output %q: a kept output gives its elements to the host", o.Name)
			}
			continue
		}
		compare(t, o.Name, b.Data(), want[o.Name], tolerance)
	}
}

// compare reports the worst element if it is out of tolerance.
func compare(t testing.TB, name string, got []float32, want *nd.Tensor[float64], tolerance float64) {
	t.Helper()
	if len(got) != len(want.Data) {
		t.Errorf("%s: %d elements, want %d", name, len(got), len(want.Data))
		return
	}
	scale := 0.0
	for _, v := range want.Data {
		scale = max(scale, math.Abs(v))
	}
	worst, at, wrong := -1.0, 0, 0
	for i, v := range want.Data {
		diff := math.Abs(float64(got[i]) - v)
		if diff <= tolerance*scale { // false for NaN
			continue
		}
		wrong++
		if !(diff <= worst) {
			worst, at = diff, i
		}
	}
	if wrong > 0 {
		t.Errorf("%s %v: %d of %d elements differ by more than %g of the largest, %.4g; worst at %v: %v, want %v",
			name, want.Shape, wrong, len(got), tolerance, scale, coordinates(at, want.Shape), got[at], want.Data[at])
	}
}

// compareNorm reports an array whose distance from the expected one is out of
// tolerance.
func compareNorm(t testing.TB, name string, got []float32, want *nd.Tensor[float64], tolerance float64) {
	t.Helper()
	if len(got) != len(want.Data) {
		t.Errorf("%s: %d elements, want %d", name, len(got), len(want.Data))
		return
	}
	var distance, norm float64
	for i, v := range want.Data {
		d := float64(got[i]) - v
		distance, norm = distance+d*d, norm+v*v
	}
	if off := math.Sqrt(distance / norm); !(off <= tolerance) {
		t.Errorf("%s %v: off by %.2g of its norm, %.4g", name, want.Shape, off, math.Sqrt(norm))
	}
}

func coordinates(i int, shape nd.Shape) nd.Shape {
	at := make(nd.Shape, len(shape))
	for d := len(shape) - 1; d >= 0; d-- {
		at[d], i = i%shape[d], i/shape[d]
	}
	return at
}

// randomParams returns parameters of plausible size: weights such that the
// values of a layer are about as large as its inputs, variances above zero.
func randomParams(g *nn.Graph) arrays {
	params := arrays{}
	for _, p := range g.Params() {
		a := nd.New[float32](p.Shape...)
		r := random(p.Key)
		from, to := float32(-0.5), float32(0.5)
		switch {
		case strings.HasSuffix(p.Key, "running_var"):
			from, to = 0.5, 1.5
		case len(p.Shape) > 1:
			to = float32(math.Sqrt(3 / float64(p.Shape[1:].Len())))
			from = -to
		case strings.HasSuffix(p.Key, ".weight"): // of a norm: both signs
			from, to = -1.2, 1.2
		}
		uniform(r, a.Data, from, to)
		params[p.Key] = a
	}
	return params
}

// randomInputs returns the given inputs and random values for the others.
func randomInputs(g *nn.Graph, given arrays) arrays {
	inputs := arrays{}
	for i, v := range g.Inputs {
		name := g.InputName(i)
		if a, ok := given[name]; ok {
			inputs[name] = a
			continue
		}
		a := nd.New[float32](g.Nodes[v].Shape...)
		uniform(random(name), a.Data, -1, 1)
		inputs[name] = a
	}
	return inputs
}

func uniform(r *rand.Rand, data []float32, from, to float32) {
	for i := range data {
		data[i] = from + (to-from)*r.Float32()
	}
}

// random returns a generator that depends on the name alone.
func random(name string) *rand.Rand {
	h := fnv.New64a()
	fmt.Fprint(h, name)
	return rand.New(rand.NewPCG(h.Sum64(), 1))
}

// Param makes arrays a device.Params.
func (a arrays) Param(key string, shape nd.Shape) ([]float32, error) {
	return device.MapParams(a).Param(key, shape)
}
