package devicetest

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"resdet/internal/device"
	"resdet/internal/fixture"
	"resdet/internal/nd"
	"resdet/internal/nn"
)

// training tests a device.Trainer; other devices have nothing to show here.
func training(t *testing.T, open Opener) {
	d, ok := opened(t, open).(device.Trainer)
	if !ok {
		t.Skip("the device does not train")
	}
	t.Run("products", func(t *testing.T) { productGradients(t, d) })
	t.Run("ops", func(t *testing.T) { gradientOps(t, d) })
	t.Run("regions", func(t *testing.T) { regionGradients(t, d) })
	t.Run("fusion", func(t *testing.T) { stepFusions(t, d) })
	if !fixture.Race { // rounding is all that differs
		t.Run("bf16", func(t *testing.T) { halfSteps(t, d) })
	}
	t.Run("int8", func(t *testing.T) { integerSteps(t, d) })
	t.Run("parts", func(t *testing.T) { parts(t, d) })
	t.Run("arrays", func(t *testing.T) { arrayErrors(t, d) })
	t.Run("shared", func(t *testing.T) { sharedSteps(t, d) })
	t.Run("cancelled", func(t *testing.T) { cancelledSteps(t, d) })
	t.Run("closed", func(t *testing.T) { closedSteps(t, d) }) // the last: the device is gone
}

// halfTrainer computes every layer, forward and backward, in bf16: operands
// rounded to it, sums in float32.
type halfTrainer struct{ device.Trainer }

// halfSteps runs products in bf16 against the oracle's emulation. Single ones
// read what the host gives, of which both round the same: they differ by the
// order of sums.
func halfSteps(t *testing.T, d device.Trainer) {
	if has := d.Precisions(); !slices.Contains(has, nn.BF16) {
		t.Skipf("%s computes in %v", d.Name(), has)
	}
	t.Run("products", func(t *testing.T) { productGradients(t, halfTrainer{d}) })
	t.Run("fusion", func(t *testing.T) { stepFusions(t, halfTrainer{d}) })
}

// integerSteps wants what has no gradient.
func integerSteps(t *testing.T, d device.Trainer) {
	g := build(t, func(b *nn.Builder) {
		b.Output("y", b.Apply("y", nn.Conv{Stride: 1}, b.Input("x", 1, 16, 4, 4), b.Input("w", 16, 16, 1, 1)))
	})
	if p, err := d.CompileStep(g.With(nn.Numerics{"w": {Precision: nn.Int8, Scale: 1}}), nil, nil); err == nil {
		p.Close()
		t.Error("weights that change were accepted in int8")
	}
}

func isHalf(d device.Trainer) bool {
	_, is := d.(halfTrainer)
	return is
}

// inPrecision returns the graph that is compiled on d.
func inPrecision(d device.Trainer, g *nn.Graph) *nn.Graph {
	if !isHalf(d) {
		return g
	}
	layers := nn.Numerics{}
	for v := range g.Nodes {
		if name := g.Layer(nn.Value(v)); name != "" {
			layers[name] = nn.Numbers{Precision: nn.BF16}
		}
	}
	return g.With(layers)
}

// checkStep compiles a step, runs it twice and compares every output with the
// oracle's. Inputs whose names are keys of learned are arrays, as are all
// outputs "grad/…", which are added to: they start at 1 and the second run
// adds the same again. The second run's bits are the first's.
func checkStep(t *testing.T, d device.Trainer, tolerance float64, given arrays, learned []string, model func(b *nn.Builder)) {
	t.Helper()
	g := inPrecision(d, build(t, model))
	params := randomParams(g)
	inputs := randomInputs(g, given)
	shared := map[string]device.Array{}
	newArray := func(name string, shape nd.Shape) {
		a, err := d.NewArray(shape)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(a.Close)
		shared[name] = a
	}
	for i, v := range g.Inputs {
		name := g.InputName(i)
		if !slices.Contains(learned, name) {
			continue
		}
		newArray(name, g.Nodes[v].Shape)
		scaleWeights(inputs[name])
		copy(shared[name].Data(), inputs[name].Data)
	}
	for _, o := range g.Outputs {
		if isGradient(o.Name) {
			newArray(o.Name, g.Nodes[o.Value].Shape)
		}
	}
	p, err := d.CompileStep(g, params, shared)
	if err != nil {
		t.Fatalf("compile: %v", err)
	}
	defer p.Close()
	want := expected(t, g, params, inputs)
	for _, o := range g.Outputs {
		if isGradient(o.Name) {
			for i := range want[o.Name].Data {
				want[o.Name].Data[i]++
			}
		}
	}
	var first [][]float32
	for run := range 2 {
		for _, o := range g.Outputs {
			if isGradient(o.Name) {
				for i := range shared[o.Name].Data() {
					shared[o.Name].Data()[i] = 1
				}
			}
		}
		runStep(t, p, g, inputs)
		for i, o := range g.Outputs {
			data := outputOf(p, g, shared, i)
			if run == 0 {
				if tolerance == flipped {
					compareNorm(t, o.Name, data, want[o.Name], tolerance)
				} else {
					compare(t, o.Name, data, want[o.Name], tolerance)
				}
				first = append(first, slices.Clone(data))
			} else if !slices.Equal(first[i], data) {
				t.Errorf("%s: a second run gives other bits", o.Name)
			}
		}
	}
}

