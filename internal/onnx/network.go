package onnx

import (
	"fmt"
	"math"

	"resdet/internal/nn"
)

// network translates a graph, node by node; given names its inputs, and the
// names of its outputs are returned. Extents of images and regions are the
// run's, whatever shapes the graph was built for.
func (g *graph) network(net *nn.Graph, given map[string]string) (map[string]string, error) {
	t := translation{graph: g, net: net, names: make([]string, len(net.Nodes))}
	for v, n := range net.Nodes {
		if err := t.node(nn.Value(v), n, given); err != nil {
			return nil, fmt.Errorf("%s: %v: %w", n.Name, n.Op, err)
		}
	}
	out := map[string]string{}
	for _, o := range net.Outputs {
		out[o.Name] = t.names[o.Value]
	}
	return out, nil
}

type translation struct {
	*graph
	net   *nn.Graph
	names []string // of the values so far
}

func (t *translation) node(v nn.Value, n nn.Node, given map[string]string) error {
	in := make([]string, len(n.In))
	for i, x := range n.In {
		in[i] = t.names[x]
	}
	t.scope = n.Name
	switch op := n.Op.(type) {
	case nn.Input:
		name, ok := given[n.Name]
		if !ok {
			return fmt.Errorf("nothing gives it")
		}
		t.names[v] = name
	case nn.Param:
		t.names[v] = t.param(op.Key, op.Shape)
	case nn.Conv:
		w := t.net.Nodes[n.In[1]].Shape
		t.names[v] = t.op("Conv", in, attr{"kernel_shape", list(w[2], w[3])}, attr{"strides", list(op.Stride, op.Stride)},
			attr{"pads", list(op.Pad, op.Pad, op.Pad, op.Pad)})
	case nn.Norm:
		t.names[v] = t.op("BatchNormalization", in, attr{"epsilon", float32(op.Eps)})
	case nn.Add:
		t.names[v] = t.op("Add", in)
	case nn.ReLU:
		t.names[v] = t.op("Relu", in)
	case nn.MaxPool:
		ceil := 0
		if op.Ceil {
			ceil = 1
		}
		t.names[v] = t.op("MaxPool", in, attr{"kernel_shape", list(op.Kernel, op.Kernel)}, attr{"strides", list(op.Stride, op.Stride)},
			attr{"pads", list(op.Pad, op.Pad, op.Pad, op.Pad)}, attr{"ceil_mode", ceil})
	case nn.Linear:
		t.names[v] = t.op("Gemm", in, attr{"transB", 1})
	case nn.Upsample:
		like, err := t.like(v)
		if err != nil {
			return err
		}
		t.names[v] = t.upsample(in[0], like)
	case nn.RoIAlign:
		t.names[v] = t.pyramid(op.Pyramid, in, func(features, boxes string, scale float64) string { return t.roiAlign(op, features, boxes, scale) })
	case nn.RoIPool:
		t.names[v] = t.pyramid(op.Pyramid, in, func(features, boxes string, scale float64) string { return t.roiPool(op, features, boxes, scale) })
	case nn.Mean:
		t.names[v] = t.op("ReduceMean", in, attr{"axes", list(2, 3)}, attr{"keepdims", 0})
	case nn.Flatten:
		t.names[v] = t.op("Flatten", in, attr{"axis", 1})
	default:
		return fmt.Errorf("ONNX has nothing for it")
	}
	return nil
}

func list(v ...int) []int64 {
	out := make([]int64, len(v))
	for i, x := range v {
		out[i] = int64(x)
	}
	return out
}

// like returns the value whose size an upsampling takes: a pyramid adds the
// result to it, and the graph's own sizes are those of one image.
func (t *translation) like(v nn.Value) (string, error) {
	for _, n := range t.net.Nodes {
		if _, ok := n.Op.(nn.Add); !ok {
			continue
		}
		for i, x := range n.In {
			if other := n.In[1-i]; x == v && t.names[other] != "" {
				return t.names[other], nil
			}
		}
	}
	return "", fmt.Errorf("only an upsampling that is added to another map can be written for images of any size")
}

