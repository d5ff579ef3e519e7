package box

import (
	"cmp"
	"encoding/binary"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

var nan = float32(math.NaN())

// oracle is suppression as torchvision's kernel writes it: every pair.
func oracle(boxes []Box, scores []float32, overlap float64, limit int) []int {
	order := make([]int, len(boxes))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return -cmp.Compare(rank(scores[a]), rank(scores[b])) })
	suppressed := make([]bool, len(boxes))
	keep := []int{}
	for n, i := range order {
		if suppressed[i] {
			continue
		}
		keep = append(keep, i)
		for _, j := range order[n+1:] {
			a, b := boxes[i], boxes[j]
			w := positive(lesser(a.X1, b.X1) - greater(a.X0, b.X0))
			h := positive(lesser(a.Y1, b.Y1) - greater(a.Y0, b.Y0))
			inter := float32(w * h)
			if float64(inter/(a.Area()+b.Area()-inter)) > overlap {
				suppressed[j] = true
			}
		}
	}
	if limit > 0 {
		keep = keep[:min(limit, len(keep))]
	}
	return keep
}

// C++'s max and min, which are not Go's on NaN.
func greater(a, b float32) float32 {
	if a < b {
		return b
	}
	return a
}

func lesser(a, b float32) float32 {
	if b < a {
		return b
	}
	return a
}

func positive(v float32) float32 { return greater(0, v) }

// rank puts NaN above all.
func rank(v float32) float64 {
	if v != v {
		return math.Inf(1)
	}
	return math.Max(math.Min(float64(v), math.MaxFloat64), -math.MaxFloat64)
}

// batchedOracle is torchvision's batched_nms above 1000 boxes.
func batchedOracle(boxes []Box, scores []float32, groups []int, overlap float64, limit int) []int {
	keep := []int{}
	for g := range slices.Values(slices.Compact(slices.Sorted(slices.Values(groups)))) {
		var of []int
		var b []Box
		var s []float32
		for i := range boxes {
			if groups[i] == g {
				of, b, s = append(of, i), append(b, boxes[i]), append(s, scores[i])
			}
		}
		for _, i := range oracle(b, s, overlap, 0) {
			keep = append(keep, of[i])
		}
	}
	slices.Sort(keep)
	slices.SortStableFunc(keep, func(a, b int) int { return -cmp.Compare(rank(scores[a]), rank(scores[b])) })
	if limit > 0 {
		keep = keep[:min(limit, len(keep))]
	}
	return keep
}

// crowd returns boxes that overlap a lot, with tied scores.
func crowd(r *rand.Rand, n int) (boxes []Box, scores []float32, groups []int) {
	for range n {
		x, y := float32(r.IntN(200)), float32(r.IntN(120))
		boxes = append(boxes, Box{x, y, x + float32(r.IntN(60)), y + float32(r.IntN(60))})
		scores = append(scores, float32(r.IntN(n))/float32(n))
		groups = append(groups, r.IntN(7)*13-20)
	}
	return boxes, scores, groups
}

func TestNMSAgainstEveryPair(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	var s Suppressor
	for _, n := range []int{0, 1, 2, 3, 10, 100, 700, 1001, 1500} {
		for _, overlap := range []float64{0, 0.3, 0.5, 0.7, 1} {
			for _, limit := range []int{0, 1, 30} {
				boxes, scores, groups := crowd(r, n)
				if got, want := s.NMS([]int{}, boxes, scores, float32(overlap), limit), oracle(boxes, scores, overlap, limit); !slices.Equal(got, want) {
					t.Fatalf("%d boxes, overlap %v, limit %d: kept %v, want %v", n, overlap, limit, got, want)
				}
				if n <= 1000 {
					continue
				}
				if got, want := s.Batched([]int{}, boxes, scores, groups, float32(overlap), limit), batchedOracle(boxes, scores, groups, overlap, limit); !slices.Equal(got, want) {
					t.Fatalf("%d boxes in groups, overlap %v, limit %d: kept %v, want %v", n, overlap, limit, got, want)
				}
			}
		}
	}
}