func isGradient(name string) bool { return len(name) > 5 && name[:5] == "grad/" }

func outputOf(p device.StepProgram, g *nn.Graph, shared map[string]device.Array, i int) []float32 {
	if a, ok := shared[g.Outputs[i].Name]; ok {
		return a.Data()
	}
	return p.Output(i).Data()
}

// scaleWeights makes random inputs that stand for weights as large as
// randomParams does.
func scaleWeights(w *nd.Tensor[float32]) {
	if len(w.Shape) < 2 {
		return
	}
	uniform(random("weight"), w.Data, -1, 1)
	for i := range w.Data {
		w.Data[i] *= 1.7 / float32(w.Shape[1:].Len())
	}
}

// runStep gives each part's inputs before it, and garbage until then.
func runStep(t testing.TB, p device.StepProgram, g *nn.Graph, inputs arrays) {
	t.Helper()
	for part := range p.Parts() {
		for i, v := range g.Inputs {
			b := p.Input(i)
			if b == nil {
				continue
			}
			if at := g.Nodes[v].Op.(nn.Input).Part; at == part {
				copy(b.Data(), inputs[g.InputName(i)].Data)
			}
		}
		if err := p.RunPart(t.Context(), part); err != nil {
			t.Fatalf("part %d: %v", part, err)
		}
	}
}

type convShape struct {
	n, c, h, w, out, kernel, stride, pad int
}

func (c convShape) result() (h, w int) {
	return (c.h+2*c.pad-c.kernel)/c.stride + 1, (c.w+2*c.pad-c.kernel)/c.stride + 1
}

func (c convShape) String() string {
	return fmt.Sprintf("%dx%dx%dx%d_%d_k%ds%dp%d", c.n, c.c, c.h, c.w, c.out, c.kernel, c.stride, c.pad)
}

