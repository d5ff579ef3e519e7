package report

import (
	"bytes"
	"fmt"
	"html/template"
	"io"
	"strings"

	"resdet/eval"
)

// comparePage is what compare.html shows.
type comparePage struct {
	C              *eval.Comparison
	Stamp          []string
	Short, Verdict string
	Covers         string // what the interval of trained pairs covers
	Chart          template.HTML
	Paper          []paperRow
}

type paperRow struct{ Dataset, Metric, Baseline, Candidate, Gain, Relative string }

// costSide is a row of the cost table.
type costSide struct {
	Side string
	Run  *eval.ModelRun
}

// Compare writes the page of a comparison.
func Compare(w io.Writer, c *eval.Comparison) error {
	p := comparePage{C: c, Stamp: c.Settings.Stamp(c.Protocol), Chart: gainChart(c)}
	p.Short = "coco: IoU 0.50:0.95, maxDets 100, crowd ignored, difficult ordinary"
	if c.Protocol != eval.COCO {
		p.Short = fmt.Sprintf("%s: IoU > 0.50 (+1), recall points %s, difficult ignored", c.Protocol, c.Settings.RecallRule)
	}
	if c.Covers != "" {
		p.Covers = strings.ToUpper(c.Covers[:1]) + c.Covers[1:] + "."
	}
	switch {
	case !c.CI95.Present():
	case c.CI95.Lo > 0:
		p.Verdict = "The interval lies above 0: the candidate is better on images like these."
	case c.CI95.Hi < 0:
		p.Verdict = "The interval lies below 0: the candidate is worse on images like these."
	default:
		p.Verdict = "The interval holds 0: these images do not tell which of the two is better."
	}
	for _, r := range c.Paper.Rows {
		p.Paper = append(p.Paper, paperRow{
			r.Dataset, r.Metric, eval.Value(r.Baseline).Percent(1), eval.Value(r.Candidate).Percent(1), points(eval.Value(r.Gain)), relative(eval.Value(r.Relative)),
		})
	}
	var page bytes.Buffer
	if err := render(&page, "compare.html", p); err != nil {
		return err
	}
	_, err := page.WriteTo(w)
	return err
}

// tick labels a value of an axis of differences.
func tick(v float64) string {
	if v == 0 {
		return "0"
	}
	return strings.Replace(fmt.Sprintf("%+g", v), "-", "−", 1)
}

// gainChart draws each gain as a dot on its interval; the paper's is hollow
// and has none.
func gainChart(c *eval.Comparison) template.HTML {
	type row struct {
		name, note string
		gain       eval.Value
		ci         eval.Interval
		paper      bool
		gap        bool // before it
	}
	none := eval.Interval{Lo: eval.Absent(), Hi: eval.Absent()}
	rows := []row{
		{name: "all", note: fmt.Sprint(c.Objects), gain: c.Gain, ci: c.CI95},
		{name: "paper: " + c.Paper.Metric, note: "", gain: eval.Value(c.Paper.Gain), ci: none, paper: true},
	}
	for i, g := range c.PerSize {
		rows = append(rows, row{name: g.Size, note: fmt.Sprint(g.Objects), gain: g.Gain, ci: g.CI95, gap: i == 0})
	}
	for i, g := range c.PerClass {
		rows = append(rows, row{name: g.Class, note: fmt.Sprint(g.Objects), gain: g.Gain, ci: g.CI95, gap: i == 0})
	}
	lo, hi := 0.0, 1.0 // in points
	for _, r := range rows {
		for _, v := range []eval.Value{r.gain, r.ci.Lo, r.ci.Hi} {
			if v.Present() {
				lo, hi = min(lo, 100*float64(v)), max(hi, 100*float64(v))
			}
		}
	}
	const width, line, left, right, top = 860.0, 22.0, 170.0, 150.0, 10.0
	height := top
	for _, r := range rows {
		height += line
		if r.gap {
			height += line / 2
		}
	}
	d := newDrawing(width, height+42, "gains with 95 % intervals")
	pad := 0.03 * (hi - lo)
	lo, hi = lo-pad, hi+pad
	at := func(v float64) float64 { return left + (v-lo)/(hi-lo)*(width-left-right) }
	step := niceStep((hi - lo) / 7)
	for i := int(lo/step) - 1; float64(i)*step <= hi; i++ {
		v := float64(i) * step
		if v < lo {
			continue
		}
		class := "grid"
		if i == 0 {
			class = "zero"
		}
		d.line(class, at(v), top, at(v), height)
		d.text("", "middle", at(v), height+16, tick(v))
	}
	d.text("", "middle", (left+width-right)/2, height+36, "gain in points of AP")
	d.text("", "end", width, height+16, "objects")
	y := top
	for _, r := range rows {
		if r.gap {
			y += line / 2
		}
		mid := y + line/2
		d.text("ink", "end", left-12, mid+4, r.name)
		d.text("", "end", width, mid+4, r.note)
		switch {
		case !r.gain.Present():
			d.text("", "start", at(0)+8, mid+4, "n/a (0 objects)")
		case r.paper:
			fmt.Fprintf(&d.b, `<circle class="hollow" cx="%.1f" cy="%.1f" r="5"/>`, at(100*float64(r.gain)), mid)
			d.text("", "start", width-right+10, mid+4, points(r.gain))
		default:
			if r.ci.Present() {
				fmt.Fprintf(&d.b, `<line class="s0" stroke-width="2.5" x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f"/>`, at(100*float64(r.ci.Lo)), mid, at(100*float64(r.ci.Hi)), mid)
			}
			fmt.Fprintf(&d.b, `<circle class="f0" cx="%.1f" cy="%.1f" r="4.5"/>`, at(100*float64(r.gain)), mid)
			d.text("ink", "start", width-right+10, mid+4, points(r.gain))
		}
		y += line
	}
	return d.done()
}
