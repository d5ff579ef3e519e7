package onnx

import (
	"math"

	"resdet/internal/box"
)

// boxes are rectangles as two values of one shape [… 2]: the corners (x0 y0)
// and (x1 y1).
type boxes struct{ low, high string }

// decode returns the boxes that deltas [… 4] lead to from ref, clipped to an
// image of size [width height]: box.Coder.Decode and box.Convention.Clip.
func (g *graph) decode(ref boxes, deltas string, coder box.Coder, size string) boxes {
	parts := g.ops("Split", 2, of(deltas), attr{"axis", -1})
	w := coder.Weights
	shift := g.div(parts[0], g.floats([]int{2}, w[0], w[1]))
	growth := g.div(parts[1], g.floats([]int{2}, w[2], w[3]))
	sides := g.plus(g.sub(ref.high, ref.low), coder.Convention.Extra())
	centre := g.sum(ref.low, g.mul(g.float(0.5), sides))
	centre = g.sum(g.mul(shift, sides), centre)
	half := g.mul(g.float(0.5), g.mul(g.op("Exp", of(g.min(growth, g.float(box.MaxLogRatio)))), sides))
	low, high := g.sub(centre, half), g.sum(centre, half)
	if coder.Convention == box.Detectron {
		high = g.plus(high, -1)
	}
	edge := g.plus(size, -coder.Convention.Extra())
	clip := func(corner string) string { return g.min(g.max(corner, g.float(0)), edge) }
	return boxes{clip(low), clip(high)}
}

// large reports which boxes have both sides of at least least.
func (g *graph) large(b boxes, c box.Convention, least string) string {
	sides := g.plus(g.sub(b.high, b.low), c.Extra())
	both := g.ops("Split", 2, of(g.op("GreaterOrEqual", of(sides, least))), attr{"axis", -1})
	return g.op("Squeeze", of(g.op("And", both), g.vector(-1)))
}

// plus adds a number, if it is not 0.
func (g *graph) plus(x string, v float32) string {
	if v == 0 {
		return x
	}
	return g.sum(x, g.float(v))
}

// rivals returns the boxes as NonMaxSuppression is to compare them: corners
// that belong to their box become edges, others are moved apart. groups
// (float32) are the boxes' numbers of level or class.
func (g *graph) rivals(b boxes, c box.Convention, groups, counted string) boxes {
	if c != box.Continuous {
		return boxes{b.low, g.plus(b.high, c.Extra())}
	}
	return g.apart(b, groups, counted)
}

// apart moves boxes by their group's number times the largest coordinate plus
// one, if there are no more than a thousand that count: what
// box.Suppressor.Batched does for the sake of torchvision's rounding. groups
// (float32) broadcasts to the corners' shape, counted (bool) has it without
// its last extent.
func (g *graph) apart(b boxes, groups, counted string) boxes {
	few := g.cast(g.op("LessOrEqual", of(g.extents(g.op("NonZero", of(counted)), 1, 2), g.int(1000))), float32s)
	corners := g.op("Where", of(g.unsqueeze(counted, -1), b.high, g.float(-1)))
	corners = g.concat(0, g.reshape(corners, g.vector(-1)), g.floats([]int{1}, 0)) // never empty
	distance := g.sum(g.op("ReduceMax", of(corners), attr{"keepdims", 0}), g.float(1))
	shift := g.mul(g.mul(groups, distance), few)
	return boxes{g.sum(b.low, shift), g.sum(b.high, shift)}
}

// suppress returns the rows (batch, class, box) that NonMaxSuppression keeps:
// boxes [B N 4] and scores [B C N], those of excluded boxes being lowest.
func (g *graph) suppress(boxes, scores string, most int, overlap float32) string {
	return g.op("NonMaxSuppression", of(boxes, scores, g.vector(int64(most)), g.floats([]int{1}, atMost(overlap)), g.floats([]int{1}, lowest)))
}

// lowest is the score of what is not to be kept: NonMaxSuppression drops what
// does not exceed it.
const lowest = -math.MaxFloat32

// atMost returns the largest float32 that is not above the limit as it was
// written. Overlaps are float32 and the detector compares them with the
// decimal in double precision: 0.3 in float32 is more than 0.3.
func atMost(overlap float32) float32 {
	if float64(overlap) > box.Written(overlap) {
		return math.Nextafter32(overlap, 0)
	}
	return overlap
}