// productGradients runs convolutions and matrix products with their gradients,
// each on its own.
func productGradients(t *testing.T, d device.Trainer) {
	for _, c := range []convShape{
		{1, 1, 1, 1, 1, 1, 1, 0},
		{1, 3, 37, 45, 64, 7, 2, 3},
		{2, 17, 13, 15, 33, 1, 1, 0},
		{1, 16, 13, 15, 32, 1, 1, 0},
		{1, 32, 13, 15, 3, 1, 1, 0},
		{2, 64, 13, 15, 96, 1, 1, 0},
		{2, 24, 13, 15, 40, 1, 2, 0},
		{1, 64, 14, 16, 64, 1, 2, 0},
		{2, 64, 13, 15, 64, 1, 2, 0},
		{2, 16, 19, 23, 24, 3, 1, 1},
		{1, 64, 12, 16, 64, 3, 1, 1},
		{2, 64, 13, 18, 96, 3, 1, 1},
		{1, 64, 3, 70, 128, 3, 1, 1},
		{3, 16, 19, 23, 24, 3, 2, 1},
		{1, 64, 20, 22, 64, 3, 2, 1},
		{1, 9, 8, 7, 10, 3, 1, 0},
		{1, 4, 1, 100, 6, 3, 1, 1},
		{1, 6, 11, 9, 8, 5, 1, 2},
		{1, 8, 9, 9, 8, 2, 2, 0},
		{17, 32, 7, 7, 64, 3, 1, 1},
		{1, 64, 41, 46, 64, 3, 1, 1},
		{2, 64, 37, 33, 80, 3, 1, 1},
		{64, 96, 7, 7, 64, 3, 1, 1},
		{1, 520, 6, 5, 13, 1, 1, 0},
		{1, 130, 9, 10, 258, 3, 1, 1},
	} {
		h, w := c.result()
		if fixture.Race && c.n*c.out*h*w*c.c*c.kernel*c.kernel > 2<<20 {
			continue // threads share the work of smaller ones too
		}
		for _, learned := range [][]string{nil, {"w"}} {
			if isHalf(d) && learned == nil {
				continue // packed likewise, but earlier
			}
			t.Run(fmt.Sprintf("conv_input/%v/%d arrays", c, len(learned)), func(t *testing.T) {
				checkStep(t, d, summed, nil, learned, func(b *nn.Builder) {
					weight := func() nn.Value {
						if learned == nil {
							return b.Param("w", c.out, c.c, c.kernel, c.kernel)
						}
						return b.Input("w", c.out, c.c, c.kernel, c.kernel)
					}
					b.Output("dx", b.Apply("dx", nn.ConvInput{Stride: c.stride, Pad: c.pad, H: c.h, W: c.w}, b.Input("dy", c.n, c.out, h, w), weight()))
				})
			})
		}
		t.Run(fmt.Sprintf("conv/%v", c), func(t *testing.T) {
			checkStep(t, d, summed, nil, []string{"w", "bias"}, func(b *nn.Builder) {
				x, k := b.Input("x", c.n, c.c, c.h, c.w), b.Input("w", c.out, c.c, c.kernel, c.kernel)
				y := b.Apply("y", nn.Conv{Stride: c.stride, Pad: c.pad}, x, k, b.Input("bias", c.out))
				b.Output("y", b.ReLU(y))
			})
		})
		for _, name := range []string{"dw", "grad/w"} {
			if isHalf(d) && name == "dw" {
				continue // the same products, not added
			}
			t.Run(fmt.Sprintf("conv_weight/%v/%s", c, name[:2]), func(t *testing.T) {
				checkStep(t, d, summed, nil, nil, func(b *nn.Builder) {
					x, dy := b.Input("x", c.n, c.c, c.h, c.w), b.Input("dy", c.n, c.out, h, w)
					b.Output(name, b.Apply(name, nn.ConvWeight{Stride: c.stride, Pad: c.pad, KH: c.kernel, KW: c.kernel}, x, dy))
				})
			})
		}
	}
	for _, s := range [][3]int{{1, 1, 1}, {5, 7, 9}, {33, 64, 32}, {100, 130, 21}, {64, 512, 84}, {30, 784, 96}} {
		r, c, out := s[0], s[1], s[2]
		t.Run(fmt.Sprint("linear/", s), func(t *testing.T) {
			checkStep(t, d, summed, nil, []string{"w", "bias"}, func(b *nn.Builder) {
				x, w, dy := b.Input("x", r, c), b.Input("w", out, c), b.Input("dy", r, out)
				b.Output("y", b.ReLU(b.Apply("y", nn.Linear{}, x, w, b.Input("bias", out))))
				b.Output("dx", b.Apply("dx", nn.LinearInput{}, dy, w))
				b.Output("dw", b.Apply("dw", nn.LinearWeight{}, x, dy))
				b.Output("grad/w", b.Apply("dw2", nn.LinearWeight{}, x, dy))
				b.Output("grad/bias", b.Apply("db", nn.ChannelSum{}, dy))
			})
		})
	}
}

