package eval

// matchVOC is the inner loop of the development kit's VOCevaldet.m (and of
// py-faster-rcnn's voc_eval.py) for one class of an image. A detection looks
// only at the truth it overlaps most, taken or not; there is no second choice.
func (m *matcher) matchVOC(img *Image, rows []Row, truths []int32) {
	m.taken = resize(m.taken, len(truths))
	clear(m.taken)
	for i := range rows {
		r := &rows[i]
		found, best := -1, -1.0
		for j, t := range truths {
			if v := overlapVOC(img.Detections[r.Detection].Box, img.Truths[t].Box); v > best {
				found, best = j, v
			}
		}
		r.IoU = max(best, 0)
		if best <= m.overlaps[0] { // strictly greater matches
			continue
		}
		switch {
		case img.Truths[truths[found]].Difficult:
			r.skip[0], r.Truth = 1, truths[found]
		case !m.taken[found]:
			m.taken[found] = true
			r.hit[0], r.Truth = 1, truths[found]
		}
	}
}
