package eval_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"resdet/eval"
)

func ExampleMOT() {
	gt, err := eval.ReadMOT(strings.NewReader("1,1,10,10,40,80,1,1,1\n2,1,14,10,40,80,1,1,1\n3,1,18,10,40,80,1,1,1\n"), "gt.txt")
	if err != nil {
		fmt.Println(err)
		return
	}
	pred, err := eval.ReadMOT(strings.NewReader("1,7,10,10,40,80\n2,7,14,10,40,80\n3,8,18,10,40,80\n"), "pred.txt")
	if err != nil {
		fmt.Println(err)
		return
	}
	res, err := eval.MOT(gt, pred, eval.MOTOptions{})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("MOTA %.2f, IDF1 %.2f, HOTA %.2f, %d switch\n", res.MOTA, res.IDF1, res.HOTA.HOTA, res.Switches)
	// Output: MOTA 0.67, IDF1 0.67, HOTA 0.75, 1 switch
}

func TestReadMOT(t *testing.T) {
	in := "\ufeff1,2,3.5,4,5,6\r\n\r\n 2 -1 3 4 5 6 0.5 -1 -1 -1\n3,7,1e1,-2,3,4,0,8,0.25,\n  1.0, 2, 3, 4, 5, 6, 1, 1, 1"
	want := []eval.MOTRow{
		{Frame: 1, ID: 2, Box: eval.Box{X: 3.5, Y: 4, W: 5, H: 6}, Confidence: 1, Class: -1, Visibility: -1},
		{Frame: 2, ID: -1, Box: eval.Box{X: 3, Y: 4, W: 5, H: 6}, Confidence: 0.5, Class: -1, Visibility: -1},
		{Frame: 3, ID: 7, Box: eval.Box{X: 10, Y: -2, W: 3, H: 4}, Confidence: 0, Class: 8, Visibility: 0.25},
		{Frame: 1, ID: 2, Box: eval.Box{X: 3, Y: 4, W: 5, H: 6}, Confidence: 1, Class: 1, Visibility: 1},
	}
	got, err := eval.ReadMOT(strings.NewReader(in), "gt.txt")
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if got, err := eval.ReadMOT(strings.NewReader(""), "pred.txt"); err != nil || len(got) != 0 {
		t.Errorf("an empty file: %v, %v", got, err)
	}

	for in, part := range map[string]string{
		"1,2,3,4,5\n":                       "line 1: 5 fields",
		"1,2,3,4,5,6\n1,2,x,4,5,6":          `line 2: x: "x" is not a number`,
		"1,2,3,4,5,":                        "5 fields",
		"1,2,,4,5,6":                        `x: "" is not a number`,
		"1,2,3,4,NaN,6":                     `width: "NaN" is not finite`,
		"1,2,3,4,5,-Inf":                    `height: "-Inf" is not finite`,
		"1,2,3,4,5,1e999":                   "height",
		"0,2,3,4,5,6":                       "frames count from 1",
		"1.5,2,3,4,5,6":                     "frame: \"1.5\" is not a whole number",
		"1,99999999999,3,4,5,6":             "id",
		"1,2,3,4,5,6,1,2.5":                 "class",
		"1,2,3,4,5,6,7,8,9,10,11":           "11 fields",
		"\n\n" + strings.Repeat("1", 1<<17): "line 3: longer than",
	} {
		_, err := eval.ReadMOT(strings.NewReader(in), "some.txt")
		if err == nil || !strings.Contains(err.Error(), part) || !strings.HasPrefix(err.Error(), "eval: some.txt: line ") {
			t.Errorf("%.40q: %v, want %q", in, err, part)
		}
	}
}

