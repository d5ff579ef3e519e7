package eval

import (
	"testing"
)

// mistakes is a data set with one mistake of each kind.
func mistakes() sample {
	at := func(x, y float64) Box { return Box{x, y, 100, 100} }
	s := sample{
		Classes: []Class{{"cat", 1}, {"dog", 2}}, Images: []int64{1, 2},
		Truths: map[int64][]Truth{}, Dets: map[int64][]Detection{},
	}
	truth := func(image int64, id int64, class int, b Box) {
		s.Truths[image] = append(s.Truths[image], Truth{ID: id, Class: class, Box: b, Area: b.Area()})
	}
	det := func(image int64, class int, score float64, b Box) {
		s.Dets[image] = append(s.Dets[image], Detection{class, score, b})
	}
	truth(1, 1, 0, at(0, 0))
	truth(1, 2, 0, at(300, 0))
	truth(1, 3, 1, at(600, 0))
	truth(1, 4, 0, at(900, 0))
	truth(1, 5, 0, at(1200, 0))
	det(1, 0, 0.9, at(0, 0))       // right
	det(1, 0, 0.8, at(2, 0))       // Dupe of it
	det(1, 0, 0.7, at(360, 0))     // Loc: IoU 0.25 with a cat
	det(1, 0, 0.65, at(365, 0))    // Loc, of the same cat: only the better one can be fixed
	det(1, 0, 0.6, at(600, 0))     // Cls: a dog found as cat
	det(1, 1, 0.5, at(960, 0))     // Both: a cat found as dog, IoU 0.25
	det(1, 0, 0.68, at(5000, 500)) // Bkg, between the two Loc
	det(2, 1, 0.3, at(0, 0))       // Bkg: the image has no object
	return s
}

func TestCauses(t *testing.T) {
	for _, p := range []Protocol{COCO, VOC07} {
		c := mistakes().evaluate(t, p).Causes()
		want := []struct {
			name  string
			count int
		}{{"Cls", 1}, {"Loc", 2}, {"Both", 1}, {"Dupe", 1}, {"Bkg", 2}, {"Miss", 2}} // Miss: the cats at 900 and 1200
		for i, e := range c.Errors {
			if e.Name != want[i].name || e.Count != want[i].count || e.Description == "" || e.Fix == "" {
				t.Errorf("%s: %d %s, want %d %s", p, e.Count, e.Name, want[i].count, want[i].name)
			}
		}
		// Cats: one hit first of four objects: 26 of 101 recall points. Dogs: none.
		near(t, "AP", c.AP, 26.0/101/2, 1e-12)
		for i, fixed := range []Value{
			(26.0/101 + 1) / 2,            // Cls: cats as before; the dog is found before the false ones
			(26.0/101 + 25*2.0/3/101) / 2, // Loc: a second cat, behind the duplicate
			26.0 / 101 / 2,                // Both, Dupe, Bkg: the only hit comes first as it is
			26.0 / 101 / 2,
			26.0 / 101 / 2,
			(51.0 / 101) / 2, // Miss: one of two cats
		} {
			near(t, string(p)+" "+c.Errors[i].Name, c.Errors[i].Cost, fixed-26.0/101/2, 1e-12)
		}
	}
}

// False positives before a hit cost; removing them gives it back.
func TestCauseCostsOfFalsePositives(t *testing.T) {
	s := images(
		[2]any{[]Truth{object(1, box100)}, []Detection{{0, 0.9, far}, {0, 0.8, box100}}},
	)
	c := s.evaluate(t, COCO).Causes()
	near(t, "AP", c.AP, 0.5, 1e-12)
	near(t, "Bkg", c.Errors[4].Cost, 0.5, 1e-12)
	near(t, "Dupe", c.Errors[3].Cost, 0, 1e-12)
}

func TestCausesIgnoreWhatTheProtocolIgnores(t *testing.T) {
	crowd := object(1, Box{0, 0, 400, 400})
	crowd.Crowd = true
	c := images([2]any{[]Truth{crowd, object(2, far)}, []Detection{{0, 0.9, box100}, {0, 0.8, far}}}).evaluate(t, COCO).Causes()
	near(t, "AP with a crowd", c.AP, 1, 1e-12)
	hard := object(1, box100)
	hard.Difficult = true
	c = images([2]any{[]Truth{hard, object(2, far)}, []Detection{{0, 0.9, box100}, {0, 0.8, far}}}).evaluate(t, VOC07).Causes()
	near(t, "AP with a difficult object", c.AP, 1, 1e-12)
	for _, e := range c.Errors {
		if e.Count != 0 {
			t.Errorf("%d %s", e.Count, e.Name)
		}
	}
}

