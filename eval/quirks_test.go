package eval

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// QUIRKS.md names a test of this file for each quirk.

// images builds a sample of one class from images 1, 2, ….
func images(imgs ...[2]any) sample {
	s := sample{Classes: []Class{{"thing", 1}}, Truths: map[int64][]Truth{}, Dets: map[int64][]Detection{}}
	for i, img := range imgs {
		id := int64(i + 1)
		s.Images = append(s.Images, id)
		s.Truths[id], _ = img[0].([]Truth)
		s.Dets[id], _ = img[1].([]Detection)
	}
	return s
}

// object is a truth whose area is its box's.
func object(id int64, b Box) Truth { return Truth{ID: id, Box: b, Area: b.Area()} }

func metric(t *testing.T, s sample, p Protocol, name string, want Value) {
	t.Helper()
	near(t, string(p)+" "+name, s.evaluate(t, p).Metrics.Get(name), want, 1e-9)
}

var (
	box100 = Box{10, 10, 100, 100}
	far    = Box{500, 500, 100, 100}
)

func TestQuirkTies(t *testing.T) {
	hit := [2]any{[]Truth{object(1, box100)}, []Detection{{0, 0.5, box100}}}
	miss := [2]any{nil, []Detection{{0, 0.5, box100}}}
	metric(t, images(hit, miss), COCO, "AP50", 1) // the image with the smaller id comes first
	metric(t, images(miss, hit), COCO, "AP50", 0.5)
	within := func(a, b Box) sample { // the detection that stands first in the file comes first
		return images([2]any{[]Truth{object(1, box100)}, []Detection{{0, 0.5, a}, {0, 0.5, b}}})
	}
	metric(t, within(box100, far), COCO, "AP50", 1)
	metric(t, within(far, box100), COCO, "AP50", 0.5)
}

func TestQuirkIgnoredTruthsComeLast(t *testing.T) {
	crowd := object(1, Box{10, 10, 100, 95})
	crowd.Crowd = true
	// The detection overlaps the crowd by 0.95, the object by 0.6: it takes the
	// object, although the crowd stands first and fits better.
	s := images([2]any{[]Truth{crowd, object(2, Box{10, 10, 100, 60})}, []Detection{{0, 0.9, box100}}})
	metric(t, s, COCO, "AP50", 1)
	// Out of reach of the object, it is ignored with the crowd, and not false.
	s = images([2]any{[]Truth{crowd, object(2, far)}, []Detection{{0, 0.9, box100}, {0, 0.8, far}}})
	metric(t, s, COCO, "AP50", 1)
}

func TestQuirkThresholdBelowOne(t *testing.T) {
	m := newMatcher(COCO)
	m.overlaps = []float64{1}
	img := &Image{Truths: []Truth{object(1, Box{0, 0, 100, 100 + 5e-9})}, Detections: []Detection{{0, 1, Box{0, 0, 100, 100}}}}
	if rows := m.match(img); !rows[0].Hit() {
		t.Error("an overlap of 1 − 5e-11 is no match at threshold 1")
	}
	img.Truths[0] = object(1, Box{0, 0, 100, 100.1})
	if rows := m.match(img); rows[0].Hit() {
		t.Error("an overlap of 0.999 is a match at threshold 1")
	}
}

func TestQuirkEqualOverlapTakesTheLaterTruth(t *testing.T) {
	// Both objects overlap the first detection by 1; it takes the second of
	// them, and the other detection finds only the first.
	near := Box{10, 10, 100, 80}
	s := images([2]any{[]Truth{object(1, box100), object(2, box100)}, []Detection{{0, 0.9, box100}, {0, 0.8, near}}})
	r := s.evaluate(t, COCO)
	if rows := r.Rows(0); rows[0].Truth != 1 || rows[1].Truth != 0 {
		t.Errorf("truths %d and %d were taken, want 1 and 0", rows[0].Truth, rows[1].Truth)
	}
}

func TestQuirkCrowd(t *testing.T) {
	crowd := object(1, Box{0, 0, 1000, 1000})
	crowd.Crowd = true
	// Three small detections lie within the crowd: their overlap is 1, because
	// it is divided by their own area, and each may match the crowd.
	inside := []Detection{{0, 0.9, Box{600, 600, 20, 20}}, {0, 0.9, Box{700, 600, 20, 20}}, {0, 0.9, Box{800, 600, 20, 20}}, {0, 0.5, box100}}
	metric(t, images([2]any{[]Truth{crowd, object(2, box100)}, inside}), COCO, "AP", 1)
	// The same without crowd: three false positives come first.
	metric(t, images([2]any{[]Truth{object(2, box100)}, inside}), COCO, "AP", 0.25)
}

func TestQuirkIgnoreKeyIsOverwritten(t *testing.T) {
	g := object(1, box100)
	g.Ignore = true
	metric(t, images([2]any{[]Truth{g, object(2, far)}, []Detection{{0, 0.9, far}}}), COCO, "AR100", 0.5)
}