func TestWriteMOT(t *testing.T) {
	rows := []eval.MOTRow{
		{Frame: 1, ID: 3, Box: eval.Box{X: -0.125, Y: 1e6, W: 10.1, H: 20}, Confidence: 0.75, Class: 4, Visibility: 1},
		{Frame: 12, ID: 4, Box: eval.Box{X: 1e-9, W: 1, H: 2}},
	}
	var b bytes.Buffer
	if err := eval.WriteMOT(&b, rows); err != nil {
		t.Fatal(err)
	}
	got, err := eval.ReadMOT(&b, "pred.txt")
	if err != nil {
		t.Fatal(err)
	}
	for i := range rows {
		rows[i].Class, rows[i].Visibility = -1, -1
	}
	if d := cmp.Diff(rows, got); d != "" {
		t.Error(d)
	}
}

func row(frame, id int, x float64) eval.MOTRow {
	return eval.MOTRow{Frame: frame, ID: id, Box: eval.Box{X: x, Y: 10, W: 40, H: 80}, Confidence: 1, Class: 1, Visibility: 1}
}

func TestMOTAbsent(t *testing.T) {
	pred := []eval.MOTRow{row(1, 1, 10)}
	for name, c := range map[string]struct {
		gt, pred []eval.MOTRow
		absent   []string
	}{
		"nothing":        {nil, nil, []string{"mota", "motp", "idf1", "idp", "idr", "precision", "recall"}},
		"no objects":     {nil, pred, []string{"mota", "motp", "idr", "recall"}},
		"no predictions": {pred, nil, []string{"motp", "idp", "precision"}},
		"nothing scored": {[]eval.MOTRow{{Frame: 1, ID: 1, Box: pred[0].Box, Class: 1}}, pred, []string{"mota", "motp", "idr", "recall"}},
	} {
		res, err := eval.MOT(c.gt, c.pred, eval.MOTOptions{})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		b, err := json.Marshal(res)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var figures map[string]any
		if err := json.Unmarshal(b, &figures); err != nil {
			t.Fatal(err)
		}
		var absent []string
		for _, key := range []string{"mota", "motp", "idf1", "idp", "idr", "precision", "recall"} {
			if figures[key] == nil {
				absent = append(absent, key)
			}
		}
		if d := cmp.Diff(c.absent, absent); d != "" {
			t.Errorf("%s: absent (-want +got):\n%s", name, d)
		}
		if res.HOTA == nil || res.HOTA.LocA != 1 || res.HOTA.HOTA != 0 {
			t.Errorf("%s: %+v", name, res.HOTA)
		}
	}
}

func TestMOTErrors(t *testing.T) {
	good, nan := row(1, 1, 10), row(2, 5, math.NaN())
	late, odd := row(0, 1, 10), row(3, 9, 10)
	odd.Class = 0
	for name, c := range map[string]struct {
		gt, pred []eval.MOTRow
		part     string
	}{
		"not finite": {[]eval.MOTRow{good}, []eval.MOTRow{nan}, "predictions: frame 2, id 5"},
		"frame 0":    {[]eval.MOTRow{late}, nil, "ground truth: id 1: frame 0"},
		"class":      {[]eval.MOTRow{good, odd}, nil, "frame 3, id 9: class 0"},
		"one frame":  {many(1, 6000), many(1, 6000), "frame 1: 6000 objects and 6000 predictions"},
	} {
		if _, err := eval.MOT(c.gt, c.pred, eval.MOTOptions{Preprocess: true}); err == nil || !strings.Contains(err.Error(), c.part) {
			t.Errorf("%s: %v, want %q", name, err, c.part)
		}
	}
}

func many(frame, n int) []eval.MOTRow {
	rows := make([]eval.MOTRow, n)
	for i := range rows {
		rows[i] = row(frame, i, float64(i))
	}
	return rows
}

