package ref

import (
	"math"
	"math/rand/v2"
	"testing"

	"resdet/internal/nd"
	"resdet/internal/nn"
)

// Integers come out exact, in float32 too: 4,608 products of up to 255·127 are
// beyond 2²⁴, and their sum is here a multiple of a power of two.
func TestInt8SumsAreExact(t *testing.T) {
	const terms = 4608
	r := rand.New(rand.NewPCG(1, 2))
	x, w := nd.New[float32](1, terms), nd.New[float32](1, terms)
	var sum int64
	for i := range terms {
		q, v := r.IntN(256), r.IntN(20)+108
		if i == 0 {
			v = 127 // the largest weight sets the step: 127 → 1
		}
		x.Data[i], w.Data[i] = float32(q)*0.25, float32(v)
		sum += int64(q) * int64(v)
	}
	g, err := nn.Build(func(b *nn.Builder) { b.Output("y", b.Linear("fc", b.Input("x", 1, terms), 1)) })
	if err != nil {
		t.Fatal(err)
	}
	g = g.With(nn.Numerics{"fc": {Precision: nn.Int8, Scale: 0.25}})
	params := map[string]*nd.Tensor[float32]{"fc.weight": w, "fc.bias": nd.New[float32](1)}
	out, err := Run(t.Context(), g, params, map[string]*nd.Tensor[float32]{"x": x})
	if err != nil {
		t.Fatal(err)
	}
	if want := float32(float64(sum) * 0.25); out["y"].Data[0] != want || sum < 1<<24 {
		t.Errorf("the sum is %v, want %v", out["y"].Data[0], want)
	}
}

func TestRounding(t *testing.T) {
	apply := func(n nn.Numbers, v float32) float32 {
		x := []float32{v}
		rounding[float32](n)(x)
		return x[0]
	}
	unsigned, signed, half := nn.Numbers{Precision: nn.Int8, Scale: 0.5}, nn.Numbers{Precision: nn.Int8, Scale: 0.5, Signed: true}, nn.Numbers{Precision: nn.BF16}
	for _, c := range []struct {
		n       nn.Numbers
		v, want float32
	}{
		{unsigned, 0.75, 2}, {unsigned, 0.25, 0}, {unsigned, -3, 0}, {unsigned, 1000, 255},
		{signed, 0.75, 2}, {signed, -0.75, -2}, {signed, -1000, -128}, {signed, 1000, 127},
		{half, 1 + 1.0/256, 1}, {half, 1 + 3.0/256, 1 + 4.0/256}, {half, -1.5, -1.5}, {half, float32(math.Inf(1)), float32(math.Inf(1))},
	} {
		if got := apply(c.n, c.v); got != c.want {
			t.Errorf("%v in %+v is %v, want %v", c.v, c.n, got, c.want)
		}
	}
}
