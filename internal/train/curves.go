package train

import (
	"fmt"
	"html"
	"math"
	"os"
	"slices"
	"strings"
)

// series is a curve of a chart.
type series struct {
	name, colour string
	x, y         []float64
}

// WriteCurves draws a run's losses, and the scores of its evaluations if there
// were any, as one SVG file.
func WriteCurves(path string, records []Record) error {
	total := series{name: "loss", colour: "#333333"}
	parts := map[string]*series{}
	score := series{name: "score", colour: "#0b6e4f"}
	var rate series
	for _, r := range records {
		x := float64(r.Step)
		if r.Score != nil {
			score.x, score.y = append(score.x, x), append(score.y, *r.Score)
			continue
		}
		total.x, total.y = append(total.x, x), append(total.y, r.Loss)
		rate.x, rate.y = append(rate.x, x), append(rate.y, r.Rate)
		for name, v := range r.Losses {
			if parts[name] == nil {
				parts[name] = &series{name: name}
			}
			parts[name].x, parts[name].y = append(parts[name].x, x), append(parts[name].y, v)
		}
	}
	charts := [][]series{{total}}
	for i, name := range []string{"classifier", "box", "objectness", "rpn_box"} {
		if p := parts[name]; p != nil {
			p.colour = []string{"#d1495b", "#edae49", "#00798c", "#8d6cab"}[i]
			charts[0] = append(charts[0], *p)
		}
	}
	rate.name, rate.colour = "learning rate", "#555555"
	charts = append(charts, []series{rate})
	if len(score.x) > 0 {
		charts = append(charts, []series{score})
	}
	const width, height = 820, 260
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" font-family="sans-serif" font-size="12">`, width, height*len(charts), width)
	b.WriteString(`<rect width="100%" height="100%" fill="#ffffff"/>` + "\n")
	for i, c := range charts {
		chart(&b, c, width, height, float64(i*height))
	}
	b.WriteString("</svg>\n")
	if err := os.WriteFile(path, []byte(b.String()), 0o666); err != nil {
		return fmt.Errorf("train: %w", err)
	}
	return nil
}

// chart draws curves over a common axis of steps, from 0 up, with their last
// values.
func chart(b *strings.Builder, all []series, width, height, top float64) {
	const left, right, above, below = 60, 130, 16, 30
	maxX, maxY := 1.0, 0.0
	for _, s := range all {
		for i := range s.x {
			maxX = max(maxX, s.x[i])
		}
		maxY = max(maxY, ceiling(s.y))
	}
	if maxY == 0 {
		maxY = 1
	}
	px := func(x float64) float64 { return left + x/maxX*(width-left-right) }
	py := func(y float64) float64 { return top + height - below - min(y/maxY, 1.02)*(height-above-below) }
	step := tick(maxY / 4)
	for y := 0.0; y <= maxY*1.001; y += step {
		fmt.Fprintf(b, `<line x1="%d" x2="%.1f" y1="%.1f" y2="%.1f" stroke="#dddddd"/>`, left, width-right, py(y), py(y))
		fmt.Fprintf(b, `<text x="%d" y="%.1f" text-anchor="end" fill="#555555">%.4g</text>`+"\n", left-6, py(y)+4, y)
	}
	step = max(tick(maxX/6), 1)
	for x := 0.0; x <= maxX; x += step {
		fmt.Fprintf(b, `<text x="%.1f" y="%.1f" text-anchor="middle" fill="#555555">%g</text>`+"\n", px(x), top+height-below+16, x)
	}
	fmt.Fprintf(b, `<text x="%.1f" y="%.1f" fill="#555555">step</text>`+"\n", width-right+12, top+height-below+16)
	for i, s := range all {
		fmt.Fprintf(b, `<polyline fill="none" stroke="%s" stroke-width="1.5" points="`, s.colour)
		for j := range s.x {
			if !math.IsNaN(s.y[j]) && !math.IsInf(s.y[j], 0) {
				fmt.Fprintf(b, "%.1f,%.1f ", px(s.x[j]), py(s.y[j]))
			}
		}
		b.WriteString(`"/>`)
		if len(s.x) < 30 {
			for j := range s.x {
				fmt.Fprintf(b, `<circle cx="%.1f" cy="%.1f" r="3" fill="%s"/>`, px(s.x[j]), py(s.y[j]), s.colour)
			}
		}
		last := ""
		if n := len(s.y); n > 0 {
			last = fmt.Sprintf(" %.3g", s.y[n-1])
		}
		fmt.Fprintf(b, `<text x="%.1f" y="%.1f" fill="%s">%s%s</text>`+"\n", width-right+12, top+above+16+float64(16*i), s.colour, html.EscapeString(s.name), last)
	}
}

// ceiling is where a curve's axis ends: its largest value, or less where a few
// at the start stand far above the rest.
func ceiling(y []float64) float64 {
	if len(y) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(y))
	return min(s[len(s)-1], 3*s[len(s)*9/10])
}

// tick rounds a distance of grid lines up to 1, 2 or 5 times a power of ten.
func tick(v float64) float64 {
	p := math.Pow(10, math.Floor(math.Log10(v)))
	for _, f := range []float64{1, 2, 5} {
		if v <= f*p*1.0001 {
			return f * p
		}
	}
	return 10 * p
}
