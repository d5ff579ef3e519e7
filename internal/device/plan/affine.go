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
		if bias, err = param(params, a.Bias, nd.Shape{a.channels()}); err != nil {
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

// Scale returns what every output channel is multiplied by, nil without a norm.
func (a Affine) Scale(params device.Params) ([]float32, error) {
	if a.Norm == nil {
		return nil, nil
	}
	n, err := a.Norm.load(params)
	if err != nil {
		return nil, err
	}
	scale := make([]float32, len(n.scale))
	for c, s := range n.scale {
		scale[c] = float32(s)
	}
	return scale, nil
}

// Weights returns the weight [O …] with the norm's scale in it. The result
// may be params' own memory: read it only.
func (a Affine) Weights(params device.Params) ([]float32, error) {
	w, err := param(params, a.Weight, a.Shape)
	if err != nil || a.Norm == nil {
		return w, err
	}
	scaled := make([]float32, len(w))
	return scaled, a.scale(scaled, w, params)
}

// WeightsInto is Weights into dst, which has the shape's number of elements.
func (a Affine) WeightsInto(dst []float32, params device.ParamsInto) error {
	if err := params.ParamInto(dst, a.Weight, a.Shape); err != nil || a.Norm == nil {
		return err
	}
	return a.scale(dst, dst, params)
}

// scale writes the weight w times the norm's scale to dst, which may be w.
func (a Affine) scale(dst, w []float32, params device.Params) error {
	n, err := a.Norm.load(params)
	if err != nil {
		return err
	}
	row := len(w) / a.Shape[0]
	for o, s := range n.scale {
		for i := o * row; i < (o+1)*row; i++ {
			dst[i] = float32(float64(w[i]) * s)
		}
	}
	return nil
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

func (a Affine) channels() int {
	if a.Weight != "" {
		return a.Shape[0]
	}
	return a.Norm.Channels
}

type normArrays struct {
	scale      []float64
	bias, mean []float32
}

func (n *Norm) load(params device.Params) (normArrays, error) {
	var arrays [4][]float32
	for i, key := range []string{n.Weight, n.Bias, n.Mean, n.Var} {
		var err error
		if arrays[i], err = param(params, key, nd.Shape{n.Channels}); err != nil {
			return normArrays{}, err
		}
	}
	scale := make([]float64, n.Channels)
	for c := range scale {
		scale[c] = float64(arrays[0][c]) / math.Sqrt(float64(arrays[3][c])+n.Eps)
	}
	return normArrays{scale, arrays[1], arrays[2]}, nil
}

// weights fills a from the operands weight and, if there is one, bias.
func (p *planner) weights(a *Affine, in []nn.Value) error {
	var keys [2]string
	for i, v := range in {
		param, ok := p.graph.Nodes[v].Op.(nn.Param)
		if !ok {
			return fmt.Errorf("operand %s is not a parameter", p.graph.Nodes[v].Name)
		}
		keys[i] = param.Key
	}
	a.Weight, a.Bias, a.Shape = keys[0], keys[1], p.graph.Nodes[in[0]].Shape
	return nil
}

func (p *planner) norm(op nn.Norm, in []nn.Value) (*Norm, error) {
	var keys [4]string
	for i, v := range in {
		param, ok := p.graph.Nodes[v].Op.(nn.Param)
		if !ok {
			return nil, fmt.Errorf("operand %s is not a parameter", p.graph.Nodes[v].Name)
		}
		keys[i] = param.Key
	}
	return &Norm{keys[0], keys[1], keys[2], keys[3], p.graph.Nodes[in[0]].Shape[0], op.Eps}, nil
}
