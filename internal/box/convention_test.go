package box

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"testing"
)

// The arithmetic of the three code bases on one box, by hand: reference
// (10, 20, 29, 59) is 20×40 pixels where corners belong to it, 19×39 where not.
func TestConventions(t *testing.T) {
	ref := Box{10, 20, 29, 59}
	d := Delta{DX: 0.5, DY: -0.25, DW: 0, DH: 0}
	for convention, want := range map[Convention]Box{
		Continuous: {19.5, 10.25, 38.5, 49.25}, // centre 19.5 + 9.5, 39.5 − 9.75; half 9.5, 19.5
		Caffe:      {20, 10, 40, 50},           // centre 20 + 10, 40 − 10; half 10, 20
		Detectron:  {20, 10, 39, 49},
	} {
		c := Coder{Weights: [4]float32{1, 1, 1, 1}, Convention: convention}
		got := c.Decode(ref, d)
		if got != want {
			t.Errorf("%q: decoded %v, want %v", convention, got, want)
		}
		// Encoding leads from the reference to a continuous box: what decodes to
		// (20, 10, 39, 49) of pixels covers [20, 40)×[10, 50).
		back := c.Encode(ref, Box{want.X0, want.Y0, want.X1, want.Y1})
		if convention == Detectron {
			back = c.Encode(ref, Box{20, 10, 40, 50})
		}
		if back != d {
			t.Errorf("%q: encoded %v, want %v", convention, back, d)
		}
		if err := convention.Validate(); err != nil {
			t.Error(err)
		}
	}
	if got := Caffe.Clip(Box{-3, -3, 700, 700}, 640, 480); got != (Box{0, 0, 639, 479}) {
		t.Errorf("clipped to %v", got)
	}
	// 10×10 pixels each, 5×10 shared: 50 of 150; continuous: 4·9 of 2·81 − 36.
	a, b := Box{0, 0, 9, 9}, Box{5, 0, 14, 9}
	if got := Caffe.IoU(a, b); got != 50./150 {
		t.Errorf("overlap %v", got)
	}
	if got := Continuous.IoU(a, b); got != 36./126 {
		t.Errorf("overlap %v", got)
	}
	if Convention("matlab").Validate() == nil {
		t.Error("an unknown convention is valid")
	}
}

// Suppression under the +1 equals py-faster-rcnn's nms by its definition:
// overlaps of every pair, those above the limit go; and differs from the usual.
func TestNMSInclusive(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	differs := 0
	for range 200 {
		n := 2 + r.IntN(40)
		boxes, scores, groups := make([]Box, n), make([]float32, n), make([]int, n)
		for i := range boxes {
			x, y := r.Float32()*30, r.Float32()*30
			boxes[i] = Box{x, y, x + r.Float32()*12, y + r.Float32()*12}
			scores[i] = float32(r.IntN(20)) / 20
			groups[i] = r.IntN(2)
		}
		order := make([]int, n)
		for i := range order {
			order[i] = i
		}
		slices.SortStableFunc(order, func(a, b int) int { return -cmp.Compare(scores[a], scores[b]) })
		var want []int
		for _, i := range order {
			if !slices.ContainsFunc(want, func(k int) bool { return groups[k] == groups[i] && Caffe.IoU(boxes[k], boxes[i]) > 0.3 }) {
				want = append(want, i)
			}
		}
		s := Suppressor{Convention: Caffe}
		got := s.Batched(nil, boxes, scores, groups, 0.3, 0)
		if !slices.Equal(got, want) {
			t.Fatalf("kept %v, want %v", got, want)
		}
		if !slices.Equal(got, new(Suppressor).Batched(nil, boxes, scores, groups, 0.3, 0)) {
			differs++
		}
	}
	if differs < 50 {
		t.Errorf("in %d of 200 cases only does the convention matter", differs)
	}
}
