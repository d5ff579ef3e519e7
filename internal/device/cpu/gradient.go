//go:build cgo && linux && amd64 && !noonednn

package cpu

import (
	"fmt"

	"resdet/internal/device/plan"
	"resdet/internal/nd"
	"resdet/internal/onednn"
)

// convOf describes the convolution x, w → y whose gradient a step is.
func convOf(x, w, y nd.Shape, stride, pad int, layout onednn.Layout) onednn.Conv {
	return onednn.Conv{N: x[0], C: x[1], H: x[2], W: x[3], OC: y[1], OH: y[2], OW: y[3], KH: w[2], KW: w[3],
		Stride: stride, Pad: pad, Src: layout, Dst: layout}
}

// convInput lowers the gradient of a convolution's input.
func (l *lowering) convInput(s *plan.Step, k plan.ConvInput) error {
	if inputOf(s.Numbers).low() {
		spec := convOf(l.shape(s.Out), s.Affine.Shape, l.shape(s.In[0]), k.Stride, k.Pad, onednn.NHWC)
		spec.Types = l.inputGradTypes(s)
		p, err := l.d.engine.NewConvGrad(spec, onednn.ToInput)
		if err != nil {
			return err
		}
		l.program.primitives = append(l.program.primitives, p)
		return l.inputGrad(s, p, spec.Dst, spec.Src)
	}
	spec := convOf(l.shape(s.Out), s.Affine.Shape, l.shape(s.In[0]), k.Stride, k.Pad, workLayout())
	// At stride 1 it is a convolution of dy with turned filters.
	back := spec
	back.C, back.H, back.W, back.OC, back.OH, back.OW = spec.OC, spec.OH, spec.OW, spec.C, spec.H, spec.W
	switch {
	case s.Weight == plan.None:
	case ownWinograd(back):
		return l.ownInput(s, "winograd", func(dx, dy *array) (*onednn.Kernel, *onednn.Kernel, int64) {
			return onednn.Winograd(l.d.threads, 0, nil, s.Sum != plan.None, false, false, dx.Array, dy.Array),
				onednn.WinogradRepack(spec.C, spec.OC, true), onednn.WinogradSize(spec.C, spec.OC)
		})
	case onednn.AVX512() && spec.KH == 1 && spec.KW == 1 && spec.Stride == 1 && spec.Pad == 0 && spec.C%32 == 0:
		return l.ownInput(s, "gemm", func(dx, dy *array) (*onednn.Kernel, *onednn.Kernel, int64) {
			return onednn.Gemm(l.d.threads, 1, nil, s.Sum != plan.None, false, dx.Array, dy.Array),
				onednn.GemmRepack(spec.C, spec.OC, true), onednn.GemmSize(spec.C, spec.OC, 1)
		})
	}
	p, err := l.d.engine.NewConvGrad(spec, onednn.ToInput)
	if err != nil {
		return err
	}
	l.program.primitives = append(l.program.primitives, p)
	return l.inputGrad(s, p, spec.Dst, spec.Src)
}

// ownInput lowers the gradient of a convolution's input with a kernel of our
// own, which adds and masks itself. kernels gives it and the one that packs its
// weights.
func (l *lowering) ownInput(s *plan.Step, algorithm string, kernels func(dx, dy *array) (conv, pack *onednn.Kernel, size int64)) error {
	dy, err := l.get(s.In[0], workLayout())
	if err != nil {
		return err
	}
	var mask, dx *array
	if s.Mask != plan.None {
		if mask, err = l.get(s.Mask, workLayout()); err != nil {
			return err
		}
	}
	if s.Sum != plan.None {
		sum, err := l.get(s.Sum, workLayout())
		if err != nil {
			return err
		}
		dx = l.define(s.Out, workLayout(), sum.buf)
	} else {
		dx = &array{onednn.Array{Shape: l.shape(s.Out), Layout: workLayout()}, nil}
	}
	conv, pack, size := kernels(dx, dy)
	weights, err := l.repack(s, algorithm+" turned", size, pack)
	if err != nil {
		return err
	}
	if s.Sum == plan.None {
		dx = l.create(s.Out, workLayout()) // not before the packing, which it outlives
	}
	o := op{kernel: conv, src: []*buf{dy.buf, weights}, dst: dx.buf, step: l.describe(s, algorithm, workLayout())}
	if s.Mask != plan.None {
		conv.Masked(2, mask.Array)
		o.src = append(o.src, mask.buf)
	}
	l.add(o, conv.ScratchSize())
	return nil
}

