//go:build cgo && linux && amd64 && !noonednn

package cpu

import (
	"slices"

	"resdet/internal/device/plan"
	"resdet/internal/nn"
	"resdet/internal/onednn"
)

// What values are stored in. Between layers that compute in 8 bits they stay in
// 8 bits, written by one layer as the next one reads them: a fourth of the
// memory's traffic, and no step that rounds. The same for bfloat16.

// number is how the elements of an array are stored; the zero value is float32.
type number struct {
	typ  onednn.Type
	step float32 // of integers
}

func (n number) low() bool { return n.typ != onednn.Float32 }

// inputOf returns what a layer reads.
func inputOf(n nn.Numbers) number {
	switch {
	case n.Precision == nn.BF16:
		return number{typ: onednn.BFloat16}
	case n.Precision == nn.Int8 && n.Signed:
		return number{onednn.Sint8, n.Scale}
	case n.Precision == nn.Int8:
		return number{onednn.Uint8, n.Scale}
	}
	return number{}
}

// sumOf returns what the other operand of a sum is stored in, where nothing else
// says: the sum's own steps, of twice the size where only the sum is known to be
// positive.
func sumOf(sum number) number {
	if sum.typ == onednn.Uint8 {
		return number{onednn.Sint8, 2 * sum.step}
	}
	return sum
}

// wish is what a reader of a value asks for. Kernels of our own, which read
// anything, ask for nothing.
type wish struct {
	number
	sum bool // only to be added: anything will do
}

// chooseNumbers decides what every value is stored in: what all layers that read
// it ask for, if they agree, and float32 if one of them computes in it or the
// host reads it.
func (l *lowering) chooseNumbers() {
	l.numbers = make([]number, len(l.plan.Values))
	wishes := make([][]wish, len(l.plan.Values))
	for _, o := range l.plan.Outputs {
		if o.Value != plan.None && !o.Kept {
			wishes[o.Value] = append(wishes[o.Value], wish{})
		}
	}
	for i := len(l.plan.Steps) - 1; i >= 0; i-- { // readers before what they read
		s := &l.plan.Steps[i]
		stored := agreed(wishes[s.Out])
		if !writes(s, stored) {
			stored = number{}
		}
		l.numbers[s.Out] = stored
		for v, w := range wishesOf(s, stored) {
			wishes[v] = append(wishes[v], w)
		}
	}
}

func agreed(wishes []wish) number {
	var n number
	found := false
	for _, w := range wishes {
		switch {
		case w.sum:
		case !w.low():
			return number{}
		case found && w.number != n:
			return number{}
		default:
			n, found = w.number, true
		}
	}
	if i := slices.IndexFunc(wishes, func(w wish) bool { return w.sum }); !found && i >= 0 {
		return wishes[i].number
	}
	return n
}

// writes reports whether a step can write what is asked for.
func writes(s *plan.Step, n number) bool {
	switch s.Kernel.(type) {
	case plan.Conv, plan.Linear, plan.ConvInput, plan.LinearInput:
		in := inputOf(s.Numbers)
		return in.low() && in.typ.Integer() == n.typ.Integer()
	case plan.Pointwise, plan.MaxPool, plan.Upsample, plan.RoIAlign, plan.RoIPool, plan.Mean:
		return true
	}
	return false
}

// wishesOf returns what a step asks of the values that it reads, given what it
// writes.
func wishesOf(s *plan.Step, out number) map[plan.Value]wish {
	in, wishes := inputOf(s.Numbers), map[plan.Value]wish{}
	for _, v := range s.Reads() {
		wishes[v] = wish{}
	}
	switch s.Kernel.(type) {
	case plan.Conv, plan.Linear:
		wishes[s.In[0]] = wish{number: in}
		if s.Sum != plan.None && in.low() {
			// A float's is widened: that one sum is float32 does not make those of all
			// blocks before it so, each of which would be rounded for the next layer.
			wishes[s.Sum] = wish{number: sumOf(out), sum: true}
		}
	case plan.ConvWeight, plan.LinearWeight:
		for _, v := range s.In {
			wishes[v] = wish{number: in}
		}
	case plan.ConvInput, plan.LinearInput:
		if in.low() { // a kernel of our own adds and masks
			delete(wishes, s.Sum)
			delete(wishes, s.Mask)
			wishes[s.In[0]] = wish{number: in}
		}
	case plan.MaxPool:
		delete(wishes, s.In[0])
		if out.low() { // maxima of what is rounded are rounded maxima
			wishes[s.In[0]] = wish{number: out}
		}
	case plan.RoIAlign, plan.RoIPool:
		for _, v := range s.In[:len(s.In)-1] {
			delete(wishes, v)
		}
	case plan.Pointwise, plan.Upsample, plan.Mean:
		if s.Into >= 0 {
			break
		}
		for _, v := range s.Reads() {
			delete(wishes, v)
		}
	}
	return wishes
}

// numberFor returns what s's result is stored in: as what it is made of, where
// elements are only moved or compared, else as was decided.
func (l *lowering) numberFor(s *plan.Step) number {
	moved := false
	switch k := s.Kernel.(type) {
	case plan.MaxPool, plan.Upsample:
		moved = true
	case plan.Pointwise:
		moved = len(s.In) == 1 && s.Affine.Norm == nil && !s.ReLU && !k.Mul
	}
	if moved && s.Mask == plan.None && s.Into < 0 {
		if made := l.arrays[s.In[0]][0].number(); made.low() {
			return made
		}
	}
	return l.numbers[s.Out]
}

func (a *array) number() number { return number{a.Type, a.Step} }

// stored returns the first array of v whose elements are as wanted, nil if there
// is none.
func (l *lowering) stored(v plan.Value, is func(number) bool) *array {
	for _, a := range l.arrays[v] {
		if is(a.number()) {
			return a
		}
	}
	return nil
}

// lowLayout is the layout of everything that is not float32.
func lowLayout(dims int) onednn.Layout {
	if dims == 4 {
		return onednn.NHWC
	}
	return onednn.Rows
}

// read returns v as a kernel of our own reads it: as it was made if that is below
// float32, else in the given layout.
func (l *lowering) read(v plan.Value, layout onednn.Layout) (*array, error) {
	if made := l.arrays[v][0]; made.number().low() {
		return made, nil
	}
	return l.get(v, layout)
}

// getAs returns v for a layer that reads the number, rounding it if it is stored
// otherwise. Integers are read in whatever step they have.
func (l *lowering) getAs(v plan.Value, n number) (*array, error) {
	if a := l.stored(v, func(have number) bool { return have.typ == n.typ || have.typ.Integer() && n.typ.Integer() }); a != nil {
		return a, nil
	}
	layout := onednn.Rows
	if len(l.shape(v)) == 4 {
		layout = l.channelLayout(v)
	} else if floats := l.stored(v, func(have number) bool { return !have.low() }); floats != nil {
		layout = floats.Layout
	}
	src, err := l.read(v, layout)
	if err != nil {
		return nil, err
	}
	dst := l.createAs(v, lowLayout(len(l.shape(v))), n)
	return dst, l.copy(dst, src, l.moving(v, "quantise"))
}