func TestNMSOrder(t *testing.T) {
	apart := func(n int) (boxes []Box) {
		for i := range n {
			boxes = append(boxes, Box{float32(10 * i), 0, float32(10*i + 5), 5})
		}
		return boxes
	}
	inf := float32(math.Inf(1))
	minusZero := float32(math.Copysign(0, -1))
	var s Suppressor
	for _, c := range []struct {
		scores []float32
		want   []int
	}{
		{[]float32{0.1, 0.9, 0.5}, []int{1, 2, 0}},
		{[]float32{0.5, 0.5, 0.5}, []int{0, 1, 2}},
		{[]float32{-1, 1, -2, 2}, []int{3, 1, 0, 2}},
		{[]float32{minusZero, 0, minusZero, 1e-45, -1e-45}, []int{3, 0, 1, 2, 4}},
		{[]float32{-inf, 3, nan, inf, -nan}, []int{2, 4, 3, 1, 0}},
	} {
		if got := s.NMS(nil, apart(len(c.scores)), c.scores, 0.5, 0); !slices.Equal(got, c.want) {
			t.Errorf("scores %v: order %v, want %v", c.scores, got, c.want)
		}
	}
	if got := s.NMS([]int{7}, apart(2), []float32{1, 2}, 0.5, 1); !slices.Equal(got, []int{7, 1}) {
		t.Errorf("appended to [7], limit 1: %v", got)
	}
}

// 3×1 of 10: the overlap is float32(0.3), which is above 0.3 and not above
// float32(0.3).
func TestNMSComparesInDoublePrecision(t *testing.T) {
	boxes := []Box{{0, 0, 10, 1}, {0, 0, 3, 1}}
	var s Suppressor
	if got := s.NMS(nil, boxes, []float32{2, 1}, 0.3, 0); len(got) != 1 {
		t.Errorf("an overlap of float32(0.3) is above 0.3: kept %v", got)
	}
	if got := s.NMS(nil, boxes, []float32{2, 1}, math.Nextafter32(0.3, 1), 0); len(got) != 2 {
		t.Errorf("kept %v", got)
	}
}

func TestNMSWithNaN(t *testing.T) {
	b := Box{0, 0, 10, 10}
	boxes := []Box{{nan, 0, 10, 10}, b, {0, 0, nan, 10}, b, {nan, nan, nan, nan}, b}
	var s Suppressor
	got := s.NMS(nil, boxes, []float32{6, 5, 4, 3, nan, 1}, 0.5, 0)
	if want := []int{4, 0, 1, 2}; !slices.Equal(got, want) {
		t.Errorf("kept %v, want %v", got, want)
	}
	got = s.Batched(nil, boxes, []float32{6, 5, 4, 3, nan, 1}, []int{0, 0, 0, 1, 1, 1}, 0.5, 0)
	if want := []int{4, 0, 1, 2, 3}; !slices.Equal(got, want) {
		t.Errorf("in groups: kept %v, want %v", got, want)
	}
}

// Below 1001 boxes groups are moved apart, by more than any box is wide: a
// box left of 0 then meets the group before its own, as in torchvision.
func TestBatchedMovesApart(t *testing.T) {
	boxes := []Box{{0, 0, 10, 10}, {-11, -11, -1, -1}}
	var s Suppressor
	if got := s.Batched(nil, boxes, []float32{2, 1}, []int{0, 1}, 0.5, 0); !slices.Equal(got, []int{0}) {
		t.Errorf("kept %v", got)
	}
	for len(boxes) <= 1000 {
		boxes = append(boxes, Box{})
	}
	scores, groups := make([]float32, len(boxes)), make([]int, len(boxes))
	scores[0], scores[1], groups[1] = 2, 1, 1
	if got := s.Batched(nil, boxes, scores, groups, 0.5, 2); !slices.Equal(got, []int{0, 1}) {
		t.Errorf("above 1000: kept %v", got)
	}
}

func TestNMSAllocatesNothing(t *testing.T) {
	boxes, scores, groups := crowd(rand.New(rand.NewPCG(2, 2)), 2000)
	var s Suppressor
	keep := make([]int, 0, len(boxes))
	run := func() {
		keep = s.NMS(keep[:0], boxes, scores, 0.7, 300)
		keep = s.Batched(keep[:0], boxes, scores, groups, 0.7, 300)
		keep = s.Batched(keep[:0], boxes[:900], scores[:900], groups[:900], 0.7, 300)
	}
	run()
	if n := testing.AllocsPerRun(10, run); n != 0 {
		t.Errorf("%v allocations a call", n)
	}
}

