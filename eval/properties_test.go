package eval

import (
	"encoding/json"
	"errors"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
)

func TestOrderOfAddingDoesNotMatter(t *testing.T) {
	s := synthetic{images: 60, classes: 5, objects: 3, dets: 12, found: 0.5, grid: 0.1, crowd: 0.1, difficult: 0.1}.make(1)
	for _, p := range []Protocol{COCO, VOC07, VOC10} {
		want, err := json.Marshal(s.evaluate(t, p))
		if err != nil {
			t.Fatal(err)
		}
		for seed := range uint64(5) {
			rng := rand.New(rand.NewPCG(seed, 1))
			rng.Shuffle(len(s.Images), func(i, j int) { s.Images[i], s.Images[j] = s.Images[j], s.Images[i] })
			cfg := DefaultConfig()
			cfg.Protocol, cfg.Classes = p, s.Classes
			e, err := New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			if err := s.add(e); err != nil { // from several goroutines
				t.Fatal(err)
			}
			r, err := e.Result()
			if err != nil {
				t.Fatal(err)
			}
			if got, err := json.Marshal(r); err != nil || string(got) != string(want) {
				t.Fatalf("%s: another order gives another result (%v):\n%s\n%s", p, err, got, want)
			}
		}
	}
}

func TestPerfectDetectionsScoreOne(t *testing.T) {
	s := synthetic{images: 30, classes: 4, objects: 3, crowd: 0.1, difficult: 0.1}.make(2)
	for id, truths := range s.Truths {
		for i := range truths {
			truths[i].Area = truths[i].Box.Area() // so that no detection is of another size than its object
			truths[i].Box.X += 1000 * float64(i)  // nor overlaps two of them
			s.Dets[id] = append(s.Dets[id], Detection{truths[i].Class, 0.5 + float64(i)/100, truths[i].Box})
		}
	}
	for _, p := range []Protocol{COCO, VOC07, VOC10} {
		r := s.evaluate(t, p)
		for _, m := range r.Metrics {
			if m.Name == "AR1" || m.Name == "AR10" {
				continue // an image may have more objects of a class
			}
			near(t, string(p)+" "+m.Name, m.Value, 1, 1e-12)
		}
		for _, c := range r.PerClass {
			if ap := c.Metrics.Get("AP"); (c.Objects > 0) != ap.Present() {
				t.Errorf("%s: %d objects, AP %v", c.Class.Name, c.Objects, ap)
			}
		}
		for _, e := range r.Causes().Errors {
			if e.Count != 0 || e.Cost != 0 {
				t.Errorf("%s: perfect detections have %d mistakes %s", p, e.Count, e.Name)
			}
		}
	}
}

func TestDuplicatesNeverRaiseAP(t *testing.T) {
	for seed := range uint64(10) {
		s := synthetic{images: 30, classes: 3, objects: 3, dets: 10, found: 0.6, difficult: 0.1}.make(seed)
		twice := s
		twice.Dets = map[int64][]Detection{}
		for id, dets := range s.Dets {
			for _, d := range dets {
				again := d
				again.Score *= 0.9
				twice.Dets[id] = append(twice.Dets[id], d, again)
			}
		}
		for _, p := range []Protocol{VOC07, VOC10} {
			one, two := s.evaluate(t, p), twice.evaluate(t, p)
			if two.Metrics[0].Value > one.Metrics[0].Value+1e-12 {
				t.Errorf("seed %d: %s: duplicates raise AP from %v to %v", seed, p, one.Metrics[0].Value, two.Metrics[0].Value)
			}
		}
		// Under COCO a copy may take another object that it overlaps enough, so
		// it is a duplicate only where objects lie apart.
		for id, truths := range s.Truths {
			for i := range truths {
				shift := 5000 * float64(i+1)
				for j := range s.Dets[id] {
					if s.Dets[id][j].Box.X < 5000 && overlap(s.Dets[id][j].Box, truths[i].Box, false) > 0.5 {
						s.Dets[id][j].Box.X += shift
					}
				}
				truths[i].Box.X += shift
			}
			twice.Dets[id] = nil
			for _, d := range s.Dets[id] {
				again := d
				again.Score *= 0.9
				twice.Dets[id] = append(twice.Dets[id], d, again)
			}
		}
		one, two := s.evaluate(t, COCO), twice.evaluate(t, COCO)
		if two.Metrics[0].Value > one.Metrics[0].Value+1e-12 {
			t.Errorf("seed %d: coco: duplicates raise AP from %v to %v", seed, one.Metrics[0].Value, two.Metrics[0].Value)
		}
	}
}

