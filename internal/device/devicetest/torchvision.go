package devicetest

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"resdet/internal/device"
	"resdet/internal/fixture"
	"resdet/internal/nd"
	"resdet/internal/nn"
)

// elsewhere lists the operations of the fixtures that are host code, with the
// package whose tests run them.
var elsewhere = map[string]string{
	"nms":                      "internal/box",
	"batched_nms":              "internal/box",
	"box_iou":                  "internal/box",
	"generalized_box_iou":      "internal/box",
	"clip_boxes_to_image":      "internal/box",
	"BoxCoder":                 "internal/box",
	"Matcher":                  "internal/box",
	"AnchorGenerator":          "rpn",
	"GeneralizedRCNNTransform": "internal/transform",
	"smooth_l1":                "internal/train",
}

// torchvision runs every recorded call of an operation of networks.
func torchvision(t *testing.T, open Opener) {
	d := opened(t, open)
	ran := 0
	for _, c := range fixture.Cases(t, fixture.Dir(t, "torchvision")) {
		if _, ok := elsewhere[c.Op]; ok {
			continue
		}
		ran++
		t.Run(c.Name, func(t *testing.T) {
			switch c.Op {
			case "roi_align":
				recordedRoIAlign(t, d, c)
			case "roi_pool":
				recordedRoIPool(t, d, c)
			case "MultiScaleRoIAlign":
				recordedLevels(t, d, c)
			case "conv2d":
				recordedConv(t, d, c)
			case "FrozenBatchNorm2d":
				recordedNorm(t, d, c)
			case "torchvision":
				recordedBlock(t, d, c)
			case "maxpool":
				recordedPools(t, d, c)
			default:
				t.Errorf("nothing runs operation %q: add it here, or to the list of those tested elsewhere", c.Op)
			}
		})
	}
	if ran == 0 {
		t.Error("no case was run")
	}
}

// against runs a model and compares its outputs with recorded arrays of the
// same names. They are float32 too: both sides round, so twice the tolerance
// is given that a device has against the oracle.
func against(t *testing.T, d device.Device, tolerance float64, c fixture.Case, params, inputs arrays, model func(b *nn.Builder)) {
	t.Helper()
	g := build(t, model)
	p := compile(t, d, g, params, nil)
	defer p.Close()
	run(t, p, g, inputs, nil)
	want := map[string]*nd.Tensor[float64]{}
	for _, o := range g.Outputs {
		want[o.Name] = nd.Convert[float64](c.Floats(t, o.Name))
	}
	compareAll(t, p, g, want, 2*tolerance)
}

// size is an extent given as one number or as height and width.
type size [2]int

func (s *size) UnmarshalJSON(b []byte) error {
	if err := json.Unmarshal(b, &s[0]); err == nil {
		s[1] = s[0]
		return nil
	}
	return json.Unmarshal(b, (*[2]int)(s))
}

type poolingMeta struct {
	Aligned  bool      `json:"aligned"`
	Sampling int       `json:"sampling_ratio"`
	Size     size      `json:"output_size"`
	Scale    float64   `json:"spatial_scale"`
	Scales   []float64 `json:"scales"`
}

func recordedRoIAlign(t *testing.T, d device.Device, c fixture.Case) {
	var m poolingMeta
	c.Decode(t, &m)
	inputs := arrays{"feat": c.Floats(t, "feat"), "rois": c.Floats(t, "rois")}
	against(t, d, sampled, c, nil, inputs, func(b *nn.Builder) {
		op := nn.RoIAlign{Pyramid: nn.Pyramid{Scales: []float64{m.Scale}}, H: m.Size[0], W: m.Size[1], Sampling: m.Sampling, Aligned: m.Aligned}
		b.Output("out", b.RoIAlign(op, []nn.Value{b.Input("feat", inputs["feat"].Shape...)}, b.Input("rois", inputs["rois"].Shape...)))
	})
}

func recordedRoIPool(t *testing.T, d device.Device, c fixture.Case) {
	var m poolingMeta
	c.Decode(t, &m)
	inputs := arrays{"feat": c.Floats(t, "feat"), "rois": c.Floats(t, "rois")}
	against(t, d, exact, c, nil, inputs, func(b *nn.Builder) {
		op := nn.RoIPool{Pyramid: nn.Pyramid{Scales: []float64{m.Scale}}, H: m.Size[0], W: m.Size[1]}
		b.Output("out", b.RoIPool(op, []nn.Value{b.Input("feat", inputs["feat"].Shape...)}, b.Input("rois", inputs["rois"].Shape...)))
	})
}

