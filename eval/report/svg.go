package report

import (
	"fmt"
	"html"
	"html/template"
	"math"
	"strings"

	"resdet/eval"
)

// drawing collects an SVG picture. Colours come from the page's style by
// class, so that they follow light and dark.
type drawing struct {
	b             strings.Builder
	width, height float64
}

func newDrawing(width, height float64, title string) *drawing {
	d := &drawing{width: width, height: height}
	fmt.Fprintf(&d.b, `<svg viewBox="0 0 %g %g" width="%g" role="img" aria-label="%s">`, width, height, width, html.EscapeString(title))
	return d
}

func (d *drawing) done() template.HTML {
	d.b.WriteString("</svg>")
	return template.HTML(d.b.String())
}

func (d *drawing) line(class string, x0, y0, x1, y1 float64) {
	fmt.Fprintf(&d.b, `<line class="%s" x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f"/>`, class, x0, y0, x1, y1)
}

func (d *drawing) rect(class string, x, y, w, h float64) {
	fmt.Fprintf(&d.b, `<rect class="%s" x="%.1f" y="%.1f" width="%.1f" height="%.1f" rx="2"/>`, class, x, y, max(w, 0), h)
}

// text writes s; anchor is start, middle or end.
func (d *drawing) text(class, anchor string, x, y float64, s string) {
	fmt.Fprintf(&d.b, `<text class="%s" text-anchor="%s" x="%.1f" y="%.1f">%s</text>`, class, anchor, x, y, html.EscapeString(s))
}

func (d *drawing) path(class string, xs, ys []float64) {
	fmt.Fprintf(&d.b, `<path class="%s" d="`, class)
	for i := range xs {
		fmt.Fprintf(&d.b, "%c%.1f %.1f", "ML"[min(i, 1)], xs[i], ys[i])
	}
	d.b.WriteString(`"/>`)
}

// curves draws precision against recall. Precision is held up to each recall
// point, so it is a line between the points.
func curves(cs []eval.Curve, width, height float64, labels bool) template.HTML {
	d := newDrawing(width, height, "precision against recall")
	left, right, top, bottom := 8.0, 6.0, 6.0, 8.0
	if labels {
		left, right, bottom = 44, 12, 40
	}
	w, h := width-left-right, height-top-bottom
	for i := 0; i <= 4; i++ {
		v := float64(i) / 4
		d.line("grid", left+v*w, top, left+v*w, top+h)
		d.line("grid", left, top+v*h, left+w, top+v*h)
		if labels {
			d.text("", "middle", left+v*w, top+h+18, fmt.Sprintf("%.2f", v))
			d.text("", "end", left-8, top+(1-v)*h+4, fmt.Sprintf("%.2f", v))
		}
	}
	if labels {
		d.text("", "middle", left+w/2, top+h+36, "recall")
		fmt.Fprintf(&d.b, `<text text-anchor="middle" transform="translate(10 %.1f) rotate(-90)">precision</text>`, top+h/2)
	}
	for i, c := range cs {
		xs, ys := make([]float64, len(c.Recall)), make([]float64, len(c.Recall))
		for j := range xs {
			xs[j], ys[j] = left+c.Recall[j]*w, top+(1-c.Precision[j])*h
		}
		d.path(fmt.Sprintf("curve s%d", i), xs, ys)
	}
	return d.done()
}

// sizeBars draws AP, AP50 and AR by size.
func sizeBars(sizes []eval.SizeResult) template.HTML {
	const width, row, left = 720.0, 22.0, 170.0
	metrics := len(sizes[0].Metrics)
	group := float64(metrics)*row + 18
	d := newDrawing(width, float64(len(sizes))*group+24, "figures by size")
	scale := width - left - 70
	for i := 0; i <= 4; i++ {
		x := left + scale*float64(i)/4
		d.line("grid", x, 0, x, float64(len(sizes))*group)
		d.text("", "middle", x, float64(len(sizes))*group+16, fmt.Sprint(25*i))
	}
	for i, s := range sizes {
		y := float64(i) * group
		d.text("ink", "start", 0, y+18, s.Size)
		d.text("", "start", 0, y+34, fmt.Sprintf("%d objects", s.Objects))
		for j, m := range s.Metrics {
			yj := y + 4 + float64(j)*row
			d.text("", "end", left-8, yj+13, m.Name)
			if m.Value.Present() {
				d.rect(fmt.Sprintf("f%d", j%4), left, yj+3, scale*float64(m.Value), row-9)
				d.text("ink", "start", left+scale*float64(m.Value)+6, yj+13, m.Value.Percent(1))
			} else {
				d.text("", "start", left+6, yj+13, percent(m.Value, s.Objects))
			}
		}
	}
	return d.done()
}

// causeBars draws what each kind of mistake costs.
func causeBars(c *eval.Causes) template.HTML {
	const width, row, left = 720.0, 26.0, 60.0
	d := newDrawing(width, row*float64(len(c.Errors))+22, "AP lost by kind of mistake")
	most := 0.01
	for _, e := range c.Errors {
		if e.Cost.Present() {
			most = max(most, float64(e.Cost))
		}
	}
	step := niceStep(100 * most / 4)
	scale := (width - left - 70) / (100 * most)
	for v := 0.0; v <= 100*most*1.001; v += step {
		d.line("grid", left+v*scale, 0, left+v*scale, row*float64(len(c.Errors)))
		d.text("", "middle", left+v*scale, row*float64(len(c.Errors))+16, fmt.Sprintf("%g", v))
	}
	for i, e := range c.Errors {
		y := float64(i) * row
		d.text("ink", "end", left-10, y+17, e.Name)
		if e.Cost.Present() {
			d.rect("f0", left, y+5, 100*float64(e.Cost)*scale, row-10)
			d.text("ink", "start", left+100*float64(e.Cost)*scale+6, y+17, e.Cost.Percent(1))
		}
	}
	return d.done()
}

// niceStep rounds up to 1, 2 or 5 times a power of ten.
func niceStep(v float64) float64 {
	if v <= 0 {
		return 1
	}
	p := math.Pow(10, math.Floor(math.Log10(v)))
	for _, m := range []float64{1, 2, 5} {
		if v <= m*p*1.0000001 {
			return m * p
		}
	}
	return 10 * p
}
