//go:build cgo && linux && amd64 && !noonednn

package onednn

// #include "shim.h"
import "C"

import "resdet/internal/nn"

// Masked makes k's result 0 where another source, after those that k has
// already, is not positive: the gradient of a ReLU. Of [Pointwise],
// [MaxPoolGrad] and, with a mask laid out like the result, [Gemm] and [Winograd].
func (k *Kernel) Masked(sources int, mask Array) *Kernel {
	k.c.mask = C.int(sources)
	k.c.in[sources] = mask.c()
	return k
}

// Product returns in[0]·in[1].
func Product(out Array, in ...Array) *Kernel {
	k := newKernel(C.RD_POINTWISE, out, in...)
	k.c.mul = 1
	return k
}

// ChannelSum returns the kernel of in's sums over all but channels, a dense
// array, which are added to what is there if add is set.
func ChannelSum(in Array, add bool) *Kernel {
	k := newKernel(C.RD_CHANNEL_SUM, in, in)
	k.c.sum = flag(add)
	return k
}

// ScaledSum returns the kernel of dst = scale·in, or dst += scale·in, for dense
// arrays of so many rows; scale has one float for each row, or is nil for 1.
func ScaledSum(rows, perRow int, scale *Block, add bool) *Kernel {
	k := &Kernel{}
	k.c.kind, k.c.rows, k.c.per_row, k.c.sum = C.RD_SCALED_SUM, C.int64_t(rows), C.int64_t(perRow), flag(add)
	return k.Scaled(scale)
}

// Scaled gives a kernel on the rows of weights what each is multiplied by; nil
// is 1.
func (k *Kernel) Scaled(scale *Block) *Kernel {
	if scale != nil {
		k.c.scale = (*C.float)(scale.p)
	}
	return k
}

// Outer returns the kernel of the gradient of a 1×1 convolution's weight, with
// arrays NChw16c, or of a matrix product's, with arrays CHWn16c: dst, row-major,
// is scale·Σ dy·x, which is added to what is there if add is set. x has whole
// groups of channels; scale is of the rows or nil.
func Outer(x, dy Array, scale *Block, add bool) *Kernel {
	k := newKernel(C.RD_OUTER, x, x)
	k.c.grad, k.c.sum = dy.c(), flag(add)
	return k.Scaled(scale)
}

// WinogradGrad returns the kernel of the gradient of a 3×3 convolution's weight,
// of stride and padding 1, by F(4×4, 3×3): arguments as of [Outer], the arrays
// NChw16c.
func WinogradGrad(x, dy Array, scale *Block, add bool) *Kernel {
	k := Outer(x, dy, scale, add)
	k.c.kind = C.RD_WINOGRAD_GRAD
	return k
}

// GemmRepack returns the kernel that makes weights for [Gemm] of row-major ones
// [oc c]; transposed, of [c oc]. [Kernel.Scaled] multiplies by row.
func GemmRepack(oc, c int, transposed bool) *Kernel {
	return repack(C.RD_REPACK_GEMM, oc, c, transposed)
}

// WinogradRepack returns the kernel that makes weights for [Winograd] of
// row-major ones [oc c 3 3]; transposed, of [c oc 3 3], turned by 180 degrees.
func WinogradRepack(oc, c int, transposed bool) *Kernel {
	return repack(C.RD_REPACK_WINOGRAD, oc, c, transposed)
}

// StridedRepack returns the kernel that makes weights for [Strided] of row-major
// ones [oc c kernel kernel].
func StridedRepack(oc, c, kernel int) *Kernel {
	k := repack(C.RD_REPACK_STRIDED, oc, c, false)
	k.c.kernel = C.int(kernel)
	return k
}

func repack(kind C.int, oc, c int, transposed bool) *Kernel {
	k := &Kernel{}
	k.c.kind, k.c.rows, k.c.per_row, k.c.transposed = kind, C.int64_t(oc), C.int64_t(c), flag(transposed)
	return k
}

// MaxPoolGrad returns the kernel of nn.MaxPoolGrad.
func MaxPoolGrad(op nn.MaxPool, out, x, dy Array) *Kernel {
	k := MaxPool(op, out, x)
	k.c.kind, k.c.grad = C.RD_MAXPOOL_GRAD, dy.c()
	return k
}

// UpsampleGrad returns the kernel of nn.UpsampleGrad.
func UpsampleGrad(out, dy Array) *Kernel { return newKernel(C.RD_UPSAMPLE_GRAD, out, dy) }

// MeanGrad returns the kernel of nn.MeanGrad; dy is rows.
func MeanGrad(out, dy Array) *Kernel { return newKernel(C.RD_MEAN_GRAD, out, dy) }

// RoIAlignGrad returns the kernel of nn.RoIAlignGrad. The sources are the
// regions and dy.
func RoIAlignGrad(op nn.RoIAlignGrad, out, dy Array) *Kernel {
	k := newRegions(C.RD_ROIALIGN_GRAD, op.Pyramid, op.RoIAlign.H, op.RoIAlign.W, dy, levelsLike(out, op.Pyramid))
	k.c.every, k.c.sampling, k.c.aligned = 1, C.int(max(op.Sampling, 0)), flag(op.Aligned)
	k.gradientOf(out, dy, 0, op.Level)
	return k
}

// RoIPoolGrad returns the kernel of nn.RoIPoolGrad. The sources are the level's
// features, the regions and dy.
func RoIPoolGrad(op nn.RoIPoolGrad, out, features, dy Array) *Kernel {
	k := newRegions(C.RD_ROIPOOL_GRAD, op.Pyramid, op.RoIPool.H, op.RoIPool.W, dy, levelsLike(features, op.Pyramid))
	k.gradientOf(out, dy, 1, op.Level)
	return k
}

// levelsLike gives every level the extents of the one whose gradient is made:
// the regions of the others are left out.
func levelsLike(a Array, p nn.Pyramid) []Array {
	levels := make([]Array, len(p.Scales))
	for i := range levels {
		levels[i] = a
	}
	return levels
}

// gradientOf makes k, whose result would be dy, write the gradient out of a
// level; the regions are the given source and dy the next.
func (k *Kernel) gradientOf(out, dy Array, rois, level int) {
	k.c.out, k.c.grad, k.c.rois, k.c.level = out.c(), dy.c(), C.int(rois), C.int(level)
}

// Flatten returns the kernel that makes rows, CHWn16c, of maps that are
// NChw16c and have whole groups of channels; Unflatten that which makes maps of
// rows.
func Flatten(out, in Array) *Kernel   { return newKernel(C.RD_FLATTEN, out, in) }
func Unflatten(out, in Array) *Kernel { return newKernel(C.RD_UNFLATTEN, out, in) }
