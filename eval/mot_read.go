package eval

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"unicode"
)

// ReadMOT reads a file in the MOT Challenge's text format, ground truth or a
// tracker's output: a row for each box,
//
//	frame, id, x, y, width, height[, confidence[, class[, visibility[, unused]]]]
//
// separated by commas or white space. Confidence is 1 where a row has none,
// class and visibility are −1. Empty lines and a byte order mark are skipped;
// a file without rows is no error. Errors name the file, by name, and the
// line.
func ReadMOT(r io.Reader, name string) ([]MOTRow, error) {
	var rows []MOTRow
	lines := bufio.NewScanner(r)
	n := 0
	for lines.Scan() {
		n++
		text := lines.Text()
		if n == 1 {
			text = strings.TrimPrefix(text, "\ufeff")
		}
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		row, err := parseMOT(text)
		if err != nil {
			return nil, fmt.Errorf("eval: %s: line %d: %w", name, n, err)
		}
		rows = append(rows, row)
	}
	switch err := lines.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		return nil, fmt.Errorf("eval: %s: line %d: longer than %d bytes; is it a MOT Challenge text file?", name, n+1, bufio.MaxScanTokenSize)
	case err != nil:
		return nil, fmt.Errorf("eval: %s: %w", name, err)
	}
	return rows, nil
}

var motFields = [...]string{"frame", "id", "x", "y", "width", "height", "confidence", "class", "visibility", "last field"}

func parseMOT(line string) (MOTRow, error) {
	fields := splitMOT(line)
	if len(fields) < 6 || len(fields) > len(motFields) {
		return MOTRow{}, fmt.Errorf("%d fields, want frame,id,x,y,width,height and up to 4 more", len(fields))
	}
	v := [len(motFields)]float64{6: 1, 7: -1, 8: -1}
	for i, f := range fields {
		x, err := strconv.ParseFloat(f, 64)
		switch {
		case err != nil:
			return MOTRow{}, fmt.Errorf("%s: %q is not a number", motFields[i], f)
		case math.IsNaN(x) || math.IsInf(x, 0):
			return MOTRow{}, fmt.Errorf("%s: %q is not finite", motFields[i], f)
		case (i < 2 || i == 7) && (x != math.Trunc(x) || math.Abs(x) > math.MaxInt32):
			return MOTRow{}, fmt.Errorf("%s: %q is not a whole number in range", motFields[i], f)
		}
		v[i] = x
	}
	if v[0] < 1 {
		return MOTRow{}, fmt.Errorf("frame: %q: frames count from 1", fields[0])
	}
	return MOTRow{
		Frame: int(v[0]), ID: int(v[1]), Box: Box{v[2], v[3], v[4], v[5]},
		Confidence: v[6], Class: int(v[7]), Visibility: v[8],
	}, nil
}

// splitMOT splits at commas, which may have white space round them, or at
// white space. A comma at the end of the line adds no field.
func splitMOT(line string) []string {
	if !strings.Contains(line, ",") {
		return strings.FieldsFunc(line, unicode.IsSpace)
	}
	fields := strings.Split(strings.TrimSuffix(line, ","), ",")
	for i, f := range fields {
		fields[i] = strings.TrimSpace(f)
	}
	return fields
}

// WriteMOT writes rows as a tracker's output in the MOT Challenge's text
// format, which has −1 for class and visibility. What ReadMOT reads of it has
// the same frames, ids, boxes and confidences.
func WriteMOT(w io.Writer, rows []MOTRow) error {
	out := bufio.NewWriter(w)
	var line []byte
	for _, r := range rows {
		line = strconv.AppendInt(line[:0], int64(r.Frame), 10)
		line = strconv.AppendInt(append(line, ','), int64(r.ID), 10)
		for _, v := range [5]float64{r.Box.X, r.Box.Y, r.Box.W, r.Box.H, r.Confidence} {
			line = strconv.AppendFloat(append(line, ','), v, 'f', -1, 64)
		}
		line = append(line, ",-1,-1,-1\n"...)
		if _, err := out.Write(line); err != nil {
			return fmt.Errorf("eval: write MOT rows: %w", err)
		}
	}
	if err := out.Flush(); err != nil {
		return fmt.Errorf("eval: write MOT rows: %w", err)
	}
	return nil
}
