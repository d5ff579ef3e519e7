package eval_test

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"testing"

	"resdet/eval"
	"resdet/internal/fixture"
)

// motTolerance is the agreement asked for; the expected values have 9 digits.
const motTolerance = 1e-6

func readMOT(t testing.TB, path string) []eval.MOTRow {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rows, err := eval.ReadMOT(f, path)
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

// TestMOTReference walks the reference's scenes: the figures of py-motmetrics
// and HOTA of TrackEval, as they are and after the benchmark's preprocessing.
func TestMOTReference(t *testing.T) {
	dirs, err := filepath.Glob(filepath.Join(fixture.Dir(t, "tracking"), "mot_*"))
	if err != nil || len(dirs) == 0 {
		t.Fatalf("no mot_* cases (%v)", err)
	}
	for _, dir := range dirs {
		b, err := os.ReadFile(filepath.Join(dir, "expected.json"))
		if err != nil {
			t.Fatal(err)
		}
		var want struct {
			Motmetrics map[string]map[string]any
			Trackeval  map[string]map[string]any
		}
		if err := json.Unmarshal(b, &want); err != nil {
			t.Fatal(err)
		}
		gt, pred := readMOT(t, filepath.Join(dir, "gt.txt")), readMOT(t, filepath.Join(dir, "pred.txt"))
		for _, section := range []string{"plain", "preprocessed"} {
			t.Run(filepath.Base(dir)+"/"+section, func(t *testing.T) {
				res, err := eval.MOT(gt, pred, eval.MOTOptions{Preprocess: section == "preprocessed"})
				if err != nil {
					t.Fatal(err)
				}
				got := asJSON(t, res)
				if len(want.Motmetrics[section]) < 20 {
					t.Fatalf("only %d figures expected", len(want.Motmetrics[section]))
				}
				for key, w := range want.Motmetrics[section] {
					same(t, key, got[key], w)
				}
				hota := want.Trackeval[section]
				if hota == nil {
					if res.HOTA != nil || res.HOTAError == "" {
						t.Errorf("HOTA of what TrackEval refuses: %+v, error %q", res.HOTA, res.HOTAError)
					}
					return
				}
				if res.HOTA == nil {
					t.Fatalf("no HOTA: %s", res.HOTAError)
				}
				mine := asJSON(t, res.HOTA)
				if len(mine) != 12 {
					t.Fatalf("%d figures of HOTA", len(mine))
				}
				for key, g := range mine {
					alpha, ok := g.([]any)
					if !ok {
						same(t, key, g, hota[key])
						continue
					}
					for i := range alpha {
						same(t, key, alpha[i], hota[key].([]any)[i])
					}
				}
			})
		}
	}
}

func asJSON(t *testing.T, v any) map[string]any {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(b, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

func same(t *testing.T, key string, got, want any) {
	t.Helper()
	g, gok := got.(float64)
	w, wok := want.(float64)
	if gok != wok || !(math.Abs(g-w) <= motTolerance) {
		t.Errorf("%s: %v, want %v", key, got, want)
	}
}
