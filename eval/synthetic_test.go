package eval

import (
	"fmt"
	"math/rand/v2"
)

// synthetic makes a data set in the proportions of a real one. Every choice
// comes from the seed.
type synthetic struct {
	images, classes   int
	objects, dets     float64 // means per image
	crowd, difficult  float64 // shares of the objects
	grid              float64 // scores are rounded to it, for ties; 0: not at all
	found             float64 // share of the detections that are about an object
	zeroID, edgeAreas bool
}

// vocTest is of the size of VOC 2007 test with 140,000 detections.
var vocTest = synthetic{images: 4952, classes: 20, objects: 3.03, dets: 28.3, difficult: 0.1, found: 0.3}

func (c synthetic) make(seed uint64) sample { return c.pair(seed, seed) }

// pair makes truths and detections from a seed each.
func (c synthetic) pair(seed, detSeed uint64) sample {
	r := rand.New(rand.NewPCG(seed, 7))
	rd := rand.New(rand.NewPCG(detSeed, 8))
	s := sample{Truths: map[int64][]Truth{}, Dets: map[int64][]Detection{}}
	for k := range c.classes {
		s.Classes = append(s.Classes, Class{fmt.Sprintf("class%02d", k), 3*k + 1})
	}
	id := int64(1)
	if c.zeroID {
		id = 0
	}
	some := func(r *rand.Rand, mean float64) int { // geometric, as counts of objects are about
		n := 0
		for r.Float64() < mean/(1+mean) {
			n++
		}
		return n
	}
	for i := range c.images {
		image := int64(3*i + 2)
		s.Images = append(s.Images, image)
		for range some(r, c.objects) {
			t := Truth{ID: id, Class: min(r.IntN(c.classes), r.IntN(c.classes)), Crowd: r.Float64() < c.crowd, Difficult: r.Float64() < c.difficult}
			id++
			side := []float64{8, 20, 32, 60, 96, 150, 300}[r.IntN(7)]
			w, h := side, side
			if !c.edgeAreas {
				w, h = side*(0.5+r.Float64()), side*(0.5+r.Float64())
			}
			t.Box = Box{float64(int(r.Float64() * 400)), float64(int(r.Float64() * 300)), float64(int(w)), float64(int(h))}
			t.Area = t.Box.Area()
			if r.IntN(3) == 0 {
				t.Area *= 0.7
			}
			s.Truths[image] = append(s.Truths[image], t)
		}
		truths := s.Truths[image]
		for range some(rd, c.dets) {
			d := Detection{Class: rd.IntN(c.classes), Score: rd.Float64() * rd.Float64() * rd.Float64()}
			side := 10 + 250*rd.Float64()
			d.Box = Box{rd.Float64() * 400, rd.Float64() * 300, side, side * (0.5 + rd.Float64())}
			if len(truths) > 0 && rd.Float64() < c.found {
				t := truths[rd.IntN(len(truths))]
				jitter := 0.25 * rd.Float64()
				d = Detection{Class: t.Class, Score: rd.Float64(), Box: Box{
					t.Box.X + jitter*(rd.Float64()-0.5)*t.Box.W, t.Box.Y + jitter*(rd.Float64()-0.5)*t.Box.H,
					t.Box.W * (1 + jitter*(rd.Float64()-0.5)), t.Box.H * (1 + jitter*(rd.Float64()-0.5)),
				}}
				switch rd.IntN(8) {
				case 0:
					d.Class = rd.IntN(c.classes)
				case 1:
					d.Box = t.Box
				}
			}
			if c.grid > 0 {
				d.Score = float64(int(d.Score/c.grid)) * c.grid
			}
			s.Dets[image] = append(s.Dets[image], d)
		}
	}
	return s
}
