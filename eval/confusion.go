package eval

import (
	"cmp"
	"slices"
)

// Confusion counts which class objects were taken for.
type Confusion struct {
	IoU     float64  `json:"iou"`
	Score   float64  `json:"score"`
	Classes []string `json:"classes"` // the last one is the background
	// Matrix[t][d] counts objects of class t found as class d. The last column
	// counts objects that were missed, the last row detections without object.
	Matrix [][]int `json:"matrix"`
}

// confusionOverlap is the least IoU at which a detection is about an object.
const confusionOverlap = 0.5

// confusion matches detections of the given score regardless of class: best
// score first, each with the free object that it overlaps most (at equal IoU
// one of its own class). Detections on crowd regions or difficult objects are
// left out, as they are by the protocol.
func confusion(cfg Config, images []*Image) *Confusion {
	k := len(cfg.Classes)
	c := &Confusion{IoU: confusionOverlap, Score: cfg.ConfusionScore, Matrix: make([][]int, k+1)}
	for _, class := range cfg.Classes {
		c.Classes = append(c.Classes, class.Name)
	}
	c.Classes = append(c.Classes, "background")
	for i := range c.Matrix {
		c.Matrix[i] = make([]int, k+1)
	}
	var order []int32
	var taken []bool
	for _, img := range images {
		order = bestFirst(order, img.Detections)
		taken = resize(taken, len(img.Truths))
		clear(taken)
		for _, i := range order {
			d := &img.Detections[i]
			if d.Score < cfg.ConfusionScore {
				break
			}
			found, best, ignored := -1, 0.0, false
			for j := range img.Truths {
				t := &img.Truths[j]
				if !cfg.Protocol.counts(t, 0) {
					ignored = ignored || t.Class == d.Class && overlap(d.Box, t.Box, t.Crowd) >= confusionOverlap
					continue
				}
				if taken[j] {
					continue
				}
				v := overlap(d.Box, t.Box, false)
				if v >= confusionOverlap && (v > best || v == best && t.Class == d.Class) {
					found, best = j, v
				}
			}
			switch {
			case found >= 0:
				taken[found] = true
				c.Matrix[img.Truths[found].Class][d.Class]++
			case !ignored:
				c.Matrix[k][d.Class]++
			}
		}
		for j := range img.Truths {
			if t := &img.Truths[j]; cfg.Protocol.counts(t, 0) && !taken[j] {
				c.Matrix[t.Class][k]++
			}
		}
	}
	return c
}

// bestFirst returns the indices of dets by score, in order's memory; a stable
// sort.
func bestFirst(order []int32, dets []Detection) []int32 {
	order = indices(order, len(dets))
	slices.SortStableFunc(order, func(i, j int32) int { return cmp.Compare(dets[j].Score, dets[i].Score) })
	return order
}
