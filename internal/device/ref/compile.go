package ref

import (
	"fmt"
	"slices"

	"resdet/internal/device"
	"resdet/internal/nn"
)

// compile makes a program of g. bound has the inputs that are given as kept
// outputs of other programs, by name, with their places, which this program's
// kept outputs will not overwrite.
func (e *engine[T]) compile(g *nn.Graph, source int, ask asker[T], bound map[string]place) (*program[T], error) {
	p := &program[T]{engine: e, graph: g, values: make([][]T, len(g.Nodes))}
	needed := reachable(g)
	for v := range g.Nodes {
		if !needed[v] {
			continue
		}
		k, err := e.kernelOf(g, nn.Value(v), source, ask, p.values)
		if err != nil {
			return nil, err
		}
		if k != nil {
			p.steps = append(p.steps, step[T]{kernel: k, info: describe(g, nn.Value(v))})
		}
	}
	base := 0 // of the kept outputs: past what is bound
	for i, v := range g.Inputs {
		b, ok := bound[g.InputName(i)]
		if !ok {
			p.values[v] = make([]T, g.Nodes[v].Shape.Len())
		}
		base = max(base, b.offset+b.size)
		p.inputs = append(p.inputs, p.values[v])
	}
	p.lay(needed, base)
	return p, nil
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

// kernelOf returns what computes node v; nil if there is nothing to compute.
// It sets the values of the parameters that kernels read as they are.
func (e *engine[T]) kernelOf(g *nn.Graph, v nn.Value, source int, ask asker[T], values [][]T) (kernel[T], error) {
	n := g.Nodes[v]
	switch op := n.Op.(type) {
	case nn.Input:
		return nil, nil
	case nn.Flatten:
		if computed(g, n.In[0]) { // a view
			return nil, nil
		}
		return newIdentity[T](n.In[0], v, n.Shape.Len()), nil
	case nn.Param:
		if !readPlain(g, v) {
			return nil, nil
		}
		data, err := e.plain(source, op, ask)
		values[v] = data
		return nil, err
	case nn.Conv, nn.Linear:
		param, ok := g.Nodes[n.In[1]].Op.(nn.Param)
		if !ok {
			return nil, fmt.Errorf("%s: the weight of a %v is no parameter", n.Name, op)
		}
		w, err := e.matrix(source, param, ask)
		if err != nil {
			return nil, err
		}
		return newConv(g, v, w), nil
	case nn.Norm:
		return newNorm[T](g, v), nil
	case nn.Add:
		return newAdd[T](g, v), nil
	case nn.ReLU:
		return newReLU[T](g, v), nil
	case nn.MaxPool:
		return newMaxPool[T](g, v), nil
	case nn.Upsample:
		return newUpsample[T](g, v), nil
	case nn.RoIAlign:
		return newRoIAlign[T](g, v), nil
	case nn.RoIPool:
		return newRoIPool[T](g, v), nil
	case nn.Mean:
		return newMean[T](g, v), nil
	}
	return nil, fmt.Errorf("%s: unknown operation %v", n.Name, n.Op)
}

// describe says what node v does.
func describe(g *nn.Graph, v nn.Value) device.Step {
	n := g.Nodes[v]
	s := device.Step{Name: n.Name, Op: n.Op.String(), Algorithm: "go", Layout: "nchw", Shape: n.Shape, FLOPs: g.FLOPs(v)}
	switch n.Op.(type) {
	case nn.Conv, nn.Linear:
		s.Algorithm = "gemm"
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
func (p *program[T]) lay(needed []bool, base int) {
	g := p.graph
	blocks := share(g, needed) // by value
	home := map[*block]int{}   // the output whose memory a block is
	for i, o := range g.Outputs {
		b := blocks[o.Value]
		if _, taken := home[b]; b == nil || taken { // not computed here, or handed out twice
			b = &block{size: g.Nodes[o.Value].Shape.Len()}
			p.copyOut(o)
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
	p.engine.reserve(arrange(shared), base)

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
func (p *program[T]) copyOut(o nn.Output) {
	shape := p.graph.Nodes[o.Value].Shape
	p.steps = append(p.steps, step[T]{
		kernel: newIdentity[T](o.Value, nn.Value(len(p.values)), shape.Len()),
		info:   device.Step{Name: o.Name, Op: "copy", Algorithm: "go", Layout: "nchw", Shape: shape},
	})
	p.values = append(p.values, nil)
}
