package eval

// table holds a figure by class, area range and IoU threshold.
type table struct {
	ap   [][numAreas][]Value // average precision
	hits [][numAreas][]int   // true positives among the first 100 of each image
	upTo [][2][]int          // in range "all", among the first 1 and 10
}

// summarizeCOCO is COCOeval.accumulate and summarize.
func (r *Result) summarizeCOCO() {
	thresholds := len(cocoOverlaps)
	t := table{
		ap:   make([][numAreas][]Value, len(r.classes)),
		hits: make([][numAreas][]int, len(r.classes)),
		upTo: make([][2][]int, len(r.classes)),
	}
	curves := make([][]Curve, len(r.classes))
	parallel(len(r.classes), func(k int) {
		c := &r.classes[k]
		var s steps
		for a := range numAreas {
			t.ap[k][a], t.hits[k][a] = make([]Value, thresholds), make([]int, thresholds)
			for i := range thresholds {
				if c.objects[a] == 0 {
					t.ap[k][a][i] = Absent()
					continue
				}
				s.scan(c.rows, a, i, COCO)
				got := s.average(cocoRecalls, c.objects[a], a == 0)
				t.ap[k][a][i], t.hits[k][a][i] = Value(got.ap), got.hits
				if a == 0 {
					curves[k] = append(curves[k], Curve{cocoOverlaps[i], cocoRecalls, got.points})
				}
			}
		}
		t.upTo[k][0], t.upTo[k][1] = make([]int, thresholds), make([]int, thresholds)
		for i := range c.rows {
			for m := range 2 {
				if int(c.rows[i].Rank) < maxDets[m] {
					for j := range thresholds {
						t.upTo[k][m][j] += int(c.rows[i].hit[0] >> j & 1)
					}
				}
			}
		}
	})

	one := func(f func(k int) Value) Value {
		values := make([]Value, len(r.classes))
		for k := range values {
			values[k] = f(k)
		}
		return mean(values)
	}
	ap := func(a int) func(k int) Value { return func(k int) Value { return mean(t.ap[k][a]) } }
	apAt := func(a, i int) func(k int) Value { return func(k int) Value { return t.ap[k][a][i] } }
	ar := func(a int) func(k int) Value {
		return func(k int) Value { return recall(t.hits[k][a], r.classes[k].objects[a]) }
	}
	arUpTo := func(m int) func(k int) Value {
		return func(k int) Value { return recall(t.upTo[k][m], r.classes[k].objects[0]) }
	}
	r.Metrics = Metrics{
		{"AP", one(ap(0))}, {"AP50", one(apAt(0, at50))}, {"AP75", one(apAt(0, at75))},
		{"APs", one(ap(1))}, {"APm", one(ap(2))}, {"APl", one(ap(3))},
		{"AR1", one(arUpTo(0))}, {"AR10", one(arUpTo(1))}, {"AR100", one(ar(0))},
		{"ARs", one(ar(1))}, {"ARm", one(ar(2))}, {"ARl", one(ar(3))},
	}
	for k, c := range r.Classes {
		r.PerClass = append(r.PerClass, ClassResult{
			Class: c,
			Metrics: Metrics{
				{"AP", ap(0)(k)}, {"AP50", apAt(0, at50)(k)}, {"AP75", apAt(0, at75)(k)}, {"AR100", ar(0)(k)},
			},
			Objects: r.classes[k].objects[0], Curves: curves[k],
		})
	}
	for a := 1; a < numAreas; a++ {
		objects := 0
		for k := range r.classes {
			objects += r.classes[k].objects[a]
		}
		r.PerSize = append(r.PerSize, SizeResult{
			Size: areaNames[a], Area: areaRanges[a], Objects: objects,
			Metrics: Metrics{
				{"AP", one(ap(a))}, {"AP50", one(apAt(a, at50))}, {"AP75", one(apAt(a, at75))}, {"AR100", one(ar(a))},
			},
		})
	}
}

// recall returns the mean of hits/objects over the IoU thresholds.
func recall(hits []int, objects int) Value {
	if objects == 0 {
		return Absent()
	}
	sum := 0.0
	for _, h := range hits {
		sum += float64(h) / float64(objects)
	}
	return Value(sum / float64(len(hits)))
}

// summarizeVOC is the development kit's AP by class and the mean.
func (r *Result) summarizeVOC() {
	r.PerClass = make([]ClassResult, len(r.classes))
	aps := make([]Value, len(r.classes))
	parallel(len(r.classes), func(k int) {
		c := &r.classes[k]
		aps[k] = Absent()
		var curves []Curve
		if c.objects[0] > 0 {
			var s steps
			s.scan(c.rows, 0, 0, r.Protocol)
			aps[k] = Value(s.average(r.Protocol.points(), c.objects[0], false).ap)
			curves = []Curve{s.curve(c.objects[0])}
		}
		r.PerClass[k] = ClassResult{
			Class: r.Classes[k], Metrics: Metrics{{"AP", aps[k]}}, Objects: c.objects[0], Curves: curves,
		}
	})
	r.Metrics = Metrics{{"mAP", mean(aps)}}
}

// curve samples the envelope at COCO's recall points, for drawing.
func (s *steps) curve(objects int) Curve {
	return Curve{0.5, cocoRecalls, s.average(cocoRecalls, objects, true).points}
}
