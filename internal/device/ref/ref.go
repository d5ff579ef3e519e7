// Package ref is the device in plain Go: the oracle that the others are
// compared with, and what runs where no native library is.
//
//	nn.Graph ─compile─▶ program: one kernel per node, memory placed ─run─▶ outputs
//	                        │ each kernel falls into tasks
//	                        └──▶ team of goroutines, each with its own scratch
//
// Kernels are generic over the element type: devices run in float32, oracles
// in float64. Every result is a fixed sequence of operations on its own
// elements, so that it does not depend on the number of threads. Nothing is
// fused: each kernel is the definition of its operation in package nn.
package ref

import (
	"context"
	"fmt"
	"runtime"

	"resdet/internal/nd"
	"resdet/internal/nn"
)

// Run computes the outputs of g once, all of them (kept ones too), as dense
// arrays by name. Params are by key, inputs by name; both are only read. It
// fails if one is missing or has another shape, and with ctx.Err() when
// cancelled between nodes.
func Run[T nd.Float](ctx context.Context, g *nn.Graph, params, inputs map[string]*nd.Tensor[T]) (map[string]*nd.Tensor[T], error) {
	host := *g // the same graph with every output readable
	host.Outputs = make([]nn.Output, len(g.Outputs))
	for i, o := range g.Outputs {
		host.Outputs[i] = nn.Output{Name: o.Name, Value: o.Value}
	}
	e := newEngine[T](runtime.GOMAXPROCS(0))
	p, err := e.compile(&host, 0, func(key string, shape nd.Shape) ([]T, error) {
		return lookup(params, "parameter", key, shape)
	}, binding[T]{})
	if err != nil {
		return nil, fmt.Errorf("ref: %w", err)
	}
	for i, v := range g.Inputs {
		x, err := lookup(inputs, "input", g.InputName(i), g.Nodes[v].Shape)
		if err != nil {
			return nil, fmt.Errorf("ref: %w", err)
		}
		copy(p.inputs[i], x)
	}
	if err := p.run(ctx); err != nil {
		return nil, err
	}
	out := make(map[string]*nd.Tensor[T], len(g.Outputs))
	for i, o := range g.Outputs {
		out[o.Name] = nd.Of(p.outputs[i], g.Nodes[o.Value].Shape...)
	}
	return out, nil
}

func lookup[T nd.Float](m map[string]*nd.Tensor[T], what, name string, shape nd.Shape) ([]T, error) {
	t, ok := m[name]
	if !ok {
		return nil, fmt.Errorf("%s %q is missing", what, name)
	}
	if !t.Shape.Equal(shape) {
		return nil, fmt.Errorf("%s %q has shape %v, the network wants %v", what, name, t.Shape, shape)
	}
	return t.Data, nil
}