func TestMOTDuplicates(t *testing.T) {
	gt := []eval.MOTRow{row(1, 1, 10), row(2, 1, 12)}
	pred := []eval.MOTRow{row(1, 4, 10), row(2, 4, 12), row(2, 4, 300)}
	res, err := eval.MOT(gt, pred, eval.MOTOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if res.HOTA != nil || res.HOTAError != "predictions: id 4 is twice in frame 2" {
		t.Errorf("HOTA %+v, error %q", res.HOTA, res.HOTAError)
	}
	// The frame counts once for identities, both rows for the boxes.
	if res.IDFP != 0 || res.Predictions != 3 || res.FalsePositives != 1 {
		t.Errorf("%+v", res)
	}
}

// TestMOTInvariance: neither the order of frames in a file nor the names of
// ids nor the place of the origin may change a figure.
func TestMOTInvariance(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	var gt, pred []eval.MOTRow
	for f := 1; f <= 30; f++ {
		for id := range 8 {
			g := row(f, id+1, 30*float64(id)+rng.Float64()*20)
			gt = append(gt, g)
			if rng.Float64() < 0.8 {
				p := g
				p.ID = (id + f/10) % 9
				p.Box.X += rng.NormFloat64() * 6
				pred = append(pred, p)
			}
		}
	}
	want, err := eval.MOT(gt, pred, eval.MOTOptions{})
	if err != nil {
		t.Fatal(err)
	}
	change := func(rows []eval.MOTRow, ids int) []eval.MOTRow {
		var out []eval.MOTRow
		for _, f := range rng.Perm(31) { // whole frames change places
			for _, r := range rows {
				if r.Frame == f {
					r.ID = ids - r.ID
					r.Box.X += 64
					r.Frame += 1000
					out = append(out, r)
				}
			}
		}
		return out
	}
	got, err := eval.MOT(change(gt, 50), change(pred, -3), eval.MOTOptions{})
	if err != nil {
		t.Fatal(err)
	}
	near := cmp.Comparer(func(a, b float64) bool { return math.Abs(a-b) < 1e-9 })
	if d := cmp.Diff(want, got, near); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if want.Switches == 0 || want.Misses == 0 {
		t.Errorf("the scene is too easy: %+v", want)
	}
}

func FuzzReadMOT(f *testing.F) {
	f.Add("1,1,10,20,30,40,1,1,1\n2,1,11,20,30,40,0.5,-1,-1,-1\n", true)
	f.Add("1 1 10 20 30 40\n\n1,1,1e3,-4,0,0,1,2,0.1,\n", false)
	f.Add("\ufeff3,-2,0,0,1,1\r\n", true)
	f.Fuzz(func(t *testing.T, text string, preprocess bool) {
		rows, err := eval.ReadMOT(strings.NewReader(text), "f")
		if err != nil {
			return
		}
		if len(rows) > 300 {
			rows = rows[:300]
		}
		res, err := eval.MOT(rows, rows, eval.MOTOptions{Preprocess: preprocess})
		if err != nil {
			if !preprocess {
				t.Fatal(err) // all that the reader lets through can be scored
			}
			return
		}
		if res.Detections+res.Misses != res.Objects || res.Detections+res.FalsePositives != res.Predictions {
			t.Fatalf("boxes do not add up: %+v", res)
		}
		again, err := eval.MOT(rows, rows, eval.MOTOptions{Preprocess: preprocess})
		if err != nil {
			t.Fatal(err)
		}
		a, errA := json.Marshal(res)
		b, errB := json.Marshal(again)
		if errA != nil || errB != nil || !bytes.Equal(a, b) {
			t.Fatalf("not the same twice: %s, %s (%v, %v)", a, b, errA, errB)
		}
	})
}

func BenchmarkMOT(b *testing.B) {
	var gt, pred []eval.MOTRow
	rng := rand.New(rand.NewPCG(1, 1))
	for f := 1; f <= 1000; f++ {
		for id := range 100 {
			g := row(f, id, 30*float64(id))
			p := g
			p.ID += f / 200
			p.Box.X += 5 * rng.NormFloat64()
			gt, pred = append(gt, g), append(pred, p)
		}
	}
	for b.Loop() {
		if _, err := eval.MOT(gt, pred, eval.MOTOptions{}); err != nil {
			b.Fatal(err)
		}
	}
}
