package coco

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Result is one detection as a file of results has it: images and classes by
// the file's own ids and names. [Dataset.Resolve] turns them into indices.
type Result struct {
	Image   string  // image_id: a number in decimal, a file stem, or in JSON lines a path
	Class   string  // the class's name, where the format has it; it counts before ClassID
	ClassID int     // category_id in the dataset's numbering
	Box     Box     // original pixels
	Score   float64 // finite
}

// ReadResultsFile reads detections in any of the four formats, told apart by
// their content: COCO's results JSON, JSON lines of `resdet detect`, CSV with a
// header, or VOC's text, of which the path may also name the folder.
func ReadResultsFile(path string) ([]Result, error) {
	if isDir(path) {
		return ReadVOCResults(path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("coco: %w", err)
	}
	defer f.Close()
	if _, ok := vocResultClass(path); ok {
		return readVOCResultFile(path, nil)
	}
	var buf [4096]byte
	n, err := io.ReadFull(f, buf[:])
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return nil, fmt.Errorf("coco: %s: %w", path, err)
	}
	var in io.Reader = f
	if _, err := f.Seek(0, io.SeekStart); err != nil { // a pipe
		in = io.MultiReader(bytes.NewReader(buf[:n]), f)
	}
	switch head := bytes.TrimLeft(trimBOM(buf[:n]), " \t\r\n"); {
	case len(head) == 0:
		return nil, &SyntaxError{File: path, Offset: -1, Msg: "the file is empty; no detections are written []"}
	case head[0] == '[':
		return ReadResults(in, path)
	case head[0] == '{':
		return ReadLines(in, path)
	}
	return ReadCSV(in, path)
}

// ReadResults reads COCO's results format from a stream: a list of
// {"image_id", "category_id", "bbox": [x, y, width, height], "score"}; other
// keys are stepped over. Numbers that are not finite are errors that name the
// detection's index.
func ReadResults(r io.Reader, name string) ([]Result, error) {
	s := newScanner(r, name)
	var out []Result
	if s.peek() == '{' {
		s.fail("an object where a list of detections should be: is this a dataset's annotation file?")
	}
	ids := idTexts{}
	s.array(func(i int) {
		var d Result
		var seen [4]bool
		s.object(func(key []byte) {
			switch string(key) {
			case "image_id":
				d.Image, seen[0] = ids.read(s), true
			case "category_id":
				d.ClassID, seen[1] = int(s.integer()), true
			case "bbox":
				d.Box, seen[2] = s.box(i), true
			case "score":
				d.Score, seen[3] = s.finite(i, "score"), true
			default:
				s.skip()
			}
		})
		if s.err == nil {
			for k, key := range []string{"image_id", "category_id", "bbox", "score"} {
				if !seen[k] {
					s.fail("no %s", key)
					break
				}
			}
		}
		if s.err != nil {
			s.within("detection %d", i)
			return
		}
		if len(out) == 256 {
			out = slices.Grow(out, s.more(len(out)))
		}
		out = append(out, d)
	})
	s.finish()
	if s.err != nil {
		return nil, s.err
	}
	return out, nil
}

// idTexts gives equal image ids one string: a file has many detections of
// each image.
type idTexts struct {
	nums    map[int64]string
	names   map[string]string
	lastNum int64
	last    string
}

func (t *idTexts) read(s *scanner) string {
	if s.peek() == '"' {
		return t.text(s.str())
	}
	n := s.integer()
	if n == t.lastNum && t.last != "" {
		return t.last
	}
	if t.nums == nil {
		t.nums = map[int64]string{}
	}
	id, ok := t.nums[n]
	if !ok {
		id = strconv.FormatInt(n, 10)
		t.nums[n] = id
	}
	t.lastNum, t.last = n, id
	return id
}

func (t *idTexts) text(b []byte) string {
	if id, ok := t.names[string(b)]; ok {
		return id
	}
	if t.names == nil {
		t.names = map[string]string{}
	}
	id := string(b)
	t.names[id] = id
	return id
}

// box reads [x, y, width, height] of detection i.
func (s *scanner) box(i int) Box {
	v := s.four(i, "bbox")
	return Box{v[0], v[1], v[2], v[3]}
}

