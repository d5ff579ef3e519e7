package resdet

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"resdet/internal/device"
	"resdet/internal/nn"
)

// Precision is the kind of numbers that layers multiply.
type Precision = nn.Precision

const (
	F32  = nn.F32  // float32
	BF16 = nn.BF16 // operands rounded to bfloat16, float32 sums
	Int8 = nn.Int8 // 8-bit integers, of a quantised model; see [Quantization]
	// Auto is BF16 where the CPU has matrix units for it (AMX), else F32.
	Auto Precision = "auto"
)

// PrecisionError says that a CPU does not compute in a precision, and in which it
// does.
type PrecisionError = nn.PrecisionError

// Numbers says in what numbers one layer computes.
type Numbers = nn.Numbers

// Quantization is what calibration found for a model: how each of its layers
// computes in int8. Weights stay as they are in the file, and are rounded when
// they are prepared for the machine, so that the model still runs in f32.
type Quantization struct {
	// Method is how the scales were chosen, Data on which images, and Images on
	// how many of them; for people.
	Method string `json:"method"`
	Data   string `json:"data,omitempty"`
	Images int    `json:"images"`
	// Layers gives the numbers by layer, the key of its weights without
	// ".weight"; those that it leaves out stay in f32.
	Layers map[string]Numbers `json:"layers"`
	// Means are those of the channels that the layers read, by layer, for
	// correcting what rounding of the weights shifts; layers without are not.
	Means map[string][]float32 `json:"means,omitempty"`
}

func (q *Quantization) validate() error {
	if q == nil {
		return nil
	}
	for name, n := range q.Layers {
		if err := n.Validate(); err != nil {
			return fmt.Errorf("resdet: quantization: layer %q: %w", name, err)
		}
	}
	return nil
}

// ErrNotQuantised is returned (wrapped) where a model is to run in int8 that
// has not been calibrated for it.
var ErrNotQuantised = errors.New("the model is not quantised")

// numerics returns what a network computes in on dev, and the layers that
// compute below float32.
func (c Config) numerics(dev device.Device, opt Options) (Precision, nn.Numerics, error) {
	wanted := opt.Precision
	switch wanted {
	case "":
		wanted = F32
	case Auto:
		wanted = dev.Auto()
	}
	if !slices.Contains(dev.Precisions(), wanted) {
		return "", nil, fmt.Errorf("resdet: %w", &nn.PrecisionError{Wanted: wanted, Has: dev.Precisions()})
	}
	switch wanted {
	case BF16:
		strides, err := c.LayerStrides()
		if err != nil {
			return "", nil, err
		}
		layers := nn.Numerics{}
		for name, stride := range strides {
			if opt.EveryLayer || stride == 0 || stride >= bf16Stride {
				layers[name] = Numbers{Precision: BF16}
			}
		}
		if !opt.EveryLayer {
			layers, err = c.paying(dev, layers)
		}
		return wanted, layers, err
	case Int8:
		if c.Quantization == nil {
			return "", nil, fmt.Errorf("resdet: int8: %w: make one that is with resdet quantize --model FILE --data … --out FILE", ErrNotQuantised)
		}
		may, err := c.Layers()
		if err != nil {
			return "", nil, err
		}
		for name := range c.Quantization.Layers {
			if !slices.Contains(may, name) {
				return "", nil, fmt.Errorf("resdet: quantization: %q is no layer of the model that may be below f32", name)
			}
		}
		layers := maps.Clone(nn.Numerics(c.Quantization.Layers))
		if !slices.Contains(dev.Precisions(), BF16) { // what is only not in int8 is in float32 here
			maps.DeleteFunc(layers, func(_ string, n Numbers) bool { return n.Precision == BF16 })
		}
		if !opt.EveryLayer {
			layers, err = c.paying(dev, layers)
		}
		return wanted, layers, err
	}
	return wanted, nil, nil
}

// paying takes out of layers those that are faster on dev in f32, and returns it.
func (c Config) paying(dev device.Device, layers nn.Numerics) (nn.Numerics, error) {
	one, two, err := c.smallest()
	if err != nil {
		return nil, err
	}
	for _, g := range []*nn.Graph{one, two} {
		for v := range g.Nodes {
			name := g.Layer(nn.Value(v))
			if n, ok := layers[name]; ok && !dev.Pays(n.Precision, g, nn.Value(v)) {
				delete(layers, name)
			}
		}
	}
	return layers, nil
}

// Layers lists the layers that may be computed below float32, by the key of
// their weights without ".weight", in order of use: all but the one that reads
// the image and those whose results leave the network, the logits and the
// deltas.
func (c Config) Layers() ([]string, error) {
	one, two, err := c.smallest()
	if err != nil {
		return nil, err
	}
	return append(reducible(one), reducible(two)...), nil
}

// bf16Stride is the stride of feature maps, in pixels, from which on they are
// computed in bf16 without more than one strong detection in a hundred being lost.
// What is rounded in finer maps reaches everything that is computed from them, and
// where they are signals on top of a large mean, as behind the first convolution of
// a residual network, more of the signal is rounded away. Of 1,730 strong detections
// of the built-in model the first stage in bf16, at 4 pixels, loses 35, the next
// two, at 8 and 16, lose 9 and 13, and the layers of regions 2; it has none at 32.
const bf16Stride = 32

// LayerStrides returns of each of [Config.Layers] how many pixels of the image the
// elements of the finest map are apart that it makes; 0 for layers of regions.
func (c Config) LayerStrides() (map[string]int, error) {
	one, two, err := c.smallest()
	if err != nil {
		return nil, err
	}
	strides := map[string]int{}
	for _, name := range reducible(two) {
		strides[name] = 0
	}
	names := reducible(one)
	for v, n := range one.Nodes {
		name := one.Layer(nn.Value(v))
		if !slices.Contains(names, name) {
			continue
		}
		stride := smallSide / n.Shape[2]
		if finest, ok := strides[name]; !ok || stride < finest {
			strides[name] = stride
		}
	}
	return strides, nil
}

// LayerFLOPs returns the floating-point operations (two per multiply-add) of each
// of [Config.Layers] in one image of height×width pixels, as it enters the
// network, with so many regions.
func (c Config) LayerFLOPs(height, width, regions int) (map[string]int64, error) {
	one, err := c.stage1(1, height, width)
	if err != nil {
		return nil, err
	}
	two, err := c.stage2(featureShapes(one), regions)
	if err != nil {
		return nil, err
	}
	work := map[string]int64{}
	for _, g := range []*nn.Graph{one, two} {
		names := reducible(g)
		for v := range g.Nodes {
			if name := g.Layer(nn.Value(v)); slices.Contains(names, name) {
				work[name] += g.FLOPs(nn.Value(v))
			}
		}
	}
	return work, nil
}

func reducible(g *nn.Graph) []string {
	var names, not []string
	for v := range g.Nodes {
		name := g.Layer(nn.Value(v))
		switch {
		case name == "":
		case readsImage(g, nn.Value(v)) || givenOut(g, nn.Value(v)):
			not = append(not, name)
		case !slices.Contains(names, name):
			names = append(names, name)
		}
	}
	return slices.DeleteFunc(names, func(name string) bool { return slices.Contains(not, name) })
}

func readsImage(g *nn.Graph, v nn.Value) bool { return g.Nodes[g.Nodes[v].In[0]].Name == pixelsName }

func givenOut(g *nn.Graph, v nn.Value) bool {
	return slices.ContainsFunc(g.Outputs, func(o nn.Output) bool { return o.Value == v && !o.Kept })
}