// linearInput lowers the gradient of a matrix product's input.
func (l *lowering) linearInput(s *plan.Step) error {
	w := s.Affine.Shape
	p, err := l.d.engine.NewLinearGrad(onednn.Linear{R: l.shape(s.In[0])[0], C: w[1], OC: w[0], Src: onednn.Rows, Types: l.inputGradTypes(s)}, onednn.ToInput)
	if err != nil {
		return err
	}
	l.program.primitives = append(l.program.primitives, p)
	return l.inputGrad(s, p, onednn.Rows, onednn.Rows)
}

// inputGradTypes are those of the gradient of a layer's input: it is written as
// it is stored, unless a kernel adds or masks after it.
func (l *lowering) inputGradTypes(s *plan.Step) onednn.Types {
	types := onednn.Types{Dst: inputOf(s.Numbers).typ}
	if s.Sum == plan.None && s.Mask == plan.None {
		types.Src = l.numbers[s.Out].typ
	}
	return types
}

// inputGrad appends a primitive that makes dx of dy, and what it cannot do
// itself: the sum and the mask.
func (l *lowering) inputGrad(s *plan.Step, p *onednn.Primitive, from, to onednn.Layout) error {
	dy, err := l.operand(s, s.In[0], from)
	if err != nil {
		return err
	}
	weights, err := l.weightsFor(s, p)
	if err != nil {
		return err
	}
	extra := s.Sum != plan.None || s.Mask != plan.None
	var dx *array
	if extra {
		dx = &array{onednn.Array{Shape: l.shape(s.Out), Layout: to}, l.room(to.Bytes(l.shape(s.Out)))}
	} else {
		dx = l.createAs(s.Out, to, l.numbers[s.Out])
	}
	l.add(op{conv: p, arg: convArgs{src: dx.buf, weights: weights, dst: dy.buf}, src: []*buf{dy.buf, weights}, dst: dx.buf,
		step: l.describeAs(s, algorithm(p.Impl()), dx)}, p.ScratchSize())
	if !extra {
		return nil
	}
	in := []*array{dx}
	var out *array
	if s.Sum != plan.None {
		sum, err := l.read(s.Sum, to)
		if err != nil {
			return err
		}
		in = append(in, sum)
		if sum.Layout == to && sum.number() == l.numbers[s.Out] {
			out = l.defineAs(s.Out, to, sum.number(), sum.buf)
		}
	}
	if out == nil {
		out = l.createAs(s.Out, to, l.numbers[s.Out])
	}
	kernel := onednn.Pointwise(out.Array, false, nil, nil, arraysOf(in)...)
	if s.Mask != plan.None {
		mask, err := l.read(s.Mask, to)
		if err != nil {
			return err
		}
		kernel.Masked(len(in), mask.Array)
		in = append(in, mask)
	}
	l.kernel(s, kernel, in, out)
	l.ops[len(l.ops)-1].step.FLOPs = 0
	return nil
}

// operand returns what a gradient multiplies: in the given layout, and below
// float32 in the only one.
func (l *lowering) operand(s *plan.Step, v plan.Value, layout onednn.Layout) (*array, error) {
	if n := inputOf(s.Numbers); n.low() {
		return l.getAs(v, n)
	}
	return l.get(v, layout)
}

