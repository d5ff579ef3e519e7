package devicetest

import (
	"fmt"
	"testing"

	"resdet/internal/nn"
)

// fusions runs what a compiler of graphs may rewrite, together with what looks
// alike but must not be rewritten in the same way.
func fusions(t *testing.T, open Opener) {
	fused(t, func(t *testing.T) checker {
		d := opened(t, open)
		return func(t *testing.T, tolerance float64, given arrays, model func(b *nn.Builder)) {
			t.Helper()
			check(t, d, tolerance, given, model)
		}
	})
}

// checker holds a model against the oracle.
type checker func(t *testing.T, tolerance float64, given arrays, model func(b *nn.Builder))

// fused runs the models with checkers of new devices.
func fused(t *testing.T, on func(t *testing.T) checker) {
	check := on(t)
	afterConv(t, on(t))
	for _, c := range []struct {
		name      string
		tolerance float64
		model     func(b *nn.Builder)
	}{
		{"conv read twice", summed, func(b *nn.Builder) {
			x := b.Conv("conv", b.Input("x", 1, 20, 9, 11), 32, 3, 1, 1)
			b.Output("raw", x)
			b.Output("y", b.ReLU(b.Norm("bn", x, 1e-5)))
		}},
		{"norm read twice", summed, func(b *nn.Builder) {
			x := b.Norm("bn", b.Conv("conv", b.Input("x", 1, 20, 9, 11), 32, 3, 1, 1), 1e-5)
			b.Output("y", b.Add(b.ReLU(x), x))
		}},
		{"sum read twice", summed, func(b *nn.Builder) {
			x := b.Input("x", 1, 32, 9, 11)
			sum := b.Add(b.Conv("conv", x, 32, 3, 1, 1), b.ReLU(x))
			b.Output("sum", sum)
			b.Output("y", b.ReLU(sum))
		}},
		{"added value read later", summed, func(b *nn.Builder) {
			x := b.ReLU(b.Conv("in", b.Input("x", 1, 20, 9, 11), 32, 1, 1, 0))
			y := b.ReLU(b.Add(b.Norm("bn1", b.Conv("conv1", x, 32, 3, 1, 1), 1e-5), x))
			z := b.ReLU(b.Add(b.Norm("bn2", b.Conv("conv2", y, 32, 3, 1, 1), 1e-5), x))
			b.Output("z", b.Add(z, x))
		}},
		{"added value is the convolution's input", summed, func(b *nn.Builder) {
			x := b.ReLU(b.Conv("in", b.Input("x", 2, 16, 7, 7), 16, 1, 1, 0))
			b.Output("y", b.Add(x, b.Conv("conv", x, 16, 3, 1, 1)))
		}},
		{"added value is an input of the graph", summed, func(b *nn.Builder) {
			x := b.Input("x", 2, 16, 7, 7)
			b.Output("y", b.ReLU(b.Add(b.Conv("conv", x, 16, 3, 1, 1), x)))
		}},
		{"added value comes later", summed, func(b *nn.Builder) {
			x := b.Input("x", 1, 24, 9, 11)
			a := b.Norm("bn1", b.Conv("conv1", x, 40, 1, 1, 0), 1e-5)
			c := b.Norm("bn2", b.Conv("conv2", x, 40, 3, 1, 1), 1e-5)
			b.Output("y", b.ReLU(b.Add(a, c)))
			b.Output("z", b.ReLU(b.Add(c, a)))
		}},
		{"convolution added to itself", summed, func(b *nn.Builder) {
			x := b.Conv("conv", b.Input("x", 1, 16, 5, 6), 16, 3, 1, 1)
			b.Output("y", b.ReLU(b.Add(x, x)))
		}},
		{"value added to itself", rounded, func(b *nn.Builder) {
			x := b.Input("x", 1, 16, 5, 6)
			b.Output("y", b.ReLU(b.Add(x, x)))
		}},
		{"norm after relu", summed, func(b *nn.Builder) { // is no part of the convolution
			b.Output("y", b.Norm("bn", b.ReLU(b.Conv("conv", b.Input("x", 1, 16, 5, 6), 16, 3, 1, 1)), 1e-5))
		}},
		{"norm after sum", summed, func(b *nn.Builder) { // applies to both
			x := b.Input("x", 1, 16, 5, 6)
			b.Output("y", b.Norm("bn", b.Add(b.Conv("conv", x, 16, 3, 1, 1), x), 1e-5))
		}},
		{"sum after relu", summed, func(b *nn.Builder) { // is not clipped
			x := b.Input("x", 1, 16, 5, 6)
			b.Output("y", b.Add(b.ReLU(b.Conv("conv", x, 16, 3, 1, 1)), x))
		}},
		{"two norms", summed, func(b *nn.Builder) {
			x := b.Conv("conv", b.Input("x", 1, 16, 5, 6), 16, 3, 1, 1)
			b.Output("y", b.Norm("bn2", b.Norm("bn1", x, 1e-5), 1e-2))
		}},
		{"norm of another convolution's size", summed, func(b *nn.Builder) { // one norm, two convolutions
			x := b.Input("x", 1, 16, 9, 8)
			b.Output("y", b.Norm("bn", b.Conv("a", x, 16, 3, 1, 1), 1e-5))
			b.Output("z", b.Norm("bn", b.Conv("b", x, 16, 3, 2, 1), 1e-5))
		}},
		{"weights shared by levels", summed, func(b *nn.Builder) {
			for i := range 3 {
				x := b.Input(fmt.Sprint("p", i), 1, 32, 20>>i, 30>>i)
				h := b.ReLU(b.ConvBias("conv", x, 32, 3, 1, 1))
				b.Output(fmt.Sprint("logits", i), b.ConvBias("logits", h, 3, 1, 1, 0))
				b.Output(fmt.Sprint("deltas", i), b.ConvBias("deltas", h, 12, 1, 1, 0))
			}
		}},
		{"weights shared with and without norm", summed, func(b *nn.Builder) {
			x := b.Input("x", 1, 16, 9, 8)
			b.Output("y", b.Norm("bn", b.Conv("conv", x, 16, 3, 1, 1), 1e-5))
			b.Output("z", b.Conv("conv", x, 16, 3, 1, 1))
		}},
		{"stem", summed, func(b *nn.Builder) {
			x := b.ReLU(b.Norm("bn1", b.Conv("conv1", b.Input("x", 1, 3, 61, 83), 64, 7, 2, 3), 1e-5))
			b.Output("y", b.MaxPool("maxpool", x, nn.MaxPool{Kernel: 3, Stride: 2, Pad: 1}))
		}},
		{"bottleneck with shortcut", summed, func(b *nn.Builder) {
			x := b.Input("x", 2, 32, 15, 21)
			y := b.ReLU(b.Norm("bn1", b.Conv("conv1", x, 16, 1, 1, 0), 1e-5))
			y = b.ReLU(b.Norm("bn2", b.Conv("conv2", y, 16, 3, 2, 1), 1e-5))
			y = b.Norm("bn3", b.Conv("conv3", y, 64, 1, 1, 0), 1e-5)
			short := b.Norm("downsample.1", b.Conv("downsample.0", x, 64, 1, 2, 0), 1e-5)
			b.Output("y", b.ReLU(b.Add(y, short)))
		}},
		{"vgg", summed, func(b *nn.Builder) {
			x := b.Input("x", 1, 3, 32, 47)
			for i, c := range []int{16, 32} {
				x = b.ReLU(b.ConvBias(fmt.Sprint("conv", i, "a"), x, c, 3, 1, 1))
				x = b.ReLU(b.ConvBias(fmt.Sprint("conv", i, "b"), x, c, 3, 1, 1))
				x = b.MaxPool(fmt.Sprint("pool", i), x, nn.MaxPool{Kernel: 2, Stride: 2})
			}
			b.Output("y", x)
		}},
		{"feature pyramid", summed, featurePyramid},
		{"linear", summed, func(b *nn.Builder) {
			x := b.ReLU(b.Linear("fc6", b.Flatten(b.Input("x", 5, 12, 3, 3)), 40))
			x = b.ReLU(b.Linear("fc7", x, 40))
			b.Output("logits", b.Linear("cls", x, 7))
			b.Output("deltas", b.Linear("box", x, 28))
		}},
		{"linear before and after relu", summed, func(b *nn.Builder) {
			x := b.Linear("fc", b.Input("x", 5, 33), 40)
			b.Output("raw", x)
			b.Output("y", b.ReLU(x))
		}},
		{"linear and sum", summed, func(b *nn.Builder) {
			x := b.Input("x", 5, 40)
			b.Output("y", b.ReLU(b.Add(b.Linear("fc", x, 40), x)))
		}},
		{"mean and linear", summed, func(b *nn.Builder) {
			x := b.ReLU(b.Conv("conv", b.Input("x", 6, 20, 7, 7), 32, 1, 1, 0))
			b.Output("y", b.Linear("fc", b.Mean(x), 9))
		}},
		{"pooled, flattened, linear", summed, func(b *nn.Builder) { // Flatten counts channels first in any layout
			x := b.MaxPool("pool", b.ReLU(b.Conv("conv", b.Input("x", 3, 20, 14, 14), 37, 3, 1, 1)), nn.MaxPool{Kernel: 2, Stride: 2})
			b.Output("y", b.ReLU(b.Linear("fc", b.Flatten(x), 11)))
			b.Output("flat", b.Flatten(x))
		}},
		{"one value under two names", summed, func(b *nn.Builder) {
			x := b.ReLU(b.Conv("conv", b.Input("x", 1, 3, 5, 5), 8, 3, 1, 1))
			b.Output("a", x)
			b.Output("b", x)
			b.Keep("c", x)
			b.Output("flat", b.Flatten(x))
		}},
		{"input handed out", exact, func(b *nn.Builder) {
			x := b.Input("x", 1, 3, 5, 5)
			b.Output("same", x)
			b.Output("flat", b.Flatten(x))
		}},
	} {
		t.Run(c.name, func(t *testing.T) { check(t, c.tolerance, nil, c.model) })
	}
	pooledFirst(t, on(t))
}

