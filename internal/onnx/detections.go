package onnx

import (
	"resdet/internal/box"
	"resdet/roihead"
)

// detections turns the head's logits [R 1+K] and deltas [R 4(1+K)], or
// [R 4], of the regions [R 4] into the model's outputs, as roihead.Detector does. ids are
// the classes'.
func (g *graph) detections(c roihead.Config, ids []int64, regions, logits, deltas string, p picture) {
	g.scope = "detections"
	classes := int64(len(ids))
	first := int64(1) // the row of class 0
	if c.BackgroundLast {
		first = 0
	}
	scores := g.slice(g.op("Softmax", of(logits), attr{"axis", 1}), first, first+classes, 1) // [R K]
	rows := g.unsqueeze(deltas, 1)                                                           // [R 1 4]
	if !c.ClassAgnostic {
		rows = g.slice(g.reshape(deltas, g.vector(-1, 1+classes, 4)), first, first+classes, 1) // [R K 4]
	}
	corners := g.ops("Split", 2, of(g.unsqueeze(regions, 1)), attr{"axis", 2}) // [R 1 2]
	ref, size := boxes{corners[0], corners[1]}, g.across(p.scaled)
	ratio := g.across(g.div(p.original, p.scaled))
	original := c.Boxes != box.Continuous // decoded and compared in original pixels
	if original {
		ref, size = boxes{g.mul(ref.low, ratio), g.mul(ref.high, ratio)}, g.across(p.original)
	}
	found := g.decode(ref, rows, box.Coder{Weights: c.BoxWeights, Convention: c.Boxes}, size) // [R K 2]
	if c.ClassAgnostic {
		each := g.vector(1, classes, 1)
		found = boxes{g.op("Expand", of(found.low, each)), g.op("Expand", of(found.high, each))}
	}
	counted := g.op("And", of(g.op("Greater", of(scores, g.float(c.Score))), g.large(found, c.Boxes, g.float(c.MinSize)))) // [R K]
	var numbers []float32
	for i := range ids {
		numbers = append(numbers, float32(i))
	}
	moved := g.rivals(found, c.Boxes, g.floats([]int{len(ids), 1}, numbers...), counted)

	// Every class is a batch of its own to NonMaxSuppression.
	perClass := g.transpose(g.concat(2, moved.low, moved.high), 1, 0, 2)                             // [K R 4]
	ranked := g.unsqueeze(g.transpose(g.op("Where", of(counted, scores, g.float(lowest))), 1, 0), 1) // [K 1 R]
	kept := g.suppress(perClass, ranked, c.Max, c.NMS)
	class, region := g.gather(kept, g.int(0), 1), g.gather(kept, g.int(2), 1)
	// Region by region, as the detector numbers its candidates: of equal scores
	// the earlier one comes first.
	index, _ := g.ascending(g.sum(g.mul(region, g.int(len(ids))), class))
	left := g.gather(g.reshape(scores, g.vector(-1)), index, 0)
	best, order := g.best(left, g.min(g.extents(left, 0, 1), g.vector(int64(c.Max))))
	index = g.gather(index, order, 0)
	corner := func(x string) string { return g.gather(g.reshape(x, g.vector(-1, 2)), index, 0) }
	low, high := corner(found.low), g.plus(corner(found.high), c.Boxes.Extra()) // edges
	if !original {
		low, high = g.mul(low, ratio), g.mul(high, ratio)
	}
	g.add("Concat", "boxes", of(low, high), of("boxes"), []attr{{"axis", 1}})
	g.add("Gather", "labels", of(g.vector(ids...), g.mod(index, g.int(len(ids)))), of("labels"), []attr{{"axis", 0}})
	g.add("Identity", "scores", of(best), of("scores"), nil)
}
