package box

import "math"

// Verdict says what a candidate is trained as.
type Verdict uint8

// The verdicts of a [Matcher].
const (
	Negative Verdict = iota // background
	Ignored                 // between the limits: not trained on
	Positive                // the object that it overlaps most
)

// String returns the verdict's name.
func (v Verdict) String() string {
	switch v {
	case Negative:
		return "negative"
	case Ignored:
		return "ignored"
	case Positive:
		return "positive"
	}
	return "unknown"
}

// Match is the verdict on one candidate.
type Match struct {
	Verdict Verdict
	Truth   int     // index of the object that it overlaps most, the first of equals; 0 if there are none
	Overlap float32 // their IoU; 0 if there are no objects
}

// Matcher assigns objects to candidates (anchors, proposals) by overlap.
type Matcher struct {
	// Low and High are the overlaps below which a candidate is negative and
	// from which on it is positive: 0.3 and 0.7 for the RPN, 0.5 and 0.5 for
	// the region head.
	Low, High float32
	// LowQuality makes those candidates positive, too, that no other one
	// exceeds in overlap with some object, so that each object has one (the
	// RPN). As in torchvision they are positive for the object that they
	// overlap most themselves, and an object that no candidate touches makes
	// all candidates positive that do not touch it.
	LowQuality bool
	// Convention is that of the candidates; objects are continuous boxes.
	Convention Convention
}

// Match appends the verdict on every candidate to dst. Its results are those
// of torchvision's Matcher on box_iou; an overlap that is NaN, of boxes
// without area, counts as 0. It costs len(truths)·len(candidates) overlaps,
// twice with LowQuality.
func (m Matcher) Match(dst []Match, truths, candidates []Box) []Match {
	return m.match(dst, len(truths), len(candidates), func(truth, candidate int) float32 {
		return m.Convention.IoU(m.Convention.Of(truths[truth]), candidates[candidate])
	})
}

func (m Matcher) match(dst []Match, truths, candidates int, overlap func(truth, candidate int) float32) []Match {
	start := len(dst)
	for c := range candidates {
		best := Match{}
		for t := range truths {
			if v := overlap(t, c); v > best.Overlap { // false for NaN
				best.Truth, best.Overlap = t, v
			}
		}
		switch {
		case truths == 0 || best.Overlap < m.Low:
			best.Verdict = Negative
		case best.Overlap < m.High:
			best.Verdict = Ignored
		default:
			best.Verdict = Positive
		}
		dst = append(dst, best)
	}
	if m.LowQuality {
		m.promote(dst[start:], truths, overlap)
	}
	return dst
}

// promote makes the best candidates of every object positive.
func (m Matcher) promote(matches []Match, truths int, overlap func(truth, candidate int) float32) {
	for t := range truths {
		best := float32(math.Inf(-1))
		for c := range matches {
			best = max(best, number(overlap(t, c)))
		}
		for c := range matches {
			if number(overlap(t, c)) == best {
				matches[c].Verdict = Positive
			}
		}
	}
}

// number returns 0 for NaN.
func number(v float32) float32 {
	if v != v {
		return 0
	}
	return v
}
