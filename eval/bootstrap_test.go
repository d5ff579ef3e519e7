package eval

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"resdet/internal/fixture"
)

// drawn returns a sampler with given weights in every lane.
func drawn(r *Result, weights []int) *sampler {
	w := newSampler(len(r.Images), r.Protocol)
	w.safe = 100
	for i, v := range weights {
		w.weights[i] = uint64(v) * 0x0001000100010001
	}
	return w
}

// reweighted returns AP by class and area range, in each of the lanes.
func reweighted(r *Result, weights []int) (ap [][numAreas]Value) {
	w := drawn(r, weights)
	ap = make([][numAreas]Value, len(r.classes))
	for k := range ap {
		for a := range r.Protocol.areas() {
			p := newPlan(r, r, k, a)
			if len(p.objects) == 0 {
				ap[k][a] = Absent()
				continue
			}
			w.count(&p)
			lanes := w.ap(&p.rows[0])
			ap[k][a] = Value(lanes[0])
			for _, v := range lanes[1:] {
				if v != lanes[0] && (v == v || lanes[0] == lanes[0]) {
					panic("lanes of the same weights differ")
				}
			}
		}
	}
	return ap
}

var bootstrapKinds = map[string]synthetic{
	"plain": {images: 40, classes: 4, objects: 3, dets: 12, found: 0.6, difficult: 0.2},
	"crowd": {images: 40, classes: 3, objects: 4, dets: 20, found: 0.7, crowd: 0.3},
	"many":  {images: 6, classes: 1, objects: 8, dets: 150, found: 0.4},
}

func TestWeightsOfOneGiveTheResult(t *testing.T) {
	for name, kind := range bootstrapKinds {
		for _, p := range []Protocol{COCO, VOC07, VOC10} {
			r := kind.make(3).evaluate(t, p)
			ones := make([]int, len(r.Images))
			for i := range ones {
				ones[i] = 1
			}
			ap := reweighted(r, ones)
			var classes, small []Value
			for k, c := range r.PerClass {
				near(t, fmt.Sprint(name, " ", p, " ", c.Class.Name), ap[k][0], c.Metrics.Get("AP"), 1e-12)
				classes, small = append(classes, ap[k][0]), append(small, ap[k][1])
			}
			near(t, name+" mean", mean(classes), r.Metrics[0].Value, 1e-12)
			if p == COCO {
				near(t, name+" small", mean(small), r.Metrics.Get("APs"), 1e-12)
			}
		}
	}
}

// An image drawn n times is n images, never one.
func TestWeightsEqualCopiesOfImages(t *testing.T) {
	for name, kind := range bootstrapKinds {
		for _, p := range []Protocol{COCO, VOC07, VOC10} {
			s := kind.make(5)
			r := s.evaluate(t, p)
			rng := rand.New(rand.NewPCG(1, 2))
			weights := make([]int, len(r.Images))
			copies := sample{Classes: s.Classes, Truths: map[int64][]Truth{}, Dets: map[int64][]Detection{}}
			for i, img := range r.Images {
				weights[i] = max(0, rng.IntN(5)-1)
				for n := range weights[i] {
					id := img.ID*10 + int64(n)
					copies.Images = append(copies.Images, id)
					copies.Truths[id], copies.Dets[id] = img.Truths, img.Detections
				}
			}
			want := copies.evaluate(t, p)
			ap := reweighted(r, weights)
			for k := range ap {
				near(t, fmt.Sprint(name, " ", p, " class ", k), ap[k][0], want.PerClass[k].Metrics.Get("AP"), 1e-9)
			}
			if p == COCO {
				for a := 1; a < numAreas; a++ {
					values := make([]Value, len(ap))
					for k := range ap {
						values[k] = ap[k][a]
					}
					near(t, name+" "+areaNames[a], mean(values), want.PerSize[a-1].Metrics.Get("AP"), 1e-9)
				}
			}
		}
	}
}

func TestLanesDoNotOverflow(t *testing.T) {
	s := synthetic{images: 30, classes: 1, objects: 5, dets: 30, found: 0.5}.make(1)
	r := s.evaluate(t, COCO)
	p := newPlan(r, r, 0, 0)
	ap := func(weight uint64) [lanes]float64 {
		w := newSampler(len(r.Images), COCO)
		for i := range w.weights {
			w.weights[i] = weight * 0x0001000100010001
		}
		w.safe = int(0xffff / weight)
		w.count(&p)
		return w.ap(&p.rows[0])
	}
	// All weights alike change nothing but where the recall points fall between
	// copies of one detection.
	if one, many := ap(1), ap(2000); math.Abs(one[0]-many[0]) > 0.01 || many != [lanes]float64{many[0], many[0], many[0], many[0]} {
		t.Errorf("AP %v at weight 1, %v at 2000", one, many)
	}
}

