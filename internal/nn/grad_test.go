package nn_test

import (
	"testing"

	"resdet/internal/nd"
	"resdet/internal/nn"
)

// Every gradient has the shape of what it is the gradient of, also where a
// stride leaves a remainder, and does not fit another result's gradient.
func TestGradientShapes(t *testing.T) {
	align := nn.RoIAlign{Pyramid: nn.Pyramid{Scales: []float64{0.25, 0.125}}, H: 2, W: 3}
	pool := nn.RoIPool{Pyramid: nn.Pyramid{Scales: []float64{0.25}}, H: 2, W: 3}
	tests := []struct {
		op   nn.Op
		in   []nd.Shape
		want nd.Shape // nil: an error
	}{
		{nn.ConvInput{Stride: 2, Pad: 1, H: 6, W: 9}, []nd.Shape{{2, 5, 3, 5}, {5, 4, 3, 3}}, nd.Shape{2, 4, 6, 9}},
		{nn.ConvInput{Stride: 2, Pad: 1, H: 7, W: 9}, []nd.Shape{{2, 5, 3, 5}, {5, 4, 3, 3}}, nil},
		{nn.ConvInput{Stride: 0, Pad: 1, H: 7, W: 9}, []nd.Shape{{2, 5, 3, 5}, {5, 4, 3, 3}}, nil},
		{nn.ConvWeight{Stride: 2, Pad: 1, KH: 3, KW: 3}, []nd.Shape{{2, 4, 6, 9}, {2, 5, 3, 5}}, nd.Shape{5, 4, 3, 3}},
		{nn.ConvWeight{Stride: 2, Pad: 1, KH: 3, KW: 3}, []nd.Shape{{1, 4, 6, 9}, {2, 5, 3, 5}}, nil},
		{nn.ConvWeight{Stride: 1, Pad: 0, KH: -1, KW: 3}, []nd.Shape{{1, 4, 6, 9}, {1, 5, 8, 7}}, nil},
		{nn.ChannelSum{}, []nd.Shape{{2, 4, 6, 9}}, nd.Shape{4}},
		{nn.ChannelSum{}, []nd.Shape{{2, 4}}, nd.Shape{4}},
		{nn.ChannelSum{}, []nd.Shape{{4}}, nil},
		{nn.LinearInput{}, []nd.Shape{{3, 4}, {4, 7}}, nd.Shape{3, 7}},
		{nn.LinearInput{}, []nd.Shape{{3, 5}, {4, 7}}, nil},
		{nn.LinearWeight{}, []nd.Shape{{3, 7}, {3, 4}}, nd.Shape{4, 7}},
		{nn.LinearWeight{}, []nd.Shape{{2, 7}, {3, 4}}, nil},
		{nn.NormInput{}, []nd.Shape{{2, 4, 6, 9}, {4}, {4}}, nd.Shape{2, 4, 6, 9}},
		{nn.NormInput{}, []nd.Shape{{2, 4, 6, 9}, {4}, {5}}, nil},
		{nn.ReLUGrad{}, []nd.Shape{{2, 4}, {2, 4}}, nd.Shape{2, 4}},
		{nn.ReLUGrad{}, []nd.Shape{{2, 4}, {4, 2}}, nil},
		{nn.MaxPoolGrad{MaxPool: nn.MaxPool{Kernel: 3, Stride: 2, Pad: 1}}, []nd.Shape{{1, 2, 7, 8}, {1, 2, 4, 4}}, nd.Shape{1, 2, 7, 8}},
		{nn.MaxPoolGrad{MaxPool: nn.MaxPool{Kernel: 3, Stride: 2, Pad: 1}}, []nd.Shape{{1, 2, 7, 8}, {1, 2, 3, 4}}, nil},
		{nn.UpsampleGrad{H: 3, W: 4}, []nd.Shape{{1, 2, 5, 8}}, nd.Shape{1, 2, 3, 4}},
		{nn.UpsampleGrad{H: 6, W: 4}, []nd.Shape{{1, 2, 5, 8}}, nil},
		{nn.RoIAlignGrad{RoIAlign: align, Level: 1, Images: 2, Rows: 5, Columns: 6}, []nd.Shape{{9, 5}, {9, 4, 2, 3}}, nd.Shape{2, 4, 5, 6}},
		{nn.RoIAlignGrad{RoIAlign: align, Level: 2, Images: 2, Rows: 5, Columns: 6}, []nd.Shape{{9, 5}, {9, 4, 2, 3}}, nil},
		{nn.RoIAlignGrad{RoIAlign: align, Images: 2, Rows: 5, Columns: 6}, []nd.Shape{{8, 5}, {9, 4, 2, 3}}, nil},
		{nn.RoIPoolGrad{RoIPool: pool}, []nd.Shape{{2, 4, 5, 6}, {9, 5}, {9, 4, 2, 3}}, nd.Shape{2, 4, 5, 6}},
		{nn.RoIPoolGrad{RoIPool: pool}, []nd.Shape{{2, 3, 5, 6}, {9, 5}, {9, 4, 2, 3}}, nil},
		{nn.MeanGrad{H: 7, W: 7}, []nd.Shape{{3, 4}}, nd.Shape{3, 4, 7, 7}},
		{nn.MeanGrad{}, []nd.Shape{{3, 4}}, nil},
		{nn.Unflatten{C: 4, H: 2, W: 3}, []nd.Shape{{5, 24}}, nd.Shape{5, 4, 2, 3}},
		{nn.Unflatten{C: 4, H: 2, W: 2}, []nd.Shape{{5, 24}}, nil},
		{nn.Mul{}, []nd.Shape{{2, 3}, {2, 3}}, nd.Shape{2, 3}},
	}
	for _, tt := range tests {
		got, err := nn.Infer(tt.op, tt.in...)
		if tt.want == nil && err == nil || tt.want != nil && !got.Equal(tt.want) {
			t.Errorf("%v%+v of %v: %v, %v; want %v", tt.op, tt.op, tt.in, got, err, tt.want)
		}
	}
}

// A node belongs to the latest part that something it needs is given before,
// and the order of the nodes must agree.
func TestParts(t *testing.T) {
	model := func(late bool) *nn.Graph {
		g, err := nn.Build(func(b *nn.Builder) {
			x := b.Input("x", 2)
			y := b.InputBefore(1, "y", 2)
			if late {
				b.ReLU(y)
			}
			first := b.ReLU(x)
			b.ReLU(b.Add(first, y))
		})
		if err != nil {
			t.Fatal(err)
		}
		return g
	}
	got, err := model(false).Parts()
	if err != nil || len(got) != 5 || got[2] != 0 || got[3] != 1 || got[4] != 1 {
		t.Errorf("parts %v, %v", got, err)
	}
	if _, err := model(true).Parts(); err == nil {
		t.Error("a node of part 0 behind one of part 1 was accepted")
	}
}
