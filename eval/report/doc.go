// Package report writes the figures of package eval as web pages: one file,
// with style, charts (SVG) and pictures inside, no script, for light and dark
// screens. Every figure has its protocol beside it.
//
//	eval.Result ─────▶ Eval ────▶ figures, curves, sizes, causes, confusion, pictures of mistakes
//	eval.Comparison ─▶ Compare ─▶ gains with their intervals, the paper's beside them
package report

import (
	"bufio"
	"embed"
	"errors"
	"fmt"
	"html/template"
	"image"
	"io"
	"os"
	"strings"

	"resdet/eval"
)

//go:embed page.css *.html
var files embed.FS

// Photo is an image of the data set, for pictures of mistakes.
type Photo struct {
	Name  string
	Image image.Image // nil if there is none
}

// Opener returns the photo of an image. A photo that cannot be had is told on
// the page; it does not fail the report.
type Opener func(img *eval.Image) (Photo, error)

// WriteEval writes the page of an evaluation to a file.
func WriteEval(path string, r *eval.Result, open Opener) error {
	return write(path, func(w io.Writer) error { return Eval(w, r, open) })
}

// WriteCompare writes the page of a comparison to a file.
func WriteCompare(path string, c *eval.Comparison) error {
	return write(path, func(w io.Writer) error { return Compare(w, c) })
}

func write(path string, to func(w io.Writer) error) (err error) {
	f, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("report: %w", err)
	}
	defer func() {
		if err = errors.Join(err, f.Close()); err != nil {
			err = fmt.Errorf("report: %s: %w", path, err)
		}
	}()
	b := bufio.NewWriter(f)
	if err := to(b); err != nil {
		return err
	}
	return b.Flush()
}

// render fills a page's template.
func render(w io.Writer, page string, data any) error {
	css, err := files.ReadFile("page.css")
	if err != nil {
		return err
	}
	t, err := template.New("").Funcs(template.FuncMap{
		"css":     func() template.CSS { return template.CSS(css) },
		"percent": percent,
		"points":  points,
		"join":    strings.Join,
		"range95": range95,
		"rel":     relative,
		"million": func(n int64) string { return fmt.Sprintf("%.1f M", float64(n)/1e6) },
		"heat":    heat,
		"width":   func(v eval.Value) float64 { return 160 * float64(v) }, // pixels of a bar
		"side":    func(name string, run *eval.ModelRun) costSide { return costSide{name, run} },
	}).ParseFS(files, "*.html")
	if err != nil {
		return fmt.Errorf("report: %w", err)
	}
	return t.ExecuteTemplate(w, page, data)
}

// percent writes a figure, or why there is none.
func percent(v eval.Value, objects int) string {
	if !v.Present() {
		return fmt.Sprintf("n/a (%d objects)", objects)
	}
	return v.Percent(1)
}

// points writes a difference in percentage points.
func points(v eval.Value) string {
	if !v.Present() {
		return "n/a"
	}
	return strings.Replace(fmt.Sprintf("%+.1f", 100*float64(v)), "-", "−", 1)
}

func relative(v eval.Value) string {
	if !v.Present() {
		return "n/a"
	}
	return points(v) + " %"
}

func range95(i eval.Interval) string {
	if !i.Present() {
		return "–"
	}
	return points(i.Lo) + " … " + points(i.Hi)
}

// heat is the share of a row in one cell of the confusion matrix, in percent.
func heat(n, total int) int {
	if total == 0 {
		return 0
	}
	return 100 * n / total
}
