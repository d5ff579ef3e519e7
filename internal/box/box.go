// Package box is the geometry of detection: boxes, overlaps, the encoding of
// one box relative to another, matching and suppression.
//
// A box covers [X0,X1)×[Y0,Y1) in continuous pixels: width X1−X0, no +1
// (torchvision, detectron2), but for models that bring their own [Convention]. Everything is float32 in the order of operations
// of torchvision 0.14, so that results agree with it to the last bits.
package box

import "math"

// Box is a rectangle with corners (X0, Y0) and (X1, Y1).
type Box struct{ X0, Y0, X1, Y1 float32 }

// Width returns X1 − X0.
func (b Box) Width() float32 { return b.X1 - b.X0 }

// Height returns Y1 − Y0.
func (b Box) Height() float32 { return b.Y1 - b.Y0 }

// Area returns width · height; negative factors are not clamped.
func (b Box) Area() float32 { return float32((b.X1 - b.X0) * (b.Y1 - b.Y0)) }

// Clip returns b cut to an image of the given size.
func (b Box) Clip(width, height float32) Box {
	return Box{clamp(b.X0, width), clamp(b.Y0, height), clamp(b.X1, width), clamp(b.Y1, height)}
}

// Scale returns b with x multiplied by sx and y by sy.
func (b Box) Scale(sx, sy float32) Box { return Box{b.X0 * sx, b.Y0 * sy, b.X1 * sx, b.Y1 * sy} }

// Finite reports whether no corner is NaN or infinite.
func (b Box) Finite() bool {
	s := float64(b.X0-b.X0) + float64(b.Y0-b.Y0) + float64(b.X1-b.X1) + float64(b.Y1-b.Y1)
	return s == 0 // x−x is NaN for NaN and ±Inf
}

// IoU returns the intersection over the union, in [0, 1].
func IoU(a, b Box) float32 {
	inter := intersection(a, b)
	return inter / (a.Area() + b.Area() - inter)
}

// CoveredBy reports whether more than half of b lies in one of the others.
func (b Box) CoveredBy(others []Box) bool {
	for _, o := range others {
		if intersection(b, o) > b.Area()/2 {
			return true
		}
	}
	return false
}

// GIoU returns the generalised IoU (Rezatofighi et al. 2019), in (−1, 1].
func GIoU(a, b Box) float32 {
	inter := intersection(a, b)
	union := a.Area() + b.Area() - inter
	hull := float32(max(0, max(a.X1, b.X1)-min(a.X0, b.X0)) * max(0, max(a.Y1, b.Y1)-min(a.Y0, b.Y0)))
	return inter/union - (hull-union)/hull
}

func intersection(a, b Box) float32 {
	w := min(a.X1, b.X1) - max(a.X0, b.X0)
	h := min(a.Y1, b.Y1) - max(a.Y0, b.Y0)
	if w <= 0 || h <= 0 {
		return 0
	}
	return float32(w * h)
}

func clamp(v, hi float32) float32 { return min(max(v, 0), hi) }

// Delta is a box relative to a reference box: shift of the centre in units of
// the reference's size and logarithms of the ratios of the sizes (Girshick et
// al. 2014, appendix C), each multiplied by the coder's weight.
type Delta struct{ DX, DY, DW, DH float32 }

// Coder encodes and decodes deltas.
type Coder struct {
	// Weights multiply dx, dy, dw, dh: 1 1 1 1 for the RPN, 10 10 5 5 for the
	// region head (the inverse of py-faster-rcnn's deviations 0.1 0.1 0.2 0.2).
	Weights [4]float32
	// MaxLog bounds dw and dh before the exponential; 0 means [MaxLogRatio].
	MaxLog float32
	// Convention is that of the references, and of the boxes that come out.
	Convention Convention
}

// MaxLogRatio is log(1000/16): no box grows more than 62.5-fold, so that an
// untrained head cannot overflow (detectron2's SCALE_CLAMP).
const MaxLogRatio = 4.135166556742356

// Encode returns the delta that leads from ref to b, which is continuous.
func (c Coder) Encode(ref, b Box) Delta {
	rw, rh := ref.Width()+c.Convention.Extra(), ref.Height()+c.Convention.Extra()
	rx, ry := ref.X0+float32(0.5*rw), ref.Y0+float32(0.5*rh)
	w, h := b.Width(), b.Height()
	x, y := b.X0+float32(0.5*w), b.Y0+float32(0.5*h)
	return Delta{
		c.Weights[0] * (x - rx) / rw,
		c.Weights[1] * (y - ry) / rh,
		c.Weights[2] * float32(math.Log(float64(w/rw))),
		c.Weights[3] * float32(math.Log(float64(h/rh))),
	}
}

// Decode returns the box that d leads to from ref.
func (c Coder) Decode(ref Box, d Delta) Box {
	limit := c.MaxLog
	if limit == 0 {
		limit = MaxLogRatio
	}
	w, h := ref.Width()+c.Convention.Extra(), ref.Height()+c.Convention.Extra()
	x, y := ref.X0+float32(0.5*w), ref.Y0+float32(0.5*h)
	cx := float32(d.DX/c.Weights[0]*w) + x
	cy := float32(d.DY/c.Weights[1]*h) + y
	hw := float32(0.5 * (float32(math.Exp(float64(min(d.DW/c.Weights[2], limit)))) * w))
	hh := float32(0.5 * (float32(math.Exp(float64(min(d.DH/c.Weights[3], limit)))) * h))
	if c.Convention == Detectron {
		return Box{cx - hw, cy - hh, cx + hw - 1, cy + hh - 1}
	}
	return Box{cx - hw, cy - hh, cx + hw, cy + hh}
}