// gradientOps runs every other operation of gradients on its own.
func gradientOps(t *testing.T, d device.Trainer) {
	images := [][]int{{1, 1, 1, 1}, {2, 5, 7, 9}, {1, 16, 8, 8}, {3, 33, 1, 13}, {1, 32, 31, 20}}
	for _, s := range images {
		name := fmt.Sprintf("%dx%dx%dx%d", s[0], s[1], s[2], s[3])
		t.Run("pointwise/"+name, func(t *testing.T) {
			checkStep(t, d, rounded, nil, nil, func(b *nn.Builder) {
				dy, y := b.Input("dy", s...), b.Input("y", s...)
				b.Output("relu", b.Apply("relu", nn.ReLUGrad{}, dy, y))
				b.Output("norm", b.Apply("norm", nn.NormInput{Eps: 1e-3}, dy, b.Param("bn.weight", s[1]), b.Param("bn.running_var", s[1])))
				b.Output("mul", b.Apply("mul", nn.Mul{}, dy, y))
				b.Output("masked sum", b.Apply("masked", nn.ReLUGrad{}, b.Add(dy, y), y))
				b.Output("grad/x", b.Add(dy, b.Add(y, dy)))
			})
		})
		t.Run("channel_sum/"+name, func(t *testing.T) {
			checkStep(t, d, 1e-5, nil, nil, func(b *nn.Builder) {
				b.Output("db", b.Apply("db", nn.ChannelSum{}, b.Input("dy", s...)))
				b.Output("grad/b", b.Apply("db2", nn.ChannelSum{}, b.Input("dz", s...)))
			})
		})
		t.Run("mean_grad/"+name, func(t *testing.T) {
			checkStep(t, d, rounded, nil, nil, func(b *nn.Builder) {
				b.Output("dx", b.Apply("dx", nn.MeanGrad{H: s[2], W: s[3]}, b.Input("dy", s[0], s[1])))
			})
		})
		t.Run("flatten/"+name, func(t *testing.T) {
			checkStep(t, d, exact, nil, nil, func(b *nn.Builder) {
				rows := b.Flatten(b.ReLU(b.Input("x", s...)))
				b.Output("rows", rows)
				b.Output("maps", b.ReLU(b.Apply("maps", nn.Unflatten{C: s[1], H: s[2], W: s[3]}, b.Input("dy", s[0], s[1]*s[2]*s[3]))))
			})
		})
		t.Run("upsample_grad/"+name, func(t *testing.T) {
			checkStep(t, d, 1e-5, nil, nil, func(b *nn.Builder) {
				h, w := (s[2]+1)/2, (s[3]+2)/3
				b.Output("dx", b.Apply("dx", nn.UpsampleGrad{H: h, W: w}, b.Input("dy", s...)))
			})
		})
	}
	for _, op := range []nn.MaxPool{{Kernel: 2, Stride: 2}, {Kernel: 3, Stride: 2, Pad: 1}, {Kernel: 3, Stride: 2, Ceil: true}, {Kernel: 1, Stride: 2}} {
		t.Run(fmt.Sprintf("maxpool_grad/%d_%d_%d_%v", op.Kernel, op.Stride, op.Pad, op.Ceil), func(t *testing.T) {
			for _, c := range []int{3, 32} {
				s := []int{2, c, 13, 16}
				out, err := nn.Infer(op, s)
				if err != nil {
					t.Fatal(err)
				}
				ties := nd.New[float32](s...) // few distinct values: many equal maxima
				for i := range ties.Data {
					ties.Data[i] = float32(i*7919%5) - 2
				}
				checkStep(t, d, rounded, arrays{"x": ties}, nil, func(b *nn.Builder) {
					x := b.ReLU(b.Input("x", s...))
					dx := b.Apply("dx", nn.MaxPoolGrad{MaxPool: op}, x, b.Input("dy", out...))
					b.Output("dx", dx)
					b.Output("masked", b.Apply("masked", nn.ReLUGrad{}, b.Apply("dx2", nn.MaxPoolGrad{MaxPool: op}, x, b.Input("dz", out...)), x))
				})
			}
		})
	}
}

