package resdet

import (
	"fmt"
	"math"
	"slices"

	"resdet/internal/device"
	"resdet/internal/nn"
)

// corrected gives a model's parameters with the biases of layers in int8 less
// what rounding their weights adds to their results on average (Nagel et al.
// 2019, section 4.2): of every output channel the sum over its weights of
// (rounded − weight)·mean, with the means of what the layer reads as calibration
// found them. It does to a device's parameters as the device's rounding does, so
// that a file serves weights of 8 bits and of 7.
type corrected struct {
	device.Params
	shifts map[string][]float32 // to be taken off, by key
}

func (c *corrected) Param(key string, shape Shape) ([]float32, error) {
	values, err := c.Params.Param(key, shape)
	if shift, ok := c.shifts[key]; ok && err == nil {
		values = slices.Clone(values)
		for i := range values {
			values[i] -= shift[i]
		}
	}
	return values, err
}

// ParamInto makes it a [device.ParamsInto].
func (c *corrected) ParamInto(dst []float32, key string, shape Shape) error {
	if into, ok := c.Params.(device.ParamsInto); ok && c.shifts[key] == nil {
		return into.ParamInto(dst, key, shape)
	}
	values, err := c.Param(key, shape)
	copy(dst, values)
	return err
}

// ParamHalf makes it a [device.ParamsHalf].
func (c *corrected) ParamHalf(key string, shape Shape, room func(bytes int) ([]byte, error)) ([]byte, error) {
	if half, ok := c.Params.(device.ParamsHalf); ok && c.shifts[key] == nil {
		return half.ParamHalf(key, shape, room)
	}
	return nil, nil
}

// correct returns the parameters for the given layers on dev.
func (c Config) correct(dev device.Device, params Params, layers nn.Numerics) (Params, error) {
	if c.Quantization == nil || len(c.Quantization.Means) == 0 {
		return params, nil
	}
	one, two, err := c.smallest()
	if err != nil {
		return nil, err
	}
	made := &corrected{params, map[string][]float32{}}
	for _, g := range []*nn.Graph{one, two} {
		for v := range g.Nodes {
			name := g.Layer(nn.Value(v))
			n, means := layers[name], c.Quantization.Means[name]
			if n.Precision != Int8 || means == nil {
				continue
			}
			if err := made.layer(g, nn.Value(v), means, dev.LargestWeight(g, nn.Value(v), n)); err != nil {
				return nil, fmt.Errorf("resdet: quantization: layer %q: %w", name, err)
			}
		}
	}
	return made, nil
}

// layer adds the shift of layer v, whose largest weights become largest.
func (c *corrected) layer(g *nn.Graph, v nn.Value, means []float32, largest float32) error {
	key, scale, err := c.bias(g, v)
	if err != nil || key == "" || c.shifts[key] != nil { // without a bias, or met before
		return err
	}
	weight := g.Nodes[g.Nodes[v].In[1]]
	if n := weight.Shape[1:].Len(); len(means) == 0 || n%len(means) != 0 {
		return fmt.Errorf("means of %d channels do not fit the weights %v", len(means), weight.Shape)
	}
	w, err := c.Params.Param(weight.Op.(nn.Param).Key, weight.Shape)
	if err != nil {
		return err
	}
	shift := roundingShift(w, weight.Shape[0], means, largest)
	for i := range shift {
		shift[i] *= scale[i]
	}
	c.shifts[key] = shift
	return nil
}

// bias returns the key of what is added to v's result, and by what the result is
// multiplied before: its own bias, or that of the norm after it.
func (c *corrected) bias(g *nn.Graph, v nn.Value) (key string, scale []float32, err error) {
	channels := g.Nodes[g.Nodes[v].In[1]].Shape[0]
	if in := g.Nodes[v].In; len(in) == 3 {
		return g.Nodes[in[2]].Op.(nn.Param).Key, slices.Repeat([]float32{1}, channels), nil
	}
	for _, n := range g.Nodes {
		norm, ok := n.Op.(nn.Norm)
		if !ok || n.In[0] != v {
			continue
		}
		param := func(i int) (string, []float32, error) {
			p := g.Nodes[n.In[i]]
			values, err := c.Params.Param(p.Op.(nn.Param).Key, p.Shape)
			return p.Op.(nn.Param).Key, values, err
		}
		_, gain, err := param(1)
		if err != nil {
			return "", nil, err
		}
		_, variance, err := param(4)
		if err != nil {
			return "", nil, err
		}
		scale = make([]float32, channels)
		for i := range scale {
			scale[i] = float32(float64(gain[i]) / math.Sqrt(float64(variance[i])+norm.Eps))
		}
		return g.Nodes[n.In[2]].Op.(nn.Param).Key, scale, nil
	}
	return "", nil, nil
}

// roundingShift returns of every row of weights Σ (rounded − weight)·mean, where
// the columns of a channel follow each other.
func roundingShift(w []float32, rows int, means []float32, largest float32) []float32 {
	shift := make([]float32, rows)
	n := len(w) / rows
	taps := n / len(means)
	for r := range shift {
		row := w[r*n:][:n]
		most := float32(0)
		for _, v := range row {
			most = max(most, v, -v)
		}
		if most == 0 {
			continue
		}
		step, inverse, sum := most/largest, largest/most, 0.0
		for c, mean := range means {
			off := float32(0)
			for _, v := range row[c*taps:][:taps] {
				off += nearest(v*inverse)*step - v
			}
			sum += float64(off) * float64(mean)
		}
		shift[r] = float32(sum)
	}
	return shift
}

// nearest rounds to an integer, halves to even: in float32 what is beyond the
// point falls off such a sum.
func nearest(v float32) float32 {
	const large = 0x1.8p23
	return float32(v+large) - large
}
