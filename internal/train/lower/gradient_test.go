package lower

import (
	"math"
	"math/rand/v2"
	"testing"

	"gorgonia.org/gorgonia"

	"resdet/internal/device/ref"
	"resdet/internal/fixture"
	"resdet/internal/nd"
	"resdet/internal/nn"
)

// differenceTolerance is relative to the largest element of a gradient:
// central differences over ±1e-5 in float64 lose about 1e-10 to rounding and
// as much to curvature.
const differenceTolerance = 1e-7

// Every operation's gradient, as gorgonia puts it together from the
// operations of package nn and the oracle computes it, is that of central
// differences in float64.
func TestGradientsAreCentralDifferences(t *testing.T) {
	if fixture.Race {
		t.Skip("much arithmetic, and nothing is concurrent")
	}
	rois := []float64{ // partly outside, without extent, of an image that is not there
		0, 1, 2, 30, 25, 1, 3, 1, 60, 50, 0, -9, -7, 12, 80, 1, 5, 5, 5, 5,
		0, 2, 3, 9, 8, 7, 0, 0, 9, 9, 1, 20, 10, 22, 48, 0, 1, 1, 63, 47,
	}
	pyramid := nn.Pyramid{Scales: []float64{1. / 4, 1. / 8}, CanonicalLevel: 3, CanonicalSize: 32}
	single := nn.Pyramid{Scales: []float64{1. / 4}}
	levels := func(b *nn.Builder) []nn.Value {
		return []nn.Value{b.Param("f0", 2, 3, 12, 16), b.Param("f1", 2, 3, 6, 8)}
	}
	regions := func(b *nn.Builder) nn.Value { return b.Input("rois", 8, 5) }
	for name, model := range map[string]func(b *nn.Builder) nn.Value{
		"conv 3x3":   func(b *nn.Builder) nn.Value { return b.ConvBias("c", b.Param("x", 2, 3, 7, 8), 5, 3, 1, 1) },
		"conv 3x3/2": func(b *nn.Builder) nn.Value { return b.ConvBias("c", b.Param("x", 2, 3, 8, 7), 5, 3, 2, 1) },
		"conv 1x1/2": func(b *nn.Builder) nn.Value { return b.Conv("c", b.Param("x", 2, 3, 8, 7), 4, 1, 2, 0) },
		"conv 7x7/2": func(b *nn.Builder) nn.Value { return b.Conv("c", b.Param("x", 1, 3, 15, 12), 4, 7, 2, 3) },
		"conv twice": func(b *nn.Builder) nn.Value {
			return b.Conv("c", b.Conv("c", b.Param("x", 1, 3, 6, 6), 3, 3, 1, 1), 3, 3, 1, 1)
		},
		"linear":      func(b *nn.Builder) nn.Value { return b.Linear("l", b.Param("x", 5, 7), 4) },
		"norm":        func(b *nn.Builder) nn.Value { return b.Norm("n", b.Param("x", 2, 3, 4, 5), 1e-3) },
		"relu":        func(b *nn.Builder) nn.Value { return b.ReLU(b.Param("x", 2, 3, 4, 5)) },
		"add":         func(b *nn.Builder) nn.Value { return b.Add(b.Param("x", 2, 3), b.Param("y", 2, 3)) },
		"add to self": func(b *nn.Builder) nn.Value { x := b.Param("x", 2, 3); return b.Add(x, x) },
		"fork": func(b *nn.Builder) nn.Value {
			x := b.Param("x", 2, 3, 4, 4)
			return b.Add(b.ReLU(x), b.Add(b.Conv("c", x, 3, 3, 1, 1), x))
		},
		"maxpool 2/2": func(b *nn.Builder) nn.Value {
			return b.MaxPool("p", b.Param("x", 2, 3, 7, 8), nn.MaxPool{Kernel: 2, Stride: 2})
		},
		"maxpool 3/2/1": func(b *nn.Builder) nn.Value {
			return b.MaxPool("p", b.Param("x", 2, 3, 7, 8), nn.MaxPool{Kernel: 3, Stride: 2, Pad: 1})
		},
		"maxpool ceil": func(b *nn.Builder) nn.Value {
			return b.MaxPool("p", b.Param("x", 2, 3, 8, 8), nn.MaxPool{Kernel: 3, Stride: 2, Ceil: true})
		},
		"maxpool 1/2": func(b *nn.Builder) nn.Value {
			return b.MaxPool("p", b.Param("x", 2, 3, 7, 8), nn.MaxPool{Kernel: 1, Stride: 2})
		},
		"upsample": func(b *nn.Builder) nn.Value {
			return b.Upsample(b.Param("x", 2, 3, 4, 5), b.Input("like", 1, 1, 7, 10))
		},
		"mean":    func(b *nn.Builder) nn.Value { return b.Mean(b.Param("x", 2, 3, 4, 5)) },
		"flatten": func(b *nn.Builder) nn.Value { return b.Linear("l", b.Flatten(b.Param("x", 2, 3, 2, 2)), 3) },
		"mul":     func(b *nn.Builder) nn.Value { return b.Apply("m", nn.Mul{}, b.Param("x", 2, 3), b.Input("mask", 2, 3)) },
		"roialign": func(b *nn.Builder) nn.Value {
			return b.RoIAlign(nn.RoIAlign{Pyramid: pyramid, H: 3, W: 2, Sampling: 2}, levels(b), regions(b))
		},
		"roialign aligned, adaptive": func(b *nn.Builder) nn.Value {
			return b.RoIAlign(nn.RoIAlign{Pyramid: single, H: 2, W: 3, Aligned: true}, []nn.Value{b.Param("f0", 2, 3, 12, 16)}, regions(b))
		},
		"roipool": func(b *nn.Builder) nn.Value {
			return b.RoIPool(nn.RoIPool{Pyramid: pyramid, H: 3, W: 2}, levels(b), regions(b))
		},
	} {
		t.Run(name, func(t *testing.T) {
			g, err := nn.Build(func(b *nn.Builder) { b.Output("y", model(b)) })
			if err != nil {
				t.Fatal(err)
			}
			r := rand.New(rand.NewPCG(1, 2))
			params, inputs := map[string]*nd.Tensor[float64]{}, map[string]*nd.Tensor[float64]{}
			for _, p := range g.Params() {
				params[p.Key] = random(r, p.Shape)
			}
			if v, ok := params["n.running_var"]; ok {
				for i := range v.Data {
					v.Data[i] = math.Abs(v.Data[i]) + 0.1
				}
			}
			for i, v := range g.Inputs {
				inputs[g.InputName(i)] = random(r, g.Nodes[v].Shape)
			}
			if v, ok := inputs["rois"]; ok {
				copy(v.Data, rois)
			}
			learned := func(key string) bool {
				return key == "x" || key == "y" || key[0] == 'f' || key[0] == 'c' || key[0] == 'l'
			}
			grads, weights := symbolic(t, g, learned, params, inputs, r)
			f := func() float64 {
				out := run(t, g, params, inputs)["y"]
				var sum float64
				for i, v := range out.Data {
					sum += v * weights.Data[i]
				}
				return sum
			}
			seen := false
			for key, got := range grads {
				var worst, largest float64
				for i := range got.Data {
					const h = 1e-5
					x := params[key].Data
					old := x[i]
					x[i] = old + h
					up := f()
					x[i] = old - h
					down := f()
					x[i] = old
					want := (up - down) / (2 * h)
					worst, largest = max(worst, math.Abs(got.Data[i]-want)), max(largest, math.Abs(want))
				}
				seen = seen || largest > 0
				if !(worst <= differenceTolerance*max(1, largest)) {
					t.Errorf("%s: off by %.2g, the largest element is %.2g", key, worst, largest)
				}
			}
			if !seen {
				t.Error("all gradients are zero")
			}
		})
	}
}

