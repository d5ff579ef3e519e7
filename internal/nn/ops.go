package nn

import (
	"errors"
	"fmt"

	"resdet/internal/nd"
)

// Op is one operation with its attributes. The set is closed: the types of
// this file and, for training, those of grad.go are all there are, and devices
// switch over them exhaustively.
type Op interface {
	// String is the operation's name: "conv", "relu".
	String() string
	// infer returns the shape of the result, or what is wrong with the inputs.
	infer(in []nd.Shape) (nd.Shape, error)
}

type (
	// Input is a value given at every run, before the part of it that is named;
	// see [Graph.Parts].
	Input struct {
		Shape nd.Shape
		Part  int
	}

	// Param is a learned array, given once.
	Param struct {
		Key   string
		Shape nd.Shape
	}

	// Conv is a 2-D cross-correlation: x [N C H W], weight [O C KH KW] and an
	// optional bias [O] → [N O H' W'], H' = (H+2·Pad−KH)/Stride+1.
	Conv struct{ Stride, Pad int }

	// Norm is batch normalisation with fixed statistics: x [N C H W], weight,
	// bias, mean, variance [C] → (x−mean)/√(variance+Eps)·weight+bias.
	Norm struct{ Eps float64 }

	// Add is the element-wise sum of two values of one shape.
	Add struct{}

	// ReLU is max(x, 0).
	ReLU struct{}

	// MaxPool takes the maximum over Kernel×Kernel windows; padding is −∞.
	// With Ceil (Caffe) the last window may hang over the edge, as long as it
	// starts inside the image or its left padding.
	MaxPool struct {
		Kernel, Stride, Pad int
		Ceil                bool
	}

	// Linear is x [R C], weight [O C], bias [O] → x·weightᵀ + bias [R O].
	Linear struct{}

	// Upsample repeats pixels to the given size: [N C h w] → [N C H W], source
	// row ⌊y·h/H⌋ (nearest, as torch's interpolate).
	Upsample struct{ H, W int }

	// RoIAlign pools each region to H×W bins by bilinear samples (He et al.
	// 2017, section 3): features [N C h w] of one or more levels and rois
	// [R 5] (image, x0, y0, x1, y1 in network pixels) → [R C H W].
	RoIAlign struct {
		Pyramid
		H, W     int
		Sampling int  // samples per bin and side; ≤ 0: ⌈region/bins⌉
		Aligned  bool // shift by half a pixel (detectron2's ROIAlignV2)
	}

	// RoIPool pools each region to H×W bins by maxima over whole pixels, with
	// Caffe's rounding (Girshick 2015): inputs and result as RoIAlign.
	RoIPool struct {
		Pyramid
		H, W int
	}

	// Mean averages over H and W: [N C H W] → [N C].
	Mean struct{}

	// Flatten makes rows: [R C H W] → [R C·H·W].
	Flatten struct{}
)

// Pyramid says which feature level a region is pooled from. With one level
// there is no choice; with more, level ⌊CanonicalLevel +
// log2(√area/CanonicalSize) + 1e-6⌋, clamped to those there are (Lin et al.
// 2017, equation 1, with torchvision's epsilon). Level i has stride 2^i.
type Pyramid struct {
	Scales         []float64 // feature pixels per network pixel, finest first: 1/4, 1/8 …
	CanonicalLevel int       // 4
	CanonicalSize  float64   // 224
	// Extra is added to a region's width and height before its area is taken: 1
	// in Detectron, whose corners belong to the region.
	Extra int
}

// Infer returns the shape of op's result for inputs of the given shapes, or
// what is wrong with them.
func Infer(op Op, in ...nd.Shape) (nd.Shape, error) { return op.infer(in) }

func (Input) String() string    { return "input" }
func (Param) String() string    { return "param" }
func (Conv) String() string     { return "conv" }
func (Norm) String() string     { return "norm" }
func (Add) String() string      { return "add" }
func (ReLU) String() string     { return "relu" }
func (MaxPool) String() string  { return "maxpool" }
func (Linear) String() string   { return "linear" }
func (Upsample) String() string { return "upsample" }
func (RoIAlign) String() string { return "roialign" }
func (RoIPool) String() string  { return "roipool" }
func (Mean) String() string     { return "mean" }
func (Flatten) String() string  { return "flatten" }

func (o Input) infer(in []nd.Shape) (nd.Shape, error) {
	if o.Part < 0 {
		return nil, fmt.Errorf("part %d", o.Part)
	}
	return positive(o.Shape)
}
func (o Param) infer(in []nd.Shape) (nd.Shape, error) { return positive(o.Shape) }

