package onnx

import (
	"resdet/internal/box"
	"resdet/rpn"
)

// proposals turns the RPN's outputs into regions [R 4] in network pixels, as
// rpn.Proposer does. Scores stay logits, whose order is the sigmoid's.
func (g *graph) proposals(c rpn.Config, strides []int, logits, deltas []string, p picture) string {
	var low, high, scores, groups []string
	for i := range logits {
		g.scope = "proposals/" + string(appendInt(nil, int64(i)))
		b, s := g.level(c, i, strides[i], logits[i], deltas[i], p)
		low, high, scores = append(low, b.low), append(high, b.high), append(scores, s)
		groups = append(groups, g.op("Expand", of(g.float(float32(i)), g.extents(s, 0, 1))))
	}
	g.scope = "proposals"
	all := boxes{g.concat(0, low...), g.concat(0, high...)}
	score, group := g.concat(0, scores...), g.concat(0, groups...)

	ofGroup := g.unsqueeze(score, 0) // [L N]
	if len(logits) > 1 {
		var numbers []float32
		for i := range logits {
			numbers = append(numbers, float32(i))
		}
		mine := g.op("Equal", of(g.unsqueeze(group, 0), g.floats([]int{len(numbers), 1}, numbers...)))
		ofGroup = g.op("Where", of(mine, score, g.float(lowest)))
	}
	counted := g.op("GreaterOrEqual", of(group, g.float(0))) // all of them
	moved := g.rivals(all, c.Boxes, g.unsqueeze(group, 1), counted)
	kept := g.suppress(g.unsqueeze(g.concat(1, moved.low, moved.high), 0), g.unsqueeze(ofGroup, 0), c.PostNMS, c.NMS)
	index := g.gather(kept, g.int(2), 1)
	left := g.gather(score, index, 0)
	_, order := g.best(left, g.min(g.extents(left, 0, 1), g.vector(int64(c.PostNMS))))
	return g.gather(g.concat(1, all.low, all.high), g.gather(index, order, 0), 0)
}

// level returns the best anchors of one level, decoded, and their logits.
func (g *graph) level(c rpn.Config, index, stride int, logits, deltas string, p picture) (boxes, string) {
	cell := c.Anchors.Cell(index)
	anchors := int64(len(cell))
	// Channels last, in the order of rpn.Grid: (y, x, anchor).
	flat := g.reshape(g.transpose(logits, 0, 2, 3, 1), g.vector(-1))
	number := g.extents(flat, 0, 1)
	if c.Boxes != box.Caffe { // where small ones take no place among the best
		number = g.min(number, g.vector(int64(c.PreNMS)))
	}
	scores, chosen := g.best(flat, number)
	rows := g.transpose(g.reshape(deltas, g.vector(anchors, 4, -1)), 2, 0, 1) // [H·W A 4]
	rows = g.gather(g.reshape(rows, g.vector(-1, 4)), chosen, 0)

	// The anchors that were chosen, and no others.
	perCell, width := g.vector(anchors), g.extents(logits, 3, 4)
	anchor, at := g.mod(chosen, perCell), g.div(chosen, perCell)
	position := g.concat(1, g.unsqueeze(g.mod(at, width), 1), g.unsqueeze(g.div(at, width), 1)) // (x y)
	step := g.floats([]int{2}, float32(stride), float32(stride))
	if c.Anchors.GridStride {
		cells := g.div(p.padded, g.extents(logits, 2, 4))
		step = g.cast(g.across(cells), float32s)
	}
	shift := g.mul(g.cast(position, float32s), step)
	var lows, highs []float32
	for _, a := range cell {
		lows, highs = append(lows, a.X0, a.Y0), append(highs, a.X1, a.Y1)
	}
	shape := []int{len(cell), 2}
	ref := boxes{
		g.sum(g.gather(g.floats(shape, lows...), anchor, 0), shift),
		g.sum(g.gather(g.floats(shape, highs...), anchor, 0), shift),
	}
	coder := box.Coder{Weights: [4]float32{1, 1, 1, 1}, Convention: c.Boxes}
	b := g.decode(ref, rows, coder, g.across(p.scaled))
	least := g.float(c.MinSize)
	if c.Boxes != box.Continuous { // of original pixels
		least = g.mul(least, g.slice(g.div(p.scaled, p.original), 0, 1, 0))
	}
	keep := g.large(b, c.Boxes, least)
	best := func(x string) string {
		x = g.op("Compress", of(x, keep), attr{"axis", 0})
		if c.Boxes == box.Caffe {
			x = g.slice(x, 0, int64(c.PreNMS), 0)
		}
		return x
	}
	return boxes{best(b.low), best(b.high)}, best(scores)
}
