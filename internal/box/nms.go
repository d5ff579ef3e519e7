package box

import (
	"math"
	"slices"
)

// Suppressor does non-maximum suppression. The zero value is ready; it keeps
// its memory, so that later calls allocate nothing. It serves one goroutine at
// a time.
type Suppressor struct {
	// Convention is that of the boxes.
	Convention Convention

	order  []uint64 // candidates, best first: score's key, then index
	shift  []Box
	group  []int32 // of each candidate, dense
	dense  map[int]int32
	groups []segment
	kept   []keptBox // by group
}

// segment is where the kept boxes of a group lie.
type segment struct{ from, to int }

type keptBox struct {
	Box
	area float32
}

// errShort is a bug of the caller.
const errShort = "box: boxes, scores and groups differ in length"

// NMS appends to dst the indices of the boxes that are kept, best score first:
// each box is dropped whose overlap (IoU) with a better one that is kept is
// above the given one, ≥ 0. It stops at limit boxes; limit ≤ 0: no limit.
//
// The result is torchvision.ops.nms's, on the CPU: equal scores in order of
// index, NaN scores first, and the overlap in float32 against the limit in
// double precision. A box with a NaN corner is kept and drops no other. Under
// another [Convention] the overlaps are that one's.
func (s *Suppressor) NMS(dst []int, boxes []Box, scores []float32, overlap float32, limit int) []int {
	if len(boxes) != len(scores) {
		panic(errShort)
	}
	s.sort(scores)
	s.group = grow(s.group, len(boxes))
	clear(s.group)
	s.groups = append(s.groups[:0], segment{})
	return s.suppress(dst, boxes, overlap, limit)
}

// Batched is NMS among the boxes of each group (class, level) alone. The
// result is that of torchvision.ops.batched_nms, which below 1001 boxes moves
// the groups apart instead of comparing their numbers: that rounds the boxes,
// and boxes left of or above 0 can meet another group.
func (s *Suppressor) Batched(dst []int, boxes []Box, scores []float32, groups []int, overlap float32, limit int) []int {
	if len(boxes) != len(groups) {
		panic(errShort)
	}
	const apart = 1000 // boxes: 4000 elements
	if len(boxes) <= apart && s.Convention == Continuous {
		if s.moveApart(boxes, groups) {
			return s.NMS(dst, s.shift, scores, overlap, limit)
		}
	}
	if len(boxes) != len(scores) {
		panic(errShort)
	}
	s.sort(scores)
	s.divide(groups)
	return s.suppress(dst, boxes, overlap, limit)
}

// moveApart fills s.shift with the boxes moved by their group times the
// largest coordinate plus one; false if that is not finite.
func (s *Suppressor) moveApart(boxes []Box, groups []int) bool {
	largest := float32(math.Inf(-1))
	for _, b := range boxes {
		largest = max(largest, b.X0, b.Y0, b.X1, b.Y1)
	}
	if len(boxes) > 0 && largest-largest != 0 {
		return false
	}
	s.shift = grow(s.shift, len(boxes))
	for i, b := range boxes {
		d := float32(float32(groups[i]) * (largest + 1))
		s.shift[i] = Box{b.X0 + d, b.Y0 + d, b.X1 + d, b.Y1 + d}
	}
	return true
}

// divide numbers the groups of the candidates and gives each its segment.
func (s *Suppressor) divide(groups []int) {
	if s.dense == nil {
		s.dense = map[int]int32{}
	}
	clear(s.dense)
	s.groups = s.groups[:0]
	s.group = grow(s.group, len(groups))
	for i, g := range groups {
		if i > 0 && g == groups[i-1] { // levels come one after another
			s.group[i] = s.group[i-1]
		} else {
			n, ok := s.dense[g]
			if !ok {
				n = int32(len(s.groups))
				s.dense[g] = n
				s.groups = append(s.groups, segment{})
			}
			s.group[i] = n
		}
		s.groups[s.group[i]].to++
	}
	from := 0
	for i, g := range s.groups {
		s.groups[i] = segment{from, from}
		from += g.to
	}
}

// sort fills s.order.
func (s *Suppressor) sort(scores []float32) {
	s.order = grow(s.order, len(scores))
	for i, v := range scores {
		s.order[i] = uint64(descending(v))<<32 | uint64(uint32(i))
	}
	slices.Sort(s.order)
}

// descending maps scores to keys of the opposite order: NaN first, then +∞ …
// −∞, with +0 and −0 equal.
func descending(v float32) uint32 {
	if v != v {
		return 0
	}
	b := math.Float32bits(v + 0) // −0 + 0 = +0
	if b>>31 == 0 {
		b |= 1 << 31
	} else {
		b = ^b
	}
	return ^b
}

// suppress goes through the candidates in order.
func (s *Suppressor) suppress(dst []int, boxes []Box, overlap float32, limit int) []int {
	s.kept = grow(s.kept, len(boxes))
	above := Written(overlap)
	start := len(dst)
	for _, key := range s.order {
		if limit > 0 && len(dst)-start == limit {
			break
		}
		i := int(uint32(key))
		g := &s.groups[s.group[i]]
		c := keptBox{boxes[i], boxes[i].Area()}
		if s.Convention != Continuous {
			c.area = inclusiveArea(c.Box)
			if coveredInclusive(s.kept[g.from:g.to], &c, above) {
				continue
			}
		} else if covered(s.kept[g.from:g.to], &c, above) {
			continue
		}
		s.kept[g.to] = c
		g.to++
		dst = append(dst, i)
	}
	return dst
}

// covered reports whether c overlaps one of kept by more than above.
func covered(kept []keptBox, c *keptBox, above float64) bool {
	for i := range kept {
		k := &kept[i]
		// Most pairs are apart; those need neither product nor quotient.
		if k.X0 >= c.X1 || c.X0 >= k.X1 || k.Y0 >= c.Y1 || c.Y0 >= k.Y1 {
			continue
		}
		inter := intersection(k.Box, c.Box)
		if float64(inter/(k.area+c.area-inter)) > above {
			return true
		}
	}
	return false
}

// coveredInclusive is covered for boxes whose corners belong to them.
func coveredInclusive(kept []keptBox, c *keptBox, above float64) bool {
	for i := range kept {
		if float64(inclusiveIoU(kept[i].Box, c.Box, kept[i].area, c.area)) > above {
			return true
		}
	}
	return false
}

// Written returns the number that overlap was written as, if it has at most
// seven decimals: torchvision's limit is a double, and 0.3 in double precision
// is less than 0.3 in single, which is an overlap that does occur.
func Written(overlap float32) float64 {
	if v := math.Round(float64(overlap)*1e7) / 1e7; float32(v) == overlap {
		return v
	}
	return float64(overlap)
}

// grow returns s with length n; its elements are dirty.
func grow[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n)
	}
	return s[:n]
}
