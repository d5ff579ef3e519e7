//go:build cgo && linux && amd64 && !noonednn

package cpu

import (
	"cmp"
	"fmt"
	"slices"

	"resdet/internal/device"
	"resdet/internal/device/plan"
	"resdet/internal/nn"
	"resdet/internal/onednn"
)

// step lowers one step of the plan.
func (l *lowering) step(s *plan.Step) error {
	if slices.Contains(l.fused, s) {
		return nil
	}
	switch s.Kernel.(type) {
	case plan.RoIAlign, plan.RoIPool:
		l.regional[s.Out] = true
	default:
		l.regional[s.Out] = l.regional[s.In[0]]
	}
	switch k := s.Kernel.(type) {
	case plan.Conv:
		return l.conv(s, k)
	case plan.Linear:
		return l.linear(s)
	case plan.Flatten, plan.Unflatten:
		return l.reshape(s)
	case plan.RoIAlign, plan.RoIPool:
		return l.regions(s)
	case plan.ConvInput:
		return l.convInput(s, k)
	case plan.ConvWeight:
		return l.convWeight(s, k)
	case plan.LinearInput:
		return l.linearInput(s)
	case plan.LinearWeight:
		return l.linearWeight(s)
	case plan.ChannelSum:
		return l.channelSum(s)
	case plan.RoIAlignGrad, plan.RoIPoolGrad:
		return l.regionsGrad(s)
	}
	if s.Into >= 0 {
		a, err := l.get(s.In[0], denseLayout(l.shape(s.In[0])))
		if err != nil {
			return err
		}
		return l.sum(s, a.buf)
	}
	return l.channels(s)
}

// reshape makes rows of maps or maps of rows. Between the blocked layouts a
// kernel of our own copies; row-major both are the same.
func (l *lowering) reshape(s *plan.Step) error {
	from, to := denseLayout(l.shape(s.In[0])), denseLayout(l.shape(s.Out))
	maps, rows := l.shape(s.In[0]), l.shape(s.Out)
	_, flatten := s.Kernel.(plan.Flatten)
	if !flatten {
		maps, rows = rows, maps
	}
	own := onednn.AVX512() && len(maps) == 4 && maps[1]%16 == 0
	if own && flatten {
		from, to = onednn.NChw16c, onednn.CHWn16c
	} else if own {
		from, to = onednn.CHWn16c, onednn.NChw16c
	}
	in, err := l.get(s.In[0], from)
	if err != nil {
		return err
	}
	if !own {
		l.define(s.Out, to, in.buf)
		return nil
	}
	out := l.create(s.Out, to)
	kernel := onednn.Flatten(out.Array, in.Array)
	if !flatten {
		kernel = onednn.Unflatten(out.Array, in.Array)
	}
	l.kernel(s, kernel, []*array{in}, out)
	return nil
}

// channels lowers what goes channel by channel, in the layout that its inputs
// have.
func (l *lowering) channels(s *plan.Step) error {
	layout := onednn.Rows
	if len(l.shape(s.In[0])) == 4 {
		layout = l.channelLayout(s.In[0])
	}
	var in []*array
	reads := s.In
	if s.Mask != plan.None {
		reads = append(slices.Clip(reads), s.Mask)
	}
	read := l.read
	switch s.Kernel.(type) {
	case plan.MaxPoolGrad, plan.UpsampleGrad, plan.MeanGrad: // read floats alone
		read = l.get
	}
	for _, v := range reads {
		a, err := read(v, layout)
		if err != nil {
			return err
		}
		in = append(in, a)
	}
	switch s.Kernel.(type) {
	case plan.Mean:
		layout = l.rowsLayout(s.Out, onednn.Rows)
	case plan.MeanGrad:
		layout = workLayout()
	}
	stored := l.numberFor(s)
	if stored.low() {
		layout = lowLayout(len(l.shape(s.Out)))
	}
	out := l.createAs(s.Out, layout, stored)
	kernel, err := l.channelKernel(s, out, in[:len(s.In)])
	if err != nil {
		return err
	}
	if s.Mask != plan.None {
		kernel.Masked(len(s.In), in[len(s.In)].Array)
	}
	l.kernel(s, kernel, in, out)
	return nil
}

