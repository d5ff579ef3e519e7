package nn

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// Precision is the kind of numbers that a layer multiplies. What goes between
// layers may be stored in any of them; sums, biases, norms and everything that
// is not a convolution or a matrix product are float32.
type Precision string

const (
	F32  Precision = "f32"  // float32
	BF16 Precision = "bf16" // operands rounded to bfloat16, float32 sums
	Int8 Precision = "int8" // operands rounded to 8-bit integers, exact sums
)

// Numbers says in what numbers a convolution or matrix product is computed. The
// zero value is float32.
//
// In int8 an input x becomes q = round(x/Scale), halves to even, limited to
// 0…255 or, if Signed, −128…127; the weights of each output channel become
// round(w·127/max|w|). The sum of their products, times both steps, is the
// result before the bias. A device may read q from where an earlier layer has
// stored the value in 8 bits with another step, and may use weights of 7 bits
// (64 in the place of 127) where sums of two products must fit 16 bits.
type Numbers struct {
	Precision Precision `json:"precision"`
	Scale     float32   `json:"scale,omitempty"`
	Signed    bool      `json:"signed,omitempty"`
}

// Numerics gives the numbers of layers by name: the key of their weights
// without ".weight". A layer that is not named computes in float32.
type Numerics map[string]Numbers

// Validate reports what is wrong with the numbers.
func (n Numbers) Validate() error {
	switch n.Precision {
	case "", F32, BF16:
		if n.Scale != 0 || n.Signed {
			return fmt.Errorf("nn: %s has no scale and no sign", n.Precision)
		}
	case Int8:
		if !(n.Scale > 0) || math.IsInf(float64(n.Scale), 0) || math.IsInf(float64(1/n.Scale), 0) {
			return fmt.Errorf("nn: int8: the scale %g is not a positive number", n.Scale)
		}
	default:
		return fmt.Errorf("nn: precision %q is none of %s, %s, %s", n.Precision, F32, BF16, Int8)
	}
	return nil
}

// With returns the same network with its layers computed in the given numbers.
func (g *Graph) With(n Numerics) *Graph {
	c := *g
	c.Numerics = n
	return &c
}

// Layer returns the name of the convolution or matrix product that v is, or
// whose gradient it is, "" if it is neither. The gradient of a weight does not
// have the weight among its operands: its node is named LAYER.dw.
func (g *Graph) Layer(v Value) string {
	n := g.Nodes[v]
	switch n.Op.(type) {
	case Conv, Linear, ConvInput, LinearInput:
		return strings.TrimSuffix(g.Nodes[n.In[1]].Name, ".weight")
	case ConvWeight, LinearWeight:
		return strings.TrimSuffix(n.Name, ".dw")
	}
	return ""
}

// learned reports whether v multiplies a weight that changes, or is of a
// gradient.
func (g *Graph) learned(v Value) bool {
	n := g.Nodes[v]
	switch n.Op.(type) {
	case Conv, Linear:
		_, fixed := g.Nodes[n.In[1]].Op.(Param)
		return !fixed
	}
	return g.Layer(v) != ""
}

// Numbers returns in what v is computed; of what is float32 it is the zero value.
// A gradient's operands, that of the result among them, are rounded as the
// layer's are.
func (g *Graph) Numbers(v Value) Numbers {
	n := g.Numerics[g.Layer(v)]
	if n.Precision == F32 {
		n.Precision = ""
	}
	return n
}

// CheckNumbers returns an *Error for the first layer whose numbers are not
// valid, not of one of the given precisions, or int8 in training.
func (g *Graph) CheckNumbers(has []Precision) error {
	for v, node := range g.Nodes {
		n := g.Numbers(Value(v))
		if n == (Numbers{}) {
			continue
		}
		err := n.Validate()
		if err == nil && !slices.Contains(has, n.Precision) {
			err = &PrecisionError{n.Precision, has}
		}
		if err == nil && n.Precision == Int8 && g.learned(Value(v)) {
			err = fmt.Errorf("in training nothing is computed in %s", Int8)
		}
		if err != nil {
			return &Error{node.Name, node.Op.String(), err}
		}
	}
	return nil
}

// PrecisionError says that a device does not have a precision.
type PrecisionError struct {
	Wanted Precision
	Has    []Precision
}

func (e *PrecisionError) Error() string {
	names := make([]string, len(e.Has))
	for i, p := range e.Has {
		names[i] = string(p)
	}
	return fmt.Sprintf("this CPU does not compute in %s: it has %s", e.Wanted, strings.Join(names, ", "))
}