func TestCompare(t *testing.T) {
	kind := synthetic{images: 150, classes: 4, objects: 3, dets: 12, found: 0.4}
	s := kind.make(1)
	better := kind
	better.found = 0.8
	x, y := s.evaluate(t, COCO), better.pair(1, 9).evaluate(t, COCO)
	cfg := CompareConfig{Samples: 400, Seed: 5}
	c, err := Compare(context.Background(), x, y, cfg)
	if err != nil {
		t.Fatal(err)
	}
	if c.Metric != "AP" || c.Baseline != x.Metrics.Get("AP") || c.Candidate != y.Metrics.Get("AP") || c.Gain != c.Candidate-c.Baseline {
		t.Errorf("%+v", c)
	}
	if !(c.CI95.Lo < c.Gain && c.Gain < c.CI95.Hi && c.CI95.Lo > 0) {
		t.Errorf("gain %v has the interval %v", c.Gain, c.CI95)
	}
	for _, g := range append(c.PerClass, c.PerSize...) {
		if !(g.CI95.Lo <= g.CI95.Hi) || g.Objects == 0 || g.Class+g.Size == "" {
			t.Errorf("%+v", g)
		}
	}
	again, err := Compare(context.Background(), x, y, cfg)
	if err != nil || again.CI95 != c.CI95 {
		t.Errorf("the same seed gives %v and %v, %v", c.CI95, again.CI95, err)
	}
	same, err := Compare(context.Background(), x, x, cfg)
	if err != nil || same.Gain != 0 || same.CI95 != (Interval{}) {
		t.Errorf("a detector with itself: gain %v, interval %v, %v", same.Gain, same.CI95, err)
	}
	if math.Abs(c.Paper.Relative-0.283) > 0.001 || c.Paper.Metric != "AP" {
		t.Errorf("the paper's row is %+v", c.Paper)
	}

	if _, err := Compare(context.Background(), x, s.evaluate(t, VOC07), cfg); err == nil {
		t.Error("two protocols were compared")
	}
	s.Images = s.Images[1:]
	if _, err := Compare(context.Background(), x, s.evaluate(t, COCO), cfg); err == nil {
		t.Error("different images were compared")
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Compare(ctx, x, y, cfg); err != context.Canceled {
		t.Errorf("a cancelled comparison returned %v", err)
	}
}

// The interval must cover the true difference about as often as it says. Two
// detectors find objects with known probabilities; the truth is measured once
// on a very large set.
func TestIntervalCoversTheDifference(t *testing.T) {
	if fixture.Race {
		t.Skip("much arithmetic, and nothing is concurrent")
	}
	world := func(seed uint64, images int) (a, b *Result) {
		rng := rand.New(rand.NewPCG(seed, 3))
		add := func(e *Evaluator, id int64, truths []Truth, dets []Detection) {
			if err := e.Add(id, truths, dets); err != nil {
				t.Fatal(err)
			}
		}
		cfg := DefaultConfig()
		cfg.Protocol, cfg.Classes = VOC10, []Class{{"thing", 1}}
		ea, _ := New(cfg)
		eb, _ := New(cfg)
		for i := range images {
			var truths []Truth
			var da, db []Detection
			hard := rng.Float64() // shared by the detectors: why the test is paired
			for j := range 1 + rng.IntN(4) {
				box := Box{float64(100 * j), 0, 50, 50}
				truths = append(truths, Truth{ID: 1, Box: box, Area: 2500})
				if rng.Float64() < 0.9-0.6*hard {
					da = append(da, Detection{Score: 0.3 + 0.7*rng.Float64(), Box: box})
				}
				if rng.Float64() < 1.0-0.6*hard {
					db = append(db, Detection{Score: 0.3 + 0.7*rng.Float64(), Box: box})
				}
				if rng.Float64() < 0.4 {
					d := Detection{Score: 0.8 * rng.Float64(), Box: Box{float64(100 * j), 200, 50, 50}}
					da = append(da, d)
					db = append(db, d)
				}
			}
			add(ea, int64(i), truths, da)
			add(eb, int64(i), truths, db)
		}
		a, err := ea.Result()
		if err != nil {
			t.Fatal(err)
		}
		b, err = eb.Result()
		if err != nil {
			t.Fatal(err)
		}
		return a, b
	}
	a, b := world(1, 30000)
	truth := b.Metrics[0].Value - a.Metrics[0].Value
	const trials = 200
	covered := 0
	for n := range trials {
		a, b := world(uint64(n)+2, 150)
		c, err := Compare(context.Background(), a, b, CompareConfig{Samples: 400, Seed: uint64(n)})
		if err != nil {
			t.Fatal(err)
		}
		if c.CI95.Lo <= truth && truth <= c.CI95.Hi {
			covered++
		}
	}
	t.Logf("true difference %.4f, covered by %d of %d intervals", truth, covered, trials)
	// 190 are nominal, with a deviation of 3.1; the bootstrap of so few images
	// and samples falls short by a little.
	if covered < 179 || covered > 198 {
		t.Errorf("%d of %d intervals cover the true difference, 95 %% should", covered, trials)
	}
}
