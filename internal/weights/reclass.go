package weights

import (
	"slices"
	"strings"

	"resdet/internal/nn"
)

// ClassRows says where a head's rows come from when the file's head is for
// other classes than the network's.
type ClassRows struct {
	// From has for each class of the network its index among the file's
	// classes, −1 for a class that the file does not know.
	From []int
	// Have is the number of the file's classes.
	Have int
	// BackgroundLast is the configuration's: the background's row is the last
	// of a head instead of the first.
	BackgroundLast bool
}

// Reclass returns the report for a network that differs from r's in its
// classes only, r being the match with the classes that the file was trained
// for. The predictor's rows, one of scores and four of box deltas a class, are
// carried over class by class and the background's with them; rows of classes
// that the file does not know begin as in a new network. Those arrays have the
// status [ByClass], unless the classes are the same in another order.
func (r *Report) Reclass(wanted []nn.ParamSpec, classes ClassRows) *Report {
	q := &Report{File: r.File, Family: r.Family, c: r.c, index: make(map[string]int, len(wanted)), base: r}
	for _, w := range wanted {
		row := Row{Status: Missing, Key: w.Key, Want: w.Shape}
		if i, ok := r.index[w.Key]; ok {
			had := r.Rows[i]
			row.From, row.Have = had.From, had.Have
			switch moved := classes.rows(w, had); {
			case moved != nil && had.Status == Matched:
				row.Status, row.moved = ByClass, moved
				if classes.reorders() {
					row.Status = Matched
				}
			case had.Want.Equal(w.Shape):
				row.Status = had.Status
			case had.Status != Missing:
				row.Status = Misshapen
			}
		}
		q.index[w.Key] = len(q.Rows)
		q.Rows = append(q.Rows, row)
	}
	for _, row := range r.Rows {
		if row.Key == "" {
			q.Rows = append(q.Rows, row)
		}
	}
	return q
}

// reorders reports whether both have the same classes.
func (c ClassRows) reorders() bool {
	return len(c.From) == c.Have && !slices.Contains(c.From, -1)
}

// rows returns for each row of a predictor's parameter the row of the file's
// classes that makes it, −1 for none; nil if it is no such parameter.
func (c ClassRows) rows(w nn.ParamSpec, had Row) []int {
	var per int // rows a class; those of class-agnostic boxes are nobody's
	switch {
	case strings.HasPrefix(w.Key, "roi_heads.box_predictor.cls_score."):
		per = 1
	case strings.HasPrefix(w.Key, "roi_heads.box_predictor.bbox_pred."):
		per = 4
	}
	if per == 0 || len(w.Shape) == 0 || len(had.Want) != len(w.Shape) || !had.Want[1:].Equal(w.Shape[1:]) {
		return nil
	}
	if w.Shape[0] != per*(1+len(c.From)) || had.Want[0] != per*(1+c.Have) {
		return nil
	}
	background, first := 0, 1
	if c.BackgroundLast {
		background, first = c.Have, 0
	}
	blocks := make([]int, 0, 1+len(c.From))
	for _, k := range c.From {
		if k >= 0 {
			k += first
		}
		blocks = append(blocks, k)
	}
	if c.BackgroundLast {
		blocks = append(blocks, background)
	} else {
		blocks = append([]int{background}, blocks...)
	}
	rows := make([]int, 0, w.Shape[0])
	for _, b := range blocks {
		for i := range per {
			if b < 0 {
				rows = append(rows, -1)
			} else {
				rows = append(rows, b*per+i)
			}
		}
	}
	return rows
}

// byClass returns a parameter of a head for other classes: the file's rows,
// and new ones.
func (r *Report) byClass(row Row) ([]float32, error) {
	had := r.base.Rows[r.base.index[row.Key]]
	values, err := r.base.Param(row.Key, had.Want)
	if err != nil {
		return nil, err
	}
	out := Initial(row.Key, row.Want)
	width := row.Want[1:].Len()
	for to, from := range row.moved {
		if from >= 0 {
			copy(out[to*width:][:width], values[from*width:][:width])
		}
	}
	return out, nil
}

// FileRows returns for each row of a parameter the row of the file's array
// that it is, −1 where it begins as in a new network; nil for a parameter that
// is taken whole and in order, or not at all.
func (r *Report) FileRows(key string) []int {
	i, ok := r.index[key]
	if !ok || r.Rows[i].Status != Matched && r.Rows[i].Status != ByClass {
		return nil
	}
	row := r.Rows[i]
	switch {
	case r.base == nil:
		return row.rows
	case row.moved == nil:
		return r.base.FileRows(key)
	}
	picked := r.base.FileRows(key)
	rows := make([]int, len(row.moved))
	for to, from := range row.moved {
		if from >= 0 && picked != nil {
			from = picked[from]
		}
		rows[to] = from
	}
	return rows
}

// movedElements returns the elements of a [ByClass] row that the file gives.
func (row Row) movedElements() int64 {
	n := 0
	for _, from := range row.moved {
		if from >= 0 {
			n++
		}
	}
	return int64(n * row.Want[1:].Len())
}
