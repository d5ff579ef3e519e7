package nn_test

import (
	"errors"
	"strings"
	"testing"

	"resdet/internal/nd"
	"resdet/internal/nn"
)

// build returns the shape of what model makes of x, or the error.
func build(shape []int, model func(b *nn.Builder, x nn.Value) nn.Value) (nd.Shape, error) {
	var out nn.Value
	g, err := nn.Build(func(b *nn.Builder) { out = model(b, b.Input("x", shape...)) })
	if err != nil {
		return nil, err
	}
	return g.Nodes[out].Shape, nil
}

func TestShapes(t *testing.T) {
	pyramid := nn.Pyramid{Scales: []float64{0.25}}
	tests := []struct {
		name  string
		in    []int
		model func(b *nn.Builder, x nn.Value) nn.Value
		want  nd.Shape
	}{
		{"conv1 of a resnet", []int{1, 3, 600, 1000}, func(b *nn.Builder, x nn.Value) nn.Value { return b.Conv("c", x, 64, 7, 2, 3) }, nd.Shape{1, 64, 300, 500}},
		{"1x1 stride 2 of an odd size", []int{2, 8, 19, 23}, func(b *nn.Builder, x nn.Value) nn.Value { return b.ConvBias("c", x, 4, 1, 2, 0) }, nd.Shape{2, 4, 10, 12}},
		{"torch's maxpool", []int{1, 4, 15, 21}, func(b *nn.Builder, x nn.Value) nn.Value {
			return b.MaxPool("p", x, nn.MaxPool{Kernel: 3, Stride: 2, Pad: 1})
		}, nd.Shape{1, 4, 8, 11}},
		{"Caffe's maxpool hangs over", []int{1, 4, 16, 20}, func(b *nn.Builder, x nn.Value) nn.Value {
			return b.MaxPool("p", x, nn.MaxPool{Kernel: 3, Stride: 2, Ceil: true})
		}, nd.Shape{1, 4, 8, 10}},
		{"no window starts in the right padding", []int{1, 1, 3, 3}, func(b *nn.Builder, x nn.Value) nn.Value {
			return b.MaxPool("p", x, nn.MaxPool{Kernel: 2, Stride: 2, Pad: 1, Ceil: true})
		}, nd.Shape{1, 1, 2, 2}},
		{"mean", []int{3, 7, 4, 4}, func(b *nn.Builder, x nn.Value) nn.Value { return b.Mean(x) }, nd.Shape{3, 7}},
		{"flatten then linear", []int{3, 7, 4, 4}, func(b *nn.Builder, x nn.Value) nn.Value { return b.Linear("l", b.Flatten(x), 5) }, nd.Shape{3, 5}},
		{"roialign", []int{2, 7, 16, 20}, func(b *nn.Builder, x nn.Value) nn.Value {
			return b.RoIAlign(nn.RoIAlign{Pyramid: pyramid, H: 7, W: 5}, []nn.Value{x}, b.Input("rois", 9, 5))
		}, nd.Shape{9, 7, 7, 5}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := build(tt.in, tt.model)
			if err != nil || !got.Equal(tt.want) {
				t.Errorf("shape %v, %v; want %v", got, err, tt.want)
			}
		})
	}
}

func TestErrorsNameTheNode(t *testing.T) {
	tests := []struct {
		name  string
		in    []int
		model func(b *nn.Builder, x nn.Value) nn.Value
		want  string
	}{
		{"add", []int{1, 3, 6, 6}, func(b *nn.Builder, x nn.Value) (v nn.Value) {
			b.Scope("layer1", func() { b.Scope("0", func() { v = b.Add(x, b.Conv("conv", x, 4, 1, 1, 0)) }) })
			return v
		}, "nn: layer1.0.add: add: shapes [1 3 6 6] and [1 4 6 6] differ"},
		{"image smaller than the kernel", []int{1, 3, 4, 4}, func(b *nn.Builder, x nn.Value) nn.Value { return b.Conv("stem", x, 4, 7, 2, 0) }, "nn: stem: conv: result"},
		{"one key, two shapes", []int{1, 3, 4, 4}, func(b *nn.Builder, x nn.Value) nn.Value {
			return b.Conv("c", b.Conv("c", x, 4, 1, 1, 0), 5, 1, 1, 0)
		}, "c.weight: param: declared as [4 3 1 1] and as [5 4 1 1]"},
		{"linear of a map", []int{1, 3, 4, 4}, func(b *nn.Builder, x nn.Value) nn.Value { return b.Linear("fc", x, 4) }, "nn: fc: linear: input [1 3 4 4] is not [R C]"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := build(tt.in, tt.model)
			var e *nn.Error
			if !errors.As(err, &e) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want an *nn.Error with %q", err, tt.want)
			}
		})
	}
}

// The RPN head declares its parameters once per level.
func TestSharedParams(t *testing.T) {
	g, err := nn.Build(func(b *nn.Builder) {
		x, y := b.Input("x", 1, 8, 4, 4), b.Input("y", 1, 8, 2, 2)
		b.Output("x", b.ConvBias("head", x, 8, 3, 1, 1))
		b.Output("y", b.ConvBias("head", y, 8, 3, 1, 1))
	})
	if err != nil {
		t.Fatal(err)
	}
	if p := g.Params(); len(p) != 2 || p[0].Key != "head.weight" || p[1].Key != "head.bias" {
		t.Errorf("parameters %v, want head.weight and head.bias once", p)
	}
	// 2 · (16+4) positions · 8 channels out · 8·3·3 per position
	var flops int64
	for v := range g.Nodes {
		flops += g.FLOPs(nn.Value(v))
	}
	if want := int64(2 * 20 * 8 * 72); flops != want {
		t.Errorf("%d floating-point operations, want %d", flops, want)
	}
}
