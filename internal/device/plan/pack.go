package plan

import "slices"

// Span is a buffer that is needed from step First to step Last, both included.
type Span struct {
	Size        int64
	First, Last int
}

// Pack places spans in one arena so that spans needed at the same time do not
// overlap. It returns their offsets, multiples of align, and the arena's size.
// Large spans are placed first, each into the smallest gap that holds it; on
// the project's networks the result is within a few per cent of the most that
// is alive at once.
func Pack(spans []Span, align int64) (offsets []int64, size int64) {
	order := make([]int, len(spans))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		if d := spans[b].Size - spans[a].Size; d != 0 {
			return int(min(max(d, -1), 1))
		}
		return spans[a].First - spans[b].First
	})
	offsets = make([]int64, len(spans))
	var placed []int // by offset
	for _, i := range order {
		s := spans[i]
		best, bestGap, end := int64(-1), int64(0), int64(0)
		for _, j := range placed {
			o := spans[j]
			if o.Last < s.First || s.Last < o.First {
				continue
			}
			if gap := offsets[j] - end; gap >= s.Size && (best < 0 || gap < bestGap) {
				best, bestGap = end, gap
			}
			end = max(end, offsets[j]+roundUp(o.Size, align))
		}
		if best < 0 {
			best = end
		}
		offsets[i] = best
		size = max(size, best+roundUp(s.Size, align))
		at, _ := slices.BinarySearchFunc(placed, best, func(j int, o int64) int { return int(min(max(offsets[j]-o, -1), 1)) })
		placed = slices.Insert(placed, at, i)
	}
	return offsets, size
}

func roundUp(n, align int64) int64 { return (n + align - 1) / align * align }