func (l *lowering) channelKernel(s *plan.Step, out *array, in []*array) (*onednn.Kernel, error) {
	switch k := s.Kernel.(type) {
	case plan.Pointwise:
		if k.Mul {
			return onednn.Product(out.Array, arraysOf(in)...), nil
		}
		var scale, shift *onednn.Block
		var err error
		if s.Affine.Norm != nil {
			if scale, err = l.scaleOf(s.Affine); err != nil {
				return nil, err
			}
		}
		if s.Affine.HasShift() {
			if shift, err = l.shiftOf(s.Affine); err != nil {
				return nil, err
			}
		}
		return onednn.Pointwise(out.Array, s.ReLU, scale, shift, arraysOf(in)...), nil
	case plan.MaxPool:
		return onednn.MaxPool(k.MaxPool, out.Array, in[0].Array), nil
	case plan.Upsample:
		return onednn.Upsample(out.Array, in[0].Array), nil
	case plan.Mean:
		return onednn.Mean(out.Array, in[0].Array), nil
	case plan.MaxPoolGrad:
		return onednn.MaxPoolGrad(k.MaxPool, out.Array, in[0].Array, in[1].Array), nil
	case plan.UpsampleGrad:
		return onednn.UpsampleGrad(out.Array, in[0].Array), nil
	case plan.MeanGrad:
		return onednn.MeanGrad(out.Array, in[0].Array), nil
	}
	return nil, fmt.Errorf("unknown kernel %T", s.Kernel)
}

func (l *lowering) regions(s *plan.Step) error {
	last := len(s.In) - 1
	if last > onednn.MaxLevels {
		return fmt.Errorf("%d feature levels: at most %d", last, onednn.MaxLevels)
	}
	layout := l.channelLayout(s.In[0])
	var in []*array
	for _, v := range s.In[:last] {
		a, err := l.read(v, layout)
		if err != nil {
			return err
		}
		in = append(in, a)
	}
	rois, err := l.get(s.In[last], onednn.Rows)
	if err != nil {
		return err
	}
	stored := l.numbers[s.Out]
	if stored.low() {
		layout = onednn.NHWC
	} else {
		layout = l.rowsLayout(s.Out, layout)
	}
	out := l.createAs(s.Out, layout, stored)
	var kernel *onednn.Kernel
	switch k := s.Kernel.(type) {
	case plan.RoIAlign:
		var shift *onednn.Block
		if s.Affine.HasShift() {
			if shift, err = l.shiftOf(s.Affine); err != nil {
				return err
			}
		}
		kernel = onednn.RoIAlign(k.RoIAlign, k.Every, shift, s.ReLU, out.Array, arraysOf(in)...)
	case plan.RoIPool:
		kernel = onednn.RoIPool(k.RoIPool, out.Array, arraysOf(in)...)
	}
	l.kernel(s, kernel, append(in, rois), out)
	return nil
}

func arraysOf(in []*array) []onednn.Array {
	out := make([]onednn.Array, len(in))
	for i, a := range in {
		out[i] = a.Array
	}
	return out
}

// kernel appends a kernel of our own.
func (l *lowering) kernel(s *plan.Step, k *onednn.Kernel, in []*array, out *array) {
	o := op{kernel: k, dst: out.buf, step: l.describeAs(s, "vector", out)}
	for _, a := range in {
		o.src = append(o.src, a.buf)
	}
	l.add(o, k.ScratchSize())
}

func (l *lowering) describe(s *plan.Step, algorithm string, layout onednn.Layout) device.Step {
	step := device.Step{Name: s.Name, Op: s.Op, Algorithm: algorithm, Layout: layout.String(), Shape: l.shape(s.Out), FLOPs: s.FLOPs}
	if s.FLOPs > 0 {
		step.Precision = cmp.Or(s.Numbers.Precision, nn.F32)
	}
	return step
}

func (l *lowering) describeAs(s *plan.Step, algorithm string, out *array) device.Step {
	step := l.describe(s, algorithm, out.Layout)
	step.Layout = out.storage()
	return step
}

