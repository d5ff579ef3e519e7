package eval

import (
	"cmp"
	"slices"
)

// Mistake is a false positive or a missed object at IoU 0.5, for people to
// look at.
type Mistake struct {
	Image     *Image
	Detection *Detection // nil for a miss
	// Truth is the missed object, or the object that the false positive
	// overlaps most, whatever its class; nil if it overlaps none.
	Truth *Truth
	IoU   float64 // of both; 0 for a miss
}

// FalsePositives returns the n false positives with the highest scores.
func (r *Result) FalsePositives(n int) []Mistake {
	type candidate struct {
		row   *Row
		class int
	}
	var worst []candidate
	for k := range r.classes {
		left := n
		for i := range r.classes[k].rows {
			row := &r.classes[k].rows[i]
			if left == 0 {
				break
			}
			if !row.Hit() && !row.Skipped() {
				worst = append(worst, candidate{row, k})
				left--
			}
		}
	}
	slices.SortStableFunc(worst, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(b.row.Score, a.row.Score), cmp.Compare(a.row.Image, b.row.Image), cmp.Compare(a.class, b.class))
	})
	var out []Mistake
	for _, c := range worst[:min(n, len(worst))] {
		img := r.Images[c.row.Image]
		m := Mistake{Image: img, Detection: &img.Detections[c.row.Detection]}
		for i := range img.Truths {
			if v := overlap(m.Detection.Box, img.Truths[i].Box, false); v > m.IoU {
				m.Truth, m.IoU = &img.Truths[i], v
			}
		}
		out = append(out, m)
	}
	return out
}

// Misses returns the n largest objects that no detection of their class found.
func (r *Result) Misses(n int) []Mistake {
	found := map[*Truth]bool{}
	for k := range r.classes {
		for i := range r.classes[k].rows {
			if row := &r.classes[k].rows[i]; row.Truth >= 0 {
				found[&r.Images[row.Image].Truths[row.Truth]] = true
			}
		}
	}
	var out []Mistake
	for _, img := range r.Images {
		for i := range img.Truths {
			if t := &img.Truths[i]; r.Protocol.counts(t, 0) && !found[t] {
				out = append(out, Mistake{Image: img, Truth: t})
			}
		}
	}
	slices.SortStableFunc(out, func(a, b Mistake) int { return cmp.Compare(b.Truth.Area, a.Truth.Area) })
	return out[:min(n, len(out))]
}
