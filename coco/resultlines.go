package coco

import (
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Line is a line of JSON as `resdet detect --json` writes it: an image and
// everything found in it.
type Line struct {
	Image         string // the path given
	Width, Height int    // original pixels
	Detections    []Result
	MS            map[string]float64 // milliseconds per stage; nil leaves the key out
	Error         string             // why there is nothing of the image; empty leaves the key out
}

// AppendLine appends l to b as one line of JSON:
//
//	{"image":…,"width":…,"height":…,"detections":[{"class":…,"class_id":…,"score":…,"box":[x0,y0,x1,y1]}],"ms":{…}}
//
// The detections' own Image plays no part.
func AppendLine(b []byte, l Line) ([]byte, error) {
	b = append(b, `{"image":`...)
	b = appendString(b, l.Image)
	b = append(b, `,"width":`...)
	b = strconv.AppendInt(b, int64(l.Width), 10)
	b = append(b, `,"height":`...)
	b = strconv.AppendInt(b, int64(l.Height), 10)
	b = append(b, `,"detections":[`...)
	for i := range l.Detections {
		d := &l.Detections[i]
		if err := d.check(i); err != nil {
			return nil, err
		}
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"class":`...)
		b = appendString(b, d.Class)
		b = append(b, `,"class_id":`...)
		b = strconv.AppendInt(b, int64(d.ClassID), 10)
		b = append(b, `,"score":`...)
		b = appendNumbers(b, d.Score)
		b = append(b, `,"box":[`...)
		b = appendNumbers(b, d.Box.X, d.Box.Y, d.Box.X1(), d.Box.Y1())
		b = append(b, "]}"...)
	}
	b = append(b, ']')
	if l.MS != nil {
		ms, err := json.Marshal(l.MS) // in byte order of keys
		if err != nil {
			return nil, fmt.Errorf("coco: image %s: ms: %w", l.Image, err)
		}
		b = append(append(b, `,"ms":`...), ms...)
	}
	if l.Error != "" {
		b = appendString(append(b, `,"error":`...), l.Error)
	}
	return append(b, "}\n"...), nil
}

// ReadLines reads detections from JSON lines, as [AppendLine] writes them.
func ReadLines(r io.Reader, name string) ([]Result, error) {
	s := newScanner(r, name)
	var out []Result
	ids := idTexts{}
	for i := 0; s.peek() != 0 || s.pos < s.end; i++ {
		first := len(out)
		image, hasImage, hasList := "", false, false
		s.object(func(key []byte) {
			switch string(key) {
			case "image", "image_id":
				image, hasImage = ids.read(s), true
			case "annotations", "categories":
				s.fail("%q where detections should be: is this a dataset's annotation file?", key)
			case "detections":
				hasList = true
				s.array(func(k int) { out = append(out, s.lineDetection(k)) })
			default:
				s.skip()
			}
		})
		switch {
		case s.err == nil && !hasImage:
			s.fail("no image: not a line of `resdet detect --json`")
		case s.err == nil && !hasList:
			s.fail("no detections: not a line of `resdet detect --json`")
		}
		if s.err != nil {
			break
		}
		for k := first; k < len(out); k++ {
			out[k].Image = image
		}
	}
	if s.err != nil {
		return nil, s.err
	}
	return out, nil
}

func (s *scanner) lineDetection(i int) (d Result) {
	var seen [3]bool
	s.object(func(key []byte) {
		switch string(key) {
		case "class":
			d.Class, seen[0] = string(s.str()), true
		case "class_id":
			d.ClassID, seen[0] = int(s.integer()), true
		case "score":
			d.Score, seen[1] = s.finite(i, "score"), true
		case "box":
			v := s.four(i, "box")
			d.Box, seen[2] = BoxFromCorners(v[0], v[1], v[2], v[3]), true
		default:
			s.skip()
		}
	})
	if s.err == nil {
		for k, key := range []string{"class", "score", "box"} {
			if !seen[k] {
				s.fail("no %s", key)
				break
			}
		}
	}
	if s.err != nil {
		s.within("detection %d", i)
	}
	return d
}

// csvColumns is the header that WriteCSV writes.
var csvColumns = []string{"image", "class", "class_id", "score", "x0", "y0", "x1", "y1"}

// CSVHeader returns the header of the CSV format as a line.
func CSVHeader() string { return strings.Join(csvColumns, ",") + "\n" }

// AppendCSV appends a detection to b as a line of CSV.
func AppendCSV(b []byte, d Result) ([]byte, error) {
	if err := d.check(0); err != nil {
		return nil, err
	}
	b = append(appendField(b, d.Image), ',')
	b = append(appendField(b, d.Class), ',')
	b = strconv.AppendInt(b, int64(d.ClassID), 10)
	b = append(b, ',')
	b = appendNumbers(b, d.Score, d.Box.X, d.Box.Y, d.Box.X1(), d.Box.Y1())
	return append(b, '\n'), nil
}

func appendField(b []byte, s string) []byte {
	if !strings.ContainsAny(s, ",\"\r\n") && strings.TrimSpace(s) == s {
		return append(b, s...)
	}
	return append(append(append(b, '"'), strings.ReplaceAll(s, `"`, `""`)...), '"')
}

// WriteCSV writes detections as CSV with a header: image, class, class_id,
// score, x0, y0, x1, y1.
func WriteCSV(w io.Writer, results []Result) error {
	b := []byte(CSVHeader())
	var err error
	for i := range results {
		if b, err = AppendCSV(b, results[i]); err != nil {
			return err
		}
		if len(b) > 1<<16 {
			if _, err := w.Write(b); err != nil {
				return fmt.Errorf("coco: %w", err)
			}
			b = b[:0]
		}
	}
	if _, err := w.Write(b); err != nil {
		return fmt.Errorf("coco: %w", err)
	}
	return nil
}

// csvNames are the names under which a column is found; x, y, w, h may stand
// in place of corners.
var csvNames = [][]string{
	{"image", "image_id", "file", "filename"}, {"class", "label", "name"}, {"class_id", "category_id"}, {"score", "confidence"},
	{"x0", "x1min", "xmin", "left"}, {"y0", "ymin", "top"}, {"x1", "xmax", "right"}, {"y1", "ymax", "bottom"},
	{"x"}, {"y"}, {"w", "width"}, {"h", "height"},
}

// ReadCSV reads detections from CSV. The header names the columns, in any
// order: image, class or class_id, score, and either x0, y0, x1, y1 or x, y,
// w, h, in continuous pixels.
func ReadCSV(r io.Reader, name string) ([]Result, error) {
	cr := csv.NewReader(r)
	cr.ReuseRecord = true
	bad := func(line, col int, where, format string, args ...any) error {
		return &SyntaxError{File: name, Line: line, Column: col, Offset: -1, Where: where, Msg: fmt.Sprintf(format, args...)}
	}
	wrap := func(err error) error {
		var p *csv.ParseError
		if errors.As(err, &p) {
			return bad(p.Line, p.Column, "", "%v", p.Err)
		}
		return fmt.Errorf("coco: %s: %w", name, err)
	}
	head, err := cr.Read()
	if err == io.EOF {
		return nil, bad(0, 0, "", "the file is empty")
	}
	if err != nil {
		return nil, wrap(err)
	}
	var col [12]int
	for k, names := range csvNames {
		col[k] = slices.IndexFunc(head, func(h string) bool {
			return slices.Contains(names, strings.ToLower(strings.TrimSpace(strings.TrimPrefix(h, "\ufeff"))))
		})
	}
	has := func(from, to int) bool { return !slices.Contains(col[from:to], -1) }
	corners := has(4, 8)
	switch {
	case col[0] < 0, col[1] < 0 && col[2] < 0, col[3] < 0, !corners && !has(8, 12):
		return nil, bad(1, 0, "", "the header is %q; it must name image, class or class_id, score and x0,y0,x1,y1 or x,y,w,h",
			clip([]byte(strings.Join(head, ","))))
	}
	var out []Result
	ids, classes := idTexts{}, idTexts{}
	for i := 0; ; i++ {
		rec, err := cr.Read()
		if err == io.EOF {
			return out, nil
		}
		if err != nil {
			return nil, wrap(err)
		}
		var fail error
		number := func(k int) float64 {
			f := strings.TrimSpace(rec[col[k]])
			v, ok := parseNumber([]byte(f))
			if fail == nil && (!ok || math.IsNaN(v) || math.IsInf(v, 0)) {
				line, c := cr.FieldPos(col[k])
				fail = bad(line, c, fmt.Sprintf("detection %d: %s", i, csvNames[k][0]), "%q is not a finite number", clip([]byte(f)))
			}
			return v
		}
		d := Result{Image: ids.text([]byte(rec[col[0]])), Score: number(3)}
		if col[1] >= 0 {
			d.Class = classes.text([]byte(rec[col[1]]))
		}
		if col[2] >= 0 && (d.Class == "" || strings.TrimSpace(rec[col[2]]) != "") {
			v := number(2)
			if fail == nil && (v != math.Trunc(v) || math.Abs(v) > 1<<31) {
				line, c := cr.FieldPos(col[2])
				fail = bad(line, c, fmt.Sprintf("detection %d: class_id", i), "%v is not an integer", v)
			}
			d.ClassID = int(v)
		}
		if corners {
			d.Box = BoxFromCorners(number(4), number(5), number(6), number(7))
		} else {
			d.Box = Box{number(8), number(9), number(10), number(11)}
		}
		if fail != nil {
			return nil, fail
		}
		out = append(out, d)
	}
}