// storage names the array's layout and what its elements are.
func (a *array) storage() string {
	if a.number().low() {
		return a.Layout.String() + " " + a.Type.String()
	}
	return a.Layout.String()
}

// conv lowers a convolution; see rule.go for what it chooses from.
func (l *lowering) conv(s *plan.Step, k plan.Conv) error {
	if inputOf(s.Numbers).low() {
		return l.lowConv(s, k)
	}
	in, out, w := l.shape(s.In[0]), l.shape(s.Out), s.Affine.Shape
	spec := onednn.Conv{N: in[0], C: in[1], H: in[2], W: in[3], OC: out[1], OH: out[2], OW: out[3], KH: w[2], KW: w[3],
		Stride: k.Stride, Pad: k.Pad, Bias: hasShift(s), Sum: s.Sum != plan.None, ReLU: s.ReLU}
	trial := l.choose(s, spec)
	first := len(l.ops)
	err := l.convBy(s, spec, trial.Algorithm)
	for i := first; i < len(l.ops); i++ {
		if l.ops[i].step.FLOPs > 0 { // not a reorder of what it reads
			l.ops[i].step.Trial = trial
		}
	}
	return err
}

// convBy lowers a convolution by the algorithm of that name.
func (l *lowering) convBy(s *plan.Step, spec onednn.Conv, name string) error {
	for _, block := range winogradBlocks {
		if name == winogradName(block) {
			return l.winograd(s, block)
		}
	}
	switch {
	case name == ownProducts && ownStrided(spec):
		return l.strided(s, spec)
	case name == ownProducts:
		return l.gemm(s, spec.Stride)
	}
	primitive, spec, err := l.newConv(spec, name == libraryWinograd, l.arrays[s.In[0]])
	if err != nil {
		return err
	}
	src, err := l.get(s.In[0], spec.Src)
	if err != nil {
		return err
	}
	var dst *array
	if s.Sum == plan.None {
		dst = l.create(s.Out, spec.Dst)
	} else {
		sum, err := l.get(s.Sum, spec.Dst)
		if err != nil {
			return err
		}
		dst = l.define(s.Out, spec.Dst, sum.buf)
	}
	return l.withWeights(s, primitive, src, dst)
}

// linear lowers a matrix product. A four-dimensional source is read in the
// layout that it has: only the weights' columns are packed in another order.
func (l *lowering) linear(s *plan.Step) error {
	if inputOf(s.Numbers).low() {
		return l.lowLinear(s)
	}
	in, out := l.shape(s.In[0]), l.shape(s.Out)
	if onednn.AVX512() && s.Weight == plan.None && (len(in) == 2 || in[1]%16 == 0) {
		return l.gemm(s, 1)
	}
	spec := onednn.Linear{R: in[0], C: in[1:].Len(), OC: out[1], Src: onednn.Rows, ReLU: s.ReLU, Plain: s.Weight != plan.None}
	var src *array
	var err error
	if len(in) == 4 && in[1]%16 == 0 {
		if src, err = l.get(s.In[0], l.channelLayout(s.In[0])); err != nil {
			return err
		}
		spec.C, spec.H, spec.W, spec.Src = in[1], in[2], in[3], src.Layout
	} else if src, err = l.get(s.In[0], denseLayout(in)); err != nil {
		return err
	}
	primitive, err := l.d.engine.NewLinear(spec)
	if err != nil {
		return err
	}
	l.program.primitives = append(l.program.primitives, primitive)
	return l.withWeights(s, primitive, src, l.create(s.Out, onednn.Rows))
}

// withWeights appends a convolution or matrix product.
func (l *lowering) withWeights(s *plan.Step, primitive *onednn.Primitive, src, dst *array) error {
	weights, err := l.weightsFor(s, primitive)
	if err != nil {
		return err
	}
	arg := convArgs{src: src.buf, weights: weights, dst: dst.buf}
	shift, err := l.shiftFor(s)
	if err != nil {
		return err
	}
	if shift != nil {
		arg.bias = fixed(shift)
	}
	l.add(op{conv: primitive, arg: arg, src: []*buf{src.buf, weights}, dst: dst.buf, step: l.describe(s, algorithm(primitive.Impl()), dst.Layout)}, primitive.ScratchSize())
	return nil
}
