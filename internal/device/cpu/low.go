//go:build cgo && linux && amd64 && !noonednn

package cpu

import (
	"fmt"
	"os"

	"resdet/internal/device/plan"
	"resdet/internal/nd"
	"resdet/internal/nn"
	"resdet/internal/onednn"
)

// Layers below float32, by oneDNN: bias, sum, ReLU and the rounding of the result
// to what the next layer reads are part of the kernel. An int8 layer's sums are
//
//	dst = relu(scale[c]·(Σ x·w + bias[c]) + scale·sum)
//
// with scale[c] = step(x)·step(w[c])/step(dst), and the bias in steps too.

// precisions lists what the CPU computes in, as ONEDNN_MAX_CPU_ISA allows. With
// 512-bit vectors the library can emulate bf16 on CPUs without, below float32's
// speed: only where a test or a measurement of what is lost asks for it by
// RESDET_EMULATE_BF16=1.
func precisions() []nn.Precision {
	p := []nn.Precision{nn.F32}
	if onednn.BF16() || onednn.AVX512() && os.Getenv("RESDET_EMULATE_BF16") == "1" {
		p = append(p, nn.BF16)
	}
	if onednn.AVX2() {
		p = append(p, nn.Int8)
	}
	return p
}

// Pays is false of 3×3 convolutions where Winograd's in float32 take less time and
// lose nothing: 0.7 of int8's on CPUs without VNNI, 0.6 of bf16's on those without
// AMX (VGG-16's on Zen 5).
func (d *Device) Pays(p nn.Precision, g *nn.Graph, v nn.Value) bool {
	conv, ok := g.Nodes[v].Op.(nn.Conv)
	if !ok || p == nn.Int8 && onednn.VNNI() || p == nn.BF16 && onednn.AMX() {
		return true
	}
	in, out, w := g.Nodes[g.Nodes[v].In[0]].Shape, g.Nodes[v].Shape, g.Nodes[g.Nodes[v].In[1]].Shape
	return !ownWinograd(convOf(in, w, out, conv.Stride, conv.Pad, workLayout()))
}

// largestWeight is what the largest weight of a channel becomes. Without VNNI two
// products are added in 16 bits: 2·255·64 fits, 2·255·127 does not; in
// convolutions of signed inputs the library sees to that itself.
func largestWeight(weight nd.Shape, src onednn.Type) float32 {
	if onednn.VNNI() || src == onednn.Sint8 && len(weight) == 4 {
		return 127
	}
	return 64
}

// LargestWeight is largestWeight of a layer that reads what it is told to.
func (d *Device) LargestWeight(g *nn.Graph, v nn.Value, n nn.Numbers) float32 {
	return largestWeight(g.Nodes[g.Nodes[v].In[1]].Shape, inputOf(n).typ)
}

func (l *lowering) lowConv(s *plan.Step, k plan.Conv) error {
	in, out, w := l.shape(s.In[0]), l.shape(s.Out), s.Affine.Shape
	src, dst, types, err := l.lowOperands(s)
	if err != nil {
		return err
	}
	primitive, err := l.d.engine.NewConv(onednn.Conv{N: in[0], C: in[1], H: in[2], W: in[3], OC: out[1], OH: out[2], OW: out[3], KH: w[2], KW: w[3],
		Stride: k.Stride, Pad: k.Pad, Src: onednn.NHWC, Dst: onednn.NHWC, Types: types, Bias: hasShift(s), Sum: s.Sum != plan.None, ReLU: s.ReLU})
	if err != nil {
		return err
	}
	return l.lowStep(s, primitive, src, dst)
}

func (l *lowering) lowLinear(s *plan.Step) error {
	in, out := l.shape(s.In[0]), l.shape(s.Out)
	src, dst, types, err := l.lowOperands(s)
	if err != nil {
		return err
	}
	spec := onednn.Linear{R: in[0], C: in[1], OC: out[1], Src: src.Layout, Types: types, ReLU: s.ReLU}
	if len(in) == 4 {
		spec.H, spec.W = in[2], in[3]
	}
	primitive, err := l.d.engine.NewLinear(spec)
	if err != nil {
		return err
	}
	return l.lowStep(s, primitive, src, dst)
}

// lowOperands returns what a layer reads and writes.
func (l *lowering) lowOperands(s *plan.Step) (src, dst *array, types onednn.Types, err error) {
	if src, err = l.getAs(s.In[0], inputOf(s.Numbers)); err != nil {
		return nil, nil, types, err
	}
	layout, stored := lowLayout(len(l.shape(s.Out))), l.numbers[s.Out]
	types = onednn.Types{Src: src.Type, Dst: stored.typ, Sum: stored.typ, SumScale: 1}
	if s.Sum == plan.None {
		dst = l.createAs(s.Out, layout, stored)
	} else if dst, err = l.lowSum(s, layout, stored, &types); err != nil {
		return nil, nil, types, err
	}
	if !src.Type.Integer() {
		return src, dst, types, nil
	}
	steps, err := l.weightSteps(s.Affine, src.Type)
	if err != nil {
		return nil, nil, types, err
	}
	types.Scales = make([]float32, s.Affine.Channels())
	for c := range types.Scales {
		types.Scales[c] = src.Step * steps[c]
		if stored.low() {
			types.Scales[c] /= stored.step
		}
	}
	return src, dst, types, nil
}

