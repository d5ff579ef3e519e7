package calibrate

import (
	"slices"

	"resdet/internal/box"
	"resdet/internal/det"
)

// What counts as the same detection: the bounds of the promise for lower
// precisions.
const (
	strong  = 0.5 // score from which a detection must be found again
	overlap = 0.9 // IoU of the same box
)

// Agreement sums up how far two networks detect the same. The zero value is
// that of no images.
type Agreement struct {
	// Strong counts the detections above 0.5 of either network, Matched those of
	// them of which the other has one of the same class with an IoU of at least
	// 0.9, whatever its score.
	Strong, Matched int
	weight, lost    float64
}

// Add compares what the reference and the other network found in one image,
// best first.
func (a *Agreement) Add(reference, other []det.Detection) {
	for i, pair := range [][2][]det.Detection{{reference, other}, {other, reference}} {
		for _, p := range match(pair[0], pair[1]) {
			if p.of.Score > strong {
				a.Strong++
				if p.overlap >= overlap {
					a.Matched++
				}
			}
			if i == 0 {
				a.weight += float64(p.of.Score)
				a.lost += float64(p.of.Score) * (1 - p.likeness())
			}
		}
	}
}

// Part is the matched part of the strong detections, 1 if there are none.
func (a Agreement) Part() float64 {
	if a.Strong == 0 {
		return 1
	}
	return float64(a.Matched) / float64(a.Strong)
}

// Loss is how much of the reference's detections is lost, from 0 to 1, weighed
// by their scores: of each, one less the product of the IoU and the ratio of
// the scores of its match. It tells layers apart where all detections still
// match.
func (a Agreement) Loss() float64 {
	if a.weight == 0 {
		return 0
	}
	return a.lost / a.weight
}

// matched is a detection with the other network's of the same class that
// overlaps it most and was not taken by a better one.
type matched struct {
	of, by  det.Detection
	overlap float32 // 0 without a match
}

func (m matched) likeness() float64 {
	if m.overlap == 0 {
		return 0
	}
	return float64(m.overlap * min(m.of.Score, m.by.Score) / max(m.of.Score, m.by.Score))
}

func match(these, those []det.Detection) []matched {
	left := slices.Clone(those)
	pairs := make([]matched, len(these))
	for i, d := range these {
		p, at := matched{of: d}, -1
		for j, o := range left {
			if o.Class != d.Class {
				continue
			}
			if iou := box.IoU(d.Box, o.Box); iou > p.overlap {
				p.by, p.overlap, at = o, iou, j
			}
		}
		if at >= 0 {
			left = slices.Delete(left, at, at+1)
		}
		pairs[i] = p
	}
	return pairs
}