// convWeight lowers the gradient of a convolution's weight.
func (l *lowering) convWeight(s *plan.Step, k plan.ConvWeight) error {
	spec := convOf(l.shape(s.In[0]), l.shape(s.Out), l.shape(s.In[1]), k.Stride, k.Pad, workLayout())
	switch {
	case inputOf(s.Numbers).low():
		spec.Src, spec.Dst, spec.Types = onednn.NHWC, onednn.NHWC, weightGradTypes(s)
		p, err := l.d.engine.NewConvGrad(spec, onednn.ToWeights)
		if err != nil {
			return err
		}
		l.program.primitives = append(l.program.primitives, p)
		return l.weightGrad(s, p, spec.Src, spec.Dst)
	case onednn.AVX512() && spec.C%16 == 0 && spec.KH == 1 && spec.KW == 1 && spec.Stride == 1 && spec.Pad == 0:
		return l.ownWeight(s, "outer", onednn.NChw16c, onednn.Outer)
	case winogradPays(spec) && spec.N*spec.H*spec.W >= 500:
		// The 36 sums of a weight are read and written whatever the size of the
		// map: on less than about 1,100 pixels that is more than is saved.
		return l.ownWeight(s, "winograd", workLayout(), onednn.WinogradGrad)
	}
	p, spec, err := l.newWeightGrad(spec)
	if err != nil {
		return err
	}
	l.program.primitives = append(l.program.primitives, p)
	return l.weightGrad(s, p, spec.Src, spec.Dst)
}

// weightGradTypes are those of the gradient of a layer's weight.
func weightGradTypes(s *plan.Step) onednn.Types {
	typ := inputOf(s.Numbers).typ
	return onednn.Types{Src: typ, Dst: typ}
}

// newWeightGrad compiles the gradient of a convolution's weight, and returns
// spec with the layouts that were chosen. Of the few channels of an image
// oneDNN has nothing but a plain loop nest, a thousand times slower, in most
// layouts.
func (l *lowering) newWeightGrad(spec onednn.Conv) (*onednn.Primitive, onednn.Conv, error) {
	tries := []onednn.Conv{spec}
	if spec.C < 16 {
		asItIs, both := spec, spec
		asItIs.Src = onednn.NCHW
		both.Src, both.Dst = onednn.NCHW, onednn.NCHW
		tries = []onednn.Conv{asItIs, both, spec}
	}
	for i, c := range tries {
		p, err := l.d.engine.NewConvGrad(c, onednn.ToWeights)
		switch {
		case i == len(tries)-1, err == nil && algorithm(p.Impl()) != "plain":
			return p, c, err
		case err == nil:
			p.Close()
		}
	}
	panic("unreachable: the last try returns")
}

// linearWeight lowers the gradient of a matrix product's weight.
func (l *lowering) linearWeight(s *plan.Step) error {
	x, w := l.shape(s.In[0]), l.shape(s.Out)
	if onednn.AVX512() && w[1]%16 == 0 && !inputOf(s.Numbers).low() {
		return l.ownWeight(s, "outer", onednn.CHWn16c, onednn.Outer)
	}
	p, err := l.d.engine.NewLinearGrad(onednn.Linear{R: x[0], C: w[1], OC: w[0], Src: onednn.Rows, Types: weightGradTypes(s)}, onednn.ToWeights)
	if err != nil {
		return err
	}
	l.program.primitives = append(l.program.primitives, p)
	return l.weightGrad(s, p, onednn.Rows, onednn.Rows)
}

// ownWeight lowers the gradient of a weight with a kernel of our own, which adds
// to row-major arrays.
func (l *lowering) ownWeight(s *plan.Step, algorithm string, layout onednn.Layout, kernel func(x, dy onednn.Array, scale *onednn.Block, add bool) *onednn.Kernel) error {
	x, err := l.get(s.In[0], layout)
	if err != nil {
		return err
	}
	dy, err := l.get(s.In[1], layout)
	if err != nil {
		return err
	}
	scale, err := l.normScale(s)
	if err != nil {
		return err
	}
	k := kernel(x.Array, dy.Array, scale, s.Into >= 0)
	l.add(op{kernel: k, src: []*buf{x.buf, dy.buf}, dst: l.into(s), step: l.describe(s, algorithm, layout)}, k.ScratchSize())
	return nil
}

