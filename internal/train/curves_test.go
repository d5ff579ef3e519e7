package train

import (
	"encoding/xml"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Curves are well-formed whatever a run has logged, and say where it ended.
func TestCurves(t *testing.T) {
	half := 0.5
	training := Record{Step: 10, Loss: 1.25, Rate: 0.01, Losses: map[string]float64{"classifier": 0.75, "box": 0.5}}
	odd := training
	odd.Step, odd.Loss = 20, math.NaN()
	for name, c := range map[string]struct {
		records []Record
		want    []string
	}{
		"nothing":     {nil, []string{"loss"}},
		"one line":    {[]Record{training}, []string{"loss 1.25", "classifier 0.75", "learning rate 0.01"}},
		"not finite":  {[]Record{training, odd}, []string{"loss NaN"}},
		"evaluations": {[]Record{training, {Step: 10, Score: &half}}, []string{"loss 1.25", "score 0.5"}},
	} {
		path := filepath.Join(t.TempDir(), "curves.svg")
		if err := WriteCurves(path, c.records); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		d := xml.NewDecoder(strings.NewReader(string(text)))
		for err == nil {
			_, err = d.Token()
		}
		if !errors.Is(err, io.EOF) {
			t.Errorf("%s: %v", name, err)
		}
		for _, want := range c.want {
			if !strings.Contains(string(text), ">"+want+"<") {
				t.Errorf("%s: %q is not in it", name, want)
			}
		}
		if strings.Contains(string(text), "NaN,") || strings.Contains(string(text), ",NaN") {
			t.Errorf("%s: points that are not finite are drawn", name)
		}
	}
}