// afterConv runs conv ± bias ± norm ± add ± ReLU in every combination.
func afterConv(t *testing.T, check checker) {
	for _, shape := range []struct{ c, out, kernel, stride, h, w int }{
		{16, 32, 1, 1, 7, 9}, {19, 21, 1, 1, 7, 9}, {16, 32, 3, 1, 14, 13}, {19, 21, 3, 1, 7, 9}, {16, 16, 3, 2, 9, 8},
	} {
		for mask := range 16 {
			bias, norm, sum, relu := mask&1 > 0, mask&2 > 0, mask&4 > 0, mask&8 > 0
			name := fmt.Sprintf("conv%dx%ds%d_%d_%d/bias_%v_norm_%v_add_%v_relu_%v",
				shape.kernel, shape.kernel, shape.stride, shape.c, shape.out, bias, norm, sum, relu)
			t.Run(name, func(t *testing.T) {
				check(t, summed, nil, func(b *nn.Builder) {
					x := b.Input("x", 2, shape.c, shape.h, shape.w)
					var y nn.Value
					if bias {
						y = b.ConvBias("conv", x, shape.out, shape.kernel, shape.stride, shape.kernel/2)
					} else {
						y = b.Conv("conv", x, shape.out, shape.kernel, shape.stride, shape.kernel/2)
					}
					if norm {
						y = b.Norm("bn", y, 1e-5)
					}
					if sum {
						y = b.Add(y, b.Conv("other", x, shape.out, 1, shape.stride, 0))
					}
					if relu {
						y = b.ReLU(y)
					}
					b.Output("y", y)
				})
			})
		}
	}
}