func TestQuirkIDZero(t *testing.T) {
	zero := images([2]any{[]Truth{object(0, box100)}, []Detection{{0, 0.9, box100}}})
	metric(t, zero, COCO, "AP", 0)
	metric(t, zero, COCO, "AR100", 0)
	// The truth is taken all the same: the second detection does not get it,
	// but another truth.
	r := images([2]any{[]Truth{object(0, box100), object(5, far)}, []Detection{{0, 0.9, box100}, {0, 0.8, box100}, {0, 0.7, far}}}).evaluate(t, COCO)
	near(t, "AP50", r.Metrics.Get("AP50"), Value(51.0/101/3), 1e-9)
	// Being "unmatched", a detection of another size is ignored.
	g := object(0, box100)
	g.Area = 500
	metric(t, images([2]any{[]Truth{g, object(1, Box{300, 300, 20, 20})}, []Detection{{0, 0.9, box100}, {0, 0.8, Box{300, 300, 20, 20}}}}), COCO, "APs", 51.0/101)
}

func TestQuirkDetectionsOutsideTheArea(t *testing.T) {
	small := Box{300, 300, 20, 20}
	// The large false positive is none among the small.
	s := images([2]any{[]Truth{object(1, small)}, []Detection{{0, 0.9, far}, {0, 0.8, small}}})
	metric(t, s, COCO, "APs", 1)
	metric(t, s, COCO, "AP", 0.5)
	metric(t, s, COCO, "APl", Absent())
	// A detection that matches an object of the range counts, whatever its own
	// size.
	g := object(1, box100)
	g.Area = 1000
	metric(t, images([2]any{[]Truth{g}, []Detection{{0, 0.9, box100}}}), COCO, "APs", 1)
}

func TestQuirkAreaEdges(t *testing.T) {
	s := images([2]any{[]Truth{object(1, Box{0, 0, 32, 32})}, []Detection{{0, 0.9, Box{0, 0, 32, 32}}}})
	metric(t, s, COCO, "APs", 1) // both ends belong to the range
	metric(t, s, COCO, "APm", 1)
	metric(t, s, COCO, "APl", Absent())
	s = images([2]any{[]Truth{object(1, Box{0, 0, 96, 96})}, []Detection{{0, 0.9, Box{0, 0, 96, 96}}}})
	metric(t, s, COCO, "APm", 1)
	metric(t, s, COCO, "APl", 1)
}

func TestQuirkHundredDetections(t *testing.T) {
	var dets []Detection
	for range 100 {
		dets = append(dets, Detection{0, 0.9, far})
	}
	last := append(dets, Detection{0, 0.8, box100})
	metric(t, images([2]any{[]Truth{object(1, box100)}, last}), COCO, "AR100", 0)
	last = append(dets[:99:99], Detection{0, 0.8, box100})
	metric(t, images([2]any{[]Truth{object(1, box100)}, last}), COCO, "AR100", 1)
	// The limit is per image and class.
	metric(t, images([2]any{[]Truth{object(1, box100)}, dets}, [2]any{[]Truth{object(2, box100)}, []Detection{{0, 0.1, box100}}}), COCO, "AR100", 0.5)
	metric(t, images([2]any{[]Truth{object(1, box100)}, last}), COCO, "AR10", 0)
	metric(t, images([2]any{[]Truth{object(1, box100)}, last}), VOC10, "mAP", 0.01) // none in VOC
}

func TestQuirkSpacing(t *testing.T) {
	s := images([2]any{[]Truth{object(1, box100)}, []Detection{{0, 0.9, box100}}})
	ap := s.evaluate(t, COCO).PerClass[0].Curves[0].Precision[0]
	if one := 1.0; ap != one/(one+spacing1) || ap == 1 {
		t.Errorf("precision of the first hit is %v, want 1/(1+np.spacing(1))", ap)
	}
}

// recall has 100 objects, of which the first n are found.
func recallOf(n int) sample {
	var g []Truth
	var d []Detection
	for i := range 100 {
		b := Box{float64(200 * i), 0, 100, 100}
		g = append(g, object(int64(i+1), b))
		if i < n {
			d = append(d, Detection{0, 0.9, b})
		}
	}
	return images([2]any{g, d})
}

func TestQuirkRecallPoints(t *testing.T) {
	metric(t, recallOf(50), COCO, "AP", 51.0/101) // a recall equal to the point reaches it
	metric(t, recallOf(57), COCO, "AP", 57.0/101) // 57·0.01 is a hair above 57/100
	metric(t, recallOf(30), VOC07, "mAP", 3.0/11) // 3·0.1 is a hair above 30/100
	metric(t, recallOf(50), VOC07, "mAP", 6.0/11)
	metric(t, recallOf(57), VOC10, "mAP", 0.57)
}