// lowSum returns where a layer adds to what lies there, and says in types what
// that is.
func (l *lowering) lowSum(s *plan.Step, layout onednn.Layout, stored number, types *onednn.Types) (*array, error) {
	isFloat := func(n number) bool { return !n.low() }
	switch {
	case stored.low():
		sum, err := l.getAs(s.Sum, sumOf(stored))
		if err != nil {
			return nil, err
		}
		if stored.typ.Integer() {
			types.Sum, types.SumScale = sum.Type, sum.Step/stored.step
		}
		return l.defineAs(s.Out, layout, stored, sum.buf), nil
	case l.stored(s.Sum, isFloat) == nil:
		dst := l.createAs(s.Out, layout, stored)
		return dst, l.copy(dst, l.arrays[s.Sum][0], l.moving(s.Sum, "widen"))
	}
	sum, err := l.get(s.Sum, layout)
	if err != nil {
		return nil, err
	}
	return l.defineAs(s.Out, layout, stored, sum.buf), nil
}

// lowStep appends a layer.
func (l *lowering) lowStep(s *plan.Step, primitive *onednn.Primitive, src, dst *array) error {
	l.program.primitives = append(l.program.primitives, primitive)
	weights, shift, err := l.lowLearned(s, primitive, src)
	if err != nil {
		return err
	}
	arg := convArgs{src: src.buf, weights: weights, dst: dst.buf}
	if shift != nil {
		arg.bias = fixed(shift)
	}
	l.add(op{conv: primitive, arg: arg, src: []*buf{src.buf, weights}, dst: dst.buf, step: l.describeAs(s, algorithm(primitive.Impl()), dst)}, primitive.ScratchSize())
	return nil
}

// lowLearned returns a layer's weights, and what it adds or nil.
func (l *lowering) lowLearned(s *plan.Step, primitive *onednn.Primitive, src *array) (weights *buf, shift *onednn.Block, err error) {
	if !src.Type.Integer() {
		if weights, err = l.weightsFor(s, primitive); err == nil {
			shift, err = l.shiftFor(s)
		}
		return weights, shift, err
	}
	integers, err := l.integersOf(s.Affine, primitive, src.Type)
	if err != nil {
		return nil, nil, err
	}
	if s.Affine.HasShift() {
		shift, err = l.lowShift(s.Affine, src)
	}
	return fixed(integers), shift, err
}

// weightSteps returns what one stands for in each channel of a's integers.
func (l *lowering) weightSteps(a plan.Affine, src onednn.Type) ([]float32, error) {
	largest := largestWeight(a.Shape, src)
	b, err := l.perChannel(a, fmt.Sprint("steps ", largest), func() ([]float32, error) {
		w, err := l.sourceOf(a)
		if err != nil {
			return nil, err
		}
		return w.Steps(a.Shape[0], a.Shape[1:].Len(), largest)
	})
	if err != nil {
		return nil, err
	}
	return b.Floats(), nil
}

// integersOf returns a's weights as 8-bit integers.
func (l *lowering) integersOf(a plan.Affine, p *onednn.Primitive, src onednn.Type) (*onednn.Block, error) {
	return l.packed(a, p.WeightsLayout(), p.WeightsSize(), func(b *onednn.Block) error {
		w, err := l.sourceOf(a)
		if err != nil {
			return err
		}
		return l.d.engine.Pack8(p, w, largestWeight(a.Shape, src), l.stageIntegers, b)
	})
}

// stageIntegers is stage for integers, in memory of their own.
func (l *lowering) stageIntegers(n int) ([]byte, error) {
	if err := l.integers.grow(int64(n)); err != nil {
		return nil, err
	}
	return l.integers.block.Bytes()[:n], nil
}

// lowShift returns what a layer of integers adds, in steps of their products.
func (l *lowering) lowShift(a plan.Affine, src *array) (*onednn.Block, error) {
	steps, err := l.weightSteps(a, src.Type)
	if err != nil {
		return nil, err
	}
	return l.perChannel(a, fmt.Sprint("shift in steps of ", src.Type, src.Step), func() ([]float32, error) {
		shift, err := a.Shift(l.params)
		for c := range shift {
			shift[c] /= src.Step * steps[c]
		}
		return shift, err
	})
}
