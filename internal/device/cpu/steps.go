//go:build cgo && linux && amd64 && !noonednn

package cpu

import (
	"fmt"
	"slices"

	"resdet/internal/device"
	"resdet/internal/device/plan"
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
	case plan.Flatten:
		a, err := l.get(s.In[0], denseLayout(l.shape(s.In[0])))
		if err != nil {
			return err
		}
		l.define(s.Out, onednn.Rows, a.buf)
		return nil
	case plan.RoIAlign, plan.RoIPool:
		return l.regions(s)
	}

	// The rest goes channel by channel, in the layout that its inputs have.
	layout := onednn.Rows
	if len(l.shape(s.In[0])) == 4 {
		layout = l.channelLayout(s.In[0])
	}
	var in []*array
	for _, v := range s.In {
		a, err := l.get(v, layout)
		if err != nil {
			return err
		}
		in = append(in, a)
	}
	if _, ok := s.Kernel.(plan.Mean); ok {
		layout = l.rowsLayout(s.Out, onednn.Rows)
	}
	out := l.create(s.Out, layout)
	var kernel *onednn.Kernel
	switch k := s.Kernel.(type) {
	case plan.Pointwise:
		var scale, shift *onednn.Block
		var err error
		if s.Affine.Norm != nil {
			if scale, err = l.scaleOf(s.Affine); err != nil {
				return err
			}
			if shift, err = l.shiftOf(s.Affine); err != nil {
				return err
			}
		}
		kernel = onednn.Pointwise(out.Array, s.ReLU, scale, shift, arraysOf(in)...)
	case plan.MaxPool:
		kernel = onednn.MaxPool(k.MaxPool, out.Array, in[0].Array)
	case plan.Upsample:
		kernel = onednn.Upsample(out.Array, in[0].Array)
	case plan.Mean:
		kernel = onednn.Mean(out.Array, in[0].Array)
	default:
		return fmt.Errorf("unknown kernel %T", k)
	}
	l.kernel(s, kernel, in, out)
	return nil
}

func (l *lowering) regions(s *plan.Step) error {
	last := len(s.In) - 1
	if last > onednn.MaxLevels {
		return fmt.Errorf("%d feature levels: at most %d", last, onednn.MaxLevels)
	}
	layout := l.channelLayout(s.In[0])
	var in []*array
	for _, v := range s.In[:last] {
		a, err := l.get(v, layout)
		if err != nil {
			return err
		}
		in = append(in, a)
	}
	rois, err := l.get(s.In[last], onednn.Rows)
	if err != nil {
		return err
	}
	out := l.create(s.Out, l.rowsLayout(s.Out, layout))
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
	o := op{kernel: k, dst: out.buf, step: l.describe(s, "vector", out.Layout)}
	for _, a := range in {
		o.src = append(o.src, a.buf)
	}
	l.add(o, k.ScratchSize())
}

func (l *lowering) describe(s *plan.Step, algorithm string, layout onednn.Layout) device.Step {
	return device.Step{Name: s.Name, Op: s.Op, Algorithm: algorithm, Layout: layout.String(), Shape: l.shape(s.Out), FLOPs: s.FLOPs}
}

// conv lowers a convolution; see rule.go for what it chooses from.
func (l *lowering) conv(s *plan.Step, k plan.Conv) error {
	in, out, w := l.shape(s.In[0]), l.shape(s.Out), s.Affine.Shape
	spec := onednn.Conv{N: in[0], C: in[1], H: in[2], W: in[3], OC: out[1], OH: out[2], OW: out[3], KH: w[2], KW: w[3],
		Stride: k.Stride, Pad: k.Pad, Bias: s.Affine.HasShift(), Sum: s.Sum != plan.None, ReLU: s.ReLU}
	switch {
	case ownWinograd(spec):
		return l.winograd(s)
	case ownGemm(spec) && l.regional[s.In[0]]:
		return l.gemm(s, k.Stride)
	}
	primitive, spec, err := l.newConv(spec, l.arrays[s.In[0]])
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
	in, out := l.shape(s.In[0]), l.shape(s.Out)
	if onednn.AVX512() && (len(in) == 2 || in[1]%16 == 0) {
		return l.gemm(s, 1)
	}
	spec := onednn.Linear{R: in[0], C: in[1:].Len(), OC: out[1], Src: onednn.Rows, ReLU: s.ReLU}
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
	o := op{conv: primitive, src: []*buf{src.buf}, dst: dst.buf, step: l.describe(s, algorithm(primitive.Impl()), dst.Layout)}
	var err error
	if o.weights, err = l.weightsOf(s.Affine, primitive); err != nil {
		return err
	}
	if s.Affine.HasShift() {
		if o.bias, err = l.shiftOf(s.Affine); err != nil {
			return err
		}
	}
	l.add(o, primitive.ScratchSize())
	return nil
}
