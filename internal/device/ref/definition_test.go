package ref

import (
	"slices"
	"strings"
	"testing"

	"resdet/internal/nd"
	"resdet/internal/nn"
)

// Operations worked by hand, for the oracle has no other oracle where
// torchvision's recorded outputs leave a setting out.
func TestOperationsByHand(t *testing.T) {
	image := nd.Of([]float64{ // 3×4
		1, 2, 3, 4,
		5, -6, 7, 8,
		9, 10, -11, 12,
	}, 1, 1, 3, 4)
	rows := nd.Of([]float64{1, 2, 3, 4, 5, 6}, 2, 3)
	for _, c := range []struct {
		name  string
		x     *nd.Tensor[float64]
		model func(b *nn.Builder, x nn.Value) nn.Value
		shape nd.Shape
		want  []float64
	}{
		{"relu", image, func(b *nn.Builder, x nn.Value) nn.Value { return b.ReLU(x) },
			nd.Shape{1, 1, 3, 4}, []float64{1, 2, 3, 4, 5, 0, 7, 8, 9, 10, 0, 12}},
		{"add", image, func(b *nn.Builder, x nn.Value) nn.Value { return b.Add(x, b.ReLU(x)) },
			nd.Shape{1, 1, 3, 4}, []float64{2, 4, 6, 8, 10, -6, 14, 16, 18, 20, -11, 24}},
		{"mean", image, func(b *nn.Builder, x nn.Value) nn.Value { return b.Mean(x) },
			nd.Shape{1, 1}, []float64{44. / 12}},
		{"maxpool 2/2", image, func(b *nn.Builder, x nn.Value) nn.Value {
			return b.MaxPool("p", x, nn.MaxPool{Kernel: 2, Stride: 2})
		}, nd.Shape{1, 1, 1, 2}, []float64{5, 8}},
		{"maxpool 2/2, ceil", image, func(b *nn.Builder, x nn.Value) nn.Value {
			return b.MaxPool("p", x, nn.MaxPool{Kernel: 2, Stride: 2, Ceil: true})
		}, nd.Shape{1, 1, 2, 2}, []float64{5, 8, 10, 12}},
		{"maxpool 3/2, ceil (Caffe's pool1)", image, func(b *nn.Builder, x nn.Value) nn.Value {
			return b.MaxPool("p", x, nn.MaxPool{Kernel: 3, Stride: 2, Ceil: true})
		}, nd.Shape{1, 1, 1, 2}, []float64{10, 12}},
		{"maxpool 3/2/1", image, func(b *nn.Builder, x nn.Value) nn.Value {
			return b.MaxPool("p", x, nn.MaxPool{Kernel: 3, Stride: 2, Pad: 1})
		}, nd.Shape{1, 1, 2, 2}, []float64{5, 8, 10, 12}},
		{"maxpool of what is below 0, padded", nd.Of([]float64{-3}, 1, 1, 1, 1), func(b *nn.Builder, x nn.Value) nn.Value {
			return b.MaxPool("p", x, nn.MaxPool{Kernel: 3, Stride: 1, Pad: 1})
		}, nd.Shape{1, 1, 1, 1}, []float64{-3}},
		{"upsample", image, func(b *nn.Builder, x nn.Value) nn.Value { return b.Upsample(x, b.Input("like", 1, 1, 4, 6)) },
			nd.Shape{1, 1, 4, 6}, []float64{
				1, 1, 2, 3, 3, 4,
				1, 1, 2, 3, 3, 4,
				5, 5, -6, 7, 7, 8,
				9, 9, 10, -11, -11, 12}},
		{"flatten", nd.Of([]float64{1, 2, 3, 4, 5, 6, 7, 8}, 2, 2, 1, 2), func(b *nn.Builder, x nn.Value) nn.Value { return b.Flatten(x) },
			nd.Shape{2, 4}, []float64{1, 2, 3, 4, 5, 6, 7, 8}},
		{"linear", rows, func(b *nn.Builder, x nn.Value) nn.Value { return b.Linear("fc", x, 2) },
			nd.Shape{2, 2}, []float64{10 + 1 + 4 + 9, 20 - 3, 10 + 4 + 10 + 18, 20 - 6}},
		{"norm", nd.Of([]float64{1, 5, 2, 4}, 1, 2, 1, 2), func(b *nn.Builder, x nn.Value) nn.Value { return b.Norm("bn", x, 1) },
			nd.Shape{1, 2, 1, 2}, []float64{-1 + 7, 3 + 7, -3./2 + 8, 3./2 + 8}},
	} {
		t.Run(c.name, func(t *testing.T) {
			g, err := nn.Build(func(b *nn.Builder) { b.Output("y", c.model(b, b.Input("x", c.x.Shape...))) })
			if err != nil {
				t.Fatal(err)
			}
			params := map[string]*nd.Tensor[float64]{
				"fc.weight":       nd.Of([]float64{1, 2, 3, 0, 0, -1}, 2, 3),
				"fc.bias":         nd.Of([]float64{10, 20}, 2),
				"bn.weight":       nd.Of([]float64{2, 3}, 2),
				"bn.bias":         nd.Of([]float64{7, 8}, 2),
				"bn.running_mean": nd.Of([]float64{2, 3}, 2),
				"bn.running_var":  nd.Of([]float64{3, 3}, 2),
			}
			inputs := map[string]*nd.Tensor[float64]{"x": c.x, "like": nd.New[float64](1, 1, 4, 6)}
			out, err := Run(t.Context(), g, params, inputs)
			if err != nil {
				t.Fatal(err)
			}
			if y := out["y"]; !y.Shape.Equal(c.shape) || !slices.Equal(y.Data, c.want) {
				t.Errorf("%v %v, want %v %v", y.Shape, y.Data, c.shape, c.want)
			}
		})
	}
}

