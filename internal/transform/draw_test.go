package transform

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"resdet/internal/box"
	"resdet/internal/det"
	"resdet/internal/fixture"
)

var someNames = []string{"car", "person", "a class whose name is far too long for a small picture"}

// unlabelled is names that leave the boxes alone.
var unlabelled = make([]string, 5)

// scene is detections in fractions of the picture, at its edges and beyond,
// tiny, and on top of each other.
func scene(w, h int) []det.Detection {
	var dets []det.Detection
	for i, b := range []box.Box{
		{X0: 0.1, Y0: 0.3, X1: 0.4, Y1: 0.8}, {X0: 0.11, Y0: 0.31, X1: 0.42, Y1: 0.82}, {X0: 0, Y0: 0, X1: 1, Y1: 1},
		{X0: 0.9, Y0: 0.9, X1: 1.2, Y1: 1.3}, {X0: 0.5, Y0: 0.5, X1: 0.501, Y1: 0.501}, {X0: -0.5, Y0: -0.5, X1: 0.05, Y1: 0.05},
	} {
		dets = append(dets, det.Detection{Class: i % 3, Score: 0.9 - float32(i)/10, Box: b.Scale(float32(w), float32(h))})
	}
	return dets
}

func TestDrawAtAnySize(t *testing.T) {
	for _, size := range [][2]int{{1, 1}, {3, 200}, {64, 48}, {640, 480}, {1280, 720}, {8000, 6000}} {
		t.Run(fmt.Sprintf("%dx%d", size[0], size[1]), func(t *testing.T) {
			if size[0] > 2000 && fixture.Race {
				t.Skip("48 megapixels take the race detector ten seconds, and nothing is concurrent")
			}
			w, h := size[0], size[1]
			img := image.NewGray(image.Rect(0, 0, w, h))
			out := Draw(img, scene(w, h), someNames)
			if out.Rect != img.Rect || !out.Opaque() {
				t.Fatalf("%v, opaque %v", out.Rect, out.Opaque())
			}
			if w < 64 {
				return
			}
			// One box, no label: its line stands at its edge and no further.
			b := box.Box{X0: 0.25 * float32(w), Y0: 0.25 * float32(h), X1: 0.75 * float32(w), Y1: 0.75 * float32(h)}
			out = Draw(img, []det.Detection{{Class: 4, Score: 1, Box: b}}, unlabelled)
			line := 0
			for out.RGBAAt(w/4+line, h/2) == Colour(4) {
				line++
			}
			if least, most := (w+h)/1000, (w+h)/500+1; line < max(1, least) || line > most {
				t.Errorf("the line is %d pixels wide, want %d to %d", line, least, most)
			}
		})
	}
}

func TestDrawLeavesTheRest(t *testing.T) {
	img := formula(200, 100)
	before := bytes.Clone(img.Pix)
	part := img.SubImage(image.Rect(50, 20, 150, 90))
	out := Draw(part, []det.Detection{
		{Class: 1, Score: 0.5, Box: box.Box{X0: 40, Y0: 30, X1: 80, Y1: 60}},
		{Class: 1, Score: 0.5, Box: box.Box{X0: float32(math.NaN()), Y0: 30, X1: 80, Y1: 60}},
		{Class: 2, Score: 0.5, Box: box.Box{X0: 0, Y0: 0, X1: float32(math.Inf(1)), Y1: 60}},
	}, unlabelled)
	if !bytes.Equal(img.Pix, before) {
		t.Error("the input was drawn on")
	}
	if out.Rect != image.Rect(0, 0, 100, 70) {
		t.Fatal(out.Rect)
	}
	if out.RGBAAt(40, 45) != Colour(1) {
		t.Errorf("no box at (40, 45): %v", out.RGBAAt(40, 45))
	}
	for _, p := range []image.Point{{0, 0}, {60, 45}, {99, 69}, {30, 45}} {
		if got, want := out.RGBAAt(p.X, p.Y), color.RGBA(img.NRGBAAt(p.X+50, p.Y+20)); got != want {
			t.Errorf("%v was changed from %v to %v", p, want, got)
		}
	}
}

func TestDrawPutsTheSurerOnTop(t *testing.T) {
	b := box.Box{X0: 10, Y0: 30, X1: 90, Y1: 90}
	dets := []det.Detection{{Class: 0, Score: 0.4, Box: b}, {Class: 1, Score: 0.9, Box: b}, {Class: 2, Score: 0.6, Box: b}}
	out := Draw(image.NewGray(image.Rect(0, 0, 100, 100)), dets, unlabelled)
	if got := out.RGBAAt(10, 85); got != Colour(1) {
		t.Errorf("%v, want %v", got, Colour(1))
	}
	if dets[0].Class != 0 {
		t.Error("the caller's order changed")
	}
}

