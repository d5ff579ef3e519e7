package nn

import (
	"fmt"
	"strings"

	"resdet/internal/nd"
)

// Builder adds nodes to a graph. Mistakes (shapes that do not fit) are bugs of
// model code or impossible configurations: methods panic with an *Error,
// which [Build] returns.
type Builder struct {
	graph  Graph
	scope  []string
	params map[string]Value
}

// Build runs model code and returns the graph that it described, or an *Error.
func Build(model func(b *Builder)) (g *Graph, err error) {
	defer func() {
		switch e := recover().(type) {
		case nil:
		case *Error:
			g, err = nil, e
		default:
			panic(e)
		}
	}()
	b := &Builder{params: map[string]Value{}}
	model(b)
	return &b.graph, nil
}

// Scope runs model code with name added to the path of every node and
// parameter that it declares.
func (b *Builder) Scope(name string, model func()) {
	b.scope = append(b.scope, name)
	model()
	b.scope = b.scope[:len(b.scope)-1]
}

// Shape returns the shape of v.
func (b *Builder) Shape(v Value) nd.Shape { return b.graph.Nodes[v].Shape }

// Input declares a value that is given at every run.
func (b *Builder) Input(name string, shape ...int) Value { return b.InputBefore(0, name, shape...) }

// InputBefore declares a value that is given before the part of a run.
func (b *Builder) InputBefore(part int, name string, shape ...int) Value {
	v := b.add(name, Input{shape, part})
	b.graph.Inputs = append(b.graph.Inputs, v)
	return v
}

// Output hands v out to the host.
func (b *Builder) Output(name string, v Value) {
	b.graph.Outputs = append(b.graph.Outputs, Output{Name: name, Value: v})
}

// Keep hands v out as a value that stays on the device.
func (b *Builder) Keep(name string, v Value) {
	b.graph.Outputs = append(b.graph.Outputs, Output{Name: name, Value: v, Kept: true})
}

// Param declares a learned array; the same key twice is the same array.
func (b *Builder) Param(name string, shape ...int) Value {
	key := b.path(name)
	if v, ok := b.params[key]; ok {
		if !b.Shape(v).Equal(shape) {
			panic(&Error{key, "param", fmt.Errorf("declared as %v and as %v", b.Shape(v), nd.Shape(shape))})
		}
		return v
	}
	v := b.add(name, Param{key, shape})
	b.params[key] = v
	return v
}

// Conv declares a convolution without bias: name.weight [out C kernel kernel].
func (b *Builder) Conv(name string, x Value, out, kernel, stride, pad int) Value {
	w := b.convWeight(name, x, out, kernel)
	return b.add(name, Conv{stride, pad}, x, w)
}

// ConvBias declares a convolution with name.weight and name.bias.
func (b *Builder) ConvBias(name string, x Value, out, kernel, stride, pad int) Value {
	w := b.convWeight(name, x, out, kernel)
	return b.add(name, Conv{stride, pad}, x, w, b.Param(name+".bias", out))
}

func (b *Builder) convWeight(name string, x Value, out, kernel int) Value {
	s := b.Shape(x)
	if len(s) != 4 {
		panic(&Error{b.path(name), "conv", fmt.Errorf("input %v is not [N C H W]", s)})
	}
	return b.Param(name+".weight", out, s[1], kernel, kernel)
}

// Norm declares batch normalisation with fixed statistics: name.weight,
// name.bias, name.running_mean and name.running_var.
func (b *Builder) Norm(name string, x Value, eps float64) Value {
	c := b.Shape(x)[1]
	return b.add(name, Norm{eps}, x, b.Param(name+".weight", c), b.Param(name+".bias", c),
		b.Param(name+".running_mean", c), b.Param(name+".running_var", c))
}

// Linear declares a matrix product with name.weight [out C] and name.bias.
func (b *Builder) Linear(name string, x Value, out int) Value {
	s := b.Shape(x)
	if len(s) != 2 {
		panic(&Error{b.path(name), "linear", fmt.Errorf("input %v is not [R C]", s)})
	}
	return b.add(name, Linear{}, x, b.Param(name+".weight", out, s[1]), b.Param(name+".bias", out))
}

// Add returns x + y.
func (b *Builder) Add(x, y Value) Value { return b.add("add", Add{}, x, y) }

// ReLU returns max(x, 0).
func (b *Builder) ReLU(x Value) Value { return b.add("relu", ReLU{}, x) }

// MaxPool declares a max pooling.
func (b *Builder) MaxPool(name string, x Value, op MaxPool) Value { return b.add(name, op, x) }

// Upsample repeats the pixels of x to the height and width of like.
func (b *Builder) Upsample(x, like Value) Value {
	s := b.Shape(like)
	return b.add("upsample", Upsample{s[2], s[3]}, x)
}

// RoIAlign pools rois from the levels of features.
func (b *Builder) RoIAlign(op RoIAlign, features []Value, rois Value) Value {
	return b.add("roialign", op, append(append([]Value(nil), features...), rois)...)
}

// RoIPool pools rois from the levels of features.
func (b *Builder) RoIPool(op RoIPool, features []Value, rois Value) Value {
	return b.add("roipool", op, append(append([]Value(nil), features...), rois)...)
}

// Mean averages x over height and width.
func (b *Builder) Mean(x Value) Value { return b.add("mean", Mean{}, x) }

// Flatten turns [R C H W] into rows.
func (b *Builder) Flatten(x Value) Value { return b.add("flatten", Flatten{}, x) }

// Apply declares any operation on values; those of gradients have no method of
// their own.
func (b *Builder) Apply(name string, op Op, in ...Value) Value { return b.add(name, op, in...) }

func (b *Builder) add(name string, op Op, in ...Value) Value {
	shapes := make([]nd.Shape, len(in))
	for i, v := range in {
		shapes[i] = b.Shape(v)
	}
	shape, err := op.infer(shapes)
	if err != nil {
		panic(&Error{b.path(name), op.String(), err})
	}
	b.graph.Nodes = append(b.graph.Nodes, Node{b.path(name), op, in, shape.Clone()})
	return Value(len(b.graph.Nodes) - 1)
}

func (b *Builder) path(name string) string {
	return strings.Join(append(b.scope[:len(b.scope):len(b.scope)], name), ".")
}
