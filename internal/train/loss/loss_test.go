package loss_test

import (
	"math"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"resdet/internal/fixture"
	"resdet/internal/train/loss"
)

func TestTorchvision(t *testing.T) {
	dir := filepath.Join(fixture.Dir(t, "torchvision"), "losses")
	a, b := fixture.Floats(t, filepath.Join(dir, "a.npy")).Data, fixture.Floats(t, filepath.Join(dir, "b.npy")).Data
	labels := make([]int, 8)
	for i := range labels {
		labels[i] = i
	}
	for _, c := range []struct {
		name string
		got  float64
	}{
		{"smooth_l1", loss.SmoothL1(a, b, 1.0/9, nil, 1)},
		{"bce", loss.BinaryCrossEntropy(a, binary(b), nil, 1) / 64},
		{"ce", loss.CrossEntropy(a, labels, nil, 1) / 8},
	} {
		want := float64(fixture.Floats(t, filepath.Join(dir, c.name+".npy")).Data[0])
		if math.Abs(c.got-want) > 1e-5*want { // the reference sums in float32
			t.Errorf("%s = %v, want %v", c.name, c.got, want)
		}
	}
}

// binary makes the case's targets: 1 where b is positive.
func binary(v []float32) []float32 {
	out := make([]float32, len(v))
	for i, x := range v {
		if x > 0 {
			out[i] = 1
		}
	}
	return out
}

// Gradients equal central differences.
func TestGradients(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	x, y := make([]float64, 24), make([]float64, 24)
	for i := range x {
		x[i], y[i] = r.NormFloat64()*2, r.Float64()
	}
	labels := []int{3, 0, 5, 2}
	for name, f := range map[string]func(grad []float64) float64{
		"smooth L1":            func(g []float64) float64 { return loss.SmoothL1(x, y, 1.0/9, g, 1) },
		"binary cross entropy": func(g []float64) float64 { return loss.BinaryCrossEntropy(x, y, g, 1) },
		"cross entropy":        func(g []float64) float64 { return loss.CrossEntropy(x, labels, g, 1) },
	} {
		grad := make([]float64, len(x))
		f(grad)
		for i := range x {
			const h = 1e-6
			at := x[i]
			x[i] = at + h
			up := f(nil)
			x[i] = at - h
			down := f(nil)
			x[i] = at
			if want := (up - down) / (2 * h); math.Abs(grad[i]-want) > 1e-6 {
				t.Errorf("%s: ∂/∂x[%d] = %v, central difference %v", name, i, grad[i], want)
			}
		}
	}
}

// Large logits neither overflow nor vanish.
func TestExtremes(t *testing.T) {
	x := []float32{1000, -1000}
	g := make([]float32, 2)
	if got := loss.BinaryCrossEntropy(x, []float32{1, 1}, g, 1); got != 1000 || g[0] != 0 || g[1] != -1 {
		t.Errorf("binary cross entropy %v, gradient %v; want 1000, [0 -1]", got, g)
	}
	if got := loss.CrossEntropy(x, []int{1}, nil, 1); got != 2000 {
		t.Errorf("cross entropy %v, want 2000", got)
	}
}
