package eval

// The products stand in float64(…) so that no compiler may fuse them with the
// sums around them: the results must be those of pycocotools to the last bit.

// overlap is maskUtils.iou for boxes: intersection over union, or over the
// detection's area if the truth is a crowd.
func overlap(d, g Box, crowd bool) float64 {
	w := min(d.W+d.X, g.W+g.X) - max(d.X, g.X)
	if w <= 0 {
		return 0
	}
	h := min(d.H+d.Y, g.H+g.Y) - max(d.Y, g.Y)
	if h <= 0 {
		return 0
	}
	inter, da := float64(w*h), float64(d.W*d.H)
	if crowd {
		return inter / da
	}
	return inter / (da + float64(g.W*g.H) - inter)
}

// overlapVOC is the development kit's: corners are pixels that belong to the
// box, so every extent has +1. Boxes are turned into corners (x+1, y+1, x+w,
// y+h), which gives VOC's own integers back.
func overlapVOC(d, g Box) float64 {
	dx0, dy0, dx1, dy1 := d.X+1, d.Y+1, d.X+d.W, d.Y+d.H
	gx0, gy0, gx1, gy1 := g.X+1, g.Y+1, g.X+g.W, g.Y+g.H
	w := max(min(dx1, gx1)-max(dx0, gx0)+1, 0)
	h := max(min(dy1, gy1)-max(dy0, gy0)+1, 0)
	inter := float64(w * h)
	union := float64((dx1-dx0+1)*(dy1-dy0+1)) + float64((gx1-gx0+1)*(gy1-gy0+1)) - inter
	return inter / union
}