func (o Conv) infer(in []nd.Shape) (nd.Shape, error) {
	x, w := in[0], in[1]
	if len(x) != 4 || len(w) != 4 || x[1] != w[1] {
		return nil, fmt.Errorf("input %v does not fit weight %v", x, w)
	}
	if len(in) == 3 && !in[2].Equal(nd.Shape{w[0]}) {
		return nil, fmt.Errorf("bias %v does not fit weight %v", in[2], w)
	}
	if o.Stride < 1 || o.Pad < 0 {
		return nil, fmt.Errorf("stride %d, padding %d", o.Stride, o.Pad)
	}
	return positive(nd.Shape{x[0], w[0], (x[2]+2*o.Pad-w[2])/o.Stride + 1, (x[3]+2*o.Pad-w[3])/o.Stride + 1})
}

func (o Norm) infer(in []nd.Shape) (nd.Shape, error) {
	if len(in[0]) != 4 {
		return nil, fmt.Errorf("input %v is not [N C H W]", in[0])
	}
	for _, p := range in[1:] {
		if !p.Equal(in[0][1:2]) {
			return nil, fmt.Errorf("parameter %v does not fit input %v", p, in[0])
		}
	}
	return in[0], nil
}

func (o Add) infer(in []nd.Shape) (nd.Shape, error) {
	if !in[0].Equal(in[1]) {
		return nil, fmt.Errorf("shapes %v and %v differ", in[0], in[1])
	}
	return in[0], nil
}

func (o ReLU) infer(in []nd.Shape) (nd.Shape, error) { return in[0], nil }

func (o MaxPool) infer(in []nd.Shape) (nd.Shape, error) {
	x := in[0]
	if len(x) != 4 {
		return nil, fmt.Errorf("input %v is not [N C H W]", x)
	}
	if o.Kernel < 1 || o.Stride < 1 || o.Pad < 0 || 2*o.Pad > o.Kernel {
		return nil, fmt.Errorf("kernel %d, stride %d, padding %d", o.Kernel, o.Stride, o.Pad)
	}
	return positive(nd.Shape{x[0], x[1], o.extent(x[2]), o.extent(x[3])})
}

func (o MaxPool) extent(n int) int {
	span := n + 2*o.Pad - o.Kernel
	if span < 0 {
		return 0
	}
	out := span/o.Stride + 1
	if o.Ceil && span%o.Stride != 0 && out*o.Stride < n+o.Pad {
		out++
	}
	return out
}

func (o Linear) infer(in []nd.Shape) (nd.Shape, error) {
	x, w := in[0], in[1]
	if len(x) != 2 || len(w) != 2 || x[1] != w[1] {
		return nil, fmt.Errorf("input %v does not fit weight %v", x, w)
	}
	if !in[2].Equal(w[:1]) {
		return nil, fmt.Errorf("bias %v does not fit weight %v", in[2], w)
	}
	return nd.Shape{x[0], w[0]}, nil
}

func (o Upsample) infer(in []nd.Shape) (nd.Shape, error) {
	x := in[0]
	if len(x) != 4 {
		return nil, fmt.Errorf("input %v is not [N C H W]", x)
	}
	return positive(nd.Shape{x[0], x[1], o.H, o.W})
}

func (o RoIAlign) infer(in []nd.Shape) (nd.Shape, error) { return o.pooled(in, o.H, o.W) }
func (o RoIPool) infer(in []nd.Shape) (nd.Shape, error)  { return o.pooled(in, o.H, o.W) }

func (p Pyramid) pooled(in []nd.Shape, h, w int) (nd.Shape, error) {
	features, rois := in[:len(in)-1], in[len(in)-1]
	if len(features) != len(p.Scales) {
		return nil, fmt.Errorf("%d feature levels, %d scales", len(features), len(p.Scales))
	}
	for _, f := range features {
		if len(f) != 4 || f[0] != features[0][0] || f[1] != features[0][1] {
			return nil, fmt.Errorf("levels %v and %v differ in images or channels", features[0], f)
		}
	}
	if len(rois) != 2 || rois[1] != 5 {
		return nil, fmt.Errorf("regions %v are not [R 5]", rois)
	}
	return positive(nd.Shape{rois[0], features[0][1], h, w})
}

func (o Mean) infer(in []nd.Shape) (nd.Shape, error) {
	if len(in[0]) != 4 {
		return nil, fmt.Errorf("input %v is not [N C H W]", in[0])
	}
	return in[0][:2], nil
}

func (o Flatten) infer(in []nd.Shape) (nd.Shape, error) {
	if len(in[0]) < 2 {
		return nil, fmt.Errorf("input %v has no rows", in[0])
	}
	return nd.Shape{in[0][0], in[0][1:].Len()}, nil
}

var errEmpty = errors.New("an extent is not positive")

func positive(s nd.Shape) (nd.Shape, error) {
	for _, d := range s {
		if d < 1 {
			return nil, fmt.Errorf("result %v: %w", s, errEmpty)
		}
	}
	return s, nil
}