func recordedLevels(t *testing.T, d device.Device, c fixture.Case) {
	var m poolingMeta
	c.Decode(t, &m)
	inputs := arrays{}
	for i := range m.Scales {
		name := fmt.Sprint("f", i)
		inputs[name] = c.Floats(t, name)
	}
	var rows []float32
	for i := range c.Arrays("boxes") {
		boxes := c.Floats(t, fmt.Sprint("boxes", i)).Data
		for ; len(boxes) > 0; boxes = boxes[4:] {
			rows = append(append(rows, float32(i)), boxes[:4]...)
		}
	}
	inputs["rois"] = nd.Of(rows, len(rows)/5, 5)
	against(t, d, sampled, c, nil, inputs, func(b *nn.Builder) {
		// torchvision's defaults: level 4 for a region of 224 pixels.
		op := nn.RoIAlign{Pyramid: nn.Pyramid{Scales: m.Scales, CanonicalLevel: 4, CanonicalSize: 224}, H: m.Size[0], W: m.Size[1], Sampling: m.Sampling}
		var features []nn.Value
		for i := range m.Scales {
			name := fmt.Sprint("f", i)
			features = append(features, b.Input(name, inputs[name].Shape...))
		}
		b.Output("out", b.RoIAlign(op, features, b.Input("rois", inputs["rois"].Shape...)))
	})
}

func recordedConv(t *testing.T, d device.Device, c fixture.Case) {
	var m struct{ Stride, Pad int }
	c.Decode(t, &m)
	x, w := c.Floats(t, "x"), c.Floats(t, "w")
	params := arrays{"conv.weight": w}
	if c.Shapes["b"] != nil {
		params["conv.bias"] = c.Floats(t, "b")
	}
	against(t, d, summed, c, params, arrays{"x": x}, func(b *nn.Builder) {
		in := b.Input("x", x.Shape...)
		if c.Shapes["b"] != nil {
			b.Output("out", b.ConvBias("conv", in, w.Shape[0], w.Shape[2], m.Stride, m.Pad))
		} else {
			b.Output("out", b.Conv("conv", in, w.Shape[0], w.Shape[2], m.Stride, m.Pad))
		}
	})
}

func recordedNorm(t *testing.T, d device.Device, c fixture.Case) {
	var m struct{ Eps float64 }
	c.Decode(t, &m)
	x := c.Floats(t, "x")
	params := arrays{
		"bn.weight": c.Floats(t, "weight"), "bn.bias": c.Floats(t, "bias"),
		"bn.running_mean": c.Floats(t, "mean"), "bn.running_var": c.Floats(t, "var"),
	}
	against(t, d, rounded, c, params, arrays{"x": x}, func(b *nn.Builder) {
		b.Output("out", b.Norm("bn", b.Input("x", x.Shape...), m.Eps))
	})
}

// recordedBlock builds a residual block from what its state says: a basic one
// has two convolutions, a bottleneck three.
func recordedBlock(t *testing.T, d device.Device, c fixture.Case) {
	var m struct{ Stride int }
	c.Decode(t, &m)
	x := c.Floats(t, "x")
	params := arrays{}
	for _, name := range c.Arrays("sd.") {
		params[strings.TrimPrefix(name, "sd.")] = c.Floats(t, name)
	}
	against(t, d, summed, c, params, arrays{"x": x}, func(b *nn.Builder) {
		in := b.Input("x", x.Shape...)
		layer := func(conv, norm string, y nn.Value, stride int) nn.Value {
			w := params[conv+".weight"].Shape
			return b.Norm(norm, b.Conv(conv, y, w[0], w[2], stride, w[2]/2), 1e-5)
		}
		stride, last := []int{m.Stride, 1}, 2
		if params["conv3.weight"] != nil {
			stride, last = []int{1, m.Stride, 1}, 3
		}
		y := in
		for i := 1; i <= last; i++ {
			y = layer(fmt.Sprint("conv", i), fmt.Sprint("bn", i), y, stride[i-1])
			if i < last {
				y = b.ReLU(y)
			}
		}
		short := in
		if params["downsample.0.weight"] != nil {
			short = layer("downsample.0", "downsample.1", in, m.Stride)
		}
		b.Output("out", b.ReLU(b.Add(y, short)))
	})
}

// recordedPools runs the poolings whose settings the arrays' names give
// (mp321: kernel 3, stride 2, padding 1) and the upsampling to the size of up.
func recordedPools(t *testing.T, d device.Device, c fixture.Case) {
	x := c.Floats(t, "x")
	pools := c.Arrays("mp")
	if len(pools) == 0 {
		t.Fatal("no poolings")
	}
	inputs := arrays{"x": x}
	up, recorded := c.Shapes["up"]
	if recorded {
		inputs["like"] = nd.New[float32](up...)
	}
	against(t, d, exact, c, nil, inputs, func(b *nn.Builder) {
		in := b.Input("x", x.Shape...)
		for _, name := range pools {
			var setting [3]int
			for i, digit := range name[2:] {
				setting[i], _ = strconv.Atoi(string(digit))
			}
			b.Output(name, b.MaxPool(name, in, nn.MaxPool{Kernel: setting[0], Stride: setting[1], Pad: setting[2]}))
		}
		if recorded {
			b.Output("up", b.Upsample(in, b.Input("like", up...)))
		}
	})
}
