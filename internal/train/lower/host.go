package lower

import (
	"fmt"
	"hash"

	"github.com/chewxy/hm"
	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"resdet/internal/nd"
)

// Host is an operation that the host computes between the parts of a step, on
// dense arrays: what depends on the data, and the losses.
type Host struct {
	Name  string
	Shape nd.Shape // of the result; empty: a scalar
	// Do computes the result, whose memory is dirty.
	Do func(out []float32, in [][]float32) error
	// Grad returns the operations that compute the gradients of the inputs, each
	// of the shape of its input, from the inputs and then the gradient of the
	// result. nil: nothing is differentiated through it.
	Grad func(input int) Host
}

// Host adds a host operation on at least one node.
func (n *Net) Host(h Host, in ...*gorgonia.Node) (*gorgonia.Node, error) {
	o := &hostOperation{Host: h, net: n, number: n.number(), in: make([]int, len(in)), wrt: make([]bool, len(in))}
	needs := false
	for i, v := range in {
		o.in[i] = len(shapeOf(v))
		if h.Grad != nil && n.needs[v] {
			o.wrt[i], needs = true, true
		}
	}
	v, err := gorgonia.ApplyOpWithName(o, h.Name, in...)
	if err != nil {
		return nil, fmt.Errorf("lower: %s: %w", h.Name, err)
	}
	if needs {
		n.needs[v] = true
	}
	return v, nil
}

// hostOperation is a Host as a gorgonia.Op.
type hostOperation struct {
	Host
	net    *Net
	number int
	in     []int
	wrt    []bool
}

func (o *hostOperation) Arity() int    { return len(o.in) }
func (o *hostOperation) Type() hm.Type { return functionType(o.in, len(o.Shape)) }

func (o *hostOperation) InferShape(...gorgonia.DimSizer) (tensor.Shape, error) {
	if len(o.Shape) == 0 {
		return tensor.ScalarShape(), nil
	}
	return tensor.Shape(o.Shape.Clone()), nil
}

func (o *hostOperation) Do(in ...gorgonia.Value) (gorgonia.Value, error) {
	args := make([][]float32, len(in))
	for i, v := range in {
		switch x := v.Data().(type) {
		case []float32:
			args[i] = x
		case float32:
			args[i] = []float32{x}
		}
	}
	out := make([]float32, o.Shape.Len())
	if err := o.Host.Do(out, args); err != nil {
		return nil, err
	}
	if len(o.Shape) == 0 {
		return gorgonia.NewF32(out[0]), nil
	}
	return tensor.New(tensor.WithShape(o.Shape...), tensor.WithBacking(out)), nil
}

func (o *hostOperation) ReturnsPtr() bool     { return false }
func (o *hostOperation) CallsExtern() bool    { return false }
func (o *hostOperation) OverwritesInput() int { return -1 }

func (o *hostOperation) WriteHash(h hash.Hash) {
	fmt.Fprintf(h, "%d host %s %v %v", o.number, o.Name, o.wrt, o.Shape)
}

func (o *hostOperation) Hashcode() uint32 { return hashOf(o) }
func (o *hostOperation) String() string   { return o.Name }

// DiffWRT implements gorgonia.SDOp. It is never empty: gorgonia takes that for
// a mistake.
func (o *hostOperation) DiffWRT(int) []bool { return o.wrt }

// SymDiff implements gorgonia.SDOp.
func (o *hostOperation) SymDiff(in gorgonia.Nodes, _, dy *gorgonia.Node) (gorgonia.Nodes, error) {
	grads := make(gorgonia.Nodes, len(in))
	for i := range in {
		if !o.wrt[i] {
			continue
		}
		var err error
		if grads[i], err = o.net.Host(o.Grad(i), append(in[:len(in):len(in)], dy)...); err != nil {
			return nil, err
		}
	}
	return grads, nil
}