func regionGradients(t *testing.T, d device.Trainer) {
	rois := nd.Of([]float32{ // partly outside, without extent, of an image that is not there
		0, 1, 2, 30, 25, 1, 3, 1, 60, 50, 0, -9, -7, 12, 80, 1, 5, 5, 5, 5,
		0, 2, 3, 9, 8, 7, 0, 0, 9, 9, 1, 20, 10, 22, 48, 0, 1, 1, 63, 47,
	}, 8, 5)
	pyramid := nn.Pyramid{Scales: []float64{1. / 4, 1. / 8}, CanonicalLevel: 3, CanonicalSize: 32}
	single := nn.Pyramid{Scales: []float64{1. / 4}}
	for _, c := range []int{3, 16, 48} {
		for name, op := range map[string]nn.RoIAlign{
			"levels":   {Pyramid: pyramid, H: 3, W: 2, Sampling: 2},
			"one":      {Pyramid: single, H: 7, W: 7, Sampling: 2},
			"adaptive": {Pyramid: single, H: 2, W: 3, Aligned: true},
			"many":     {Pyramid: single, H: 2, W: 2, Sampling: 5},
		} {
			t.Run(fmt.Sprintf("roialign/%s/%d", name, c), func(t *testing.T) {
				checkStep(t, d, sampled, arrays{"rois": rois}, nil, func(b *nn.Builder) {
					dy, r := b.Apply("maps", nn.Unflatten{C: c, H: op.H, W: op.W}, b.Input("dy", 8, c*op.H*op.W)), b.Input("rois", 8, 5)
					for l := range op.Scales {
						b.Output(fmt.Sprint("dx", l), b.Apply("dx", nn.RoIAlignGrad{RoIAlign: op, Level: l, Images: 2, Rows: 12 >> l, Columns: 16 >> l}, r, dy))
					}
				})
			})
		}
		for name, p := range map[string]nn.Pyramid{"levels": pyramid, "one": single} {
			t.Run(fmt.Sprintf("roipool/%s/%d", name, c), func(t *testing.T) {
				op := nn.RoIPool{Pyramid: p, H: 3, W: 2}
				checkStep(t, d, sampled, arrays{"rois": rois}, nil, func(b *nn.Builder) {
					dy, r := b.Input("dy", 8, c, 3, 2), b.Input("rois", 8, 5)
					for l := range p.Scales {
						x := b.Input(fmt.Sprint("x", l), 2, c, 12>>l, 16>>l)
						b.Output(fmt.Sprint("dx", l), b.Apply("dx", nn.RoIPoolGrad{RoIPool: op, Level: l}, x, r, dy))
					}
				})
			})
		}
	}
}

// bottleneck is a block of ResNet with its gradients, in two parts: weights are
// arrays, norms are fixed.
func bottleneck(c, mid, out, h, w, stride int) (learned []string, model func(b *nn.Builder)) {
	learned = []string{"w1", "w2", "w3", "ws"}
	type layer struct {
		name        string
		x, w, y, z  nn.Value // x ─conv w▶ y ─norm▶ z
		stride, pad int
	}
	return learned, func(b *nn.Builder) {
		conv := func(name string, x nn.Value, out, kernel, stride, pad int) layer {
			l := layer{name: name, x: x, w: b.Input("w"+name, out, b.Shape(x)[1], kernel, kernel), stride: stride, pad: pad}
			l.y = b.Apply("conv"+name, nn.Conv{Stride: stride, Pad: pad}, x, l.w)
			l.z = b.Norm("bn"+name, l.y, 1e-5)
			return l
		}
		grad := func(l layer, dz nn.Value) nn.Value {
			k := b.Shape(l.w)
			dy := b.Apply("dn"+l.name, nn.NormInput{Eps: 1e-5}, dz, b.Param("bn"+l.name+".weight", k[0]), b.Param("bn"+l.name+".running_var", k[0]))
			s := b.Shape(l.x)
			dx := b.Apply("dx"+l.name, nn.ConvInput{Stride: l.stride, Pad: l.pad, H: s[2], W: s[3]}, dy, l.w)
			b.Output("grad/w"+l.name, b.Apply("dw"+l.name, nn.ConvWeight{Stride: l.stride, Pad: l.pad, KH: k[2], KW: k[3]}, l.x, dy))
			return dx
		}
		x := b.ReLU(b.Conv("frozen", b.Input("x", 1, 16, h, w), c, 3, 1, 1))
		l1 := conv("1", x, mid, 1, 1, 0)
		y1 := b.ReLU(l1.z)
		l2 := conv("2", y1, mid, 3, stride, 1)
		y2 := b.ReLU(l2.z)
		l3 := conv("3", y2, out, 1, 1, 0)
		short, ls := x, layer{}
		if c != out || stride != 1 {
			ls = conv("s", x, out, 1, stride, 0)
			short = ls.z
		}
		y3 := b.ReLU(b.Add(l3.z, short))
		b.Output("y", y3)
		dy := b.InputBefore(1, "dy", b.Shape(y3)...)
		g3 := b.Apply("g3", nn.ReLUGrad{}, dy, y3)
		g2 := b.Apply("g2", nn.ReLUGrad{}, grad(l3, g3), y2)
		g1 := b.Apply("g1", nn.ReLUGrad{}, grad(l2, g2), y1)
		dx := grad(l1, g1)
		if short == x {
			dx = b.Add(g3, dx)
		} else {
			dx = b.Add(grad(ls, g3), dx)
		}
		b.Output("dx", b.Apply("gx", nn.ReLUGrad{}, dx, x))
	}
}

