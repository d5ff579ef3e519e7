package weights

import (
	"slices"
	"strings"
	"testing"

	"resdet/internal/nd"
	"resdet/internal/nn"
)

// headSpecs are the parameters of a predictor with width inputs for that many
// classes, and one that the classes do not touch.
func headSpecs(classes, width int) []nn.ParamSpec {
	rows := 1 + classes
	return []nn.ParamSpec{
		{Key: "backbone.conv1.weight", Shape: nd.Shape{2, 3}},
		{Key: "roi_heads.box_predictor.cls_score.weight", Shape: nd.Shape{rows, width}},
		{Key: "roi_heads.box_predictor.cls_score.bias", Shape: nd.Shape{rows}},
		{Key: "roi_heads.box_predictor.bbox_pred.weight", Shape: nd.Shape{4 * rows, width}},
		{Key: "roi_heads.box_predictor.bbox_pred.bias", Shape: nd.Shape{4 * rows}},
	}
}

func headFile(t *testing.T, classes, width int) *Checkpoint {
	shapes := map[string]nd.Shape{}
	for _, s := range headSpecs(classes, width) {
		shapes[s.Key] = s.Shape
	}
	return memory(t, shapes)
}

// Every row of the new head is the file's row of that class, or a new one.
func TestReclass(t *testing.T) {
	const width, have = 5, 6
	for _, tt := range []struct {
		name string
		ClassRows
		want []int // the file's row of each row of scores
	}{
		{"background first", ClassRows{From: []int{4, -1, 0}, Have: have}, []int{0, 5, -1, 1}},
		{"background last", ClassRows{From: []int{4, -1, 0}, Have: have, BackgroundLast: true}, []int{4, -1, 0, 6}},
		{"all new", ClassRows{From: []int{-1}, Have: have}, []int{0, -1}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := headFile(t, have, width)
			wanted := headSpecs(len(tt.From), width)
			r := Match(c, nil, Network{Params: headSpecs(have, width)}).Reclass(wanted, tt.ClassRows)
			if got := r.FileRows(wanted[2].Key); !slices.Equal(got, tt.want) {
				t.Fatalf("rows %v, want %v", got, tt.want)
			}
			given := int64(0)
			for _, w := range wanted[1:] {
				if row := r.Rows[r.index[w.Key]]; row.Status != ByClass {
					t.Errorf("%s is %v", w.Key, row.Status)
				}
				got, err := r.Param(w.Key, w.Shape)
				if err != nil {
					t.Fatal(err)
				}
				into := make([]float32, w.Shape.Len())
				if err := r.ParamInto(into, w.Key, w.Shape); err != nil || !slices.Equal(into, got) {
					t.Errorf("%s into memory: %v, %v", w.Key, into, err)
				}
				file, err := c.Read(w.Key)
				if err != nil {
					t.Fatal(err)
				}
				fresh, per, n := Initial(w.Key, w.Shape), w.Shape[0]/(1+len(tt.From)), w.Shape[1:].Len()
				for to, from := range tt.want {
					block := per * n
					want := fresh[to*block:][:block]
					if from >= 0 {
						want = file[from*block:][:block]
						given += int64(block)
					}
					if !slices.Equal(got[to*block:][:block], want) {
						t.Errorf("%s: row %d is not the file's %d", w.Key, to, from)
					}
				}
			}
			if n, elements := r.Count(ByClass); n != 4 || elements != given {
				t.Errorf("%d arrays, %d elements by class; want 4, %d", n, elements, given)
			}
			if n, _ := r.Count(Matched); n != 1 || r.Err() == nil {
				t.Errorf("%d arrays matched, error %v", n, r.Err())
			}
			if s := r.Summary(); !strings.Contains(s, "1 of 5 parameters (6) matched, 4 by class (") {
				t.Errorf("summary %q", s)
			}
		})
	}
}

// The same classes in another order fit without reserve.
func TestReclassReordered(t *testing.T) {
	c := headFile(t, 3, 2)
	wanted := headSpecs(3, 2)
	r := Match(c, nil, Network{Params: wanted}).Reclass(wanted, ClassRows{From: []int{2, 0, 1}, Have: 3})
	if err := r.Err(); err != nil {
		t.Error(err)
	}
	got, err := r.Param(wanted[2].Key, wanted[2].Shape)
	if err != nil || !slices.Equal(got, []float32{0, 3, 1, 2}) {
		t.Errorf("biases %v, %v", got, err)
	}
}

// torchvision's rows for ids with holes are picked before they are mapped.
func TestReclassOfIDs(t *testing.T) {
	const width = 2
	c := headFile(t, 9, width) // ids up to 9
	base := Match(c, nil, Network{Params: headSpecs(3, width), IDs: []int{2, 5, 9}})
	r := base.Reclass(headSpecs(2, width), ClassRows{From: []int{2, 0}, Have: 3})
	if got := r.FileRows("roi_heads.box_predictor.cls_score.bias"); !slices.Equal(got, []int{0, 9, 2}) {
		t.Errorf("rows %v", got)
	}
	got, err := r.Param("roi_heads.box_predictor.bbox_pred.bias", nd.Shape{12})
	if err != nil || !slices.Equal(got, []float32{0, 1, 2, 3, 36, 37, 38, 39, 8, 9, 10, 11}) {
		t.Errorf("biases %v, %v", got, err)
	}
}
