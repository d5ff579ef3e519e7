package main

import (
	"bufio"
	"fmt"
	"path/filepath"
	"strings"

	"resdet"
	"resdet/coco"
	"resdet/internal/transform"
)

var detectFormats = []string{"text", "json", "coco", "csv", "voc"}

// detectWriter writes what detect finds, image by image.
type detectWriter interface {
	image(found) error
	end() error
}

func newDetectWriter(format string, w *bufio.Writer, classes []resdet.Class, dir string) detectWriter {
	switch format {
	case "json":
		return &jsonWriter{w, classes}
	case "coco":
		return &cocoWriter{w: w, classes: classes}
	case "csv":
		return &csvWriter{w: w, classes: classes}
	case "voc":
		return &vocWriter{dir, classes}
	}
	return &textWriter{w, classes}
}

// textWriter is for people: a line per image and one per object.
type textWriter struct {
	w       *bufio.Writer
	classes []resdet.Class
}

func (t *textWriter) image(f found) error {
	v := f.img.Bounds()
	fmt.Fprintf(t.w, "%s: %d×%d, %s, %.0f ms\n", f.input, v.Dx(), v.Dy(), plural(len(f.detections), "object"), milliseconds(f.profile.Total))
	for _, d := range f.detections {
		b := d.Box
		fmt.Fprintf(t.w, "  %-12s %.2f  [%.1f %.1f %.1f %.1f]\n", t.classes[d.Class].Name, d.Score, b.X0, b.Y0, b.X1, b.Y1)
	}
	return nil
}

func (t *textWriter) end() error { return nil }

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// jsonWriter writes a line per image.
type jsonWriter struct {
	w       *bufio.Writer
	classes []resdet.Class
}

func (j *jsonWriter) image(f found) error {
	size := f.img.Bounds()
	p := f.profile
	line := coco.Line{Image: f.input, Width: size.Dx(), Height: size.Dy(), MS: map[string]float64{
		"decode": milliseconds(f.decode), "compile": milliseconds(p.Compile), "transform": milliseconds(p.Transform), "stage1": milliseconds(p.Stage1),
		"proposals": milliseconds(p.Proposals), "stage2": milliseconds(p.Stage2), "post": milliseconds(p.Post), "total": milliseconds(p.Total),
	}}
	for _, d := range f.detections {
		line.Detections = append(line.Detections, result(f.input, d, j.classes))
	}
	b, err := coco.AppendLine(nil, line)
	if err != nil {
		return err
	}
	_, err = j.w.Write(b)
	return err
}

func (j *jsonWriter) end() error { return nil }

// cocoWriter writes COCO's list of results; an image's id is its file's stem,
// a number where it is one.
type cocoWriter struct {
	w       *bufio.Writer
	classes []resdet.Class
	results []coco.Result
}

func (c *cocoWriter) image(f found) error {
	for _, d := range f.detections {
		c.results = append(c.results, result(stem(f.input), d, c.classes))
	}
	return nil
}

func (c *cocoWriter) end() error { return coco.WriteResults(c.w, c.results) }

// csvWriter writes a row per object under one header.
type csvWriter struct {
	w       *bufio.Writer
	classes []resdet.Class
	begun   bool
}

func (c *csvWriter) header() {
	if !c.begun {
		c.begun = true
		c.w.WriteString(coco.CSVHeader())
	}
}

func (c *csvWriter) image(f found) error {
	c.header()
	for _, d := range f.detections {
		b, err := coco.AppendCSV(nil, result(f.input, d, c.classes))
		if err != nil {
			return err
		}
		if _, err := c.w.Write(b); err != nil {
			return err
		}
	}
	return nil
}

func (c *csvWriter) end() error {
	c.header()
	return nil
}

// vocWriter writes an annotation file per image, as the devkit has them.
type vocWriter struct {
	dir     string
	classes []resdet.Class
}

func (v *vocWriter) image(f found) error {
	size := f.img.Bounds()
	img := coco.Image{ID: stem(f.input), File: filepath.Base(f.input), Width: size.Dx(), Height: size.Dy()}
	var classes []coco.Class
	for _, c := range v.classes {
		classes = append(classes, coco.Class{Name: c.Name, ID: c.ID})
	}
	for _, d := range f.detections {
		r := result(img.ID, d, v.classes)
		img.Objects = append(img.Objects, coco.Object{Class: d.Class, Box: r.Box, Area: r.Box.Area()})
	}
	return coco.WriteVOCFile(filepath.Join(v.dir, img.ID+".xml"), img, classes)
}

func (v *vocWriter) end() error { return nil }

// stem is a file's name without folder and ending; "-" is "stdin".
func stem(input string) string {
	if input == "-" {
		return "stdin"
	}
	base := filepath.Base(input)
	return strings.TrimSuffix(base, filepath.Ext(base))
}

// drawnName is the name of an image with its detections drawn: its own, so a
// PNG if it was one and a JPEG otherwise.
func drawnName(input string) string {
	switch name := filepath.Base(input); {
	case input == "-":
		return "stdin.jpg"
	case isPhoto(name):
		return name
	default:
		return name + ".jpg"
	}
}

// drawTo writes the image with its detections to the folder.
func drawTo(dir string, f found, classes []resdet.Class) error {
	names := make([]string, len(classes))
	for i, c := range classes {
		names[i] = c.Name
	}
	return transform.Save(filepath.Join(dir, drawnName(f.input)), transform.Draw(f.img, f.detections, names))
}