// weightGrad appends a primitive that makes dw of x and dy, and adds it,
// row-major and times the norm's scale, to where it goes.
func (l *lowering) weightGrad(s *plan.Step, p *onednn.Primitive, xLayout, dyLayout onednn.Layout) error {
	x, err := l.operand(s, s.In[0], xLayout)
	if err != nil {
		return err
	}
	dy, err := l.operand(s, s.In[1], dyLayout)
	if err != nil {
		return err
	}
	dw := l.room(p.WeightsSize())
	l.add(op{conv: p, arg: convArgs{src: x.buf, weights: dw, dst: dy.buf}, src: []*buf{x.buf, dy.buf}, dst: dw,
		step: l.describe(s, algorithm(p.Impl()), dyLayout)}, p.ScratchSize())
	if !p.PlainWeights() {
		r, err := l.d.engine.NewWeightsReorder(p, true)
		if err != nil {
			return err
		}
		l.program.primitives = append(l.program.primitives, r)
		plain := l.room(4 * int64(l.shape(s.Out).Len()))
		step := l.packing(s, "row-major")
		step.Shape = l.shape(s.Out)
		l.add(op{reorder: r, src: []*buf{dw}, dst: plain, step: step}, r.ScratchSize())
		dw = plain
	}
	return l.sum(s, dw)
}

// sum brings the result of s, which is row-major, to where it goes: times the
// scale of its norm.
func (l *lowering) sum(s *plan.Step, from *buf) error {
	scale, err := l.normScale(s)
	if err != nil {
		return err
	}
	shape := l.shape(s.Out)
	kernel := onednn.ScaledSum(shape[0], shape[1:].Len(), scale, s.Into >= 0)
	step := l.describe(s, "vector", denseLayout(shape))
	step.FLOPs = 0
	l.add(op{kernel: kernel, src: []*buf{from}, dst: l.into(s), step: step}, 0)
	return nil
}

// into is where the result of s goes: the array that it is added to, or the
// value that it is.
func (l *lowering) into(s *plan.Step) *buf {
	if s.Into >= 0 {
		return fixed(l.shared[l.plan.Outputs[s.Into].Name].block)
	}
	return l.create(s.Out, denseLayout(l.shape(s.Out))).buf
}

// channelSum lowers the gradient of a bias.
func (l *lowering) channelSum(s *plan.Step) error {
	v := s.In[0]
	layout := onednn.Rows
	if len(l.shape(v)) == 4 {
		layout = l.channelLayout(v)
	}
	dy, err := l.get(v, layout)
	if err != nil {
		return err
	}
	l.add(op{kernel: onednn.ChannelSum(dy.Array, s.Into >= 0), src: []*buf{dy.buf}, dst: l.into(s), step: l.describe(s, "vector", onednn.Rows)}, 0)
	return nil
}

// regionsGrad lowers the gradients of pooled features.
func (l *lowering) regionsGrad(s *plan.Step) error {
	layout := workLayout()
	var in []*array
	for i, v := range s.In {
		want := layout
		if isRegions := len(l.shape(v)) == 2; isRegions {
			want = onednn.Rows
		} else if i == len(s.In)-1 {
			want = l.channelLayout(v)
		}
		a, err := l.get(v, want)
		if err != nil {
			return err
		}
		in = append(in, a)
	}
	out := l.create(s.Out, layout)
	dy := in[len(in)-1]
	var kernel *onednn.Kernel
	switch k := s.Kernel.(type) {
	case plan.RoIAlignGrad:
		if len(k.Scales) > onednn.MaxLevels {
			return fmt.Errorf("%d feature levels: at most %d", len(k.Scales), onednn.MaxLevels)
		}
		kernel = onednn.RoIAlignGrad(k.RoIAlignGrad, out.Array, dy.Array)
	case plan.RoIPoolGrad:
		if len(k.Scales) > onednn.MaxLevels {
			return fmt.Errorf("%d feature levels: at most %d", len(k.Scales), onednn.MaxLevels)
		}
		kernel = onednn.RoIPoolGrad(k.RoIPoolGrad, out.Array, in[0].Array, dy.Array)
	}
	l.kernel(s, kernel, in, out)
	return nil
}
