package report

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"html"
	"image"
	"image/color"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"resdet/eval"
)

// result evaluates three images: a hit, a false positive, a miss, and a class
// without objects whose name needs escaping.
func result(t *testing.T, p eval.Protocol, classes int) *eval.Result {
	t.Helper()
	cfg := eval.DefaultConfig()
	cfg.Protocol = p
	for k := range classes {
		cfg.Classes = append(cfg.Classes, eval.Class{Name: "cl<b>&" + string(rune('a'+k%26)) + string(rune('a'+k/26)), ID: k + 1})
	}
	e, err := eval.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	box := eval.Box{X: 10, Y: 10, W: 50, H: 40}
	for i := range int64(3) {
		truths := []eval.Truth{{ID: i + 1, Class: 0, Box: box, Area: 2000}}
		var dets []eval.Detection
		if i < 2 {
			dets = append(dets, eval.Detection{Class: int(i), Score: 0.9, Box: box}, eval.Detection{Class: 0, Score: 0.8, Box: eval.Box{X: 80, Y: 60, W: 100, H: 100}})
		}
		if err := e.Add(i, truths, dets); err != nil {
			t.Fatal(err)
		}
	}
	r, err := e.Result()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// photo is white; the first image's cannot be read, the second's is missing.
func photo(img *eval.Image) (Photo, error) {
	switch img.ID {
	case 0:
		return Photo{Name: "a.jpg"}, errors.New("a.jpg: it is <damaged>")
	case 1:
		return Photo{Name: "b.jpg"}, nil
	}
	im := image.NewRGBA(image.Rect(0, 0, 120, 90))
	for i := range im.Pix {
		im.Pix[i] = 0xff
	}
	return Photo{Name: "c.jpg", Image: im}, nil
}

var reLoads = regexp.MustCompile(`(?i)<script|<link|@import|url\(|(src|href)="(?:[^d"]|d[^a])`)

func checkPage(t *testing.T, page string) {
	t.Helper()
	if m := reLoads.FindString(page); m != "" {
		t.Errorf("the page loads something: %q", m)
	}
	if strings.Contains(page, "cl<b>") || strings.Contains(page, "<damaged>") {
		t.Error("a name is not escaped")
	}
	for _, bad := range []string{"NaN", "ZgotmplZ", "<no value>", "%!"} {
		if strings.Contains(page, bad) {
			t.Errorf("the page holds %q", bad)
		}
	}
	pictures := regexp.MustCompile(`(?s)<svg.*?</svg>`).FindAllString(page, -1)
	if len(pictures) == 0 {
		t.Error("there is no chart")
	}
	for _, svg := range pictures {
		d := xml.NewDecoder(strings.NewReader(svg))
		for {
			if _, err := d.Token(); err == io.EOF {
				break
			} else if err != nil {
				t.Fatalf("a chart is not well formed: %v", err)
			}
		}
	}
}

func TestEval(t *testing.T) {
	for _, p := range []eval.Protocol{eval.COCO, eval.VOC07, eval.VOC10} {
		for _, classes := range []int{3, 80} {
			r := result(t, p, classes)
			var b bytes.Buffer
			if err := Eval(&b, r, photo); err != nil {
				t.Fatal(err)
			}
			page := b.String()
			checkPage(t, page)
			for _, want := range []string{
				"protocol " + string(p), "n/a (0 objects)", "data:image/jpeg;base64,", "the photo is not there", "a.jpg: it is &lt;damaged&gt;",
				"False positives with the highest scores", "Missed objects", "What AP was lost to", "Precision against recall",
			} {
				if !strings.Contains(page, want) {
					t.Errorf("%s, %d classes: the page lacks %q", p, classes, want)
				}
			}
			if got := strings.Contains(page, "Size of the objects"); got != (p == eval.COCO) {
				t.Errorf("%s: sizes: %v", p, got)
			}
			if got := strings.Contains(page, `class="matrix"`); got != (classes == 3) {
				t.Errorf("%d classes: a matrix: %v", classes, got)
			}
			if p == eval.COCO && strings.Count(page, `class="tile`) != 12+1 { // and the list of them
				t.Errorf("%d tiles", strings.Count(page, `class="tile`))
			}
		}
	}
}

func TestCompare(t *testing.T) {
	for _, p := range []eval.Protocol{eval.COCO, eval.VOC07} {
		for _, samples := range []int{0, 100} {
			r := result(t, p, 3)
			c, err := eval.Compare(context.Background(), r, r, eval.CompareConfig{Samples: samples, Seed: 1})
			if err != nil {
				t.Fatal(err)
			}
			c.Cost = &eval.Costs{Baseline: &eval.ModelRun{Arch: "vgg16", Parameters: 136e6, GMAC: 250, Millis: 2000, PeakMB: 900}}
			var b bytes.Buffer
			if err := Compare(&b, c); err != nil {
				t.Fatal(err)
			}
			page := b.String()
			checkPage(t, page)
			for _, want := range []string{"He et al. 2015", "not measured here", "vgg16", "136.0 M", "a results file: not known", "n/a (0 objects)", "+28.3 %"} {
				if !strings.Contains(html.UnescapeString(page), want) {
					t.Errorf("%s: the page lacks %q", p, want)
				}
			}
			if got := strings.Contains(page, "The interval"); got != (samples > 0) {
				t.Errorf("%d samples: a verdict: %v", samples, got)
			}
		}
	}
}

func TestCropShowsBothBoxes(t *testing.T) {
	im := image.NewRGBA(image.Rect(0, 0, 100, 100))
	out := image.NewRGBA(image.Rect(0, 0, 100, 100))
	copy(out.Pix, im.Pix)
	frame(out, eval.Box{X: 20, Y: 30, W: 40, H: 50}, image.Point{}, 1, detectionColour)
	for _, p := range []image.Point{{20, 30}, {59, 79}, {40, 31}, {22, 50}} {
		if got := out.RGBAAt(p.X, p.Y); got != detectionColour {
			t.Errorf("pixel %v is %v, want the frame's colour", p, got)
		}
	}
	for _, p := range []image.Point{{19, 30}, {40, 50}, {60, 80}} {
		if got := out.RGBAAt(p.X, p.Y); got != (color.RGBA{}) {
			t.Errorf("pixel %v is %v, want it untouched", p, got)
		}
	}
	// Boxes far outside the photo, or without extent, give a reason or a
	// picture, never a panic.
	for _, b := range []eval.Box{{X: 5000, Y: 5000, W: 10, H: 10}, {X: 50, Y: 50}, {X: -1e300, Y: -1e300, W: 2e300, H: 2e300}, {X: 90, Y: 90, W: -80, H: -80}} {
		img := &eval.Image{ID: 2, Detections: []eval.Detection{{Box: b}}}
		p := crop(eval.Mistake{Image: img, Detection: &img.Detections[0]}, photo)
		if (p.Src == "") == (p.Why == "") {
			t.Errorf("box %v: picture %d bytes, reason %q", b, len(p.Src), p.Why)
		}
	}
}

func TestWriteNamesTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "missing", "page.html")
	if err := WriteEval(path, result(t, eval.COCO, 2), nil); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("%v", err)
	}
	path = filepath.Join(t.TempDir(), "page.html")
	if err := WriteEval(path, result(t, eval.COCO, 2), nil); err != nil {
		t.Fatal(err)
	}
	if page, err := os.ReadFile(path); err != nil || strings.Contains(string(page), "<img") {
		t.Errorf("a page without photos has pictures (%v)", err)
	}
}
