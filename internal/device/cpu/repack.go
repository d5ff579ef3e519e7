//go:build cgo && linux && amd64 && !noonednn

package cpu

import (
	"resdet/internal/device"
	"resdet/internal/device/plan"
	"resdet/internal/onednn"
)

// Weights that change are laid out anew in every run, by steps of the program:
// shared array ─×norm's scale─▶ kernel's layout, in the arena, where they lie
// no longer than the steps of one part need them.

type repackKey struct {
	weight plan.Value
	norm   plan.Norm
	layout string
	part   int
}

// repack returns the step's weight in another layout, which kernel makes of the
// row-major one; the norm's scale becomes the kernel's.
func (l *lowering) repack(s *plan.Step, layout string, size int64, kernel *onednn.Kernel) (*buf, error) {
	return l.once(s, layout, func() (*buf, error) {
		scale, err := l.normScale(s)
		if err != nil {
			return nil, err
		}
		kernel.Scaled(scale)
		dst := l.room(size)
		l.add(op{kernel: kernel, src: []*buf{l.weight(s)}, dst: dst, step: l.packing(s, layout)}, 0)
		return dst, nil
	})
}

// weight is the place of the step's row-major weight.
func (l *lowering) weight(s *plan.Step) *buf { return l.arrays[s.Weight][0].buf }

func (l *lowering) packing(s *plan.Step, layout string) device.Step {
	return device.Step{Name: s.Name, Op: "pack", Algorithm: "vector", Layout: layout, Shape: s.Affine.Shape}
}

// once returns what pack made for the same weight in this part before.
func (l *lowering) once(s *plan.Step, layout string, pack func() (*buf, error)) (*buf, error) {
	key := repackKey{weight: s.Weight, layout: layout, part: l.part}
	if s.Affine.Norm != nil {
		key.norm = *s.Affine.Norm
	}
	if b, ok := l.repacked[key]; ok {
		return b, nil
	}
	b, err := pack()
	l.repacked[key] = b
	return b, err
}

// normScale returns the scale of the step's norm, nil without one.
func (l *lowering) normScale(s *plan.Step) (*onednn.Block, error) {
	if s.Affine.Norm == nil {
		return nil, nil
	}
	return l.scaleOf(plan.Affine{Norm: s.Affine.Norm, NoShift: true})
}

// weightsFor returns the step's weights in the layout that the primitive wants.
func (l *lowering) weightsFor(s *plan.Step, p *onednn.Primitive) (*buf, error) {
	if s.Weight == plan.None {
		b, err := l.weightsOf(s.Affine, p)
		if err != nil {
			return nil, err
		}
		return fixed(b), nil
	}
	w, shape := l.weight(s), s.Affine.Shape
	if s.Affine.Norm != nil {
		var err error
		if w, err = l.repack(s, "scaled", 4*int64(shape.Len()), onednn.ScaledSum(shape[0], shape[1:].Len(), nil, false)); err != nil {
			return nil, err
		}
	}
	if p.PlainWeights() {
		return w, nil
	}
	return l.once(s, p.WeightsLayout(), func() (*buf, error) {
		r, err := l.d.engine.NewWeightsReorder(p, false)
		if err != nil {
			return nil, err
		}
		l.program.primitives = append(l.program.primitives, r)
		dst := l.room(p.WeightsSize())
		l.add(op{reorder: r, src: []*buf{w}, dst: dst, step: l.packing(s, "blocked")}, r.ScratchSize())
		return dst, nil
	})
}

// shiftFor returns what the step adds to every output channel, nil if nothing.
func (l *lowering) shiftFor(s *plan.Step) (*onednn.Block, error) {
	switch {
	case s.Bias != plan.None:
		return l.shared[l.plan.Values[s.Bias].Name].block, nil
	case s.Affine.HasShift():
		return l.shiftOf(s.Affine)
	}
	return nil, nil
}

func hasShift(s *plan.Step) bool { return s.Bias != plan.None || s.Affine.HasShift() }
