package lower

import (
	"context"
	"fmt"
	"hash"
	"hash/fnv"

	"github.com/chewxy/hm"
	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"resdet/internal/device/ref"
	"resdet/internal/nd"
	"resdet/internal/nn"
)

// operation is an nn.Op as a gorgonia.Op with a symbolic derivative.
type operation struct {
	net    *Net
	op     nn.Op
	name   string
	number int // gorgonia merges operations of one hash: no two have it
	in     []int
	wrt    []bool
	shape  nd.Shape
}

func (o *operation) Arity() int { return len(o.in) }

func (o *operation) Type() hm.Type { return functionType(o.in, len(o.shape)) }

// functionType is that of a function of arrays of these ranks.
func functionType(in []int, out int) hm.Type {
	types := make([]hm.Type, 0, len(in)+1)
	for _, dims := range append(in[:len(in):len(in)], out) {
		if dims == 0 {
			types = append(types, tensor.Float32)
		} else {
			types = append(types, gorgonia.TensorType{Dims: dims, Of: tensor.Float32})
		}
	}
	return hm.NewFnType(types...)
}

func (o *operation) InferShape(...gorgonia.DimSizer) (tensor.Shape, error) {
	return tensor.Shape(o.shape.Clone()), nil
}

// Do computes the operation alone, on the oracle: for gorgonia's own machines,
// which a test runs beside ours.
func (o *operation) Do(in ...gorgonia.Value) (gorgonia.Value, error) {
	inputs := map[string]*nd.Tensor[float32]{}
	g, err := nn.Build(func(b *nn.Builder) {
		args := make([]nn.Value, len(in))
		for i, v := range in {
			x := v.(*tensor.Dense)
			name := fmt.Sprint(i)
			inputs[name] = nd.Of(x.Data().([]float32), x.Shape()...)
			args[i] = b.Input(name, x.Shape()...)
		}
		b.Output("y", b.Apply(o.name, o.op, args...))
	})
	if err != nil {
		return nil, err
	}
	out, err := ref.Run(context.Background(), g, nil, inputs)
	if err != nil {
		return nil, err
	}
	y := out["y"]
	return tensor.New(tensor.WithShape(y.Shape...), tensor.WithBacking(y.Data)), nil
}

func (o *operation) ReturnsPtr() bool     { return false }
func (o *operation) CallsExtern() bool    { return false }
func (o *operation) OverwritesInput() int { return -1 }

func (o *operation) WriteHash(h hash.Hash) {
	fmt.Fprintf(h, "%d %v %+v %v %v", o.number, o.op, o.op, o.wrt, o.shape)
}

func (o *operation) Hashcode() uint32 { return hashOf(o) }

func hashOf(o interface{ WriteHash(hash.Hash) }) uint32 {
	h := fnv.New32a()
	o.WriteHash(h)
	return h.Sum32()
}

func (o *operation) String() string { return o.op.String() }

// DiffWRT implements gorgonia.SDOp.
func (o *operation) DiffWRT(int) []bool { return o.wrt }

// differentiable reports whether gradients lead to input i of op.
func differentiable(op nn.Op, i, inputs int) bool {
	switch op.(type) {
	case nn.Conv, nn.Linear, nn.Add:
		return true
	case nn.Norm, nn.ReLU, nn.MaxPool, nn.Upsample, nn.Mean, nn.Flatten, nn.Mul:
		return i == 0 // a norm's parameters are fixed, as is a dropout's mask
	case nn.RoIAlign, nn.RoIPool:
		return i < inputs-1 // not through the regions' coordinates
	}
	return false
}

// SymDiff implements gorgonia.SDOp: it returns the gradients of the inputs,
// nil for those that need none.
func (o *operation) SymDiff(in gorgonia.Nodes, y, dy *gorgonia.Node) (gorgonia.Nodes, error) {
	grads := make(gorgonia.Nodes, len(in))
	var err error
	set := func(i int, what string, op nn.Op, args ...*gorgonia.Node) {
		if o.wrt[i] && err == nil {
			grads[i], err = o.net.apply(op, o.name+"."+what, false, args...)
		}
	}
	x := shapeOf(in[0])
	switch op := o.op.(type) {
	case nn.Conv:
		w := shapeOf(in[1])
		set(1, "dw", nn.ConvWeight{Stride: op.Stride, Pad: op.Pad, KH: w[2], KW: w[3]}, in[0], dy)
		if len(in) == 3 {
			set(2, "db", nn.ChannelSum{}, dy)
		}
		set(0, "dx", nn.ConvInput{Stride: op.Stride, Pad: op.Pad, H: x[2], W: x[3]}, dy, in[1])
	case nn.Linear:
		set(1, "dw", nn.LinearWeight{}, in[0], dy)
		set(2, "db", nn.ChannelSum{}, dy)
		set(0, "dx", nn.LinearInput{}, dy, in[1])
	case nn.Norm:
		set(0, "dx", nn.NormInput{Eps: op.Eps}, dy, in[1], in[4])
	case nn.Add:
		for i := range in {
			if o.wrt[i] {
				grads[i] = dy
			}
		}
	case nn.ReLU:
		set(0, "dx", nn.ReLUGrad{}, dy, y)
	case nn.MaxPool:
		set(0, "dx", nn.MaxPoolGrad{MaxPool: op}, in[0], dy)
	case nn.Upsample:
		set(0, "dx", nn.UpsampleGrad{H: x[2], W: x[3]}, dy)
	case nn.Mean:
		set(0, "dx", nn.MeanGrad{H: x[2], W: x[3]}, dy)
	case nn.Flatten:
		set(0, "dx", nn.Unflatten{C: x[1], H: x[2], W: x[3]}, dy)
	case nn.Mul:
		set(0, "dx", nn.Mul{}, dy, in[1])
	case nn.RoIAlign:
		for level, f := range in[:len(in)-1] {
			s := shapeOf(f)
			set(level, fmt.Sprint("d", level), nn.RoIAlignGrad{RoIAlign: op, Level: level, Images: s[0], Rows: s[2], Columns: s[3]}, in[len(in)-1], dy)
		}
	case nn.RoIPool:
		for level, f := range in[:len(in)-1] {
			set(level, fmt.Sprint("d", level), nn.RoIPoolGrad{RoIPool: op, Level: level}, f, in[len(in)-1], dy)
		}
	default:
		return nil, fmt.Errorf("lower: %s: a %v has no gradient", o.name, o.op)
	}
	return grads, err
}
