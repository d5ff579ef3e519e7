package eval

import (
	"fmt"
	"math"
	"sort"
	"testing"

	"resdet/internal/fixture"
)

// oracle evaluates as pycocotools' text says, slowly and without any of the
// package's shortcuts: a dictionary of results per class, area and image,
// concatenation, stable sorts, cumulative sums and a search for each point.
type oracle struct {
	ap, recall map[string]float64 // by "class/area/maxDets/threshold"; −1 where there is nothing
	classes    int
}

type oracleImage struct {
	scores         []float64
	matched, dtIgn [][]bool // [T][D]
	gtIgn          []bool
}

func oracleKey(k, a, m, t int) string { return fmt.Sprint(k, "/", a, "/", m, "/", t) }

func newOracle(s sample) oracle {
	o := oracle{map[string]float64{}, map[string]float64{}, len(s.Classes)}
	ids := append([]int64(nil), s.Images...)
	sort.Slice(ids, func(i, j int) bool { return ids[i] < ids[j] })
	limits := []int{1, 10, 100}
	ranges := [][2]float64{{0, 1e10}, {0, 1024}, {1024, 9216}, {9216, 1e10}}
	var thresholds []float64
	for i := range 9 {
		step := (0.95 - 0.5) / 9
		thresholds = append(thresholds, 0.5+float64(float64(i)*variable(step)))
	}
	thresholds = append(thresholds, 0.95)
	for k := range s.Classes {
		for a, rng := range ranges {
			var images []oracleImage
			for _, id := range ids {
				if e, ok := oracleMatch(s, id, k, rng, thresholds); ok {
					images = append(images, e)
				}
			}
			for m, limit := range limits {
				for t := range thresholds {
					ap, rec := oracleAccumulate(images, limit, t)
					o.ap[oracleKey(k, a, m, t)], o.recall[oracleKey(k, a, m, t)] = ap, rec
				}
			}
		}
	}
	return o
}

// variable keeps the compiler from computing with exact constants.
func variable(v float64) float64 { return math.Float64frombits(math.Float64bits(v)) }

func oracleMatch(s sample, id int64, class int, rng [2]float64, thresholds []float64) (oracleImage, bool) {
	var gt []Truth
	var dt []Detection
	for _, g := range s.Truths[id] {
		if g.Class == class {
			gt = append(gt, g)
		}
	}
	for _, d := range s.Dets[id] {
		if d.Class == class {
			dt = append(dt, d)
		}
	}
	if len(gt) == 0 && len(dt) == 0 {
		return oracleImage{}, false
	}
	ignore := func(g Truth) bool { return g.Crowd || g.Area < rng[0] || g.Area > rng[1] }
	sort.SliceStable(gt, func(i, j int) bool { return !ignore(gt[i]) && ignore(gt[j]) })
	sort.SliceStable(dt, func(i, j int) bool { return -dt[i].Score < -dt[j].Score })
	if len(dt) > 100 {
		dt = dt[:100]
	}
	var e oracleImage
	for _, g := range gt {
		e.gtIgn = append(e.gtIgn, ignore(g))
	}
	for _, d := range dt {
		e.scores = append(e.scores, d.Score)
	}
	for _, t := range thresholds {
		gtm := make([]int64, len(gt))
		dtm := make([]int64, len(dt))
		ign := make([]bool, len(dt))
		for di, d := range dt {
			iou, m := math.Min(t, 1-1e-10), -1
			for gi, g := range gt {
				if gtm[gi] > 0 && !g.Crowd {
					continue
				}
				if m > -1 && !e.gtIgn[m] && e.gtIgn[gi] {
					break
				}
				v := oracleIoU(d.Box, g.Box, g.Crowd)
				if v < iou {
					continue
				}
				iou, m = v, gi
			}
			if m == -1 {
				continue
			}
			ign[di] = e.gtIgn[m]
			dtm[di] = gt[m].ID
			gtm[m] = int64(di) + 1 // any id above 0
		}
		matched := make([]bool, len(dt))
		for di, d := range dt {
			area := d.Box.W * d.Box.H
			ign[di] = ign[di] || dtm[di] == 0 && (area < rng[0] || area > rng[1])
			matched[di] = dtm[di] != 0
		}
		e.matched, e.dtIgn = append(e.matched, matched), append(e.dtIgn, ign)
	}
	return e, true
}

func oracleIoU(d, g Box, crowd bool) float64 {
	w := math.Min(d.W+d.X, g.W+g.X) - math.Max(d.X, g.X)
	h := math.Min(d.H+d.Y, g.H+g.Y) - math.Max(d.Y, g.Y)
	if w <= 0 || h <= 0 {
		return 0
	}
	i := variable(w * h)
	u := variable(d.W * d.H)
	if !crowd {
		u = u + variable(g.W*g.H) - i
	}
	return i / u
}

