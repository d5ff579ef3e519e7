//go:build cgo && linux && amd64 && !noonednn

package cpu

import (
	"fmt"
	"slices"

	"resdet/internal/device/plan"
	"resdet/internal/nd"
	"resdet/internal/onednn"
)

// gemm lowers a 1×1 convolution or a matrix product with our own kernel.
func (l *lowering) gemm(s *plan.Step, stride int) error {
	in, out := l.shape(s.In[0]), l.shape(s.Out)
	layout, pixels := onednn.NChw16c, 1
	if len(out) == 2 {
		layout = onednn.CHWn16c
		if len(in) == 4 {
			pixels = in[2] * in[3]
		}
	}
	src, err := l.get(s.In[0], layout)
	if err != nil {
		return err
	}
	from := src.Array
	if len(in) == 4 && len(out) == 2 { // the same memory as rows
		from.Shape = nd.Shape{in[0], in[1:].Len()}
	}
	var dst *array
	if s.Sum != plan.None {
		sum, err := l.get(s.Sum, layout)
		if err != nil {
			return err
		}
		dst = l.define(s.Out, layout, sum.buf)
	} else {
		dst = l.create(s.Out, layout)
	}
	shift, err := l.shiftFor(s)
	if err != nil {
		return err
	}
	weights, err := l.gemmWeights(s, out[1], in[1], pixels)
	if err != nil {
		return err
	}
	k := onednn.Gemm(l.d.threads, stride, shift, s.Sum != plan.None, s.ReLU, dst.Array, from)
	l.add(op{kernel: k, src: []*buf{src.buf, weights}, dst: dst.buf, step: l.describe(s, "gemm", layout)}, k.ScratchSize())
	return nil
}

// gemmWeights returns s's weights [oc c pixels] as our kernel wants them.
func (l *lowering) gemmWeights(s *plan.Step, oc, c, pixels int) (*buf, error) {
	size := onednn.GemmSize(oc, c, pixels)
	if s.Weight != plan.None {
		return l.repack(s, "gemm", size, onednn.GemmRepack(oc, c, false))
	}
	b, err := l.packed(s.Affine, fmt.Sprint("gemm ", pixels), size, func(b *onednn.Block) error {
		w, err := l.sourceOf(s.Affine)
		if err != nil {
			return err
		}
		return onednn.PackGemm(w, oc, c, pixels, b)
	})
	if err != nil {
		return nil, err
	}
	return fixed(b), nil
}

// rowsLayout returns the layout in which a value is best written: that of
// matrix products if nothing else reads it, otherwise the given one.
func (l *lowering) rowsLayout(v plan.Value, otherwise onednn.Layout) onednn.Layout {
	shape := l.shape(v)
	if !onednn.AVX512() || len(shape) == 4 && shape[1]%16 != 0 {
		return otherwise
	}
	for _, o := range l.plan.Outputs {
		if o.Value == v {
			return otherwise
		}
	}
	for i := range l.plan.Steps {
		s := &l.plan.Steps[i]
		if !slices.Contains(s.Reads(), v) {
			continue
		}
		if _, ok := s.Kernel.(plan.Linear); !ok || s.Weight != plan.None || inputOf(s.Numbers).low() {
			return otherwise
		}
	}
	return onednn.CHWn16c
}

// ownGemm reports whether our kernel does the convolution: within regions,
// whose few pixels leave the library's registers half empty, it is up to a
// tenth faster; on whole maps it is not.
func ownGemm(c onednn.Conv) bool {
	return onednn.AVX512() && c.KH == 1 && c.KW == 1 && c.Pad == 0 && c.C%16 == 0 && c.OC%32 == 0
}
