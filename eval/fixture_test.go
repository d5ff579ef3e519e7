package eval

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"resdet/internal/fixture"
)

// tolerance is what sums in another order may differ by. The references would
// allow 1e-6 (COCO) and 1e-4 (VOC).
const tolerance = 1e-12

// sample is a data set with detections as the fixtures have them.
type sample struct {
	Classes []Class
	Images  []int64
	Truths  map[int64][]Truth
	Dets    map[int64][]Detection
}

func readSample(t testing.TB, dir string) sample {
	t.Helper()
	var gt struct {
		Images     []struct{ ID int64 }
		Categories []struct {
			ID   int
			Name string
		}
		Annotations []struct {
			ID         int64
			ImageID    int64 `json:"image_id"`
			CategoryID int   `json:"category_id"`
			BBox       [4]float64
			Area       float64
			IsCrowd    int
			Ignore     int
			Difficult  int
		}
	}
	var dt []struct {
		ImageID    int64 `json:"image_id"`
		CategoryID int   `json:"category_id"`
		BBox       [4]float64
		Score      float64
	}
	readJSON(t, filepath.Join(dir, "gt.json"), &gt)
	readJSON(t, filepath.Join(dir, "dt.json"), &dt)
	s := sample{Truths: map[int64][]Truth{}, Dets: map[int64][]Detection{}}
	index := map[int]int{}
	for i, c := range gt.Categories {
		index[c.ID] = i
		s.Classes = append(s.Classes, Class{c.Name, c.ID})
	}
	for _, img := range gt.Images {
		s.Images = append(s.Images, img.ID)
	}
	for _, a := range gt.Annotations {
		s.Truths[a.ImageID] = append(s.Truths[a.ImageID], Truth{a.ID, index[a.CategoryID], boxOf(a.BBox), a.Area, a.IsCrowd != 0, a.Ignore != 0, a.Difficult != 0})
	}
	for _, d := range dt {
		s.Dets[d.ImageID] = append(s.Dets[d.ImageID], Detection{index[d.CategoryID], d.Score, boxOf(d.BBox)})
	}
	return s
}

func boxOf(b [4]float64) Box { return Box{b[0], b[1], b[2], b[3]} }

func readJSON(t testing.TB, path string, v any) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, v); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

func (s sample) evaluate(t testing.TB, p Protocol) *Result {
	t.Helper()
	r, err := s.result(p)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (s sample) result(p Protocol) (*Result, error) {
	cfg := DefaultConfig()
	cfg.Protocol, cfg.Classes = p, s.Classes
	e, err := New(cfg)
	if err != nil {
		return nil, err
	}
	for _, id := range s.Images {
		if err := e.Add(id, s.Truths[id], s.Dets[id]); err != nil {
			return nil, err
		}
	}
	return e.Result()
}

func near(t testing.TB, what string, got, want Value, tol float64) {
	t.Helper()
	if got.Present() != want.Present() || got.Present() && math.Abs(float64(got-want)) > tol {
		t.Errorf("%s: %v, the reference has %v", what, got, want)
	}
}

// cases returns the folders of ../shared/fixtures/eval, or of the selection in
// testdata.
func cases(t testing.TB) []string {
	t.Helper()
	dirs, err := filepath.Glob(filepath.Join(fixture.Dir(t, "eval"), "*", "gt.json"))
	if err != nil || len(dirs) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for i := range dirs {
		dirs[i] = filepath.Dir(dirs[i])
	}
	return dirs
}

func TestEqualToPycocotools(t *testing.T) {
	for _, dir := range cases(t) {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			var want struct {
				Stats    map[string]Value
				PerClass map[string]map[string]Value `json:"per_class"`
			}
			readJSON(t, filepath.Join(dir, "expected.json"), &want)
			r := readSample(t, dir).evaluate(t, COCO)
			if len(want.Stats) != len(r.Metrics) || len(want.PerClass) != len(r.PerClass) {
				t.Fatalf("%d metrics, %d classes; the reference has %d, %d", len(r.Metrics), len(r.PerClass), len(want.Stats), len(want.PerClass))
			}
			for _, m := range r.Metrics {
				near(t, m.Name, m.Value, want.Stats[m.Name], tolerance)
			}
			for _, c := range r.PerClass {
				ref := want.PerClass[strconv.Itoa(c.Class.ID)]
				for _, m := range c.Metrics {
					near(t, c.Class.Name+" "+m.Name, m.Value, ref[m.Name], tolerance)
				}
			}
		})
	}
}

func TestEqualToDevkit(t *testing.T) {
	for _, dir := range cases(t) {
		if _, err := os.Stat(filepath.Join(dir, "expected_voc.json")); err != nil {
			continue
		}
		var want map[string]struct {
			MAP      Value            `json:"mAP"`
			PerClass map[string]Value `json:"per_class"`
		}
		readJSON(t, filepath.Join(dir, "expected_voc.json"), &want)
		s := readSample(t, dir)
		for _, p := range []Protocol{VOC07, VOC10} {
			t.Run(filepath.Base(dir)+"/"+string(p), func(t *testing.T) {
				r := s.evaluate(t, p)
				near(t, "mAP", r.Metrics.Get("mAP"), want[string(p)].MAP, tolerance)
				for _, c := range r.PerClass {
					near(t, c.Class.Name, c.Metrics.Get("AP"), want[string(p)].PerClass[c.Class.Name], tolerance)
				}
			})
		}
	}
}
