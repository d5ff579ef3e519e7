package eval

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"resdet/internal/assign"
)

// motFrame holds the rows of one frame, in their files' order.
type motFrame struct {
	number   int
	gt, pred []MOTRow
}

// groupMOT returns the frames that have a row, in order.
func groupMOT(gt, pred []MOTRow) []motFrame {
	at := map[int]int{}
	var frames []motFrame
	frame := func(number int) *motFrame {
		i, ok := at[number]
		if !ok {
			i = len(frames)
			at[number] = i
			frames = append(frames, motFrame{number: number})
		}
		return &frames[i]
	}
	for _, r := range gt {
		f := frame(r.Frame)
		f.gt = append(f.gt, r)
	}
	for _, r := range pred {
		f := frame(r.Frame)
		f.pred = append(f.pred, r)
	}
	slices.SortFunc(frames, func(a, b motFrame) int { return cmp.Compare(a.number, b.number) })
	return frames
}

// keepMOT returns the frames with the ground truth for which object is true
// and the predictions that dropped does not mark (nil: it marks none), without
// frames that have no row left.
func keepMOT(frames []motFrame, object func(MOTRow) bool, dropped func(f motFrame) []bool) []motFrame {
	var kept []motFrame
	for _, f := range frames {
		k := motFrame{number: f.number}
		for _, r := range f.gt {
			if object(r) {
				k.gt = append(k.gt, r)
			}
		}
		drop := dropped(f)
		for j, r := range f.pred {
			if drop == nil || !drop[j] {
				k.pred = append(k.pred, r)
			}
		}
		if len(k.gt)+len(k.pred) > 0 {
			kept = append(kept, k)
		}
	}
	return kept
}

// uniqueMOT returns an error that names the first id found twice in a frame.
func uniqueMOT(frames []motFrame) error {
	twice := func(what string, f motFrame, rows []MOTRow) error {
		seen := make(map[int]bool, len(rows))
		for _, r := range rows {
			if seen[r.ID] {
				return fmt.Errorf("%s: id %d is twice in frame %d", what, r.ID, f.number)
			}
			seen[r.ID] = true
		}
		return nil
	}
	for _, f := range frames {
		if err := twice("ground truth", f, f.gt); err != nil {
			return err
		}
		if err := twice("predictions", f, f.pred); err != nil {
			return err
		}
	}
	return nil
}

// distractor reports whether a prediction on an object of this class counts
// neither for nor against: someone on a vehicle, in a shop window, on a
// poster, in a mirror.
func distractor(class int) bool {
	return class == 2 || class == 7 || class == 8 || class == 12
}

// motDistances returns 1 − IoU of all pairs, NaN where the IoU is below 0.5;
// row-major, ground truth × predictions.
func motDistances(f motFrame) []float64 {
	d := make([]float64, 0, len(f.gt)*len(f.pred))
	for _, g := range f.gt {
		for _, p := range f.pred {
			v := 1 - motOverlap(g.Box, p.Box)
			if !(v <= 0.5) {
				v = math.NaN()
			}
			d = append(d, v)
		}
	}
	return d
}

// motOverlap is the IoU in py-motmetrics' order of operations, so that pairs
// at exactly 0.5 fall on the same side: the origin is moved by 1 (Matlab's
// counting), and sizes are taken from the moved corners.
func motOverlap(a, b Box) float64 {
	ax, ay, bx, by := a.X-1, a.Y-1, b.X-1, b.Y-1
	ax1, ay1, bx1, by1 := ax+a.W, ay+a.H, bx+b.W, by+b.H
	inter := max(min(ax1, bx1)-max(ax, bx), 0) * max(min(ay1, by1)-max(ay, by), 0)
	if inter == 0 {
		return 0
	}
	return inter / (max(ax1-ax, 0)*max(ay1-ay, 0) + max(bx1-bx, 0)*max(by1-by, 0) - inter)
}

// motPairs returns the prediction of each object, or −1: as many pairs as
// possible, then the least total distance. NaN is no pair.
func motPairs(distance []float64, rows, cols int) []int {
	of := make([]int, rows)
	dearest, missing := -1.0, false
	for _, d := range distance {
		if math.IsNaN(d) {
			missing = true
		} else {
			dearest = max(dearest, d)
		}
	}
	if dearest < 0 {
		for i := range of {
			of[i] = -1
		}
		return of
	}
	if !missing {
		return assign.Min(distance, rows, cols)
	}
	// Dearer than all pairs together; the very value of py-motmetrics, for its
	// rounding decides between equal totals.
	dear := 2*float64(min(rows, cols))*(dearest+1) + 1
	filled := make([]float64, len(distance))
	for i, d := range distance {
		filled[i] = d
		if math.IsNaN(d) {
			filled[i] = dear
		}
	}
	for i, j := range assign.Min(filled, rows, cols) {
		if j >= 0 && math.IsNaN(distance[i*cols+j]) {
			j = -1
		}
		of[i] = j
	}
	return of
}