func random(r *rand.Rand, shape nd.Shape) *nd.Tensor[float64] {
	a := nd.New[float64](shape...)
	for i := range a.Data {
		a.Data[i] = r.NormFloat64()
	}
	return a
}

func run(t *testing.T, g *nn.Graph, params, inputs map[string]*nd.Tensor[float64]) map[string]*nd.Tensor[float64] {
	t.Helper()
	out, err := ref.Run(t.Context(), g, params, inputs)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// symbolic returns the gradients of Σ weights·y by gorgonia, and the random
// weights.
func symbolic(t *testing.T, g *nn.Graph, learned func(string) bool, params, inputs map[string]*nd.Tensor[float64], r *rand.Rand) (map[string]*nd.Tensor[float64], *nd.Tensor[float64]) {
	t.Helper()
	net, err := New(g, learned, leaveInputs)
	if err != nil {
		t.Fatal(err)
	}
	y, err := net.Output("y")
	if err != nil {
		t.Fatal(err)
	}
	cost, err := net.Host(Host{Name: "cost", Grad: func(int) Host { return Host{Name: "dy", Shape: shapeOf(y)} }}, y)
	if err != nil {
		t.Fatal(err)
	}
	grads, err := gorgonia.Grad(cost, net.Trainable()...)
	if err != nil {
		t.Fatal(err)
	}
	raised := newRaising(net)
	if err := raised.collect(append(gorgonia.Nodes{cost}, grads...)); err != nil {
		t.Fatal(err)
	}
	step, err := raised.graph(grads)
	if err != nil {
		t.Fatal(err)
	}
	weights := random(r, shapeOf(y))
	all := map[string]*nd.Tensor[float64]{}
	for i := range step.Inputs {
		name := step.InputName(i)
		switch {
		case params[name] != nil:
			all[name] = params[name]
		case inputs[name] != nil:
			all[name] = inputs[name]
		default:
			all[name] = weights // dy
		}
	}
	out := map[string]*nd.Tensor[float64]{}
	for name, v := range run(t, step, params, all) {
		for key := range params {
			if name == GradOf(key) {
				out[key] = v
			}
		}
	}
	if len(out) != len(net.Trainable()) {
		t.Fatalf("%d gradients of %d parameters", len(out), len(net.Trainable()))
	}
	return out, weights
}
