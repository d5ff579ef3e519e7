package eval

import "slices"

// Row is one detection after matching: the evidence from which every figure is
// derived.
type Row struct {
	Image     int32 // index into [Result.Images]
	Detection int32 // index into the image's detections
	// Truth is the index of the truth it took at IoU 0.5, or −1. It may be one
	// that does not count (a crowd, a difficult object).
	Truth int32
	Rank  int32 // 0 for the image's best detection of the class, and so on
	Score float64
	// IoU is that with Truth, and if there is none the best with any truth of
	// the class; 0 if the class has none.
	IoU float64

	// hit and skip have a bit for every IoU threshold, by area range: true
	// positive; counts neither for nor against. Neither bit: false positive.
	hit, skip [numAreas]uint16
}

// Hit reports whether the row is a true positive at the first IoU threshold,
// which is 0.5.
func (r *Row) Hit() bool { return r.hit[0]&1 != 0 }

// Skipped reports whether the row counts neither for nor against at the first
// IoU threshold.
func (r *Row) Skipped() bool { return r.skip[0]&1 != 0 }

// matcher matches the detections of one image at a time; it keeps scratch.
type matcher struct {
	protocol Protocol
	overlaps []float64

	dets, truths []int32 // indices, by class
	iou          []float64
	best         []float64 // by detection: the largest IoU
	order        []int32   // truths of the class, those that are ignored last
	ignored      []bool
	pattern      []bool // ignored, as it was for area range 0
	taken        []bool
}

func newMatcher(p Protocol) *matcher { return &matcher{protocol: p, overlaps: p.overlaps()} }

// match returns the rows of an image, by class, best first. Image is not set.
func (m *matcher) match(img *Image) []Row {
	m.dets = indices(m.dets, len(img.Detections))
	slices.SortFunc(m.dets, func(i, j int32) int {
		a, b := &img.Detections[i], &img.Detections[j]
		switch {
		case a.Class != b.Class:
			return a.Class - b.Class
		case a.Score > b.Score:
			return -1
		case a.Score < b.Score:
			return 1
		}
		return int(i - j) // a stable sort by −score, as np.argsort(kind='mergesort')
	})
	m.truths = indices(m.truths, len(img.Truths))
	slices.SortFunc(m.truths, func(i, j int32) int {
		if c := img.Truths[i].Class - img.Truths[j].Class; c != 0 {
			return c
		}
		return int(i - j)
	})

	rows := make([]Row, 0, len(m.dets))
	dets, truths := m.dets, m.truths
	for len(dets) > 0 {
		class := img.Detections[dets[0]].Class
		n := 1
		for n < len(dets) && img.Detections[dets[n]].Class == class {
			n++
		}
		for len(truths) > 0 && img.Truths[truths[0]].Class < class {
			truths = truths[1:]
		}
		g := 0
		for g < len(truths) && img.Truths[truths[g]].Class == class {
			g++
		}
		kept := n
		if m.protocol == COCO {
			kept = min(n, maxDets[len(maxDets)-1])
		}
		start := len(rows)
		for rank, d := range dets[:kept] {
			rows = append(rows, Row{Detection: d, Truth: -1, Rank: int32(rank), Score: img.Detections[d].Score})
		}
		if m.protocol == COCO {
			m.matchCOCO(img, rows[start:], truths[:g])
		} else {
			m.matchVOC(img, rows[start:], truths[:g])
		}
		dets, truths = dets[n:], truths[g:]
	}
	return rows
}

// matchCOCO is COCOeval.evaluateImg of pycocotools for one class of an image:
// rows by score, truths in the file's order.
func (m *matcher) matchCOCO(img *Image, rows []Row, truths []int32) {
	g := len(truths)
	m.iou = resize(m.iou, len(rows)*g)
	m.best = resize(m.best, len(rows))
	for i := range rows {
		box, best := img.Detections[rows[i].Detection].Box, 0.0
		for j, t := range truths {
			v := overlap(box, img.Truths[t].Box, img.Truths[t].Crowd)
			m.iou[i*g+j] = v
			best = max(best, v)
		}
		m.best[i] = best
		rows[i].IoU = best
	}

	m.ignored = resize(m.ignored, g)
	m.pattern = resize(m.pattern, g)
	m.order = resize(m.order, g)
	m.taken = resize(m.taken, g)
	for a := range areaRanges {
		for j, t := range truths {
			m.ignored[j] = !COCO.counts(&img.Truths[t], a)
		}
		if a == 0 {
			copy(m.pattern, m.ignored)
		}
		if a == 0 || !slices.Equal(m.pattern, m.ignored) {
			m.matchArea(img, rows, truths, a)
		} else { // the same truths count, so the matches are those of "all"
			for i := range rows {
				rows[i].hit[a], rows[i].skip[a] = rows[i].hit[0], rows[i].skip[0]
			}
		}
	}
	// A detection that is unmatched and outside the range is ignored. Only
	// after all ranges, because the matches of "all" are copied above.
	every := uint16(1)<<len(m.overlaps) - 1
	for i := range rows {
		area := img.Detections[rows[i].Detection].Box.Area()
		for a, limits := range areaRanges {
			if area < limits[0] || area > limits[1] {
				rows[i].skip[a] |= every &^ rows[i].hit[a]
			}
		}
	}
}

// matchArea matches at every IoU threshold for area range a.
func (m *matcher) matchArea(img *Image, rows []Row, truths []int32, a int) {
	order := m.order[:0] // truths that count first; both parts in the file's order
	for j := range truths {
		if !m.ignored[j] {
			order = append(order, int32(j))
		}
	}
	for j := range truths {
		if m.ignored[j] {
			order = append(order, int32(j))
		}
	}
	for t, threshold := range m.overlaps {
		bit := uint16(1) << t
		threshold = min(threshold, 1-1e-10)
		clear(m.taken)
		for i := range rows {
			if m.best[i] < threshold {
				continue
			}
			iou, found := threshold, int32(-1)
			for _, j := range order {
				truth := &img.Truths[truths[j]]
				if m.taken[j] && !truth.Crowd {
					continue
				}
				if found >= 0 && !m.ignored[found] && m.ignored[j] {
					break // a truth that counts is preferred to any ignored one
				}
				if v := m.iou[i*len(truths)+int(j)]; v >= iou { // equal: the later truth
					iou, found = v, j
				}
			}
			if found < 0 {
				continue
			}
			m.taken[found] = true
			switch {
			case m.ignored[found]:
				rows[i].skip[a] |= bit
			case img.Truths[truths[found]].ID != 0: // 0 reads as "no match"
				rows[i].hit[a] |= bit
			}
			if a == 0 && t == 0 {
				rows[i].Truth, rows[i].IoU = truths[found], iou
			}
		}
	}
}

// indices returns 0…n−1 in s's memory.
func indices(s []int32, n int) []int32 {
	s = resize(s, n)
	for i := range s {
		s[i] = int32(i)
	}
	return s
}

// resize returns a slice of n elements, s's if it has room.
func resize[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n, 2*n)
	}
	return s[:n]
}
