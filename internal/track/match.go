package track

import "resdet/internal/assign"

// overlap is the intersection over the union in whole pixels: a box from 10 to
// 10 is one pixel wide (cython_bbox, which ByteTrack uses).
func overlap(a, b Box) float64 {
	w := min(a.X1, b.X1) - max(a.X0, b.X0) + 1
	if !(w > 0) {
		return 0
	}
	h := min(a.Y1, b.Y1) - max(a.Y0, b.Y0) + 1
	if !(h > 0) {
		return 0
	}
	inter := w * h
	return inter / (area(a) + area(b) - inter)
}

func area(b Box) float64 { return (b.X1 - b.X0 + 1) * (b.Y1 - b.Y0 + 1) }

// pair is one association: the detection of each track, or −1, and the
// detections that are left, in their order. The cost of a pair is 1 − IoU,
// with fuse 1 − IoU·score; limit as in assign.Within.
func pair(tracks []*track, dets []candidate, limit float64, fuse bool) (of []int, left []candidate) {
	if len(tracks) == 0 || len(dets) == 0 {
		of = make([]int, len(tracks))
		for i := range of {
			of[i] = -1
		}
		return of, dets
	}
	cost := make([]float64, 0, len(tracks)*len(dets))
	for _, t := range tracks {
		b := t.filter.box()
		for _, d := range dets {
			c := 1 - overlap(b, d.box)
			if fuse {
				c = 1 - (1-c)*d.score
			}
			cost = append(cost, c)
		}
	}
	of = assign.Within(cost, len(tracks), len(dets), limit)
	used := make([]bool, len(dets))
	for _, j := range of {
		if j >= 0 {
			used[j] = true
		}
	}
	for j, d := range dets {
		if !used[j] {
			left = append(left, d)
		}
	}
	return of, left
}

// duplicateCost is the distance (1 − IoU) below which a tracked and a lost
// track are the same object.
const duplicateCost = 0.15

// dropDuplicates takes from each pair of a tracked and a lost track that lie
// on one another the one with the shorter life off its list; at equal lives
// the tracked one goes. All pairs are judged before any track is dropped.
func dropDuplicates(tracked, lost []*track) (keptTracked, keptLost []*track) {
	dropTracked, dropLost := make([]bool, len(tracked)), make([]bool, len(lost))
	for i, a := range tracked {
		box := a.filter.box()
		for j, b := range lost {
			if 1-overlap(box, b.filter.box()) < duplicateCost {
				if a.last-a.first > b.last-b.first {
					dropLost[j] = true
				} else {
					dropTracked[i] = true
				}
			}
		}
	}
	return without(tracked, dropTracked), without(lost, dropLost)
}

func without(tracks []*track, drop []bool) []*track {
	kept := tracks[:0]
	for i, t := range tracks {
		if !drop[i] {
			kept = append(kept, t)
		}
	}
	return kept
}