func TestQuirkEmptyClasses(t *testing.T) {
	s := images([2]any{[]Truth{object(1, box100)}, []Detection{{0, 0.9, box100}, {1, 0.9, box100}}})
	s.Classes = []Class{{"found", 1}, {"only detected", 2}, {"not there", 3}, {"missed", 4}}
	g := object(2, far)
	g.Class = 3
	s.Truths[1] = append(s.Truths[1], g)
	r := s.evaluate(t, COCO)
	for i, want := range []Value{1, Absent(), Absent(), 0} {
		near(t, r.Classes[i].Name, r.PerClass[i].Metrics.Get("AP"), want, 1e-9)
		near(t, r.Classes[i].Name+" recall", r.PerClass[i].Metrics.Get("AR100"), want, 1e-9)
	}
	near(t, "AP", r.Metrics.Get("AP"), 0.5, 1e-9) // absent classes are not in the mean
	near(t, "mAP", s.evaluate(t, VOC07).Metrics.Get("mAP"), 0.5, 1e-9)
}

func TestQuirkVOCOverlap(t *testing.T) {
	// Columns 0…9 and 5…14, of 10 rows: 5·10 / (100+100−50) = 1/3 both ways;
	// with pixels inclusive the extents stay what XML's integers mean.
	if v := overlapVOC(Box{0, 0, 10, 10}, Box{5, 0, 10, 10}); v != 1.0/3 {
		t.Errorf("overlap %v, want 1/3", v)
	}
	// Boxes that meet in no pixel, though the continuous ones have width.
	if v := overlapVOC(Box{0, 0, 10, 10}, Box{10, 0, 10, 10}); v != 0 {
		t.Errorf("overlap of neighbours is %v", v)
	}
}

func TestQuirkVOCStrictThreshold(t *testing.T) {
	// An overlap of exactly one half is a match under COCO, and none under VOC.
	s := images([2]any{[]Truth{object(1, Box{0, 0, 100, 100})}, []Detection{{0, 0.9, Box{0, 0, 100, 50}}}})
	metric(t, s, COCO, "AP50", 1)
	metric(t, s, VOC07, "mAP", 0)
	metric(t, s, VOC10, "mAP", 0)
}

func TestQuirkVOCNoSecondChoice(t *testing.T) {
	// The second detection overlaps the first object most, which is taken;
	// VOC does not let it have the second object, COCO does.
	g := []Truth{object(1, box100), object(2, Box{40, 10, 100, 100})}
	s := images([2]any{g, []Detection{{0, 0.9, box100}, {0, 0.8, Box{20, 10, 100, 100}}}})
	metric(t, s, VOC10, "mAP", 0.5)
	metric(t, s, COCO, "AP50", 1)
}

func TestQuirkVOCDifficult(t *testing.T) {
	hard := object(1, box100)
	hard.Difficult = true
	s := images([2]any{[]Truth{hard, object(2, far)}, []Detection{{0, 0.9, box100}, {0, 0.85, box100}, {0, 0.8, far}}})
	metric(t, s, VOC07, "mAP", 1) // neither the object nor any number of detections on it count
	metric(t, s, VOC10, "mAP", 1)
	metric(t, s, COCO, "AR100", 1) // an ordinary object under COCO
	metric(t, s, COCO, "AP50", Value((51.0*1+50*2.0/3)/101))
}

func TestQuirkVOCDuplicateIsFalse(t *testing.T) {
	s := images([2]any{[]Truth{object(1, box100), object(2, far)}, []Detection{{0, 0.9, box100}, {0, 0.8, box100}, {0, 0.7, far}}})
	metric(t, s, VOC10, "mAP", Value(0.5*1+0.5*2/3))
}

// The table must name tests that exist.
func TestQuirksTableNamesTests(t *testing.T) {
	table, err := os.ReadFile("QUIRKS.md")
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile("quirks_test.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(string(table), "\n") {
		if strings.HasPrefix(line, "| ") && !strings.HasPrefix(line, "| quirk") && !strings.Contains(line, "`Test") {
			t.Errorf("no test is named for %q", line)
		}
	}
	listed := map[string]bool{}
	for _, name := range regexp.MustCompile("`(TestQuirk[A-Za-z]+)`").FindAllStringSubmatch(string(table), -1) {
		listed[name[1]] = true
		if !strings.Contains(string(source), "func "+name[1]+"(") {
			t.Errorf("QUIRKS.md names %s, which does not exist", name[1])
		}
	}
	for _, name := range regexp.MustCompile(`func (TestQuirk[A-Za-z]+)\(`).FindAllStringSubmatch(string(source), -1) {
		if !listed[name[1]] && name[1] != "TestQuirksTableNamesTests" {
			t.Errorf("%s is not in QUIRKS.md", name[1])
		}
	}
}