func TestLevelOf(t *testing.T) {
	p := &nn.Pyramid{Scales: []float64{1. / 4, 1. / 8, 1. / 16, 1. / 32}, CanonicalLevel: 4, CanonicalSize: 224}
	for _, c := range []struct {
		w, h float32
		want int
	}{
		{0, 0, 0}, {-5, 3, 0}, {1, 1, 0}, {111, 111, 0}, {112, 112, 1}, {56, 224, 1}, {223, 223, 1}, {224, 224, 2},
		{447, 447, 2}, {448, 448, 3}, {896, 896, 3}, {1e5, 1e5, 3},
	} {
		if got := levelOf(p, 10, 20, 10+c.w, 20+c.h); got != c.want {
			t.Errorf("%v×%v: level %d, want %d", c.w, c.h, got, c.want)
		}
	}
	if got := levelOf(&nn.Pyramid{Scales: []float64{1. / 16}}, 0, 0, 9, 9); got != 0 {
		t.Errorf("one level: %d", got)
	}
}

func TestRunNamesWhatIsWrong(t *testing.T) {
	g, err := nn.Build(func(b *nn.Builder) { b.Output("y", b.ConvBias("c", b.Input("x", 1, 2, 3, 3), 4, 1, 1, 0)) })
	if err != nil {
		t.Fatal(err)
	}
	good := map[string]*nd.Tensor[float32]{"c.weight": nd.New[float32](4, 2, 1, 1), "c.bias": nd.New[float32](4)}
	for _, c := range []struct {
		params, inputs map[string]*nd.Tensor[float32]
		want           string
	}{
		{good, nil, `input "x" is missing`},
		{good, map[string]*nd.Tensor[float32]{"x": nd.New[float32](1, 2, 3, 4)}, `input "x" has shape [1 2 3 4], the network wants [1 2 3 3]`},
		{map[string]*nd.Tensor[float32]{"c.bias": good["c.bias"]}, nil, `parameter "c.weight" is missing`},
		{map[string]*nd.Tensor[float32]{"c.weight": good["c.weight"], "c.bias": nd.New[float32](5)}, nil, `parameter "c.bias" has shape [5]`},
	} {
		if _, err := Run(t.Context(), g, c.params, c.inputs); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("error %v, want %s", err, c.want)
		}
	}
}
