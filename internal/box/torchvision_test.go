package box

import (
	"math"
	"slices"
	"testing"

	"resdet/internal/fixture"
	"resdet/internal/nd"
)

// TestTorchvision runs every recorded call of torchvision's box operations.
// The devices' conformance suite fails on operations that nobody runs.
func TestTorchvision(t *testing.T) {
	ran := 0
	for _, c := range fixture.Cases(t, fixture.Dir(t, "torchvision")) {
		test := map[string]func(*testing.T, fixture.Case){
			"nms":                 recordedNMS,
			"batched_nms":         recordedBatched,
			"box_iou":             func(t *testing.T, c fixture.Case) { recordedOverlap(t, c, IoU) },
			"generalized_box_iou": func(t *testing.T, c fixture.Case) { recordedOverlap(t, c, GIoU) },
			"clip_boxes_to_image": recordedClip,
			"BoxCoder":            recordedCoder,
			"Matcher":             recordedMatcher,
		}[c.Op]
		if test != nil {
			ran++
			t.Run(c.Name, func(t *testing.T) { test(t, c) })
		}
	}
	if ran == 0 {
		t.Error("no case was run")
	}
}

func boxesOf(t *nd.Tensor[float32]) []Box {
	var boxes []Box
	for d := t.Data; len(d) > 0; d = d[4:] {
		boxes = append(boxes, Box{d[0], d[1], d[2], d[3]})
	}
	return boxes
}

func recordedNMS(t *testing.T, c fixture.Case) {
	var m struct{ IoU float32 }
	c.Decode(t, &m)
	var s Suppressor
	got := s.NMS(nil, boxesOf(c.Floats(t, "boxes")), c.Floats(t, "scores").Data, m.IoU, 0)
	if want := c.Ints(t, "keep"); !slices.Equal(got, want) {
		t.Errorf("kept %v, want %v", got, want)
	}
}

func recordedBatched(t *testing.T, c fixture.Case) {
	var m struct{ IoU float32 }
	c.Decode(t, &m)
	var s Suppressor
	got := s.Batched(nil, boxesOf(c.Floats(t, "boxes")), c.Floats(t, "scores").Data, c.Ints(t, "idxs"), m.IoU, 0)
	if want := c.Ints(t, "keep"); !slices.Equal(got, want) {
		t.Errorf("kept %v, want %v", got, want)
	}
}

func recordedOverlap(t *testing.T, c fixture.Case, overlap func(a, b Box) float32) {
	a, b, want := boxesOf(c.Floats(t, "a")), boxesOf(c.Floats(t, "b")), c.Floats(t, "out").Data
	for i := range a {
		for j := range b {
			if got := overlap(a[i], b[j]); got != want[i*len(b)+j] { // to the last bit
				t.Errorf("%v and %v: %v, want %v", a[i], b[j], got, want[i*len(b)+j])
			}
		}
	}
}

func recordedClip(t *testing.T, c fixture.Case) {
	var m struct{ Size [2]float32 } // height, width
	c.Decode(t, &m)
	clipped, area := boxesOf(c.Floats(t, "clipped")), c.Floats(t, "area").Data
	var keep []int
	for i, b := range boxesOf(c.Floats(t, "boxes")) {
		cut := b.Clip(m.Size[1], m.Size[0])
		if cut != clipped[i] {
			t.Errorf("%v cut to the image is %v, want %v", b, cut, clipped[i])
		}
		if cut.Width() >= 1e-2 && cut.Height() >= 1e-2 {
			keep = append(keep, i)
		}
		if got := b.Area(); got != area[i] && cut.Area() != area[i] {
			t.Errorf("the area of %v is %v, or %v when cut; want %v", b, got, cut.Area(), area[i])
		}
	}
	if want := c.Ints(t, "keep"); !slices.Equal(keep, want) {
		t.Errorf("large enough are %v, want %v", keep, want)
	}
}

// coding is how far deltas and corners may be from torchvision's, relative to
// 1 + their size: its vectorised log and exp are not correctly rounded.
const coding = 1e-6

func recordedCoder(t *testing.T, c fixture.Case) {
	var m struct {
		Weights [4]float32
		Clip    float32
	}
	c.Decode(t, &m)
	coder := Coder{Weights: m.Weights, MaxLog: m.Clip}
	ref, prop := boxesOf(c.Floats(t, "ref")), boxesOf(c.Floats(t, "prop"))
	enc, rel, dec := c.Floats(t, "enc").Data, c.Floats(t, "rel"), c.Floats(t, "dec").Data
	near := func(what string, i int, got, want float32) {
		t.Helper()
		if !(math.Abs(float64(got-want)) <= coding*(1+math.Abs(float64(want)))) {
			t.Errorf("%s %d: %v, want %v", what, i, got, want)
		}
	}
	for i := range ref {
		d := coder.Encode(prop[i], ref[i])
		for j, v := range [4]float32{d.DX, d.DY, d.DW, d.DH} {
			near("delta", 4*i+j, v, enc[4*i+j])
		}
	}
	classes := rel.Shape[1] / 4
	for i := range len(rel.Data) / 4 {
		d := rel.Data[4*i:]
		b := coder.Decode(prop[i/classes], Delta{d[0], d[1], d[2], d[3]})
		size := max(b.Width(), b.Height()) // corners lose what the sides do
		for j, v := range [4]float32{b.X0, b.Y0, b.X1, b.Y1} {
			if want := dec[4*i+j]; !(math.Abs(float64(v-want)) <= coding*(1+math.Abs(float64(want))+float64(size))) {
				t.Errorf("corner %d: %v, want %v", 4*i+j, v, want)
			}
		}
	}
}

func recordedMatcher(t *testing.T, c fixture.Case) {
	var m struct {
		Low, High  float32
		LowQuality bool `json:"allow_low_quality"`
	}
	c.Decode(t, &m)
	iou, want := c.Floats(t, "iou"), c.Ints(t, "out")
	n := iou.Shape[1]
	got := Matcher{Low: m.Low, High: m.High, LowQuality: m.LowQuality}.match(nil, iou.Shape[0], n, func(truth, candidate int) float32 {
		return iou.Data[truth*n+candidate]
	})
	for i, g := range got {
		code := g.Truth // torchvision's: −1 negative, −2 ignored
		switch g.Verdict {
		case Negative:
			code = -1
		case Ignored:
			code = -2
		}
		if code != want[i] {
			t.Errorf("candidate %d: %v of object %d with %v, want %d", i, g.Verdict, g.Truth, g.Overlap, want[i])
		}
	}
}