// four reads a list of four finite numbers.
func (s *scanner) four(i int, what string) (v [4]float64) {
	n := 0
	s.array(func(k int) {
		x := s.finite(i, what)
		if k < 4 {
			v[k] = x
		}
		n++
	})
	if s.err == nil && n != 4 {
		s.failIn(fmt.Sprintf("detection %d: %s", i, what), "%d numbers, not 4", n)
	}
	return v
}

func (s *scanner) finite(i int, what string) float64 {
	v := s.number()
	if s.err == nil && (math.IsNaN(v) || math.IsInf(v, 0)) {
		s.failIn(fmt.Sprintf("detection %d: %s", i, what), "%v is not finite", v)
	}
	if s.err != nil {
		s.within("detection %d: %s", i, what)
	}
	return v
}

// WriteResults writes COCO's results format. An image id that is a number is
// written as one, others as strings. Boxes and scores are written with the
// fewest digits that read back as the same float64.
func WriteResults(w io.Writer, results []Result) error {
	bw := bufio.NewWriterSize(w, 1<<16)
	b := []byte("[")
	for i := range results {
		d := &results[i]
		if err := d.check(i); err != nil {
			return err
		}
		if i > 0 {
			b = append(b, ",\n"...)
		}
		b = append(b, `{"image_id":`...)
		b = appendID(b, d.Image)
		b = append(b, `,"category_id":`...)
		b = strconv.AppendInt(b, int64(d.ClassID), 10)
		b = append(b, `,"bbox":[`...)
		b = appendNumbers(b, d.Box.X, d.Box.Y, d.Box.W, d.Box.H)
		b = append(b, `],"score":`...)
		b = appendNumbers(b, d.Score)
		b = append(b, '}')
		if _, err := bw.Write(b); err != nil {
			return fmt.Errorf("coco: %w", err)
		}
		b = b[:0]
	}
	bw.Write(append(b, "]\n"...))
	if err := bw.Flush(); err != nil {
		return fmt.Errorf("coco: %w", err)
	}
	return nil
}

// check refuses numbers that no reader would take.
func (d *Result) check(i int) error {
	if !d.Box.Finite() || math.IsNaN(d.Score) || math.IsInf(d.Score, 0) {
		return fmt.Errorf("coco: detection %d of image %s: box %v, score %v: not finite", i, d.Image, d.Box, d.Score)
	}
	return nil
}

// appendID writes an image id as pycocotools compares it: numbers as numbers.
func appendID(b []byte, id string) []byte {
	if n, err := strconv.ParseInt(id, 10, 64); err == nil && strconv.FormatInt(n, 10) == id {
		return append(b, id...)
	}
	return appendString(b, id)
}

func appendNumbers(b []byte, v ...float64) []byte {
	for i, x := range v {
		if i > 0 {
			b = append(b, ',')
		}
		format := byte('f')
		if a := math.Abs(x); a != 0 && (a < 1e-6 || a >= 1e15) {
			format = 'e'
		}
		b = strconv.AppendFloat(b, x, format, -1, 64)
	}
	return b
}

// appendString writes a JSON string.
func appendString(b []byte, s string) []byte {
	b = append(b, '"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r < ' ':
			b = fmt.Appendf(b, `\u%04x`, r)
		default:
			b = utf8.AppendRune(b, r)
		}
	}
	return append(b, '"')
}

// vocResultClass takes the class from the name of a VOC results file, such as
// comp4_det_test_dog.txt.
func vocResultClass(path string) (string, bool) {
	name, ok := strings.CutSuffix(filepath.Base(path), ".txt")
	if !ok || !strings.HasPrefix(name, "comp") {
		return "", false
	}
	_, rest, ok := strings.Cut(name, "_det_")
	if !ok {
		return "", false
	}
	_, class, ok := strings.Cut(rest, "_") // the set's name has no underscore
	return class, ok && class != ""
}

