// Package nn describes networks as data.
//
// A [Graph] is a list of nodes in the order of execution: each node applies
// one operation of a small closed set ([Op]) to earlier nodes and has a
// concrete shape. Model code (packages backbone, rpn, roihead) builds graphs
// with a [Builder] and does nothing else; devices compile them for inference
// (package device) and training lowers the same graph.
//
//	backbone, rpn, roihead ──Builder──▶ Graph ──Device.Compile──▶ Program
//
// Shape letters, here and in the whole project: N images, C channels, H W,
// A anchors per cell, L levels, R regions, K classes.
package nn

import (
	"fmt"

	"resdet/internal/nd"
)

// Value names the result of a node: its index in [Graph.Nodes].
type Value int

// Node is one operation applied to earlier values.
type Node struct {
	Name  string // where it stands in the model: "backbone.layer1.0.conv1"
	Op    Op
	In    []Value
	Shape nd.Shape // of the result
}

// Output is a value that the graph hands out.
type Output struct {
	Name  string
	Value Value
	// Kept outputs stay on the device, in whatever layout it likes, and are
	// only good as inputs of another program of the same device. The others
	// are read by the host as dense row-major arrays.
	Kept bool
}

// Graph is a network for one input shape. It is immutable once built.
type Graph struct {
	Nodes   []Node
	Inputs  []Value // of nodes with op Input, in order of declaration
	Outputs []Output
	// Numerics says which layers are computed below float32; see [Graph.With].
	Numerics Numerics
}

// Param is a learned array that a graph needs: its key in checkpoints
// (torchvision's detector names are ours) and its shape.
type ParamSpec struct {
	Key   string
	Shape nd.Shape
}

// Params lists the parameters of the graph, each once, in order of first use.
func (g *Graph) Params() []ParamSpec {
	var specs []ParamSpec
	for _, n := range g.Nodes {
		if p, ok := n.Op.(Param); ok {
			specs = append(specs, ParamSpec{p.Key, n.Shape})
		}
	}
	return specs
}

// InputName returns the name of the i-th input.
func (g *Graph) InputName(i int) string { return g.Nodes[g.Inputs[i]].Name }

// Parts returns the part of a run that each node belongs to: the latest that
// one of its inputs is given before. A training step has three: the host
// samples regions between the first and the second, and the losses' gradients
// are given before the third. The nodes of a graph with parts stand in their
// order; it is an error if they do not. Parameters and inputs, which are not
// computed, may stand anywhere.
func (g *Graph) Parts() ([]int, error) {
	parts := make([]int, len(g.Nodes))
	last := 0
	for v, n := range g.Nodes {
		switch op := n.Op.(type) {
		case Param:
			continue
		case Input:
			parts[v] = op.Part
			continue
		}
		for _, in := range n.In {
			parts[v] = max(parts[v], parts[in])
		}
		if parts[v] < last {
			return nil, &Error{n.Name, n.Op.String(), fmt.Errorf("of part %d stands after one of part %d", parts[v], last)}
		}
		last = parts[v]
	}
	return parts, nil
}

// FLOPs returns the floating-point operations of node v as the field counts
// them: two per multiply-add of convolutions and matrix products, 0 for the
// rest.
func (g *Graph) FLOPs(v Value) int64 {
	n := g.Nodes[v]
	switch n.Op.(type) {
	case Conv, Linear:
		w := g.Nodes[n.In[1]].Shape
		return 2 * int64(n.Shape.Len()) * int64(w[1:].Len())
	case ConvInput, LinearInput: // one for each element of dy and of a filter
		dy, w := g.Nodes[n.In[0]].Shape, g.Nodes[n.In[1]].Shape
		return 2 * int64(dy.Len()) * int64(w[1:].Len())
	case ConvWeight, LinearWeight:
		dy := g.Nodes[n.In[1]].Shape
		return 2 * int64(dy.Len()) * int64(n.Shape[1:].Len())
	}
	return 0
}

// Error is a mistake in the construction of a graph: which node, and what
// does not fit.
type Error struct {
	Node string // the node's name
	Op   string
	Err  error
}

func (e *Error) Error() string { return fmt.Sprintf("nn: %s: %s: %v", e.Node, e.Op, e.Err) }

func (e *Error) Unwrap() error { return e.Err }
