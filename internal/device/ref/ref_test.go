package ref

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"

	"resdet/internal/device"
	"resdet/internal/fixture"
	"resdet/internal/nd"
	"resdet/internal/nn"
)

// The oracle's convolution against the definition, in integers, where
// rounding cannot differ.
func TestConvIsItsDefinition(t *testing.T) {
	for _, c := range []struct{ n, c, h, w, o, kernel, stride, pad int }{
		{1, 3, 7, 9, 5, 3, 2, 1},
		{2, 1, 1, 1, 1, 1, 1, 0},
		{2, 3, 15, 17, 4, 7, 2, 3},
		{3, 300, 5, 4, 1, 1, 2, 0},   // more than one inner block
		{1, 2, 40, 33, 195, 3, 1, 1}, // more than one block of rows and columns
		{2, 2, 2, 3, 3, 3, 1, 2},     // windows wholly in the padding
	} {
		t.Run(fmt.Sprint(c), func(t *testing.T) {
			g, err := nn.Build(func(b *nn.Builder) {
				b.Output("y", b.ConvBias("k", b.Input("x", c.n, c.c, c.h, c.w), c.o, c.kernel, c.stride, c.pad))
			})
			if err != nil {
				t.Fatal(err)
			}
			r := rand.New(rand.NewPCG(1, 2))
			x, w, bias := integers(r, c.n, c.c, c.h, c.w), integers(r, c.o, c.c, c.kernel, c.kernel), integers(r, c.o)
			out, err := Run(t.Context(), g, map[string]*nd.Tensor[float32]{"k.weight": w, "k.bias": bias}, map[string]*nd.Tensor[float32]{"x": x})
			if err != nil {
				t.Fatal(err)
			}
			y := out["y"]
			oh, ow := y.Shape[2], y.Shape[3]
			for i, got := range y.Data {
				n, o, oy, ox := i/(c.o*oh*ow), i/(oh*ow)%c.o, i/ow%oh, i%ow
				want := bias.Data[o]
				for ic := range c.c {
					for ky := range c.kernel {
						for kx := range c.kernel {
							iy, ix := oy*c.stride+ky-c.pad, ox*c.stride+kx-c.pad
							if iy >= 0 && iy < c.h && ix >= 0 && ix < c.w {
								want += x.Data[((n*c.c+ic)*c.h+iy)*c.w+ix] * w.Data[((o*c.c+ic)*c.kernel+ky)*c.kernel+kx]
							}
						}
					}
				}
				if got != want {
					t.Fatalf("image %d, channel %d, pixel (%d, %d): %v, want %v", n, o, ox, oy, got, want)
				}
			}
		})
	}
}

func integers(r *rand.Rand, shape ...int) *nd.Tensor[float32] {
	t := nd.New[float32](shape...)
	for i := range t.Data {
		t.Data[i] = float32(r.IntN(17) - 8)
	}
	return t
}

// residual is a block with a shortcut, a pooled pyramid and a head: it
// uses every operation that memory can be shared over.
func residual(b *nn.Builder) {
	x := b.Input("x", 2, 24, 30, 21)
	y := b.ReLU(b.Norm("bn1", b.Conv("conv1", x, 32, 3, 1, 1), 1e-5))
	y = b.ReLU(b.Add(b.Norm("bn2", b.Conv("conv2", y, 32, 1, 1, 0), 1e-5), y))
	b.Keep("feature", y)
	rois := b.Input("rois", 3, 5)
	z := b.RoIAlign(nn.RoIAlign{Pyramid: nn.Pyramid{Scales: []float64{1. / 4}}, H: 7, W: 7, Sampling: 2}, []nn.Value{y}, rois)
	b.Output("fc", b.ReLU(b.Linear("fc", b.Flatten(z), 10)))
	b.Output("mean", b.Mean(z))
}

func setUp(t testing.TB, threads int) (device.Device, device.Program) {
	t.Helper()
	g, err := nn.Build(residual)
	if err != nil {
		t.Fatal(err)
	}
	d := Open(threads)
	t.Cleanup(func() { d.Close() })
	r := rand.New(rand.NewPCG(3, 4))
	params := device.MapParams{}
	for _, p := range g.Params() {
		a := nd.New[float32](p.Shape...)
		for i := range a.Data {
			a.Data[i] = r.Float32() // positive, for variances
		}
		params[p.Key] = a
	}
	p, err := d.Compile(g, params, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range p.Input(0).Data() {
		p.Input(0).Data()[i] = r.Float32() - 0.5
	}
	copy(p.Input(1).Data(), []float32{0, 0, 0, 40, 50, 1, 10, 20, 90, 80, 1, 3, 5, 8, 120})
	return d, p
}

func TestSameBitsForAnyNumberOfThreads(t *testing.T) {
	var want []float32
	for threads := 1; threads <= 5; threads++ {
		_, p := setUp(t, threads)
		for range 2 {
			if err := p.Run(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
			got := append(append([]float32(nil), p.Output(1).Data()...), p.Output(2).Data()...)
			if want == nil {
				want = got
			}
			for i := range got {
				if got[i] != want[i] {
					t.Fatalf("%d threads: element %d is %v, with one thread %v", threads, i, got[i], want[i])
				}
			}
		}
	}
}

func TestRunHardlyAllocates(t *testing.T) {
	if fixture.Race {
		t.Skip("the race detector allocates")
	}
	_, p := setUp(t, 2)
	ctx := context.Background()
	allocs := testing.AllocsPerRun(20, func() {
		if err := p.Run(ctx, nil); err != nil {
			t.Fatal(err)
		}
	})
	if allocs > 4 { // one goroutine per thread but the first
		t.Errorf("%v allocations a run", allocs)
	}
}

func TestMemoryIsShared(t *testing.T) {
	const depth = 20
	g, err := nn.Build(func(b *nn.Builder) {
		x := b.Input("x", 1, 8, 10, 10)
		for range depth {
			x = b.Conv("same", x, 8, 3, 1, 1)
			x = b.ReLU(b.Norm("bn", x, 1e-5))
		}
		b.Output("y", x)
	})
	if err != nil {
		t.Fatal(err)
	}
	e := newEngine[float64](runtime.GOMAXPROCS(0))
	if _, err := e.compile(g, 0, func(_ string, s nd.Shape) ([]float64, error) { return make([]float64, s.Len()), nil }, binding[float64]{}); err != nil {
		t.Fatal(err)
	}
	if want := 2 * 8 * 10 * 10; len(e.work) != want {
		t.Errorf("%d elements for the intermediate values, want %d: two in turn", len(e.work), want)
	}
}