// ReadVOCResults reads VOC's detection results from a folder: files
// comp4_det_SET_CLASS.txt with rows of image, score, xmin, ymin, xmax, ymax,
// corners counted from 1.
func ReadVOCResults(dir string) ([]Result, error) {
	files, err := filepath.Glob(filepath.Join(escapeGlob(dir), "comp*_det_*_*.txt"))
	if err != nil {
		return nil, fmt.Errorf("coco: %w", err)
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("coco: %s: no file called comp4_det_SET_CLASS.txt", dir)
	}
	var out []Result
	for _, f := range files {
		if out, err = readVOCResultFile(f, out); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func readVOCResultFile(path string, out []Result) ([]Result, error) {
	class, ok := vocResultClass(path)
	if !ok {
		return nil, fmt.Errorf("coco: %s: not called comp4_det_SET_CLASS.txt, so its class is not known", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("coco: %w", err)
	}
	defer f.Close()
	return readVOCRows(f, path, class, out)
}

func readVOCRows(r io.Reader, name, class string, out []Result) ([]Result, error) {
	sc := bufio.NewScanner(r)
	sc.Buffer(nil, maxToken)
	ids := idTexts{}
	line := 0
	for sc.Scan() {
		line++
		b := sc.Bytes()
		if line == 1 {
			b = trimBOM(b)
		}
		fields := bytes.Fields(b)
		if len(fields) == 0 {
			continue
		}
		bad := func(format string, args ...any) error {
			return &SyntaxError{File: name, Line: line, Offset: -1, Msg: fmt.Sprintf(format, args...)}
		}
		if len(fields) < 6 {
			return nil, bad("%d values, not image, score, xmin, ymin, xmax, ymax", len(fields))
		}
		var v [5]float64
		nums := fields[len(fields)-5:]
		for k, f := range nums {
			x, ok := parseNumber(f)
			if !ok {
				return nil, bad("%q is not a number", clip(f))
			}
			if math.IsNaN(x) || math.IsInf(x, 0) {
				return nil, bad("%s is not finite", clip(f))
			}
			v[k] = x
		}
		d := Result{Class: class, Score: v[0], Box: BoxFromVOC(v[1], v[2], v[3], v[4])}
		if len(fields) == 6 {
			d.Image = ids.text(fields[0])
		} else {
			d.Image = ids.text(bytes.Join(fields[:len(fields)-5], []byte(" "))) // a name with spaces
		}
		out = append(out, d)
	}
	if err := sc.Err(); errors.Is(err, bufio.ErrTooLong) {
		return nil, &SyntaxError{File: name, Line: line + 1, Offset: -1, Msg: "a line of more than 1 MiB"}
	} else if err != nil {
		return nil, fmt.Errorf("coco: %s: %w", name, err)
	}
	return out, nil
}

// WriteVOCResults writes VOC's detection results into a folder, which it
// makes: a file comp4_det_SET_CLASS.txt for each class, also for those with no
// detection, which the devkit expects. Results need their class's name.
func WriteVOCResults(dir, set string, classes []Class, results []Result) error {
	if set == "" || strings.ContainsAny(set, `_/\`) {
		return fmt.Errorf("coco: %q cannot be the name of a set in comp4_det_SET_CLASS.txt", set)
	}
	files := make([][]byte, len(classes))
	at := classIndex(classes)
	for _, c := range classes {
		if c.Name == "" || strings.ContainsAny(c.Name, "/\\\x00") {
			return fmt.Errorf("coco: class %q cannot be part of a file's name", c.Name)
		}
	}
	for i := range results {
		d := &results[i]
		if err := d.check(i); err != nil {
			return err
		}
		k, ok := at[d.Class]
		if !ok {
			return fmt.Errorf("coco: detection %d is of class %q, which is not among the %d classes", i, d.Class, len(classes))
		}
		xmin, ymin, xmax, ymax := d.Box.VOC()
		b := append(files[k], d.Image...)
		for _, v := range []float64{d.Score, xmin, ymin, xmax, ymax} {
			b = append(b, ' ')
			b = appendNumbers(b, v)
		}
		files[k] = append(b, '\n')
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return fmt.Errorf("coco: %w", err)
	}
	for k, c := range classes {
		path := filepath.Join(dir, fmt.Sprintf("comp4_det_%s_%s.txt", set, c.Name))
		if err := os.WriteFile(path, files[k], 0o666); err != nil {
			return fmt.Errorf("coco: %w", err)
		}
	}
	return nil
}
