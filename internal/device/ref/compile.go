package ref

import (
	"cmp"
	"fmt"
	"slices"

	"resdet/internal/device"
	"resdet/internal/nd"
	"resdet/internal/nn"
)

// binding says where the inputs and outputs of a graph lie that are not the
// program's own, by name.
type binding[T nd.Float] struct {
	// places are those of inputs that are kept outputs of other programs, which
	// this program's kept outputs will not overwrite.
	places map[string]place
	// arrays are inputs, and outputs that the program adds to.
	arrays map[string][]T
}

func (b binding[T]) has(name string) bool {
	_, place := b.places[name]
	_, array := b.arrays[name]
	return place || array
}

// compile makes a program of g.
func (e *engine[T]) compile(g *nn.Graph, source int, ask asker[T], bound binding[T]) (*program[T], error) {
	if err := g.CheckNumbers(precisions); err != nil {
		return nil, err
	}
	parts, err := g.Parts()
	if err != nil {
		return nil, err
	}
	p := &program[T]{engine: e, graph: g, values: make([][]T, len(g.Nodes)), parts: slices.Max(append(parts, 0)) + 1}
	needed := reachable(g)
	sums, err := p.sums(bound.arrays)
	if err != nil {
		return nil, err
	}
	for v := range g.Nodes {
		if !needed[v] {
			continue
		}
		kernels, err := p.kernelsOf(nn.Value(v), source, ask)
		if err != nil {
			return nil, err
		}
		for _, k := range kernels {
			p.steps = append(p.steps, step[T]{kernel: k, part: parts[v], info: describe(g, nn.Value(v))})
		}
		for _, to := range sums[nn.Value(v)] {
			p.steps = append(p.steps, step[T]{kernel: newSum(nn.Value(v), to), part: parts[v], info: describe(g, nn.Value(v))})
		}
	}
	base := 0 // of the kept outputs: past what is bound
	for i, v := range g.Inputs {
		b, kept := bound.places[g.InputName(i)]
		array, shared := bound.arrays[g.InputName(i)]
		switch {
		case shared:
			p.values[v] = array
		case !kept:
			p.values[v] = make([]T, g.Nodes[v].Shape.Len())
		}
		base = max(base, b.offset+b.size)
		p.inputs = append(p.inputs, p.values[v])
	}
	p.lay(needed, parts, base, bound.arrays)
	return p, nil
}

// sums returns the arrays that values of the graph are added to.
func (p *program[T]) sums(arrays map[string][]T) (map[nn.Value][][]T, error) {
	sums := map[nn.Value][][]T{}
	for _, o := range p.graph.Outputs {
		to, ok := arrays[o.Name]
		if !ok {
			continue
		}
		if !computed(p.graph, o.Value) {
			return nil, fmt.Errorf("output %q is added to an array but not computed", o.Name)
		}
		sums[o.Value] = append(sums[o.Value], to)
	}
	return sums, nil
}

// reachable tells which nodes the outputs depend on.
func reachable(g *nn.Graph) []bool {
	needed := make([]bool, len(g.Nodes))
	for _, o := range g.Outputs {
		needed[o.Value] = true
	}
	for v := len(g.Nodes) - 1; v >= 0; v-- {
		if needed[v] {
			for _, in := range g.Nodes[v].In {
				needed[in] = true
			}
		}
	}
	return needed
}

// kernelsOf returns what computes node v; none if there is nothing to
// compute. It sets the values of the parameters that kernels read as they are.
func (p *program[T]) kernelsOf(v nn.Value, source int, ask asker[T]) ([]kernel[T], error) {
	g := p.graph
	n := g.Nodes[v]
	one := func(k kernel[T]) ([]kernel[T], error) { return []kernel[T]{k}, nil }
	switch op := n.Op.(type) {
	case nn.Input:
		return nil, nil
	case nn.Flatten, nn.Unflatten:
		if computed(g, n.In[0]) { // a view
			return nil, nil
		}
		return one(newIdentity[T](n.In[0], v, n.Shape.Len()))
	case nn.Param:
		if !readPlain(g, v) {
			return nil, nil
		}
		data, err := p.engine.plain(source, op, ask)
		p.values[v] = data
		return nil, err
	case nn.Conv, nn.Linear:
		if param, ok := g.Nodes[n.In[1]].Op.(nn.Param); ok {
			numbers := g.Numbers(v)
			w, err := p.engine.matrix(source, param, numbers.Precision, ask)
			if err != nil {
				return nil, err
			}
			return one(newConv(g, v, w, numbers))
		}
		w := g.Nodes[n.In[1]].Shape
		left, numbers := p.left(w[0], w[1:].Len()), g.Numbers(v)
		return []kernel[T]{packMatrix(left, n.In[1], rounding[T](numbers)), newConv(g, v, left, numbers)}, nil
	case nn.ConvInput, nn.LinearInput:
		w := g.Nodes[n.In[1]].Shape
		window, round := w[2:].Len(), rounding[T](g.Numbers(v))
		left := p.left(w[1], w[0]*window)
		return []kernel[T]{packTransposed(left, n.In[1], window, round), newConvInput(g, v, left, round)}, nil
	case nn.ConvWeight, nn.LinearWeight:
		dy := g.Nodes[n.In[1]].Shape
		area, round := dy[2:].Len(), rounding[T](g.Numbers(v))
		left := p.left(dy[1], dy[0]*area)
		return []kernel[T]{packChannels(left, n.In[1], area, round), newConvWeight(g, v, left, round)}, nil
	case nn.ChannelSum:
		return one(newChannelSum[T](g, v))
	case nn.Norm:
		return one(newNorm[T](g, v))
	case nn.NormInput:
		return one(newNormInput[T](g, v))
	case nn.Add:
		return one(newAdd[T](g, v))
	case nn.Mul:
		return one(newMul[T](g, v))
	case nn.ReLU:
		return one(newReLU[T](g, v))
	case nn.ReLUGrad:
		return one(newReLUGrad[T](g, v))
	case nn.MaxPool:
		return one(newMaxPool[T](g, v))
	case nn.MaxPoolGrad:
		return one(newMaxPoolGrad[T](g, v))
	case nn.Upsample:
		return one(newUpsample[T](g, v))
	case nn.UpsampleGrad:
		return one(newUpsampleGrad[T](g, v))
	case nn.RoIAlign:
		return one(newRoIAlign[T](g, v))
	case nn.RoIAlignGrad:
		return one(newRoIAlignGrad[T](g, v))
	case nn.RoIPool:
		return one(newRoIPool[T](g, v))
	case nn.RoIPoolGrad:
		return one(newRoIPoolGrad[T](g, v))
	case nn.Mean:
		return one(newMean[T](g, v))
	case nn.MeanGrad:
		return one(newMeanGrad[T](g, v))
	}
	return nil, fmt.Errorf("%s: unknown operation %v", n.Name, n.Op)
}

