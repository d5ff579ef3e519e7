package devicetest

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"

	"resdet/internal/device"
	"resdet/internal/nd"
	"resdet/internal/nn"
)

// precisions runs layers, and all that is fused and rewritten, below float32:
// against the oracle's emulation, in every precision that the device has.
func precisions(t *testing.T, open Opener) {
	t.Run("unknown", func(t *testing.T) { unknownPrecision(t, opened(t, open)) })
	for _, p := range []nn.Precision{nn.BF16, nn.Int8} {
		t.Run(string(p), func(t *testing.T) {
			d := opened(t, open)
			if has := d.Precisions(); !slices.Contains(has, p) {
				t.Skipf("%s computes in %v", d.Name(), has)
			}
			layersIn(t, d, p)
			fused(t, func(t *testing.T) checker {
				d := opened(t, open)
				return func(t *testing.T, tolerance float64, given arrays, model func(b *nn.Builder)) {
					t.Helper()
					checkIn(t, d, p, max(tolerance, tolerances[p]), given, model)
				}
			})
		})
	}
}

var tolerances = map[nn.Precision]float64{nn.BF16: halved, nn.Int8: stored}

// single is the tolerance of one layer in int8 whose operands the host gives and
// whose result it reads: the integers and their sums are the oracle's but for
// those that are rounded from next to a half. Weights of 7 bits are another
// matter: they are up to half a step of 1/63 off.
func single(d device.Device, p nn.Precision) float64 {
	if p != nn.Int8 {
		return tolerances[p]
	}
	if n, ok := d.(interface{ WeightBits() int }); ok && n.WeightBits() < 8 {
		return 2e-2
	}
	return 2e-3
}

// layersIn runs single layers: odd channels, kernels, strides and signs.
func layersIn(t *testing.T, d device.Device, p nn.Precision) {
	for _, c := range []struct{ n, c, h, w, out, kernel, stride, pad int }{
		{1, 3, 37, 45, 64, 7, 2, 3},
		{2, 17, 13, 15, 33, 1, 1, 0},
		{1, 16, 13, 15, 32, 1, 1, 0},
		{2, 24, 13, 15, 40, 1, 2, 0},
		{1, 32, 1, 1, 15, 1, 1, 0},
		{1, 5, 1, 1, 7, 3, 1, 1},
		{1, 64, 12, 16, 64, 3, 1, 1},
		{3, 16, 19, 23, 24, 3, 2, 1},
		{1, 6, 11, 9, 8, 5, 1, 2},
		{17, 32, 7, 7, 48, 3, 1, 1},
		{1, 4608, 2, 3, 5, 1, 1, 0}, // sums beyond 2²⁴
	} {
		for _, signed := range []bool{false, true} {
			t.Run(fmt.Sprintf("conv/%dx%dx%dx%d_%d_k%ds%dp%d/signed_%v", c.n, c.c, c.h, c.w, c.out, c.kernel, c.stride, c.pad, signed), func(t *testing.T) {
				x := nd.New[float32](c.n, c.c, c.h, c.w)
				fillSigned(x, signed)
				checkIn(t, d, p, single(d, p), arrays{"x": x}, func(b *nn.Builder) {
					b.Output("y", b.ConvBias("conv", b.Input("x", x.Shape...), c.out, c.kernel, c.stride, c.pad))
				})
			})
		}
	}
	for _, s := range [][3]int{{1, 1, 1}, {1, 16, 16}, {3, 37, 21}, {70, 64, 91}, {5, 1300, 4}, {257, 3, 33}} {
		for _, signed := range []bool{false, true} {
			t.Run(fmt.Sprintf("linear/%dx%d_%d/signed_%v", s[0], s[1], s[2], signed), func(t *testing.T) {
				x := nd.New[float32](s[0], s[1])
				fillSigned(x, signed)
				checkIn(t, d, p, single(d, p), arrays{"x": x}, func(b *nn.Builder) {
					b.Output("y", b.ReLU(b.Linear("fc", b.Input("x", x.Shape...), s[2])))
				})
			})
		}
	}
}

func fillSigned(x *nd.Tensor[float32], signed bool) {
	from := float32(0)
	if signed {
		from = -1
	}
	uniform(random("x"), x.Data, from, 1)
}

// checkIn is check with every layer in the given precision.
func checkIn(t *testing.T, d device.Device, precision nn.Precision, tolerance float64, given arrays, model func(b *nn.Builder)) {
	t.Helper()
	g := build(t, model)
	params := randomParams(g)
	inputs := randomInputs(g, given)
	g = g.With(lowered(t, g, params, inputs, precision))
	p := compile(t, d, g, params, nil)
	defer p.Close()
	run(t, p, g, inputs, nil)
	compareAll(t, p, g, expected(t, g, params, inputs), tolerance)
}

// lowered returns numerics of all layers of g; the scales of int8 take in the
// largest values that the layers read.
func lowered(t *testing.T, g *nn.Graph, params, inputs arrays, precision nn.Precision) nn.Numerics {
	t.Helper()
	layers := nn.Numerics{}
	observed := *g
	observed.Outputs = nil
	for v, n := range g.Nodes {
		if name := g.Layer(nn.Value(v)); name != "" {
			layers[name] = nn.Numbers{Precision: precision}
			observed.Outputs = append(observed.Outputs, nn.Output{Name: fmt.Sprint(len(observed.Outputs), name), Value: n.In[0]})
		}
	}
	if precision != nn.Int8 {
		return layers
	}
	values := expected(t, &observed, params, inputs)
	largest := map[string]float64{}
	i := 0
	for v := range g.Nodes {
		name := g.Layer(nn.Value(v))
		if name == "" {
			continue
		}
		n := layers[name]
		for _, x := range values[observed.Outputs[i].Name].Data {
			largest[name] = max(largest[name], math.Abs(x))
			n.Signed = n.Signed || x < 0
		}
		n.Scale = float32(largest[name] / 255)
		if n.Signed {
			n.Scale = float32(largest[name] / 127)
		}
		layers[name] = n
		i++
	}
	return layers
}

// unknownPrecision wants what no device has, and scales that are none.
func unknownPrecision(t *testing.T, d device.Device) {
	g := build(t, func(b *nn.Builder) { b.Output("y", b.ConvBias("conv", b.Input("x", 1, 3, 4, 4), 5, 1, 1, 0)) })
	params := randomParams(g)
	for _, n := range []nn.Numbers{
		{Precision: "int4"}, {Precision: nn.Int8}, {Precision: nn.Int8, Scale: -1}, {Precision: nn.Int8, Scale: float32(math.Inf(1))},
		{Precision: nn.Int8, Scale: float32(math.NaN())}, {Precision: nn.Int8, Scale: 1e-45}, {Precision: nn.BF16, Scale: 1},
	} {
		if p, err := d.Compile(g.With(nn.Numerics{"conv": n}), params, nil); err == nil {
			p.Close()
			t.Errorf("%+v was accepted", n)
		}
	}
	for _, p := range []nn.Precision{nn.BF16, nn.Int8} {
		n := nn.Numbers{Precision: p}
		if p == nn.Int8 {
			n.Scale = 1
		}
		compiled, err := d.Compile(g.With(nn.Numerics{"conv": n}), params, nil)
		if err == nil {
			compiled.Close()
		}
		var lacks *nn.PrecisionError
		if has := slices.Contains(d.Precisions(), p); has == errors.As(err, &lacks) {
			t.Errorf("%s, which the device has: %v: %v", p, has, err)
		}
	}
}