func TestBadNumbersAreErrorsWithTheirIndex(t *testing.T) {
	good := Box{1, 2, 30, 40}
	nan, inf := math.NaN(), math.Inf(1)
	for name, c := range map[string]struct {
		truth Truth
		det   Detection
		want  string
	}{
		"score NaN":   {Truth{Box: good}, Detection{Score: nan, Box: good}, "image 7: detection 1: score NaN"},
		"score inf":   {Truth{Box: good}, Detection{Score: inf, Box: good}, "image 7: detection 1: score +Inf"},
		"box":         {Truth{Box: good}, Detection{Box: Box{1, inf, 3, 4}}, "image 7: detection 1: box"},
		"class":       {Truth{Box: good}, Detection{Class: 3, Box: good}, "image 7: detection 1: class 3"},
		"truth":       {Truth{Box: Box{nan, 1, 1, 1}}, Detection{Box: good}, "image 7: truth 1: box"},
		"truth area":  {Truth{Box: good, Area: nan}, Detection{Box: good}, "image 7: truth 1: box"},
		"truth class": {Truth{Class: -1, Box: good}, Detection{Box: good}, "image 7: truth 1: class -1"},
	} {
		cfg := DefaultConfig()
		cfg.Classes = []Class{{"a", 1}, {"b", 2}}
		e, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		err = e.Add(7, []Truth{{Box: good}, c.truth}, []Detection{{Box: good}, c.det})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
		if err := e.Add(7, nil, nil); err != nil {
			t.Errorf("%s: the refused image counts as added: %v", name, err)
		}
		if err := e.Add(7, nil, nil); err == nil {
			t.Error("an image was added twice")
		}
	}
}

func TestNothingCanMatch(t *testing.T) {
	base := synthetic{images: 20, classes: 3, objects: 3, dets: 6, found: 0.9}
	for name, c := range map[string]struct {
		change func(d Detection) (Detection, bool)
		strays Strays
		want   string
	}{
		"corners": {change: func(d Detection) (Detection, bool) {
			d.Box.W, d.Box.H = d.Box.X+d.Box.W, d.Box.Y+d.Box.H
			return d, true
		}, want: "corners x1 y1 x2 y2"},
		"centres": {change: func(d Detection) (Detection, bool) {
			d.Box.X, d.Box.Y = d.Box.X+d.Box.W/2, d.Box.Y+d.Box.H/2
			return d, true
		}, want: "centre and size"},
		"fractions": {change: func(d Detection) (Detection, bool) {
			d.Box = Box{d.Box.X / 2000, d.Box.Y / 2000, d.Box.W / 2000, d.Box.H / 2000}
			return d, true
		}, want: "fractions of the image"},
		"none": {change: func(d Detection) (Detection, bool) { return d, false }, want: "no detections at all"},
		"classes": {change: func(d Detection) (Detection, bool) { return d, false },
			strays: Strays{UnknownClasses: 9}, want: "9 of 9 detections have classes that the data set does not have"},
		"images": {change: func(d Detection) (Detection, bool) { return d, false },
			strays: Strays{UnknownImages: 9}, want: "9 of 9 detections are on images that the data set does not have"},
	} {
		s := base.make(1)
		cfg := DefaultConfig()
		cfg.Classes = s.Classes
		e, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		for _, id := range s.Images {
			var dets []Detection
			for _, d := range s.Dets[id] {
				if d, keep := c.change(d); keep {
					dets = append(dets, d)
				}
			}
			if err := e.Add(id, s.Truths[id], dets); err != nil {
				t.Fatal(err)
			}
		}
		e.AddStrays(c.strays)
		_, err = e.Result()
		var mismatch *MismatchError
		if !errors.As(err, &mismatch) || !strings.Contains(err.Error(), c.want) || mismatch.Hint() == "" {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// A detector that is merely bad is no mismatch.
func TestBadDetectorIsNoMismatch(t *testing.T) {
	s := synthetic{images: 20, classes: 1, objects: 3, dets: 6, found: 0}.make(1)
	for id, dets := range s.Dets {
		for i := range dets {
			dets[i].Box.X += 3000
		}
		s.Dets[id] = dets
	}
	if r := s.evaluate(t, COCO); r.Metrics.Get("AP") != 0 {
		t.Errorf("AP %v", r.Metrics.Get("AP"))
	}
}
