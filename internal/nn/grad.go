package nn

import (
	"fmt"

	"resdet/internal/nd"
)

// The operations that stand in the gradient of a network. dy is the gradient
// of the result of the operation in question, dx, dw those of its input and
// weight. The parameters of norms are fixed, so that they have none.
type (
	// ConvInput is a convolution's dx: dy [N O H' W'], weight [O C KH KW] →
	// [N C H W]. H and W cannot be told from dy where the stride leaves a
	// remainder.
	ConvInput struct{ Stride, Pad, H, W int }

	// ConvWeight is a convolution's dw: x [N C H W], dy [N O H' W'] →
	// [O C KH KW].
	ConvWeight struct{ Stride, Pad, KH, KW int }

	// ChannelSum is the gradient of a bias: dy [N C H W] or [R C] → [C].
	ChannelSum struct{}

	// LinearInput is dx: dy [R O], weight [O C] → dy·weight [R C].
	LinearInput struct{}

	// LinearWeight is dw: x [R C], dy [R O] → dyᵀ·x [O C].
	LinearWeight struct{}

	// NormInput is dx of a batch normalisation with fixed statistics: dy
	// [N C H W], weight, variance [C] → dy·weight/√(variance+Eps).
	NormInput struct{ Eps float64 }

	// ReLUGrad is dx: dy, y = relu(x) → dy where y > 0, else 0.
	ReLUGrad struct{}

	// MaxPoolGrad is dx: x [N C H W], dy → [N C H W]. Of equal maxima of a
	// window the first in row-major order has the gradient (torch).
	MaxPoolGrad struct{ MaxPool }

	// UpsampleGrad is dx: dy [N C H' W'] → [N C H W], the sum over the copies of
	// every pixel.
	UpsampleGrad struct{ H, W int }

	// RoIAlignGrad is the gradient of the features of one level: rois [R 5], dy
	// [R C h w] → [Images C Rows Columns]. Regions that are pooled from other
	// levels add nothing.
	RoIAlignGrad struct {
		RoIAlign
		Level                 int
		Images, Rows, Columns int
	}

	// RoIPoolGrad is the gradient of the features of one level: that level's
	// features [N C H W], rois [R 5], dy [R C h w] → [N C H W]. Of equal maxima
	// of a bin the first in row-major order has the gradient.
	RoIPoolGrad struct {
		RoIPool
		Level int
	}

	// MeanGrad is dx: dy [N C] → [N C H W], dy/(H·W) everywhere.
	MeanGrad struct{ H, W int }

	// Unflatten makes maps of rows: [R C·H·W] → [R C H W].
	Unflatten struct{ C, H, W int }

	// Mul is the element-wise product of two values of one shape: dropout, with
	// a mask as the second.
	Mul struct{}
)

func (ConvInput) String() string    { return "conv_input" }
func (ConvWeight) String() string   { return "conv_weight" }
func (ChannelSum) String() string   { return "channel_sum" }
func (LinearInput) String() string  { return "linear_input" }
func (LinearWeight) String() string { return "linear_weight" }
func (NormInput) String() string    { return "norm_input" }
func (ReLUGrad) String() string     { return "relu_grad" }
func (MaxPoolGrad) String() string  { return "maxpool_grad" }
func (UpsampleGrad) String() string { return "upsample_grad" }
func (RoIAlignGrad) String() string { return "roialign_grad" }
func (RoIPoolGrad) String() string  { return "roipool_grad" }
func (MeanGrad) String() string     { return "mean_grad" }
func (Unflatten) String() string    { return "unflatten" }
func (Mul) String() string          { return "mul" }

func (o ConvInput) infer(in []nd.Shape) (nd.Shape, error) {
	dy, w := in[0], in[1]
	if len(dy) != 4 || len(w) != 4 {
		return nil, fmt.Errorf("gradient %v does not fit weight %v", dy, w)
	}
	dx := nd.Shape{dy[0], w[1], o.H, o.W}
	return dx, gradientOf(Conv{o.Stride, o.Pad}, dy, dx, w)
}

func (o ConvWeight) infer(in []nd.Shape) (nd.Shape, error) {
	x, dy := in[0], in[1]
	if len(x) != 4 || len(dy) != 4 {
		return nil, fmt.Errorf("gradient %v does not fit input %v", dy, x)
	}
	dw := nd.Shape{dy[1], x[1], o.KH, o.KW}
	return dw, gradientOf(Conv{o.Stride, o.Pad}, dy, x, dw)
}

