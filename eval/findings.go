package eval

import (
	"cmp"
	"slices"
)

// finder tells the kinds of mistakes in one image at a time; it keeps scratch.
type finder struct {
	order  []int32
	truths []int32 // indices of those that count
	iou    []float64
	used   []bool    // by truth
	usable []bool    // by truth: a Cls or Loc mistake could have found it
	best   []int32   // by truth: the finding of the highest score among those
	states []finding // by detection in order
	skip   []bool    // by detection in order
}

// find is TIDEExample and TIDERun._eval_image of tidecv. The order of the
// tests is part of TIDE's definition: an image without objects (Bkg), Loc,
// Cls, Dupe, Bkg, and Both for what is left.
func (f *finder) find(cfg Config, img *Image) findings {
	f.order = bestFirst(f.order, img.Detections)
	order := f.order[:min(len(f.order), causeMaxDets)]
	f.truths = f.truths[:0]
	for j := range img.Truths {
		if cfg.Protocol.counts(&img.Truths[j], 0) {
			f.truths = append(f.truths, int32(j))
		}
	}
	g := len(f.truths)
	f.prepare(len(order), g)
	for i, d := range order {
		for j, t := range f.truths {
			f.iou[i*g+j] = overlap(img.Detections[d].Box, img.Truths[t].Box, false)
		}
	}
	class := func(j int) int { return img.Truths[f.truths[j]].Class }

	for i, d := range order {
		det := &img.Detections[d]
		f.states[i] = finding{score: det.Score, class: int32(det.Class), kind: kindBkg, fixed: -1}
		found, best := -1, 0.0
		for j := range g {
			if class(j) == det.Class && !f.used[j] && f.iou[i*g+j] > best {
				found, best = j, f.iou[i*g+j]
			}
		}
		if found >= 0 && best >= causeForeground {
			f.used[found] = true
			f.states[i].kind = kindNone
			continue
		}
		for j := range img.Truths { // a region that is ignored excuses it
			t := &img.Truths[j]
			if !cfg.Protocol.counts(t, 0) && t.Class == det.Class && overlap(det.Box, t.Box, t.Crowd) > causeForeground {
				f.skip[i] = true
			}
		}
	}

	for i, d := range order {
		s := &f.states[i]
		if s.kind == kindNone || f.skip[i] {
			continue
		}
		// The best overlap with an object of the class, of another class, with
		// one of the class that is taken, and with any.
		own, other, taken, best := -1, -1, 0.0, 0.0
		for j := range g {
			v := f.iou[i*g+j]
			best = max(best, v)
			if class(j) != img.Detections[d].Class {
				if other < 0 || v > f.iou[i*g+other] {
					other = j
				}
				continue
			}
			if own < 0 || v > f.iou[i*g+own] {
				own = j
			}
			if f.used[j] {
				taken = max(taken, v)
			}
		}
		switch {
		case g == 0:
			s.kind = kindBkg
		case own >= 0 && f.iou[i*g+own] >= causeBackground && f.iou[i*g+own] <= causeForeground:
			s.kind = kindLoc
			f.want(i, own)
		case other >= 0 && f.iou[i*g+other] >= causeForeground:
			s.kind = kindCls
			f.want(i, other)
		case taken >= causeForeground:
			s.kind = kindDupe
		case best <= causeBackground:
			s.kind = kindBkg
		default:
			s.kind = kindBoth
		}
	}

	var out findings
	for j := range g {
		if f.best[j] >= 0 {
			f.states[f.best[j]].fixed = int32(class(j))
		}
		if !f.used[j] && !f.usable[j] {
			out.misses = append(out.misses, int32(class(j)))
		}
	}
	out.dets = make([]finding, 0, len(order))
	for i := range order {
		if !f.skip[i] {
			out.dets = append(out.dets, f.states[i])
		}
	}
	return out
}

func (f *finder) prepare(dets, truths int) {
	f.iou = resize(f.iou, dets*truths)
	f.used, f.usable = resize(f.used, truths), resize(f.usable, truths)
	f.best, f.states, f.skip = resize(f.best, truths), resize(f.states, dets), resize(f.skip, dets)
	clear(f.used)
	clear(f.usable)
	clear(f.skip)
	for j := range f.best {
		f.best[j] = -1
	}
}

// want notes that finding i would find truth j if it were fixed. Only the best
// of several does, and none if the truth is found already. Findings come best
// first, so the first one stays.
func (f *finder) want(i, j int) {
	if f.used[j] {
		return
	}
	f.usable[j] = true
	if f.best[j] < 0 {
		f.best[j] = int32(i)
	}
}

func sortFindings(all []finding) {
	slices.SortStableFunc(all, func(a, b finding) int { return cmp.Compare(b.score, a.score) })
}