// Without limits and crowds, TIDE's AP is COCO's AP50.
func TestCausesStartFromAP50(t *testing.T) {
	r := synthetic{images: 40, classes: 4, objects: 3, dets: 12, found: 0.6}.make(4).evaluate(t, COCO)
	near(t, "AP", r.Causes().AP, r.Metrics.Get("AP50"), 0.005) // equal but for x/100 and x·0.01
	sum := 0
	for _, e := range r.Causes().Errors[:kindMiss] {
		sum += e.Count
		if e.Cost < 0 || e.Cost > 1 {
			t.Errorf("%s costs %v", e.Name, e.Cost)
		}
	}
	wrong := 0
	for k := range r.Classes {
		for _, row := range r.Rows(k) {
			if !row.Hit() {
				wrong++
			}
		}
	}
	if sum != wrong {
		t.Errorf("%d mistakes have a cause, %d detections are wrong", sum, wrong)
	}
}

func TestConfusion(t *testing.T) {
	c := mistakes().evaluate(t, COCO).Confusion()
	want := [][]int{
		{1, 0, 3}, // cats: one right, three found by no detection of score 0.5
		{1, 0, 0}, // the dog was taken for a cat
		{4, 1, 0}, // duplicate, two poor boxes, nothing at all; the poor dog
	}
	for i := range want {
		for j := range want[i] {
			if c.Matrix[i][j] != want[i][j] {
				t.Errorf("row %s column %s: %d, want %d", c.Classes[i], c.Classes[j], c.Matrix[i][j], want[i][j])
			}
		}
	}
	// At equal overlap the object of the detection's own class is its match,
	// wherever it stands.
	for _, classes := range [][2]int{{0, 1}, {1, 0}} {
		a, b := object(1, box100), object(2, box100)
		a.Class, b.Class = classes[0], classes[1]
		s := images([2]any{[]Truth{a, b}, []Detection{{0, 0.9, box100}}})
		s.Classes = []Class{{"a", 1}, {"b", 2}}
		if m := s.evaluate(t, COCO).Confusion().Matrix; m[0][0] != 1 || m[1][2] != 1 {
			t.Errorf("objects of classes %v: %v", classes, m)
		}
	}
	// Rows sum to the objects, whatever the detections.
	r := synthetic{images: 40, classes: 4, objects: 3, dets: 12, found: 0.6, crowd: 0.2}.make(4).evaluate(t, COCO)
	for k, row := range r.Confusion().Matrix[:4] {
		sum := 0
		for _, n := range row {
			sum += n
		}
		if sum != r.PerClass[k].Objects {
			t.Errorf("class %d: %d objects in the matrix, %d in the data", k, sum, r.PerClass[k].Objects)
		}
	}
}

func TestProposalRecall(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Classes = []Class{{"a", 1}, {"b", 2}}
	e, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	boxes := []Box{box100, far, {800, 10, 100, 100}}
	var truths []Truth
	for i, b := range boxes {
		g := object(int64(i+1), b)
		g.Class = i % 2
		truths = append(truths, g)
	}
	var props []Box
	for range 99 {
		props = append(props, Box{0, 900, 50, 50})
	}
	props = append(props, box100)                 // number 100: exact, all ten thresholds
	props = append(props, Box{500, 500, 100, 76}) // IoU 0.76: six thresholds
	props = append(props, box100)                 // again: takes nothing
	if err := e.AddProposals(1, truths, []Detection{{0, 0.5, box100}}, props); err != nil {
		t.Fatal(err)
	}
	r, err := e.Result()
	if err != nil {
		t.Fatal(err)
	}
	p := r.ProposalRecall()
	near(t, "AR@100", p.AR100, 10.0/30, 1e-12)
	near(t, "AR@300", p.AR300, 16.0/30, 1e-12)
	near(t, "AR@1000", p.AR1000, 16.0/30, 1e-12)
	if p.Objects != 3 || p.PerImage != 102 {
		t.Errorf("%+v", p)
	}
	if mistakes().evaluate(t, COCO).ProposalRecall() != nil {
		t.Error("there is a recall of proposals without proposals")
	}
}

func TestGalleries(t *testing.T) {
	r := mistakes().evaluate(t, COCO)
	fp := r.FalsePositives(3)
	if len(fp) != 3 || fp[0].Detection.Score != 0.8 || fp[1].Detection.Score != 0.7 || fp[2].Detection.Score != 0.68 {
		t.Errorf("false positives %+v", fp)
	}
	if fp[1].Truth.ID != 2 || fp[1].IoU != 0.25 {
		t.Errorf("the poor box overlaps truth %d by %v", fp[1].Truth.ID, fp[1].IoU)
	}
	misses := r.Misses(10)
	if len(misses) != 4 || misses[0].Detection != nil {
		t.Errorf("%d misses, want 4", len(misses))
	}
}
