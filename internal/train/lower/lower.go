// Package lower is the bridge between networks as data (package nn) and
// gorgonia, which differentiates them.
//
//	nn.Graph ─New▶ gorgonia.ExprGraph: one node for each node, its op wrapped
//	                   + host operations (losses, sampling)
//	         ─Compile: gorgonia.Grad▶ the same with gradients
//	                   raise▶ one nn.Graph, forward and backward, in parts
//	                   device.CompileStep▶ Machine, a gorgonia.VM
//
// Kernels are the device's and so is fusion; gorgonia supplies the graph, the
// differentiation and the solvers' interface. Frozen layers have no gradient:
// gorgonia is told which inputs need one.
package lower

import (
	"fmt"

	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"resdet/internal/nd"
	"resdet/internal/nn"
)

// Net is a network as gorgonia's graph.
type Net struct {
	Graph *gorgonia.ExprGraph

	values    []*gorgonia.Node // by nn.Value
	leaves    map[*gorgonia.Node]leaf
	needs     map[*gorgonia.Node]bool // a gradient
	trainable []*gorgonia.Node
	outputs   map[string]*gorgonia.Node
	numerics  nn.Numerics // of the layers and their gradients
	applied   int         // operations so far: their numbers keep them apart
}

// leaf is what stands behind a node without an operation.
type leaf struct {
	name      string
	param     bool
	trainable bool
}

// Given makes the node that stands for an input of the network, from nodes
// that stand before it; nil leaves it an input of the step.
type Given func(net *Net, input string) (*gorgonia.Node, error)

// New lowers g. trainable says which parameters are learned; the others are
// fixed, and those of norms have to be. A layer's gradients are computed in its
// numbers.
func New(g *nn.Graph, trainable func(key string) bool, given Given) (*Net, error) {
	n := &Net{
		Graph:   gorgonia.NewGraph(),
		values:  make([]*gorgonia.Node, len(g.Nodes)),
		leaves:  map[*gorgonia.Node]leaf{},
		needs:   map[*gorgonia.Node]bool{},
		outputs: map[string]*gorgonia.Node{},

		numerics: g.Numerics,
	}
	outputs := map[nn.Value][]string{}
	for _, o := range g.Outputs {
		outputs[o.Value] = append(outputs[o.Value], o.Name)
	}
	for i, node := range g.Nodes {
		v, err := n.lower(g, node, trainable, given)
		if err != nil {
			return nil, fmt.Errorf("lower: %s: %w", node.Name, err)
		}
		n.values[i] = v
		for _, name := range outputs[nn.Value(i)] {
			n.outputs[name] = v
		}
	}
	return n, nil
}

func (n *Net) lower(g *nn.Graph, node nn.Node, trainable func(string) bool, given Given) (*gorgonia.Node, error) {
	switch op := node.Op.(type) {
	case nn.Input:
		v, err := given(n, node.Name)
		if err != nil || v != nil {
			return v, err
		}
		return n.leaf(node.Shape, leaf{name: node.Name}), nil
	case nn.Param:
		learned := trainable(op.Key)
		v := n.leaf(node.Shape, leaf{op.Key, true, learned})
		if learned {
			n.needs[v] = true
			n.trainable = append(n.trainable, v)
		}
		return v, nil
	}
	in := make([]*gorgonia.Node, len(node.In))
	for i, v := range node.In {
		in[i] = n.values[v]
	}
	return n.apply(node.Op, node.Name, true, in...)
}

func (n *Net) leaf(shape nd.Shape, l leaf) *gorgonia.Node {
	v := gorgonia.NewTensor(n.Graph, tensor.Float32, len(shape), gorgonia.WithShape(shape...), gorgonia.WithName(l.name))
	n.leaves[v] = l
	return v
}

// Output returns the node of an output of the network.
func (n *Net) Output(name string) (*gorgonia.Node, error) {
	v, ok := n.outputs[name]
	if !ok {
		return nil, fmt.Errorf("lower: the network has no output %q, or not yet", name)
	}
	return v, nil
}

// Trainable returns the nodes of the parameters that are learned.
func (n *Net) Trainable() []*gorgonia.Node { return n.trainable }

// apply adds an operation. Unless it is of the forward pass, nothing is
// differentiated through it.
func (n *Net) apply(op nn.Op, name string, forward bool, in ...*gorgonia.Node) (*gorgonia.Node, error) {
	o := &operation{net: n, op: op, name: name, number: n.number(), in: make([]int, len(in)), wrt: make([]bool, len(in))}
	shapes := make([]nd.Shape, len(in))
	needs := false
	for i, v := range in {
		shapes[i] = shapeOf(v)
		o.in[i] = len(shapes[i])
		if !forward || !n.needs[v] {
			continue
		}
		if !differentiable(op, i, len(in)) {
			return nil, fmt.Errorf("a %v has no gradient of its input %d, %s, which is to be learned", op, i, v.Name())
		}
		o.wrt[i], needs = true, true
	}
	shape, err := nn.Infer(op, shapes...)
	if err != nil {
		return nil, fmt.Errorf("%v: %w", op, err)
	}
	o.shape = shape.Clone()
	v, err := gorgonia.ApplyOpWithName(o, name, in...)
	if needs {
		n.needs[v] = true
	}
	return v, err
}

func (n *Net) number() int {
	n.applied++
	return n.applied
}

func shapeOf(v *gorgonia.Node) nd.Shape { return nd.Shape(v.Shape()) }