// stepFusions runs what is fused, in steps of several layers.
func stepFusions(t *testing.T, d device.Trainer) {
	tolerance := summed
	if isHalf(d) {
		tolerance = flipped
	}
	for _, s := range [][6]int{{64, 64, 64, 13, 15, 1}, {64, 64, 256, 14, 20, 2}, {64, 64, 256, 13, 15, 1}, {24, 9, 24, 7, 9, 1}, {256, 64, 256, 38, 33, 1}, {17, 8, 20, 9, 11, 2}} {
		if (isHalf(d) || fixture.Race) && s[3] > 20 {
			continue // a second of the oracle for kernels that the smaller ones have
		}
		t.Run(fmt.Sprint("bottleneck/", s), func(t *testing.T) {
			learned, model := bottleneck(s[0], s[1], s[2], s[3], s[4], s[5])
			if s[0] == s[2] && s[5] == 1 {
				learned = learned[:3]
			}
			checkStep(t, d, tolerance, nil, learned, model)
		})
	}
	// A head on the maps of a pyramid: one weight, two maps, sums of gradients.
	for _, c := range []int{20, 64} {
		t.Run(fmt.Sprint("shared weight/", c), func(t *testing.T) {
			checkStep(t, d, tolerance, nil, []string{"w", "bias", "v"}, func(b *nn.Builder) {
				w, bias, v := b.Input("w", c, c, 3, 3), b.Input("bias", c), b.Input("v", 3, c, 1, 1)
				var x, y, dw, db, dv, dx []nn.Value
				shapes := [][]int{{1, c, 12, 17}, {1, c, 6, 9}}
				for i, s := range shapes {
					x = append(x, b.Input(fmt.Sprint("x", i), s...))
					y = append(y, b.ReLU(b.Apply("y", nn.Conv{Stride: 1, Pad: 1}, x[i], w, bias)))
					b.Output(fmt.Sprint("z", i), b.Apply("z", nn.Conv{Stride: 1}, y[i], v))
				}
				for i, s := range shapes {
					dz := b.InputBefore(1, fmt.Sprint("dz", i), s[0], 3, s[2], s[3])
					dv = append(dv, b.Apply("dv", nn.ConvWeight{Stride: 1, KH: 1, KW: 1}, y[i], dz))
					dy := b.Apply("dy", nn.ReLUGrad{}, b.Apply("dy0", nn.ConvInput{Stride: 1, H: s[2], W: s[3]}, dz, v), y[i])
					dw = append(dw, b.Apply("dw", nn.ConvWeight{Stride: 1, Pad: 1, KH: 3, KW: 3}, x[i], dy))
					db = append(db, b.Apply("db", nn.ChannelSum{}, dy))
					dx = append(dx, b.Apply("dx", nn.ConvInput{Stride: 1, Pad: 1, H: s[2], W: s[3]}, dy, w))
				}
				b.Output("grad/w", b.Add(dw[0], dw[1]))
				b.Output("grad/bias", b.Add(db[0], db[1]))
				b.Output("grad/v", b.Add(dv[1], dv[0]))
				b.Output("dx", b.Add(dx[0], b.Upsample(dx[1], dx[0])))
			})
		})
	}
	// Two layers on pooled regions, with dropout.
	for _, s := range [][3]int{{16, 64, 96}, {5, 33, 20}, {64, 128, 128}} {
		c, hidden, classes := s[0], s[1], s[2]
		t.Run(fmt.Sprint("region head/", s), func(t *testing.T) {
			checkStep(t, d, tolerance, nil, []string{"w1", "b1", "w2", "b2", "w3", "b3"}, func(b *nn.Builder) {
				maps := b.ReLU(b.Input("maps", 40, c, 7, 7))
				x := b.Flatten(maps)
				linear := func(i int, x nn.Value, out int) (w, y nn.Value) {
					w = b.Input(fmt.Sprint("w", i), out, b.Shape(x)[1])
					return w, b.Apply("y", nn.Linear{}, x, w, b.Input(fmt.Sprint("b", i), out))
				}
				w1, y1 := linear(1, x, hidden)
				y1 = b.ReLU(y1)
				mask := b.Input("mask", 40, hidden)
				d1 := b.Apply("drop", nn.Mul{}, y1, mask)
				w2, y2 := linear(2, d1, hidden)
				y2 = b.ReLU(y2)
				w3, y3 := linear(3, y2, classes)
				b.Output("y", y3)
				grad := func(i int, x, w, dy nn.Value) nn.Value {
					b.Output(fmt.Sprint("grad/w", i), b.Apply("dw", nn.LinearWeight{}, x, dy))
					b.Output(fmt.Sprint("grad/b", i), b.Apply("db", nn.ChannelSum{}, dy))
					return b.Apply("dx", nn.LinearInput{}, dy, w)
				}
				g := grad(3, y2, w3, b.InputBefore(1, "dy", 40, classes))
				g = grad(2, d1, w2, b.Apply("g", nn.ReLUGrad{}, g, y2))
				g = grad(1, x, w1, b.Apply("g", nn.ReLUGrad{}, b.Apply("g", nn.Mul{}, g, mask), y1))
				b.Output("dx", b.Apply("g", nn.ReLUGrad{}, b.Apply("dmaps", nn.Unflatten{C: c, H: 7, W: 7}, g), maps))
			})
		})
	}
}

