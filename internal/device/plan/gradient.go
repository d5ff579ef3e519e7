package plan

import (
	"fmt"
	"slices"

	"resdet/internal/nn"
)

// Kernels of gradients: those of package nn of the same names. A norm in the
// Affine of ConvInput or ConvWeight scales the output channels of the weight,
// as that of the convolution does: dy stands before the norm.
type (
	ConvInput    struct{ nn.ConvInput }    // dy; Affine's weight
	ConvWeight   struct{ nn.ConvWeight }   // x, dy
	ChannelSum   struct{}                  // dy
	LinearInput  struct{}                  // dy; Affine's weight
	LinearWeight struct{}                  // x, dy
	MaxPoolGrad  struct{ nn.MaxPoolGrad }  // x, dy
	UpsampleGrad struct{ nn.UpsampleGrad } // dy
	RoIAlignGrad struct{ nn.RoIAlignGrad } // rois, dy
	RoIPoolGrad  struct{ nn.RoIPoolGrad }  // features, rois, dy
	MeanGrad     struct{ nn.MeanGrad }     // dy
	Unflatten    struct{ nn.Unflatten }    // rows
)

func (ConvInput) kernel()    {}
func (ConvWeight) kernel()   {}
func (ChannelSum) kernel()   {}
func (LinearInput) kernel()  {}
func (LinearWeight) kernel() {}
func (MaxPoolGrad) kernel()  {}
func (UpsampleGrad) kernel() {}
func (RoIAlignGrad) kernel() {}
func (RoIPoolGrad) kernel()  {}
func (MeanGrad) kernel()     {}
func (Unflatten) kernel()    {}

// gradient fills s from a node of a gradient and returns the operands that are
// data.
func (p *planner) gradient(s *draft, n nn.Node) ([]nn.Value, error) {
	switch op := n.Op.(type) {
	case nn.ConvInput:
		s.Kernel = ConvInput{op}
		return n.In[:1], p.weights(&s.Step, n.In[1:])
	case nn.LinearInput:
		s.Kernel = LinearInput{}
		return n.In[:1], p.weights(&s.Step, n.In[1:])
	case nn.NormInput:
		norm, err := p.scale(op, n.In[1:])
		s.Kernel, s.Affine = Pointwise{}, Affine{Norm: norm, NoShift: true}
		return n.In[:1], err
	case nn.ReLUGrad:
		if s.Mask = p.value[n.In[1]]; s.Mask == None {
			return nil, fmt.Errorf("operand %s is a parameter", p.graph.Nodes[n.In[1]].Name)
		}
		s.Kernel = Pointwise{}
		return n.In[:1], nil
	case nn.ConvWeight:
		s.Kernel = ConvWeight{op}
	case nn.ChannelSum:
		s.Kernel = ChannelSum{}
	case nn.LinearWeight:
		s.Kernel = LinearWeight{}
	case nn.MaxPoolGrad:
		s.Kernel = MaxPoolGrad{op}
	case nn.UpsampleGrad:
		s.Kernel = UpsampleGrad{op}
	case nn.RoIAlignGrad:
		s.Kernel = RoIAlignGrad{op}
	case nn.RoIPoolGrad:
		s.Kernel = RoIPoolGrad{op}
	case nn.MeanGrad:
		s.Kernel = MeanGrad{op}
	case nn.Unflatten:
		s.Kernel = Unflatten{op}
	case nn.Mul:
		s.Kernel = Pointwise{Mul: true}
	default:
		return nil, fmt.Errorf("unknown operation")
	}
	return n.In, nil
}

// spreadSums lets every term of an output that is added to be added by the
// step that makes it: a weight that is used for several maps has no sum of its
// gradients in memory.
func (p *planner) spreadSums() {
	for i := range p.outputs {
		o := &p.outputs[i]
		if !p.arrays[o.Name] {
			continue
		}
		p.spread(o.Value, i)
		o.Value = None
	}
}

func (p *planner) spread(v Value, output int) {
	s := p.only(v)
	if s != nil && s.is("add") {
		s.dead = true
		for _, in := range s.In {
			p.spread(in, output)
		}
		return
	}
	if s != nil && s.Into < 0 {
		switch s.Kernel.(type) {
		case ConvWeight, LinearWeight, ChannelSum:
			s.Into = output
			return
		}
	}
	// The output's use of v becomes the sum's.
	last := p.steps[p.made[v]]
	c := newDraft(last.Name, "sum", Pointwise{}, v)
	c.Out, c.at, c.Part, c.Into = p.newValue(last.Name, p.values[v].Shape), last.at, last.Part, output
	p.uses[v]--
	p.add(c)
	p.uses[c.Out]++
}

// foldNormGradients takes the scale of a norm into the steps that read its
// gradient where those are the gradients of a convolution.
func (p *planner) foldNormGradients() {
	for _, s := range p.steps {
		if s.dead || !s.is("norm_input") {
			continue
		}
		readers := p.convGradients(s.Out)
		if readers == nil {
			continue
		}
		s.dead = true
		p.uses[s.In[0]]--
		for _, r := range readers {
			i := slices.Index(r.In, s.Out)
			r.In[i], r.Affine.Norm = s.In[0], s.Affine.Norm
			r.ops = append(slices.Clone(s.ops), r.ops...)
			p.uses[s.In[0]]++
		}
	}
}

// convGradients returns the readers of dy if they are all gradients of
// convolutions without a norm, else nil.
func (p *planner) convGradients(dy Value) []*draft {
	var readers []*draft
	for _, s := range p.steps {
		if s.dead || !slices.Contains(s.Reads(), dy) {
			continue
		}
		switch s.Kernel.(type) {
		case ConvInput:
		case ConvWeight:
			if s.In[0] == dy {
				return nil
			}
		default:
			return nil
		}
		if s.Affine.Norm != nil {
			return nil
		}
		readers = append(readers, s)
	}
	if len(readers) != p.uses[dy] { // an output reads it too
		return nil
	}
	return readers
}

// fuseMasks lets the step that makes a gradient leave it out where a ReLU does.
func (p *planner) fuseMasks() {
	for _, s := range p.steps {
		if s.dead || !s.is("relu_grad") {
			continue
		}
		x := p.only(s.In[0])
		if x == nil || x.Mask != None || x.Into >= 0 {
			continue
		}
		switch x.Kernel.(type) {
		case ConvInput, LinearInput, Pointwise, MaxPoolGrad:
			x.Mask = s.Mask
			p.fuse(x, s)
		}
	}
}