// left returns room for the left factor of a product that is packed in every
// run, which all of them share.
func (p *program[T]) left(rows, cols int) *packed[T] {
	f := newPacked[T](rows, cols)
	p.lefts = append(p.lefts, f)
	return f
}

// describe says what node v does.
func describe(g *nn.Graph, v nn.Value) device.Step {
	n := g.Nodes[v]
	s := device.Step{Name: n.Name, Op: n.Op.String(), Algorithm: "go", Layout: "nchw", Shape: n.Shape, FLOPs: g.FLOPs(v)}
	switch n.Op.(type) {
	case nn.Conv, nn.Linear, nn.ConvInput, nn.LinearInput, nn.ConvWeight, nn.LinearWeight:
		s.Algorithm, s.Precision = "gemm", cmp.Or(g.Numbers(v).Precision, nn.F32)
	}
	return s
}

// computed reports whether v is neither an input nor a parameter.
func computed(g *nn.Graph, v nn.Value) bool {
	switch g.Nodes[v].Op.(type) {
	case nn.Input, nn.Param:
		return false
	}
	return true
}

// readPlain reports whether a parameter is used as anything but the weight of
// convolutions and linear layers, which have their own copy.
func readPlain(g *nn.Graph, v nn.Value) bool {
	for _, o := range g.Outputs {
		if o.Value == v {
			return true
		}
	}
	for _, n := range g.Nodes[v:] {
		for i, in := range n.In {
			if in != v {
				continue
			}
			switch n.Op.(type) {
			case nn.Conv, nn.Linear:
				if i == 1 {
					continue
				}
			}
			return true
		}
	}
	return false
}

// lay decides where the values lie. Outputs have memory of their own (kept
// ones in the slab from base on); everything else shares a slab and is
// overwritten as soon as it is no longer read.
func (p *program[T]) lay(needed []bool, parts []int, base int, arrays map[string][]T) {
	g := p.graph
	blocks := share(g, needed, func(o nn.Output) bool { return arrays[o.Name] != nil }) // by value
	home := map[*block]int{}                                                            // the output whose memory a block is
	for i, o := range g.Outputs {
		if arrays[o.Name] != nil {
			p.outputs, p.kept = append(p.outputs, nil), append(p.kept, place{})
			continue
		}
		b := blocks[o.Value]
		if _, taken := home[b]; b == nil || taken { // not computed here, or handed out twice
			b = &block{size: g.Nodes[o.Value].Shape.Len()}
			p.copyOut(o, parts[o.Value])
			blocks = append(blocks, b)
		}
		home[b] = i
		var host []T
		if o.Kept {
			b.offset = base
			base += b.size
		} else {
			host = make([]T, b.size)
		}
		p.outputs = append(p.outputs, host)
		p.kept = append(p.kept, place{kept: o.Kept, offset: b.offset, size: b.size})
	}

	var shared []*block
	for _, b := range blocks {
		if _, ok := home[b]; b != nil && !ok && !slices.Contains(shared, b) {
			shared = append(shared, b)
		}
	}
	largest := 0
	for _, f := range p.lefts {
		largest = max(largest, f.size())
	}
	p.engine.reserve(arrange(shared), base, largest)

	for v, b := range blocks {
		if b == nil {
			continue
		}
		output, ok := home[b]
		if ok && p.outputs[output] != nil {
			p.values[v] = p.outputs[output]
			continue
		}
		p.places = append(p.places, place{value: nn.Value(v), kept: ok, offset: b.offset, size: b.size})
	}
}

// copyOut adds a step that copies an output to memory of its own.
func (p *program[T]) copyOut(o nn.Output, part int) {
	shape := p.graph.Nodes[o.Value].Shape
	p.steps = append(p.steps, step[T]{
		part:   part,
		kernel: newIdentity[T](o.Value, nn.Value(len(p.values)), shape.Len()),
		info:   device.Step{Name: o.Name, Op: "copy", Algorithm: "go", Layout: "nchw", Shape: shape},
	})
	p.values = append(p.values, nil)
}
