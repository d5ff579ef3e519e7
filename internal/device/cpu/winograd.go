//go:build cgo && linux && amd64 && !noonednn

package cpu

import (
	"slices"

	"resdet/internal/device/plan"
	"resdet/internal/onednn"
)

// winograd lowers a convolution with our own F(4×4, 3×3) kernel, and a 2×2
// max pooling that follows it: the tiles of the result are pooled before they
// are written. A thread works on so many groups of tiles at a time.
func (l *lowering) winograd(s *plan.Step, block int) error {
	in, out := l.shape(s.In[0]), l.shape(s.Out)
	src, err := l.get(s.In[0], workLayout())
	if err != nil {
		return err
	}
	step := l.describe(s, "winograd", workLayout())
	var dst *array
	pool := l.pooledBy(s)
	switch {
	case s.Sum != plan.None:
		sum, err := l.get(s.Sum, workLayout())
		if err != nil {
			return err
		}
		dst = l.define(s.Out, workLayout(), sum.buf)
	case pool != nil:
		dst = l.create(pool.Out, workLayout())
		l.fused = append(l.fused, pool)
		step.Name, step.Op, step.Shape = pool.Name, s.Op+"+"+pool.Op, l.shape(pool.Out)
	default:
		dst = l.create(s.Out, workLayout())
	}
	shift, err := l.shiftFor(s)
	if err != nil {
		return err
	}
	weights, err := l.winogradWeights(s, out[1], in[1])
	if err != nil {
		return err
	}
	k := onednn.Winograd(l.d.threads, block, shift, s.Sum != plan.None, s.ReLU, pool != nil, dst.Array, src.Array)
	l.add(op{kernel: k, src: []*buf{src.buf, weights}, dst: dst.buf, step: step}, k.ScratchSize())
	return nil
}

// winogradWeights returns s's weights [oc c 3 3] as our kernel wants them.
func (l *lowering) winogradWeights(s *plan.Step, oc, c int) (*buf, error) {
	size := onednn.WinogradSize(oc, c)
	if s.Weight != plan.None {
		return l.repack(s, "winograd", size, onednn.WinogradRepack(oc, c, false))
	}
	b, err := l.packed(s.Affine, "winograd", size, func(b *onednn.Block) error {
		w, err := l.sourceOf(s.Affine)
		if err == nil {
			onednn.PackWinograd(w, oc, c, b)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return fixed(b), nil
}

// pooledBy returns the step that alone reads s's result if it takes the maxima
// of whole 2×2 windows.
func (l *lowering) pooledBy(s *plan.Step) *plan.Step {
	var pool *plan.Step
	for i := range l.plan.Steps {
		r := &l.plan.Steps[i]
		if !slices.Contains(r.Reads(), s.Out) {
			continue
		}
		k, ok := r.Kernel.(plan.MaxPool)
		shape := l.shape(s.Out)
		whole := !k.Ceil || shape[2]%2 == 0 && shape[3]%2 == 0
		if !ok || pool != nil || k.Kernel != 2 || k.Stride != 2 || k.Pad != 0 || !whole {
			return nil
		}
		pool = r
	}
	for _, o := range l.plan.Outputs {
		if o.Value == s.Out {
			return nil
		}
	}
	return pool
}

// ownWinograd reports whether our kernel does the convolution. It looks at
// channels only: the weights are then packed alike for every size of image.
func ownWinograd(c onednn.Conv) bool { return winogradPays(c) && c.OC%32 == 0 }
