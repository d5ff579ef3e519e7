package track

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"resdet/internal/box"
	"resdet/internal/det"
)

func TestClasses(t *testing.T) {
	at := func(class int, x float32) det.Detection {
		return det.Detection{Class: class, Score: 0.9, Box: box.Box{X0: x, Y0: 50, X1: x + 60, Y1: 200}}
	}
	c := NewClasses(DefaultConfig())
	// A car and a person in the same place are two objects.
	for n := range 4 {
		got := c.Update([]det.Detection{at(6, float32(n)), at(14, float32(n))})
		if len(got) != 2 || got[0].ID != 1 || got[0].Class != 6 || got[1].ID != 2 || got[1].Class != 14 {
			t.Fatalf("frame %d: %+v", n+1, got)
		}
	}
	// A class seen first in a later frame needs two frames like any other, and
	// its id is not one that another class has.
	if got := c.Update([]det.Detection{at(6, 4), at(2, 300)}); len(got) != 1 {
		t.Fatalf("born and returned at once: %+v", got)
	}
	got := c.Update([]det.Detection{at(6, 5), at(2, 301)})
	if len(got) != 2 || got[1].ID != 3 || got[1].Class != 2 {
		t.Fatalf("%+v", got)
	}
	// Classes that nothing is left of are forgotten.
	for range 40 {
		c.Update(nil)
	}
	if len(c.each) != 0 {
		t.Errorf("%d trackers left", len(c.each))
	}
	if got := c.Update(nil); len(got) != 0 {
		t.Errorf("%+v", got)
	}
}

func TestInterpolate(t *testing.T) {
	o := func(id int, x, score float32) Object {
		return Object{id, det.Detection{Class: id, Score: score, Box: box.Box{X0: x, Y0: 10, X1: x + 20, Y1: 30}}}
	}
	before, after := []Object{o(1, 0, 0.5), o(2, 100, 0.8)}, []Object{o(1, 40, 0.9), o(3, 200, 0.7)}
	for _, c := range []struct {
		at   float32
		want []Object
	}{
		{0.25, []Object{o(1, 10, 0.6), o(2, 100, 0.8)}},
		{0.5, []Object{o(1, 20, 0.7), o(2, 100, 0.8)}},
		{0.75, []Object{o(1, 30, 0.8), o(3, 200, 0.7)}},
	} {
		near := cmp.Comparer(func(a, b float32) bool { return a-b < 1e-5 && b-a < 1e-5 })
		if d := cmp.Diff(c.want, Interpolate(before, after, c.at), near); d != "" {
			t.Errorf("at %v (-want +got):\n%s", c.at, d)
		}
	}
	if before[0].Box.X0 != 0 || after[0].Box.X0 != 40 {
		t.Error("the frames were changed")
	}
	if got := Interpolate(nil, nil, 0.5); len(got) != 0 {
		t.Errorf("%+v", got)
	}
}

// FuzzUpdate feeds any bytes as detections: nothing may panic, ids may occur
// once a frame, and only what was matched in this frame may come back.
func FuzzUpdate(f *testing.F) {
	f.Add([]byte("\x10\x20\x40\x80\xf0\x10\x21\x40\x80\xf0\x00\x00\x00\x00\x00"))
	f.Add([]byte("\x05\x05\x05\x05\xff\xff\xff\x01\x01\xff"))
	f.Fuzz(func(t *testing.T, data []byte) {
		cfg := DefaultConfig()
		cfg.Buffer = 2
		tr := New(cfg)
		var dets []Detection
		for frame := 1; len(data) >= 5; data = data[5:] {
			d := Detection{
				Box:   Box{float64(data[0]), float64(data[1]), float64(data[0]) + float64(int8(data[2])), float64(data[1]) + float64(data[3])},
				Score: float64(data[4]) / 255,
			}
			dets = append(dets, d)
			if data[4]%4 != 0 {
				continue
			}
			seen := map[int]bool{}
			for _, k := range tr.Update(dets) {
				if seen[k.ID] || k.State != Tracked || k.Last != frame || dets[k.Detection].Score != k.Score {
					t.Fatalf("frame %d: %+v", frame, k)
				}
				seen[k.ID] = true
			}
			for _, k := range tr.Lost() {
				if seen[k.ID] {
					t.Fatalf("frame %d: %d is tracked and lost", frame, k.ID)
				}
			}
			dets = dets[:0]
			frame++
		}
	})
}