func TestLabelsStayInsideAndApart(t *testing.T) {
	for _, size := range [][2]int{{64, 48}, {320, 240}, {640, 480}, {1280, 720}, {8000, 6000}} {
		picture := image.Rect(0, 0, size[0], size[1])
		letters := max(9, math.Sqrt(float64(size[0]*size[1]))/54)
		var texts []string
		var boxes []image.Rectangle
		for _, d := range scene(size[0], size[1]) {
			texts = append(texts, label(d, someNames))
			b := d.Box.Clip(float32(size[0]), float32(size[1]))
			boxes = append(boxes, image.Rect(int(b.X0), int(b.Y0), int(b.X1), int(b.Y1)))
		}
		plates := layout(texts, boxes, picture, letters)
		for i, p := range plates {
			if !p.at.In(picture) || p.at.Dy() < 8 || p.text == "" {
				t.Errorf("%v: label %q at %v", size, p.text, p.at)
			}
			for j, q := range plates[:i] {
				if size[0] >= 320 && p.at.Overlaps(q.at) {
					t.Errorf("%v: labels %d and %d overlap: %v %v", size, i, j, p.at, q.at)
				}
			}
		}
		if size[0] >= 640 && plates[2].text != texts[2] {
			t.Errorf("%v: %q was cut to %q", size, texts[2], plates[2].text)
		}
	}
}

func TestLabel(t *testing.T) {
	for class, want := range map[int]string{0: "cat 0.50", 1: "", 2: "class 2 0.50", -1: "class -1 0.50"} {
		if got := label(det.Detection{Class: class, Score: 0.499}, []string{"cat", ""}); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestColoursDiffer(t *testing.T) {
	// Neighbouring classes by a wide margin; of COCO's eighty no two the same.
	for i := range 80 {
		a := Colour(i)
		for j := range i {
			b := Colour(j)
			d := math.Hypot(math.Hypot(float64(a.R)-float64(b.R), float64(a.G)-float64(b.G)), float64(a.B)-float64(b.B))
			if limit := map[bool]float64{true: 25, false: 3}[i < 20]; d < limit {
				t.Errorf("classes %d %v and %d %v are %.0f apart", i, a, j, b, d)
			}
			if i-j == 1 && d < 100 {
				t.Errorf("neighbours %d %v and %d %v are %.0f apart", i, a, j, b, d)
			}
		}
	}
	if Colour(-5).A != 255 {
		t.Error("negative class")
	}
}

func TestEncode(t *testing.T) {
	img := Draw(formula(40, 30), nil, nil)
	for name, kind := range map[string]string{"a.jpg": "jpeg", "b.JPEG": "jpeg", "dir.x/c.png": "png"} {
		var buf bytes.Buffer
		if err := Encode(&buf, name, img); err != nil {
			t.Fatal(err)
		}
		if got := sniff(buf.Bytes()); got != kind {
			t.Errorf("%s: %s", name, got)
		}
		back, err := Decode(&buf, DefaultLimits())
		if err != nil || back.Bounds() != img.Bounds() {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := Encode(&bytes.Buffer{}, "a.gif", img); err == nil {
		t.Error("a.gif was written")
	}
}

func TestSave(t *testing.T) {
	img := Draw(formula(40, 30), nil, nil)
	path := filepath.Join(t.TempDir(), "a.png")
	if err := Save(path, img); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if back, err := Decode(f, DefaultLimits()); err != nil || !bytes.Equal(opaque(back).Pix, img.Pix) {
		t.Errorf("read back: %v", err)
	}
	bad := filepath.Join(t.TempDir(), "a.tiff")
	if err := Save(bad, img); err == nil || !strings.Contains(err.Error(), "a.tiff") {
		t.Errorf("a.tiff: %v", err)
	}
	if _, err := os.Stat(bad); err == nil {
		t.Error("a file that failed was left")
	}
	if err := Save(filepath.Join(path, "b.png"), img); err == nil {
		t.Error("a file is no folder")
	}
}

func BenchmarkDraw(b *testing.B) {
	img := ycc(1280, 720, image.YCbCrSubsampleRatio420)
	var dets []det.Detection
	for i := range 5 {
		for _, d := range scene(1280-20*i, 720-20*i) {
			dets = append(dets, d)
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		Draw(img, dets, someNames)
	}
}