// gradientOf checks that dy has the shape of op's result.
func gradientOf(op Op, dy nd.Shape, in ...nd.Shape) error {
	for _, s := range in {
		if _, err := positive(s); err != nil {
			return err
		}
	}
	y, err := op.infer(in)
	if err != nil {
		return err
	}
	if !y.Equal(dy) {
		return fmt.Errorf("gradient %v does not fit the result %v", dy, y)
	}
	return nil
}

func (o ChannelSum) infer(in []nd.Shape) (nd.Shape, error) {
	if len(in[0]) != 2 && len(in[0]) != 4 {
		return nil, fmt.Errorf("gradient %v is neither [N C H W] nor [R C]", in[0])
	}
	return in[0][1:2], nil
}

func (o LinearInput) infer(in []nd.Shape) (nd.Shape, error) {
	dy, w := in[0], in[1]
	if len(dy) != 2 || len(w) != 2 || dy[1] != w[0] {
		return nil, fmt.Errorf("gradient %v does not fit weight %v", dy, w)
	}
	return nd.Shape{dy[0], w[1]}, nil
}

func (o LinearWeight) infer(in []nd.Shape) (nd.Shape, error) {
	x, dy := in[0], in[1]
	if len(x) != 2 || len(dy) != 2 || x[0] != dy[0] {
		return nil, fmt.Errorf("gradient %v does not fit input %v", dy, x)
	}
	return nd.Shape{dy[1], x[1]}, nil
}

func (o NormInput) infer(in []nd.Shape) (nd.Shape, error) { return Norm{o.Eps}.infer(in) }

func (o ReLUGrad) infer(in []nd.Shape) (nd.Shape, error) { return Add{}.infer(in) }

func (o MaxPoolGrad) infer(in []nd.Shape) (nd.Shape, error) {
	return in[0], gradientOf(o.MaxPool, in[1], in[0])
}

func (o UpsampleGrad) infer(in []nd.Shape) (nd.Shape, error) {
	dy := in[0]
	if len(dy) != 4 || dy[2] < o.H || dy[3] < o.W {
		return nil, fmt.Errorf("gradient %v is not that of a map of %d×%d repeated", dy, o.H, o.W)
	}
	return positive(nd.Shape{dy[0], dy[1], o.H, o.W})
}

func (o RoIAlignGrad) infer(in []nd.Shape) (nd.Shape, error) {
	rois, dy := in[0], in[1]
	if err := o.pooledGradient(o.Level, rois, dy, o.H, o.W); err != nil {
		return nil, err
	}
	return positive(nd.Shape{o.Images, dy[1], o.Rows, o.Columns})
}

func (o RoIPoolGrad) infer(in []nd.Shape) (nd.Shape, error) {
	x, rois, dy := in[0], in[1], in[2]
	if len(x) != 4 || len(dy) != 4 || x[1] != dy[1] {
		return nil, fmt.Errorf("gradient %v does not fit features %v", dy, x)
	}
	return x, o.pooledGradient(o.Level, rois, dy, o.H, o.W)
}

func (p Pyramid) pooledGradient(level int, rois, dy nd.Shape, h, w int) error {
	if level < 0 || level >= len(p.Scales) {
		return fmt.Errorf("level %d of %d", level, len(p.Scales))
	}
	if len(rois) != 2 || rois[1] != 5 {
		return fmt.Errorf("regions %v are not [R 5]", rois)
	}
	if len(dy) != 4 || dy[0] != rois[0] || dy[2] != h || dy[3] != w {
		return fmt.Errorf("gradient %v is not that of %d regions of %d×%d bins", dy, rois[0], h, w)
	}
	return nil
}

func (o MeanGrad) infer(in []nd.Shape) (nd.Shape, error) {
	if len(in[0]) != 2 {
		return nil, fmt.Errorf("gradient %v is not [N C]", in[0])
	}
	return positive(nd.Shape{in[0][0], in[0][1], o.H, o.W})
}

func (o Unflatten) infer(in []nd.Shape) (nd.Shape, error) {
	if len(in[0]) != 2 || in[0][1] != o.C*o.H*o.W {
		return nil, fmt.Errorf("rows %v are not maps of %d×%d×%d", in[0], o.C, o.H, o.W)
	}
	return positive(nd.Shape{in[0][0], o.C, o.H, o.W})
}

func (o Mul) infer(in []nd.Shape) (nd.Shape, error) { return Add{}.infer(in) }