// parts shows what a step program promises about its parts.
func parts(t *testing.T, d device.Trainer) {
	g := build(t, func(b *nn.Builder) {
		x := b.ReLU(b.Input("x", 1, 16, 4, 4))
		b.Output("y", x)
		b.Output("z", b.Add(x, b.InputBefore(1, "dx", 1, 16, 4, 4)))
	})
	compileStep := func() device.StepProgram {
		p, err := d.CompileStep(g, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.Close)
		return p
	}
	p, q := compileStep(), compileStep()
	if p.Parts() != 2 {
		t.Fatalf("%d parts, want 2", p.Parts())
	}
	ctx := t.Context()
	fails := func(what string, err error) {
		t.Helper()
		if err == nil {
			t.Errorf("%s: no error", what)
		}
	}
	works := func(err error) {
		t.Helper()
		if err != nil {
			t.Error(err)
		}
	}
	fails("the second part first", p.RunPart(ctx, 1))
	fails("a part that is not there", p.RunPart(ctx, 2))
	works(p.RunPart(ctx, 0))
	works(p.RunPart(ctx, 1))
	fails("the second part again", p.RunPart(ctx, 1))
	works(p.RunPart(ctx, 0))
	works(q.RunPart(ctx, 0))
	fails("after another program's run", p.RunPart(ctx, 1))
	works(q.RunPart(ctx, 1))
	works(q.RunPart(ctx, 0))
	compileStep()
	fails("after a compilation", q.RunPart(ctx, 1))
	p.Close()
	fails("of a closed program", p.RunPart(ctx, 0))
}

func arrayErrors(t *testing.T, d device.Trainer) {
	g := build(t, func(b *nn.Builder) {
		b.Output("y", b.Apply("y", nn.Conv{Stride: 1}, b.Input("x", 1, 16, 4, 4), b.Input("w", 16, 16, 1, 1)))
	})
	a, err := d.NewArray(nd.Shape{16, 16, 1, 1})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(make([]float32, 256), a.Data()); diff != "" {
		t.Errorf("a new array is not zero: %s", diff)
	}
	other, err := d.NewArray(nd.Shape{16})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	for name, arrays := range map[string]map[string]device.Array{
		"shape":    {"w": other},
		"name":     {"w": a, "v": a},
		"no array": {"w": nil},
	} {
		if p, err := d.CompileStep(g, nil, arrays); err == nil {
			t.Errorf("%s: compiled", name)
			p.Close()
		}
	}
	p, err := d.CompileStep(g, nil, map[string]device.Array{"w": a})
	if err != nil {
		t.Fatal(err)
	}
	p.Close()
	a.Close()
	a.Close()
	if p, err := d.CompileStep(g, nil, map[string]device.Array{"w": a}); err == nil {
		t.Error("compiled with a closed array")
		p.Close()
	}
}