// FuzzNMS makes boxes of arbitrary bytes, NaN and infinity among them.
func FuzzNMS(f *testing.F) {
	f.Add([]byte{}, float32(0.5), uint8(0), false)
	raw := func(vs ...float32) (b []byte) {
		for _, v := range vs {
			b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
		}
		return b
	}
	inf := float32(math.Inf(1))
	f.Add(raw(0, 0, 10, 10, 1, 1, 1, 11, 11, 1, 0, 0, 10, 10, 0.5), float32(0.5), uint8(2), false)
	f.Add(raw(nan, 0, 10, 10, 1, 0, 0, inf, inf, nan, -inf, 0, inf, 5, 2, 0, 0, inf, inf, 3), float32(0), uint8(0), true)
	f.Add(raw(10, 10, 0, 0, 1, 10, 10, 0, 0, 1, 3, 3, 3, 3, 1, 3, 3, 3, 3, 1), float32(0.3), uint8(1), true)
	f.Fuzz(func(t *testing.T, data []byte, overlap float32, limit uint8, many bool) {
		if !(overlap >= 0) {
			t.Skip()
		}
		var boxes []Box
		var scores []float32
		var groups []int
		for ; len(data) >= 20 && len(boxes) < 200; data = data[20:] {
			var v [5]float32
			for i := range v {
				v[i] = math.Float32frombits(binary.LittleEndian.Uint32(data[4*i:]))
			}
			boxes, scores, groups = append(boxes, Box{v[0], v[1], v[2], v[3]}), append(scores, v[4]), append(groups, int(data[0])%3)
		}
		var s Suppressor
		got := s.NMS([]int{}, boxes, scores, overlap, int(limit))
		if want := oracle(boxes, scores, Written(overlap), int(limit)); !slices.Equal(got, want) {
			t.Errorf("%v %v: kept %v, want %v", boxes, scores, got, want)
		}
		for many && len(boxes) <= 1000 { // the other way of keeping groups apart
			boxes, scores, groups = append(boxes, Box{}), append(scores, -1), append(groups, len(boxes)%5)
		}
		got = s.Batched([]int{}, boxes, scores, groups, overlap, int(limit))
		if !many {
			return // rounded boxes: the recorded cases are the test
		}
		if want := batchedOracle(boxes, scores, groups, Written(overlap), int(limit)); !slices.Equal(got, want) {
			t.Errorf("in groups, %v %v: kept %v, want %v", boxes, scores, got, want)
		}
	})
}

// proposals returns boxes like an RPN's: many around each of some objects.
func proposals(n int) (boxes []Box, scores []float32) {
	r := rand.New(rand.NewPCG(3, 3))
	normal := func() float32 { return float32(r.NormFloat64()) }
	type object struct{ x, y, w, h float32 }
	objects := make([]object, 60)
	for i := range objects {
		objects[i] = object{1000 * r.Float32(), 600 * r.Float32(), 30 + 300*r.Float32(), 30 + 300*r.Float32()}
	}
	for range n {
		o := objects[r.IntN(len(objects))]
		x, y := o.x+0.3*o.w*normal(), o.y+0.3*o.h*normal()
		w, h := o.w*float32(math.Exp(0.4*float64(normal()))), o.h*float32(math.Exp(0.4*float64(normal())))
		boxes = append(boxes, Box{x - w/2, y - h/2, x + w/2, y + h/2}.Clip(1000, 600))
		scores = append(scores, r.Float32())
	}
	return boxes, scores
}

func BenchmarkNMS(b *testing.B) {
	for _, c := range []struct {
		name            string
		n, limit, group int
		overlap         float32
	}{
		{"6000 to 300", 6000, 300, 0, 0.7},
		{"12000 to 2000", 12000, 2000, 0, 0.7},
		{"1000 all", 1000, 0, 0, 0.5},
		{"5000 in 5 levels to 1000", 5000, 1000, 1000, 0.7},
		{"5000 in 90 classes to 100", 5000, 100, 56, 0.5},
	} {
		b.Run(c.name, func(b *testing.B) {
			boxes, scores := proposals(c.n)
			groups := make([]int, c.n)
			for i := range groups {
				if c.group > 0 {
					groups[i] = i / c.group
				}
			}
			var s Suppressor
			var keep []int
			b.ReportAllocs()
			for b.Loop() {
				if c.group > 0 {
					keep = s.Batched(keep[:0], boxes, scores, groups, c.overlap, c.limit)
				} else {
					keep = s.NMS(keep[:0], boxes, scores, c.overlap, c.limit)
				}
			}
			b.ReportMetric(float64(len(keep)), "kept")
		})
	}
}
