package eval

import (
	"cmp"
	"math"
	"slices"

	"resdet/internal/assign"
)

const (
	hotaOverlaps = 19
	epsilon      = 0x1p-52 // numpy's finfo(float).eps
)

// hotaOverlap returns the a-th overlap, 0.05 to 0.95, rounded as numpy's
// arange rounds it.
func hotaOverlap(a int) float64 { return 0.05 + float64(a)*0.05 }

// hotaPair is what is known of a true and a predicted id.
type hotaPair struct {
	potential float64 // weighted count of frames in which they may match
	alignment float64
	matches   [hotaOverlaps]int
}

// hota computes HOTA of frames with all rows of both files and no id twice in
// a frame.
func hota(frames []motFrame, opt MOTOptions) *HOTAResult {
	object := func(r MOTRow) bool { return math.Trunc(r.Confidence) != 0 }
	dropped := func(motFrame) []bool { return nil }
	if opt.Preprocess {
		object = func(r MOTRow) bool { return math.Trunc(r.Confidence) != 0 && r.Class == 1 }
		dropped = hotaDistractors
	}
	frames = keepMOT(frames, object, dropped)

	// The alignment of two ids over the whole sequence: a Jaccard index.
	pairs := map[[2]int]*hotaPair{}
	trueBoxes, predBoxes := map[int]int{}, map[int]int{}
	objects, predictions := 0, 0
	for _, f := range frames {
		objects += len(f.gt)
		predictions += len(f.pred)
		for _, g := range f.gt {
			trueBoxes[g.ID]++
		}
		for _, p := range f.pred {
			predBoxes[p.ID]++
		}
		align(f, pairs)
	}
	for ids, p := range pairs {
		p.alignment = p.potential / (float64(trueBoxes[ids[0]]+predBoxes[ids[1]]) - p.potential)
	}

	var tp [hotaOverlaps]int
	var overlaps [hotaOverlaps]float64 // of the matches, summed
	for _, f := range frames {
		if len(f.gt) == 0 || len(f.pred) == 0 {
			continue
		}
		iou := hotaIoUs(f)
		cost := make([]float64, len(iou))
		for i, g := range f.gt {
			for j, p := range f.pred {
				if k := i*len(f.pred) + j; iou[k] > 0 {
					cost[k] = -pairs[[2]int{g.ID, p.ID}].alignment * iou[k]
				}
			}
		}
		for i, j := range assign.Min(cost, len(f.gt), len(f.pred)) {
			if j < 0 || !(iou[i*len(f.pred)+j] > 0) {
				continue
			}
			pair, v := pairs[[2]int{f.gt[i].ID, f.pred[j].ID}], iou[i*len(f.pred)+j]
			for a := range hotaOverlaps {
				if v >= hotaOverlap(a)-epsilon {
					tp[a]++
					overlaps[a] += v
					pair.matches[a]++
				}
			}
		}
	}
	return hotaMeans(pairs, trueBoxes, predBoxes, objects, predictions, tp, overlaps)
}

// align adds a frame to the pairs' potential: the overlap, as a share of all
// overlaps that either box has.
func align(f motFrame, pairs map[[2]int]*hotaPair) {
	iou := hotaIoUs(f)
	n := len(f.pred)
	rows, cols := make([]float64, len(f.gt)), make([]float64, n)
	for i := range f.gt {
		for j := range f.pred {
			rows[i] += iou[i*n+j]
			cols[j] += iou[i*n+j]
		}
	}
	for i, g := range f.gt {
		for j, p := range f.pred {
			v := iou[i*n+j]
			all := rows[i] + cols[j] - v
			if !(v > 0) {
				continue
			}
			ids := [2]int{g.ID, p.ID}
			pair := pairs[ids]
			if pair == nil {
				pair = &hotaPair{}
				pairs[ids] = pair
			}
			if all > epsilon {
				pair.potential += v / all
			}
		}
	}
}

func hotaMeans(pairs map[[2]int]*hotaPair, trueBoxes, predBoxes map[int]int, objects, predictions int, tp [hotaOverlaps]int, overlaps [hotaOverlaps]float64) *HOTAResult {
	ids := make([][2]int, 0, len(pairs))
	for k := range pairs {
		ids = append(ids, k)
	}
	// In order, so that the sums round alike from run to run.
	slices.SortFunc(ids, func(a, b [2]int) int { return cmp.Or(cmp.Compare(a[0], b[0]), cmp.Compare(a[1], b[1])) })

	r := &HOTAResult{}
	for a := range hotaOverlaps {
		var assA, assRe, assPr float64
		for _, k := range ids {
			n := float64(pairs[k].matches[a])
			g, p := float64(trueBoxes[k[0]]), float64(predBoxes[k[1]])
			assA += n * (n / max(1, g+p-n))
			assRe += n * (n / max(1, g))
			assPr += n * (n / max(1, p))
		}
		hits := float64(tp[a])
		assA, assRe, assPr = assA/max(1, hits), assRe/max(1, hits), assPr/max(1, hits)
		detRe := hits / max(1, float64(objects))
		detPr := hits / max(1, float64(predictions))
		detA := hits / max(1, float64(objects+predictions)-hits)
		locA := max(1e-10, overlaps[a]) / max(1e-10, hits) // 1 without matches
		h := math.Sqrt(detA * assA)

		r.Alpha[a] = h
		r.HOTA += h
		r.DetA += detA
		r.AssA += assA
		r.DetRe += detRe
		r.DetPr += detPr
		r.AssRe += assRe
		r.AssPr += assPr
		r.LocA += locA
		r.OWTA += math.Sqrt(detRe * assA)
		if a == 0 {
			r.HOTA0, r.LocA0 = h, locA
		}
	}
	for _, sum := range []*float64{&r.HOTA, &r.DetA, &r.AssA, &r.DetRe, &r.DetPr, &r.AssRe, &r.AssPr, &r.LocA, &r.OWTA} {
		*sum /= hotaOverlaps
	}
	return r
}

// hotaDistractors is TrackEval's rule for the predictions that go: those
// assigned to a distractor where the total IoU of pairs at 0.5 and more is
// greatest.
func hotaDistractors(f motFrame) []bool {
	if len(f.gt) == 0 || len(f.pred) == 0 {
		return nil
	}
	cost := hotaIoUs(f)
	for i, v := range cost {
		cost[i] = 0
		if !(v < 0.5-epsilon) {
			cost[i] = -v
		}
	}
	drop := make([]bool, len(f.pred))
	for i, j := range assign.Min(cost, len(f.gt), len(f.pred)) {
		if j >= 0 && -cost[i*len(f.pred)+j] > epsilon {
			drop[j] = distractor(f.gt[i].Class)
		}
	}
	return drop
}

// hotaIoUs returns the IoU of all pairs in TrackEval's order of operations,
// ground truth × predictions.
func hotaIoUs(f motFrame) []float64 {
	iou := make([]float64, 0, len(f.gt)*len(f.pred))
	for _, g := range f.gt {
		a := g.Box
		ax, ay := a.X+a.W, a.Y+a.H
		areaA := (ax - a.X) * (ay - a.Y)
		for _, p := range f.pred {
			b := p.Box
			bx, by := b.X+b.W, b.Y+b.H
			areaB := (bx - b.X) * (by - b.Y)
			inter := max(min(ax, bx)-max(a.X, b.X), 0) * max(min(ay, by)-max(a.Y, b.Y), 0)
			union := areaA + areaB - inter
			if areaA <= epsilon || areaB <= epsilon || union <= epsilon {
				inter, union = 0, 1
			}
			iou = append(iou, inter/union)
		}
	}
	return iou
}