// featurePyramid is an FPN over three stages with a pooled level on top.
func featurePyramid(b *nn.Builder) {
	var top nn.Value
	for i := 2; i >= 0; i-- {
		c := b.Input(fmt.Sprint("c", i+2), 1, 24<<i, (45>>i)+1, (61>>i)+1)
		lateral := b.ConvBias(fmt.Sprint("inner.", i), c, 32, 1, 1, 0)
		if i < 2 {
			lateral = b.Add(lateral, b.Upsample(top, lateral))
		}
		top = lateral
		p := b.ConvBias(fmt.Sprint("layer.", i), lateral, 32, 3, 1, 1)
		b.Keep(fmt.Sprint("kept", i+2), p)
		b.Output(fmt.Sprint("p", i+2), p)
		if i == 2 {
			b.Output("pool", b.MaxPool("pool", p, nn.MaxPool{Kernel: 1, Stride: 2}))
		}
	}
}

// pooledFirst runs convolutions of pooled regions, which a compiler may move
// in front of the pooling: 1×1 ones, for RoIAlign is linear and per channel.
func pooledFirst(t *testing.T, check checker) {
	rois := oddRegions()
	one := nn.Pyramid{Scales: []float64{1. / 16}}
	align := nn.RoIAlign{Pyramid: one, H: 14, W: 14, Sampling: 2}
	pooled := func(b *nn.Builder, op nn.RoIAlign) nn.Value {
		return b.RoIAlign(op, []nn.Value{b.Input("x", 2, 40, 12, 16)}, b.Input("rois", rois.Shape...))
	}
	for _, c := range []struct {
		name  string
		model func(b *nn.Builder)
	}{
		{"res5", func(b *nn.Builder) { // stride on the 3×3
			x := pooled(b, align)
			b.Output("y", b.Mean(res5(b, x, 1, 2)))
		}},
		{"res5, stride on the 1x1", func(b *nn.Builder) {
			x := pooled(b, align)
			b.Output("y", b.Mean(res5(b, x, 2, 1)))
		}},
		{"res5, adaptive and aligned", func(b *nn.Builder) {
			x := pooled(b, nn.RoIAlign{Pyramid: one, H: 14, W: 14, Aligned: true})
			b.Output("y", res5(b, x, 2, 1))
		}},
		{"bias", func(b *nn.Builder) { // is not pooled: samples outside the image are 0, the bias is not
			b.Output("y", b.ReLU(b.ConvBias("conv", pooled(b, align), 24, 1, 1, 0)))
		}},
		{"bias and norm, stride 2", func(b *nn.Builder) {
			b.Output("y", b.ReLU(b.Norm("bn", b.ConvBias("conv", pooled(b, align), 24, 1, 2, 0), 1e-5)))
		}},
		{"odd grid, stride 2", func(b *nn.Builder) {
			b.Output("y", b.Conv("conv", pooled(b, nn.RoIAlign{Pyramid: one, H: 7, W: 5, Sampling: 2}), 24, 1, 2, 0))
		}},
		{"both strides", func(b *nn.Builder) { // a bin that one of them skips is read by the other
			x := pooled(b, align)
			b.Output("y", b.Conv("a", x, 24, 1, 2, 0))
			b.Output("z", b.Conv("b", x, 24, 1, 1, 0))
		}},
		{"pooled value read too", func(b *nn.Builder) {
			x := pooled(b, align)
			b.Output("pooled", x)
			b.Output("y", b.ReLU(b.Norm("bn", b.Conv("conv", x, 24, 1, 1, 0), 1e-5)))
		}},
		{"relu between", func(b *nn.Builder) {
			b.Output("y", b.Conv("conv", b.ReLU(pooled(b, align)), 24, 1, 1, 0))
		}},
		{"3x3", func(b *nn.Builder) {
			b.Output("y", b.Conv("conv", pooled(b, align), 24, 3, 2, 1))
		}},
		{"padded 1x1", func(b *nn.Builder) {
			b.Output("y", b.ConvBias("conv", pooled(b, align), 24, 1, 1, 1))
		}},
		{"levels", func(b *nn.Builder) {
			p, features := pyramid(b, 16, 3)
			x := b.RoIAlign(nn.RoIAlign{Pyramid: p, H: 7, W: 7, Sampling: 2}, features, b.Input("rois", rois.Shape...))
			b.Output("y", b.ReLU(b.Norm("bn", b.Conv("conv", x, 24, 1, 1, 0), 1e-5)))
		}},
		{"maxima", func(b *nn.Builder) { // do not commute
			x := b.RoIPool(nn.RoIPool{Pyramid: one, H: 7, W: 7}, []nn.Value{b.Input("x", 2, 40, 12, 16)}, b.Input("rois", rois.Shape...))
			b.Output("y", b.Conv("conv", x, 24, 1, 1, 0))
		}},
		{"two-layer head", func(b *nn.Builder) {
			p, features := pyramid(b, 16, 4)
			x := b.RoIAlign(nn.RoIAlign{Pyramid: p, H: 7, W: 7, Sampling: 2}, features, b.Input("rois", rois.Shape...))
			h := b.ReLU(b.Linear("fc7", b.ReLU(b.Linear("fc6", b.Flatten(x), 48)), 48))
			b.Output("logits", b.Linear("cls", h, 21))
			b.Output("deltas", b.Linear("box", h, 84))
		}},
		{"fc6 and fc7 on maxima", func(b *nn.Builder) {
			x := b.RoIPool(nn.RoIPool{Pyramid: one, H: 7, W: 7}, []nn.Value{b.Input("x", 2, 20, 12, 16)}, b.Input("rois", rois.Shape...))
			h := b.ReLU(b.Linear("fc7", b.ReLU(b.Linear("fc6", b.Flatten(x), 48)), 48))
			b.Output("logits", b.Linear("cls", h, 21))
		}},
	} {
		t.Run("pooled first/"+c.name, func(t *testing.T) { check(t, summed, arrays{"rois": rois}, c.model) })
	}
}

// res5 is a bottleneck with a shortcut, then one without.
func res5(b *nn.Builder, x nn.Value, stride1, stride3 int) nn.Value {
	for i := range 2 {
		b.Scope(fmt.Sprint("layer4.", i), func() {
			short := x
			if i == 0 {
				short = b.Norm("downsample.1", b.Conv("downsample.0", x, 64, 1, stride1*stride3, 0), 1e-5)
			} else {
				stride1, stride3 = 1, 1
			}
			y := b.ReLU(b.Norm("bn1", b.Conv("conv1", x, 16, 1, stride1, 0), 1e-5))
			y = b.ReLU(b.Norm("bn2", b.Conv("conv2", y, 16, 3, stride3, 1), 1e-5))
			x = b.ReLU(b.Add(b.Norm("bn3", b.Conv("conv3", y, 64, 1, 1, 0), 1e-5), short))
		})
	}
	return x
}