func oracleAccumulate(images []oracleImage, limit, t int) (ap, rec float64) {
	type det struct {
		score       float64
		matched, ig bool
	}
	var all []det
	npig := 0
	for _, e := range images {
		for i := range e.scores {
			if i < limit {
				all = append(all, det{e.scores[i], e.matched[t][i], e.dtIgn[t][i]})
			}
		}
		for _, ig := range e.gtIgn {
			if !ig {
				npig++
			}
		}
	}
	if npig == 0 {
		return -1, -1
	}
	sort.SliceStable(all, func(i, j int) bool { return all[i].score > all[j].score })
	var rc, pr []float64
	tp, fp := 0.0, 0.0
	for _, d := range all {
		if d.matched && !d.ig {
			tp++
		}
		if !d.matched && !d.ig {
			fp++
		}
		rc = append(rc, tp/float64(npig))
		pr = append(pr, tp/(fp+tp+(math.Nextafter(1, 2)-1)))
	}
	for i := len(pr) - 1; i > 0; i-- {
		if pr[i] > pr[i-1] {
			pr[i-1] = pr[i]
		}
	}
	if len(rc) > 0 {
		rec = rc[len(rc)-1]
	}
	sum := 0.0
	for i := range 101 {
		r := float64(i) * variable(0.01)
		if i == 100 {
			r = 1
		}
		if at := sort.SearchFloat64s(rc, r); at < len(pr) {
			sum += pr[at]
		}
	}
	return sum / 101, rec
}

// mean is np.mean(s[s > -1]) over classes and thresholds; NaN for −1.
func (o oracle) mean(of map[string]float64, class, a, m int, thresholds ...int) Value {
	sum, n := 0.0, 0
	for k := range o.classes {
		if class >= 0 && k != class {
			continue
		}
		for t := range 10 {
			if len(thresholds) > 0 && thresholds[0] != t {
				continue
			}
			if v := of[oracleKey(k, a, m, t)]; v > -1 {
				sum += v
				n++
			}
		}
	}
	if n == 0 {
		return Absent()
	}
	return Value(sum / float64(n))
}

func TestEqualToOracle(t *testing.T) {
	if fixture.Race {
		t.Skip("much arithmetic, and nothing is concurrent")
	}
	kinds := map[string]synthetic{
		"plain":        {images: 25, classes: 4, objects: 3, dets: 12, found: 0.5},
		"ties":         {images: 20, classes: 3, objects: 3, dets: 15, found: 0.5, grid: 0.125},
		"crowd":        {images: 20, classes: 3, objects: 4, dets: 15, found: 0.7, crowd: 0.3, grid: 0.05},
		"crowd only":   {images: 8, classes: 2, objects: 2, dets: 8, found: 0.7, crowd: 1},
		"many":         {images: 5, classes: 1, objects: 8, dets: 300, found: 0.4, grid: 0.01},
		"edges, id 0":  {images: 20, classes: 3, objects: 3, dets: 10, found: 0.8, edgeAreas: true, zeroID: true},
		"one image, 0": {images: 1, classes: 2, objects: 3, dets: 10, found: 0.9, zeroID: true},
		"empty":        {images: 12, classes: 12, objects: 0.5, dets: 2, found: 0.6},
	}
	for name, kind := range kinds {
		t.Run(name, func(t *testing.T) {
			compared := 0
			for seed := range uint64(12) {
				s := kind.make(seed)
				r, err := s.result(COCO)
				if err != nil {
					if len(flatten(s.Truths)) > 0 && len(flatten(s.Dets)) > 0 && name != "empty" && name != "one image, 0" {
						t.Error(err)
					}
					continue
				}
				compared++
				o := newOracle(s)
				want := Metrics{
					{"AP", o.mean(o.ap, -1, 0, 2)}, {"AP50", o.mean(o.ap, -1, 0, 2, 0)}, {"AP75", o.mean(o.ap, -1, 0, 2, 5)},
					{"APs", o.mean(o.ap, -1, 1, 2)}, {"APm", o.mean(o.ap, -1, 2, 2)}, {"APl", o.mean(o.ap, -1, 3, 2)},
					{"AR1", o.mean(o.recall, -1, 0, 0)}, {"AR10", o.mean(o.recall, -1, 0, 1)}, {"AR100", o.mean(o.recall, -1, 0, 2)},
					{"ARs", o.mean(o.recall, -1, 1, 2)}, {"ARm", o.mean(o.recall, -1, 2, 2)}, {"ARl", o.mean(o.recall, -1, 3, 2)},
				}
				for i, m := range r.Metrics {
					if m.Name != want[i].Name {
						t.Fatalf("metric %d is %s", i, m.Name)
					}
					near(t, fmt.Sprint("seed ", seed, " ", m.Name), m.Value, want[i].Value, tolerance)
				}
				for k, c := range r.PerClass {
					near(t, "class AP", c.Metrics.Get("AP"), o.mean(o.ap, k, 0, 2), tolerance)
					near(t, "class AP50", c.Metrics.Get("AP50"), o.mean(o.ap, k, 0, 2, 0), tolerance)
					near(t, "class AP75", c.Metrics.Get("AP75"), o.mean(o.ap, k, 0, 2, 5), tolerance)
					near(t, "class AR100", c.Metrics.Get("AR100"), o.mean(o.recall, k, 0, 2), tolerance)
				}
			}
			if compared < 6 {
				t.Errorf("only %d sets were compared", compared)
			}
		})
	}
}

func flatten[T any](m map[int64][]T) []T {
	var out []T
	for _, v := range m {
		out = append(out, v...)
	}
	return out
}
