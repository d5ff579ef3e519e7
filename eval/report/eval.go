package report

import (
	"bytes"
	"cmp"
	"fmt"
	"html/template"
	"io"
	"slices"
	"strings"

	"resdet/eval"
)

// How much is shown.
const (
	galleryPictures = 24
	matrixClasses   = 30 // with more, only the pairs that are confused most
	confusedPairs   = 12
)

// evalPage is what eval.html shows.
type evalPage struct {
	Title, Short, CurveStamp string
	R                        *eval.Result
	Objects                  int
	Stamp                    []string
	Tiles                    []tile
	Columns                  []string
	Sizes                    template.HTML
	MeanCurve                template.HTML
	CurveNames               []string
	Curves                   []classCurve
	Causes                   *eval.Causes
	CausesChart              template.HTML
	Matrix                   []matrixRow
	Pairs                    []pair
	Proposals                *eval.ProposalRecall
	Galleries                []gallery
}

type tile struct {
	Name, Value, Stamp string
	Present            bool
}

type classCurve struct {
	Class, Note string
	SVG         template.HTML
}

type matrixRow struct {
	Name       string
	Cells      []int
	Total      int
	Background bool
}

type pair struct {
	Truth, Found, Share string
	Count               int
}

// Eval writes the page of an evaluation. open may be nil: then there are no
// pictures.
func Eval(w io.Writer, r *eval.Result, open Opener) error {
	p := evalPage{R: r, Stamp: r.Settings.Stamp(r.Protocol), Causes: r.Causes(), Proposals: r.ProposalRecall()}
	for _, c := range r.PerClass {
		p.Objects += c.Objects
	}
	first := r.Metrics[0]
	p.Title = fmt.Sprintf("%s %s: %s", first.Name, percent(first.Value, p.Objects), r.Settings.Data)
	p.Short = short(r)
	for _, m := range r.Metrics {
		p.Tiles = append(p.Tiles, tile{m.Name, percent(m.Value, objectsOf(r, m.Name)), meaning(r, m.Name), m.Value.Present()})
	}
	for _, m := range r.PerClass[0].Metrics {
		p.Columns = append(p.Columns, m.Name)
	}
	if len(r.PerSize) > 0 {
		p.Sizes = sizeBars(r.PerSize)
	}
	p.addCurves(r)
	p.CausesChart = causeBars(p.Causes)
	p.addConfusion(r.Confusion())
	if open != nil {
		p.Galleries = galleries(r, open)
	}
	var page bytes.Buffer // nothing is written if the template fails
	if err := render(&page, "eval.html", p); err != nil {
		return err
	}
	_, err := page.WriteTo(w)
	return err
}

// short is the stamp of figures over all thresholds and areas.
func short(r *eval.Result) string {
	if r.Protocol == eval.COCO {
		return "coco: AP over IoU 0.50:0.95, AP50 and AP75 at one, maxDets 100, crowd ignored, difficult ordinary"
	}
	return fmt.Sprintf("%s: IoU > 0.50 (+1), recall points %s, crowd ordinary, difficult ignored", r.Protocol, r.Settings.RecallRule)
}

// meaning is the protocol of one of the metrics.
func meaning(r *eval.Result, name string) string {
	if r.Protocol != eval.COCO {
		return short(r)
	}
	iou, area, dets := "IoU 0.50:0.95", "all areas", "maxDets 100"
	switch {
	case strings.HasSuffix(name, "50"):
		iou = "IoU 0.50"
	case strings.HasSuffix(name, "75"):
		iou = "IoU 0.75"
	case strings.HasSuffix(name, "s"):
		area = "area ≤ 32²"
	case strings.HasSuffix(name, "m"):
		area = "area 32²…96²"
	case strings.HasSuffix(name, "l"):
		area = "area ≥ 96²"
	case name == "AR1":
		dets = "maxDets 1"
	case name == "AR10":
		dets = "maxDets 10"
	}
	return strings.Join([]string{"coco", iou, area, dets, "crowd ignored, difficult ordinary"}, " · ")
}

// objectsOf counts the objects that a metric is about.
func objectsOf(r *eval.Result, name string) int {
	n := 0
	for i, suffix := range []string{"s", "m", "l"} {
		if strings.HasSuffix(name, suffix) && i < len(r.PerSize) {
			return r.PerSize[i].Objects
		}
	}
	for _, c := range r.PerClass {
		n += c.Objects
	}
	return n
}

// addCurves adds the curves of each class and their mean.
func (p *evalPage) addCurves(r *eval.Result) {
	shown := []float64{0.5, 0.75, 0.95}
	p.CurveStamp = "coco: interpolated precision at 101 recall points, all areas, maxDets 100, crowd ignored; mean over the classes, then each class"
	if r.Protocol != eval.COCO {
		shown = shown[:1]
		p.CurveStamp = string(r.Protocol) + ": interpolated precision, IoU > 0.50 (+1), difficult ignored; mean over the classes, then each class"
	}
	pick := func(all []eval.Curve) []eval.Curve {
		var out []eval.Curve
		for _, iou := range shown {
			if i := slices.IndexFunc(all, func(c eval.Curve) bool { return abs(c.IoU-iou) < 1e-9 }); i >= 0 {
				out = append(out, all[i])
			}
		}
		return out
	}
	var sums []eval.Curve
	n := 0
	for _, c := range r.PerClass {
		picked := pick(c.Curves)
		if len(picked) == 0 {
			p.Curves = append(p.Curves, classCurve{c.Class.Name, "n/a (0 objects)", curves(nil, 200, 130, false)})
			continue
		}
		n++
		p.Curves = append(p.Curves, classCurve{c.Class.Name, "AP " + percent(c.Metrics.Get("AP"), c.Objects), curves(picked, 200, 130, false)})
		for i, k := range picked {
			if i == len(sums) {
				sums = append(sums, eval.Curve{IoU: k.IoU, Recall: k.Recall, Precision: make([]float64, len(k.Precision))})
			}
			for j, v := range k.Precision {
				sums[i].Precision[j] += v
			}
		}
	}
	for i := range sums {
		for j := range sums[i].Precision {
			sums[i].Precision[j] /= float64(n)
		}
		p.CurveNames = append(p.CurveNames, fmt.Sprintf("IoU %.2f", sums[i].IoU))
	}
	p.MeanCurve = curves(sums, 720, 340, true)
}

func abs(v float64) float64 { return max(v, -v) }

func (p *evalPage) addConfusion(c *eval.Confusion) {
	last := len(c.Classes) - 1
	totals := make([]int, len(c.Matrix))
	for i, row := range c.Matrix {
		for _, n := range row {
			totals[i] += n
		}
		for j, n := range row {
			if i != j && i < last && j < last && n > 0 {
				p.Pairs = append(p.Pairs, pair{c.Classes[i], c.Classes[j], "", n})
			}
		}
	}
	slices.SortStableFunc(p.Pairs, func(a, b pair) int { return cmp.Compare(b.Count, a.Count) })
	p.Pairs = p.Pairs[:min(len(p.Pairs), confusedPairs)]
	for i := range p.Pairs {
		k := slices.Index(c.Classes, p.Pairs[i].Truth)
		p.Pairs[i].Share = fmt.Sprintf("%d %% of %d", heat(p.Pairs[i].Count, totals[k]), totals[k])
	}
	if last > matrixClasses {
		return
	}
	for i, row := range c.Matrix {
		p.Matrix = append(p.Matrix, matrixRow{c.Classes[i], row, totals[i], i == last})
	}
}