// upsample takes source row ⌊y·h/H⌋ in integers. Resize would divide by H/h
// in float32, which is a row off where the quotient is just below a whole number.
func (t *translation) upsample(x, like string) string {
	for _, axis := range []int{2, 3} {
		small, large := t.extents(x, axis, axis+1), t.extents(like, axis, axis+1)
		positions := t.op("Range", of(t.int(0), t.scalar(large), t.int(1)))
		x = t.gather(x, t.div(t.mul(positions, small), large), axis)
	}
	return x
}

// pyramid pools regions [R 4] from the level that each belongs to. in are the
// levels and the regions.
func (t *translation) pyramid(p nn.Pyramid, in []string, pool func(features, boxes string, scale float64) string) string {
	levels, boxes := in[:len(in)-1], in[len(in)-1]
	if len(levels) == 1 {
		return pool(levels[0], boxes, p.Scales[0])
	}
	corners := t.ops("Split", 2, of(boxes), attr{"axis", 1})
	sides := t.plus(t.sub(corners[1], corners[0]), float32(p.Extra))
	area := t.op("ReduceProd", of(sides), attr{"axes", list(1)}, attr{"keepdims", 0})
	var pooled, where []string
	var above string // the regions of this level or a coarser one
	for i, features := range levels {
		mine := above
		if i < len(levels)-1 {
			next := t.op("GreaterOrEqual", of(area, t.float(leastArea(p, i+1))))
			mine = t.op("Not", of(next)) // also of a NaN
			if above != "" {
				mine = t.op("And", of(above, mine))
			}
			above = next
		}
		indices := t.indicesOf(mine)
		where = append(where, indices)
		pooled = append(pooled, pool(features, t.gather(boxes, indices, 0), p.Scales[i]))
	}
	_, back := t.ascending(t.concat(0, where...))
	return t.gather(t.concat(0, pooled...), back, 0)
}

// leastArea returns the smallest area in float32 that is pooled from the given
// level or a coarser one. The law has a logarithm; with the area at which its
// value passes the next whole number there is none in the model, and no
// rounding that differs.
func leastArea(p nn.Pyramid, level int) float32 {
	finest := math.Round(-math.Log2(p.Scales[0]))
	reaches := func(area float32) bool {
		size := float32(math.Sqrt(float64(area)))
		k := float32(p.CanonicalLevel) + float32(math.Log2(float64(size/float32(p.CanonicalSize)))) + 1e-6
		return float32(math.Floor(float64(k)))-float32(finest) >= float32(level)
	}
	low, high := uint32(0), math.Float32bits(math.MaxFloat32)
	for low < high {
		if middle := low + (high-low)/2; reaches(math.Float32frombits(middle)) {
			high = middle
		} else {
			low = middle + 1
		}
	}
	return math.Float32frombits(low)
}

func (t *translation) roiAlign(op nn.RoIAlign, features, boxes string, scale float64) string {
	mode := "output_half_pixel" // ONNX's name for torchvision's aligned=False
	if op.Aligned {
		mode = "half_pixel"
	}
	return t.op("RoiAlign", of(features, boxes, t.zeros(boxes, 0)), attr{"output_height", op.H}, attr{"output_width", op.W},
		attr{"sampling_ratio", max(0, op.Sampling)}, attr{"spatial_scale", float32(scale)}, attr{"mode", "avg"},
		attr{"coordinate_transformation_mode", mode})
}

func (t *translation) roiPool(op nn.RoIPool, features, boxes string, scale float64) string {
	image := t.unsqueeze(t.cast(t.zeros(boxes, 0), float32s), 1)
	return t.op("MaxRoiPool", of(features, t.concat(1, image, boxes)), attr{"pooled_shape", list(op.H, op.W)}, attr{"spatial_scale", float32(scale)})
}

// zeros returns a list of integers as long as x's given axis.
func (g *graph) zeros(x string, axis int) string {
	return g.op("Expand", of(g.int(0), g.extents(x, axis, axis+1)))
}
