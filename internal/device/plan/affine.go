package plan

import (
	"fmt"
	"math"

	"resdet/internal/device"
	"resdet/internal/nd"
	"resdet/internal/nn"
)

// Affine names the learned arrays of a step: a weight and what is added after
// it, with a batch normalisation folded into both. The zero value is none.
type Affine struct {
	Weight string   // key, "" without
	Shape  nd.Shape // of the weight
	Bias   string   // key, "" without
	Norm   *Norm
	// NoShift leaves what is added to another step, which has ShiftOnly.
	NoShift, ShiftOnly bool
}

// Norm names the arrays of a batch normalisation with fixed statistics.
type Norm struct {
	Weight, Bias, Mean, Var string
	Channels                int
	Eps                     float64
}

// Key identifies the arrays: steps with one key have the same weights.
func (a Affine) Key() string {
	key := fmt.Sprintf("%s\x00%s\x00%v%v", a.Weight, a.Bias, a.NoShift, a.ShiftOnly)
	if a.Norm != nil {
		key += fmt.Sprintf("\x00%s\x00%g", a.Norm.Weight, a.Norm.Eps)
	}
	return key
}

// HasShift reports whether something is added after the weight.
func (a Affine) HasShift() bool { return !a.NoShift && (a.Bias != "" || a.Norm != nil) }

// Shift returns what is added to every output channel, nil if nothing is:
// the bias, or (bias − mean)·scale + the norm's bias.
func (a Affine) Shift(params device.Params) ([]float32, error) {
	if !a.HasShift() {
		return nil, nil
	}
	var bias []float32
	if a.Bias != "" {
		var err error
		if bias, err = param(params, a.Bias, nd.Shape{a.Channels()}); err != nil {
			return nil, err
		}
	}
	if a.Norm == nil {
		return append([]float32(nil), bias...), nil
	}
	n, err := a.Norm.load(params)
	if err != nil {
		return nil, err
	}
	shift := make([]float32, a.Norm.Channels)
	for c := range shift {
		x := -float64(n.mean[c])
		if bias != nil {
			x += float64(bias[c])
		}
		shift[c] = float32(x*n.scale[c] + float64(n.bias[c]))
	}
	return shift, nil
}

// Scale returns what every output channel of the weight is multiplied by, nil
// without a norm: weight/√(variance+eps), in double precision as it is rounded
// only once, in the product.
func (a Affine) Scale(params device.Params) ([]float64, error) {
	if a.Norm == nil {
		return nil, nil
	}
	return a.Norm.scale(params)
}

// Weights returns the weight [O …] as it is, to be multiplied by [Affine.Scale].
// It may be params' own memory: read it only.
func (a Affine) Weights(params device.Params) ([]float32, error) {
	return param(params, a.Weight, a.Shape)
}

// param gets an array and holds its length against its shape: Params may be
// anybody's.
func param(params device.Params, key string, shape nd.Shape) ([]float32, error) {
	if params == nil {
		return nil, fmt.Errorf("parameter %q is wanted, but no parameters were given", key)
	}
	v, err := params.Param(key, shape)
	if err == nil && len(v) != shape.Len() {
		err = fmt.Errorf("parameter %q has %d elements, its shape %v has %d", key, len(v), shape, shape.Len())
	}
	return v, err
}

// Channels returns the number of output channels.
func (a Affine) Channels() int {
	if len(a.Shape) > 0 {
		return a.Shape[0]
	}
	return a.Norm.Channels
}

type normArrays struct {
	scale      []float64
	bias, mean []float32
}

func (n *Norm) load(params device.Params) (normArrays, error) {
	scale, err := n.scale(params)
	if err != nil {
		return normArrays{}, err
	}
	arrays, err := n.arrays(params, n.Bias, n.Mean)
	return normArrays{scale, arrays[0], arrays[1]}, err
}

// scale is weight/√(variance+eps).
func (n *Norm) scale(params device.Params) ([]float64, error) {
	arrays, err := n.arrays(params, n.Weight, n.Var)
	if err != nil {
		return nil, err
	}
	scale := make([]float64, n.Channels)
	for c := range scale {
		scale[c] = float64(arrays[0][c]) / math.Sqrt(float64(arrays[1][c])+n.Eps)
	}
	return scale, nil
}

func (n *Norm) arrays(params device.Params, keys ...string) (arrays [2][]float32, err error) {
	for i, key := range keys {
		if arrays[i], err = param(params, key, nd.Shape{n.Channels}); err != nil {
			break
		}
	}
	return arrays, err
}

// weights fills s from the operands weight and, if there is one, bias.
func (p *planner) weights(s *Step, in []nn.Value) error {
	s.Affine.Shape = p.graph.Nodes[in[0]].Shape
	for i, v := range in {
		key, value := &s.Affine.Weight, &s.Weight
		if i == 1 {
			key, value = &s.Affine.Bias, &s.Bias
		}
		switch op := p.graph.Nodes[v].Op.(type) {
		case nn.Param:
			*key = op.Key
			continue
		case nn.Input:
			if p.arrays[p.graph.Nodes[v].Name] {
				*value = p.value[v]
				continue
			}
		}
		return fmt.Errorf("operand %s is not a parameter", p.graph.Nodes[v].Name)
	}
	return nil
}

func (p *planner) norm(op nn.Norm, in []nn.Value) (*Norm, error) {
	n := &Norm{Channels: p.graph.Nodes[in[0]].Shape[0], Eps: op.Eps}
	return n, p.keys(in, &n.Weight, &n.Bias, &n.Mean, &n.Var)
}

// scale names the arrays of a norm's gradient, which has neither bias nor mean.
func (p *planner) scale(op nn.NormInput, in []nn.Value) (*Norm, error) {
	n := &Norm{Channels: p.graph.Nodes[in[0]].Shape[0], Eps: op.Eps}
	return n, p.keys(in, &n.Weight, &n.Var)
}

// keys names the parameters in.
func (p *planner) keys(in []nn.Value, keys ...*string) error {
	for i, v := range in {
		param, ok := p.graph.Nodes[v].Op.(nn.Param)
		if !ok {
			return fmt.Errorf("operand %s is not a parameter", p.graph.Nodes[v].Name)
		}
		*keys[i] = param.Key
	}
	return nil
}
