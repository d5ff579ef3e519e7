//go:build cgo && linux && amd64 && !noonednn

package cpu

import (
	"fmt"

	"resdet/internal/device/plan"
	"resdet/internal/onednn"
)

// ownStrided reports whether our kernel does the convolution: one with a stride,
// where there are no 512-bit vectors. In nhwc the library's then runs at 15 to 60 %
// of the CPU's rate of matrix products; ours reaches it.
func ownStrided(c onednn.Conv) bool {
	return onednn.AVX2() && !onednn.AVX512() && c.Stride > 1 && c.KH > 1 && c.KH == c.KW && !c.Sum && c.C%16 == 0 && c.OC%16 == 0
}

// strided lowers a convolution with our kernel for those that have a stride.
func (l *lowering) strided(s *plan.Step, c onednn.Conv) error {
	src, err := l.get(s.In[0], onednn.NHWC)
	if err != nil {
		return err
	}
	shift, err := l.shiftFor(s)
	if err != nil {
		return err
	}
	weights, err := l.stridedWeights(s, c)
	if err != nil {
		return err
	}
	dst := l.create(s.Out, onednn.NHWC)
	k := onednn.Strided(l.d.threads, c.KH, c.Stride, c.Pad, shift, s.ReLU, dst.Array, src.Array)
	l.add(op{kernel: k, src: []*buf{src.buf, weights}, dst: dst.buf, step: l.describe(s, "gemm", onednn.NHWC)}, k.ScratchSize())
	return nil
}

// stridedWeights returns s's weights [oc c kernel kernel] as our kernel wants them.
func (l *lowering) stridedWeights(s *plan.Step, c onednn.Conv) (*buf, error) {
	size := onednn.StridedSize(c.OC, c.C, c.KH)
	if s.Weight != plan.None {
		return l.repack(s, "strided", size, onednn.StridedRepack(c.OC, c.C, c.KH))
	}
	b, err := l.packed(s.Affine, fmt.Sprint("strided ", c.KH), size, func(b *onednn.Block) error {
		w, err := l.sourceOf(s.Affine)
		if err != nil {
			return err
		}
		return onednn.PackStrided(w, c.OC, c.C, c.KH, b)
	})
	if err != nil {
		return nil, err
	}
	return fixed(b), nil
}
