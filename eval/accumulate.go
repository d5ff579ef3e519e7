package eval

import (
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
)

// classRows are the rows of one class, best first, and where its objects are.
type classRows struct {
	rows    []Row
	objects [numAreas]int // to be found, by area range
}

// collect brings the rows of all images together by class, sorted as
// pycocotools sorts them: a stable sort by −score over the images in order.
func collect(cfg Config, images []*Image) []classRows {
	classes := make([]classRows, len(cfg.Classes))
	sizes := make([]int, len(classes))
	for _, img := range images {
		for i := range img.rows {
			sizes[img.Detections[img.rows[i].Detection].Class]++
		}
		for i := range img.Truths {
			t := &img.Truths[i]
			for a := range cfg.Protocol.areas() {
				if cfg.Protocol.counts(t, a) {
					classes[t.Class].objects[a]++
				}
			}
		}
	}
	for k, n := range sizes {
		classes[k].rows = make([]Row, 0, n)
	}
	for n, img := range images {
		for i := range img.rows {
			r := img.rows[i]
			r.Image = int32(n)
			c := &classes[img.Detections[r.Detection].Class]
			c.rows = append(c.rows, r)
		}
	}
	parallel(len(classes), func(k int) { sortRows(classes[k].rows) })
	return classes
}

// sortRows sorts by score, highest first, then by image and rank.
func sortRows(rows []Row) {
	type key struct {
		score float64
		at    int32
	}
	keys := make([]key, len(rows))
	for i := range rows {
		keys[i] = key{rows[i].Score, int32(i)} // rows stand by image and rank
	}
	slices.SortFunc(keys, func(a, b key) int {
		switch {
		case a.score > b.score:
			return -1
		case a.score < b.score:
			return 1
		}
		return int(a.at - b.at)
	})
	sorted := make([]Row, len(rows))
	for i, k := range keys {
		sorted[i] = rows[k.at]
	}
	copy(rows, sorted)
}

// curve is the relation of precision and recall of one class at one IoU
// threshold in one area range.
type curve struct {
	objects int
	hits    int       // true positives
	ap      float64   // average precision; NaN without objects
	points  []float64 // precision at every recall point of the protocol; nil if not asked for
}

// steps are the points of the curve at true positives: between them precision
// only falls, so they alone decide the envelope.
type steps struct {
	total     []int32 // true and false positives so far
	precision []float64
}

// scan walks over the rows and notes the steps at threshold t in range a.
func (s *steps) scan(rows []Row, a, t int, p Protocol) {
	s.total, s.precision = s.total[:0], s.precision[:0]
	bit := uint16(1) << t
	hits, total := int32(0), int32(0)
	for i := range rows {
		switch r := &rows[i]; {
		case r.hit[a]&bit != 0:
			hits++
			total++
			s.total = append(s.total, total)
			if p == COCO {
				s.precision = append(s.precision, float64(hits)/(float64(total)+spacing1))
			} else {
				s.precision = append(s.precision, float64(hits)/float64(total))
			}
		case r.skip[a]&bit == 0:
			total++
		}
	}
}

// envelope makes precision at each step the highest at it or any later one.
func (s *steps) envelope() {
	for i := len(s.precision) - 2; i >= 0; i-- {
		s.precision[i] = max(s.precision[i], s.precision[i+1])
	}
}

// average returns the mean of the envelope at the recall points, or the area
// under it if points is nil. keep asks for the precision at the points.
func (s *steps) average(points []float64, objects int, keep bool) curve {
	c := curve{objects: objects, hits: len(s.precision)}
	s.envelope()
	if keep {
		c.points = make([]float64, len(points))
	}
	n := float64(objects)
	if points == nil { // the area: each true positive adds 1/n of recall
		for _, v := range s.precision {
			c.ap += v / n
		}
		return c
	}
	i := 0 // the first step whose recall reaches the point
	for k, r := range points {
		for i < len(s.precision) && float64(i+1)/n < r {
			i++
		}
		if i == len(s.precision) {
			break
		}
		c.ap += s.precision[i]
		if keep {
			c.points[k] = s.precision[i]
		}
	}
	c.ap /= float64(len(points))
	return c
}

// parallel calls f(0) … f(n−1) on all cores.
func parallel(n int, f func(i int)) {
	parallelWorkers(n, func() func(int) { return f })
}

// parallelWorkers is parallel where every goroutine calls a function of its
// own, made by newWorker.
func parallelWorkers(n int, newWorker func() func(i int)) {
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(n, runtime.GOMAXPROCS(0)) {
		wg.Go(func() {
			f := newWorker()
			for i := next.Add(1) - 1; i < int64(n); i = next.Add(1) - 1 {
				f(int(i))
			}
		})
	}
	wg.Wait()
}
