package calibrate

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"

	"resdet/internal/box"
	"resdet/internal/det"
	"resdet/internal/nn"
)

// normal returns n values of the half-normal or normal distribution with a
// stray at the end.
func normal(n int, half bool, stray float32) []float32 {
	r := rand.New(rand.NewPCG(1, 2))
	v := make([]float32, n, n+1)
	for i := range v {
		v[i] = float32(r.NormFloat64())
		if half {
			v[i] = max(v[i], 0)
		}
	}
	return append(v, stray)
}

func TestMethods(t *testing.T) {
	for _, c := range []struct {
		name      string
		half      bool
		stray     float32
		method    Method
		low, high float32 // of the limit
	}{
		{"all of it", true, 40, AbsMax, 40, 40},
		{"both sides", false, -40, AbsMax, 40, 40},
		{"without the stray", true, 40, Percentile, 3.5, 4.5}, // 1/10,000 of |N(0,1)| is above 3.9
		{"a stray of 10 σ is worth its own error", true, 10, MSE, 4, 10},
		{"a stray of 4,000 σ is not kept whole", true, 4000, MSE, 1000, 4000},
		{"nothing to cut off", true, 3.5, Percentile, 3.5, 5},
	} {
		t.Run(c.name+" "+string(c.method), func(t *testing.T) {
			var h Histogram
			values := normal(200_000, c.half, c.stray)
			for len(values) > 0 { // as they come: with the largest last
				n := min(7777, len(values))
				if err := h.Add(values[:n]); err != nil {
					t.Fatal(err)
				}
				values = values[n:]
			}
			n, ok := h.Numbers(c.method)
			steps := float32(255)
			if !c.half {
				steps = 127
			}
			const rounding = 1e-3
			if limit := n.Scale * steps; !ok || n.Signed == c.half || limit < c.low*(1-rounding) || limit > c.high*(1+rounding) {
				t.Errorf("limit %v of %+v, %v; want %v…%v", limit, n, ok, c.low, c.high)
			}
		})
	}
}

// MSE's limit has no greater error than the other methods', computed on the
// values themselves.
func TestLeastError(t *testing.T) {
	for _, stray := range []float32{3, 10, 100} {
		values := normal(100_000, true, stray)
		var h Histogram
		if err := h.Add(values); err != nil {
			t.Fatal(err)
		}
		squared := func(m Method) (sum float64) {
			n, _ := h.Numbers(m)
			for _, v := range values {
				q := min(math.RoundToEven(float64(v/n.Scale)), 255) * float64(n.Scale)
				sum += (q - float64(v)) * (q - float64(v))
			}
			return sum
		}
		if least := squared(MSE); least > 1.01*squared(AbsMax) || least > 1.01*squared(Percentile) {
			t.Errorf("stray %v: errors %v by MSE, %v by the largest, %v by the percentile", stray, least, squared(AbsMax), squared(Percentile))
		}
	}
}

// Values that come in any order give the same counts, nearly: a histogram grows
// with them.
func TestHistogramGrows(t *testing.T) {
	var up, down Histogram
	for i := range 1000 {
		up.Add([]float32{float32(i) / 7})
		down.Add([]float32{float32(999-i) / 7})
	}
	if up.Largest() != down.Largest() || up.zeros != 1 || down.zeros != 1 {
		t.Errorf("largest %v and %v, zeros %d and %d", up.Largest(), down.Largest(), up.zeros, down.zeros)
	}
	for _, m := range []Method{AbsMax, Percentile, MSE} {
		a, _ := up.Numbers(m)
		b, _ := down.Numbers(m)
		if d := math.Abs(float64(a.Scale/b.Scale - 1)); d > 0.02 {
			t.Errorf("%s: scales %v and %v", m, a.Scale, b.Scale)
		}
	}
}

func TestNotNumbers(t *testing.T) {
	var h Histogram
	if n, ok := h.Numbers(MSE); ok {
		t.Errorf("nothing gives %+v", n)
	}
	for _, v := range []float32{float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1))} {
		if h.Add([]float32{1, v}) == nil {
			t.Errorf("%v was counted", v)
		}
	}
	var tiny Histogram
	if err := tiny.Add([]float32{math.SmallestNonzeroFloat32}); err != nil {
		t.Fatal(err)
	}
	for _, m := range []Method{AbsMax, Percentile, MSE} {
		if n, ok := tiny.Numbers(m); ok && n.Validate() != nil {
			t.Errorf("%s: %+v", m, n)
		}
	}
	if _, err := ParseMethod("entropy"); err == nil {
		t.Error("entropy is a method")
	}
	if m, err := ParseMethod("mse"); m != MSE || err != nil {
		t.Error(m, err)
	}
}

func found(class int, score, x float32) det.Detection {
	return det.Detection{Class: class, Score: score, Box: box.Box{X0: x, Y0: 0, X1: x + 100, Y1: 100}}
}

func TestAgreement(t *testing.T) {
	type list = []det.Detection
	for _, c := range []struct {
		name             string
		reference, other list
		strong, matched  int
		loss             float64
	}{
		{"nothing", nil, nil, 0, 0, 0},
		{"the same", list{found(1, 0.9, 0), found(1, 0.3, 500)}, list{found(1, 0.9, 0), found(1, 0.3, 500)}, 2, 2, 0},
		{"score slips under a half", list{found(1, 0.6, 0)}, list{found(1, 0.3, 0)}, 1, 1, 0.5},
		{"other class", list{found(1, 0.6, 0)}, list{found(2, 0.6, 0)}, 2, 0, 1},
		{"moved too far", list{found(1, 0.8, 0)}, list{found(1, 0.8, 10)}, 2, 0, 1 - 90./110},
		{"lost", list{found(1, 0.8, 0), found(1, 0.2, 900)}, list{found(1, 0.8, 0)}, 2, 2, 0.2},
		{"made up", list{found(1, 0.8, 0)}, list{found(1, 0.8, 0), found(3, 0.7, 0)}, 3, 2, 0},
		{"one for two", list{found(1, 0.8, 0), found(1, 0.6, 1)}, list{found(1, 0.8, 0)}, 3, 2, 0.6 / 1.4},
	} {
		var a Agreement
		a.Add(c.reference, c.other)
		if a.Strong != c.strong || a.Matched != c.matched || math.Abs(a.Loss()-c.loss) > 1e-6 {
			t.Errorf("%s: %d of %d matched, loss %v; want %d of %d, %v", c.name, a.Matched, a.Strong, a.Loss(), c.matched, c.strong, c.loss)
		}
	}
	var a Agreement
	if a.Part() != 1 {
		t.Error("nothing does not agree with nothing")
	}
	a.Add(list{found(1, 0.9, 0)}, list{found(1, 0.9, 0)})
	a.Add(list{found(1, 0.9, 0)}, nil)
	if diff := cmp.Diff(2./3, a.Part()); diff != "" {
		t.Error(diff)
	}
}

var sink nn.Numbers

func BenchmarkAdd(b *testing.B) {
	values := normal(1<<20, true, 10)
	b.SetBytes(4 << 20)
	var h Histogram
	for b.Loop() {
		if err := h.Add(values); err != nil {
			b.Fatal(err)
		}
	}
	sink, _ = h.Numbers(MSE)
}
