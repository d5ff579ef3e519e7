package devicetest

import (
	"fmt"
	"testing"

	"resdet/internal/nn"
)

// operations runs every operation on its own, on shapes chosen to catch
// vector tails, single pixels and edges; the regions have their own group.
func operations(t *testing.T, open Opener) {
	d := opened(t, open)

	for _, c := range []struct {
		n, c, h, w, out, kernel, stride, pad int
		bias                                 bool
	}{
		{1, 1, 1, 1, 1, 1, 1, 0, true},
		{1, 3, 37, 45, 64, 7, 2, 3, false}, // the stem
		{2, 17, 13, 15, 33, 1, 1, 0, true}, // channels that fill no vector
		{1, 16, 13, 15, 32, 1, 1, 0, false},
		{2, 24, 13, 15, 40, 1, 2, 0, true},   // shortcut with stride
		{1, 32, 1, 1, 15, 1, 1, 0, true},     // one pixel
		{1, 5, 1, 1, 7, 3, 1, 1, true},       // one pixel, padding all round
		{2, 16, 19, 23, 24, 3, 1, 1, true},   // Winograd's shape, with odd edges
		{1, 64, 12, 16, 64, 3, 1, 1, false},  // the same, whole tiles
		{1, 48, 5, 3, 19, 3, 1, 1, true},     // less than two tiles
		{3, 16, 19, 23, 24, 3, 2, 1, true},   // stride 2
		{1, 16, 20, 22, 16, 3, 2, 1, false},  // stride 2, even extents
		{1, 9, 8, 7, 10, 3, 1, 0, true},      // no padding
		{1, 4, 1, 100, 6, 3, 1, 1, true},     // one row
		{1, 4, 100, 1, 6, 3, 2, 1, true},     // one column
		{1, 6, 11, 9, 8, 5, 1, 2, true},      // neither 1, 3 nor 7
		{1, 8, 9, 9, 8, 2, 2, 0, false},      // even kernel, a row left over
		{1, 2, 3, 3, 4, 3, 1, 3, true},       // windows wholly in the padding
		{17, 32, 7, 7, 48, 3, 1, 1, true},    // regions
		{1, 520, 6, 5, 13, 1, 1, 0, true},    // long sums
		{1, 130, 9, 10, 258, 3, 1, 1, false}, // more than one block of everything
	} {
		t.Run(fmt.Sprintf("conv/%dx%dx%dx%d_%d_k%ds%dp%d", c.n, c.c, c.h, c.w, c.out, c.kernel, c.stride, c.pad), func(t *testing.T) {
			check(t, d, summed, nil, func(b *nn.Builder) {
				x := b.Input("x", c.n, c.c, c.h, c.w)
				if c.bias {
					b.Output("y", b.ConvBias("conv", x, c.out, c.kernel, c.stride, c.pad))
				} else {
					b.Output("y", b.Conv("conv", x, c.out, c.kernel, c.stride, c.pad))
				}
			})
		})
	}

	images := [][]int{{1, 1, 1, 1}, {2, 5, 7, 9}, {1, 16, 8, 8}, {3, 33, 1, 13}, {1, 32, 31, 20}}
	for _, s := range images {
		name := fmt.Sprintf("%dx%dx%dx%d", s[0], s[1], s[2], s[3])
		t.Run("norm/"+name, func(t *testing.T) {
			check(t, d, rounded, nil, func(b *nn.Builder) { b.Output("y", b.Norm("bn", b.Input("x", s...), 1e-3)) })
		})
		t.Run("add/"+name, func(t *testing.T) {
			check(t, d, rounded, nil, func(b *nn.Builder) { b.Output("y", b.Add(b.Input("x", s...), b.Input("z", s...))) })
		})
		t.Run("relu/"+name, func(t *testing.T) {
			check(t, d, exact, nil, func(b *nn.Builder) { b.Output("y", b.ReLU(b.Input("x", s...))) })
		})
		t.Run("mean/"+name, func(t *testing.T) {
			check(t, d, rounded, nil, func(b *nn.Builder) { b.Output("y", b.Mean(b.Input("x", s...))) })
		})
		t.Run("flatten/"+name, func(t *testing.T) {
			check(t, d, exact, nil, func(b *nn.Builder) { b.Output("y", b.Flatten(b.Input("x", s...))) })
		})
		for _, to := range [][2]int{{s[2], s[3]}, {2 * s[2], 2 * s[3]}, {2*s[2] - 1, 2*s[3] + 1}, {3*s[2] + 1, s[3] + 5}, {(s[2] + 1) / 2, s[3]}} {
			t.Run(fmt.Sprintf("upsample/%s_to_%dx%d", name, to[0], to[1]), func(t *testing.T) {
				check(t, d, exact, nil, func(b *nn.Builder) {
					b.Output("y", b.Upsample(b.Input("x", s...), b.Input("like", 1, 1, to[0], to[1])))
				})
			})
		}
		for _, op := range []nn.MaxPool{
			{Kernel: 3, Stride: 2, Pad: 1}, {Kernel: 2, Stride: 2}, {Kernel: 1, Stride: 2}, {Kernel: 1, Stride: 1},
			{Kernel: 3, Stride: 2, Ceil: true}, {Kernel: 2, Stride: 2, Ceil: true}, {Kernel: 3, Stride: 2, Pad: 1, Ceil: true},
			{Kernel: 2, Stride: 3, Pad: 1, Ceil: true}, {Kernel: 3, Stride: 1, Pad: 1},
		} {
			if s[2]+2*op.Pad < op.Kernel || s[3]+2*op.Pad < op.Kernel {
				continue
			}
			t.Run(fmt.Sprintf("maxpool/%s_k%ds%dp%d_ceil_%v", name, op.Kernel, op.Stride, op.Pad, op.Ceil), func(t *testing.T) {
				check(t, d, exact, nil, func(b *nn.Builder) { b.Output("y", b.MaxPool("pool", b.Input("x", s...), op)) })
			})
		}
	}

	for _, s := range [][3]int{{1, 1, 1}, {1, 16, 16}, {3, 37, 21}, {70, 64, 91}, {5, 1300, 4}, {257, 3, 33}} {
		t.Run(fmt.Sprintf("linear/%dx%d_%d", s[0], s[1], s[2]), func(t *testing.T) {
			check(t, d, summed, nil, func(b *nn.Builder) { b.Output("y", b.Linear("fc", b.Input("x", s[0], s[1]), s[2])) })
		})
	}
	t.Run("flatten/rows", func(t *testing.T) {
		check(t, d, exact, nil, func(b *nn.Builder) { b.Output("y", b.Flatten(b.Input("x", 4, 6))) })
	})
}
