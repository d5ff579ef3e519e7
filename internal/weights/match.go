package weights

import (
	"fmt"
	"slices"
	"strings"

	"resdet/internal/nd"
	"resdet/internal/nn"
)

// Status says what became of one parameter of a network or one array of a
// checkpoint.
type Status uint8

// What can become of them.
const (
	Matched    Status = iota // the file gives the parameter
	Missing                  // the network wants it, the file has nothing for it
	Misshapen                // the file has it in another shape
	Unexpected               // the file has it, the network does not want it
	Ignored                  // the same, as it should be: a classifier's last layer
)

var statuses = [...]string{"matched", "missing", "wrong shape", "unexpected", "ignored"}

func (s Status) String() string { return statuses[s] }

// Row is one line of a [Report].
type Row struct {
	Status Status
	Key    string   // the network's name; "" of what it does not want
	From   string   // the file's name; "" of what it does not have
	Want   nd.Shape // the network's shape; nil with Key ""
	Have   nd.Shape // the file's shape; nil with From ""

	rows []int // of Have that make Want; nil: all, in order
}

// Report says how a checkpoint fits a network, and gives the network its
// parameters: it is a [Params]. The checkpoint must stay open meanwhile.
type Report struct {
	File   string
	Family string // how the file names things: "torchvision classifier"
	Rows   []Row  // the network's parameters in its order, then what else the file has, in its order

	c     *Checkpoint
	index map[string]int // of Rows by Key
}

// Match finds what a checkpoint has for the wanted parameters, whichever of
// the known families of names it uses.
//
// ids are the classes' ids in their data. torchvision's published detectors
// have a row in their predictor for every id up to the largest, also for the
// ten that COCO never used: where the file has that many, the classes' rows
// are picked.
func Match(c *Checkpoint, wanted []nn.ParamSpec, ids []int) *Report {
	best, most := (*Report)(nil), int64(-1)
	for _, f := range families {
		r := match(c, wanted, ids, f)
		if _, n := r.Count(Matched); n > most {
			best, most = r, n
		}
	}
	return best
}

// Fit returns an error that wraps [ErrIncomplete] unless the file is a model
// file of exactly the wanted parameters.
func (c *Checkpoint) Fit(wanted []nn.ParamSpec) error {
	return match(c, wanted, nil, modelFile).Err()
}

func match(c *Checkpoint, wanted []nn.ParamSpec, ids []int, f family) *Report {
	r := &Report{File: c.Name, Family: f.name, c: c, index: make(map[string]int, len(wanted)), Rows: make([]Row, 0, len(wanted))}
	for _, w := range wanted {
		r.index[w.Key] = len(r.Rows)
		r.Rows = append(r.Rows, Row{Status: Missing, Key: w.Key, Want: w.Shape})
	}
	isWanted := func(key string) bool { _, ok := r.index[key]; return ok }
	// A name as it is goes before one that a rule makes; of two for the same
	// parameter the second is left over.
	var rest []*Tensor
	for i := range c.Tensors {
		if t := &c.Tensors[i]; isWanted(t.Key) {
			r.assign(t.Key, t, ids)
		} else {
			rest = append(rest, t)
		}
	}
	for _, t := range rest {
		name := t.Key
		if f.rules != nil {
			name = unwrapName(name)
		}
		if key, ok := f.find(name, isWanted); ok && r.Rows[r.index[key]].From == "" {
			r.assign(key, t, ids)
			continue
		}
		status := Unexpected
		if f.ignored != nil && f.ignored.MatchString(name) {
			status = Ignored
		}
		r.Rows = append(r.Rows, Row{Status: status, From: t.Key, Have: t.Shape})
	}
	return r
}

func (r *Report) assign(key string, t *Tensor, ids []int) {
	row := &r.Rows[r.index[key]]
	row.From, row.Have, row.Status = t.Key, t.Shape, Matched
	if row.Have.Equal(row.Want) {
		return
	}
	if row.rows = classRows(key, row.Want, row.Have, ids); row.rows == nil {
		row.Status = Misshapen
	}
}

// classRows returns which rows of a predictor with one for every id up to the
// largest belong to the background, row 0, and the classes; nil if it is none.
func classRows(key string, want, have nd.Shape, ids []int) []int {
	if len(ids) == 0 || len(want) == 0 || len(want) != len(have) || !want[1:].Equal(have[1:]) || !strings.HasPrefix(key, "roi_heads.box_predictor.") {
		return nil
	}
	per := want[0] / (1 + len(ids)) // 1 of scores, 4 of boxes
	if per == 0 || want[0] != per*(1+len(ids)) || have[0] != per*(1+slices.Max(ids)) || slices.Min(ids) < 1 {
		return nil
	}
	rows := make([]int, 0, want[0])
	for _, id := range append([]int{0}, ids...) {
		for i := range per {
			rows = append(rows, id*per+i)
		}
	}
	return rows
}

// Param returns a parameter's elements: out of the file, or, where the file
// has none that fits, as a new network would begin ([Initial]).
func (r *Report) Param(key string, shape nd.Shape) ([]float32, error) {
	i, ok := r.index[key]
	if !ok || !r.Rows[i].Want.Equal(shape) {
		return nil, fmt.Errorf("weights: the report knows no parameter %q of shape %v", key, shape)
	}
	row := r.Rows[i]
	if row.Status != Matched {
		return Initial(key, shape), nil
	}
	values, err := r.c.Read(row.From)
	if err != nil || row.rows == nil {
		return values, err
	}
	width := shape[1:].Len()
	picked := make([]float32, 0, shape.Len())
	for _, from := range row.rows {
		picked = append(picked, values[from*width:][:width]...)
	}
	return picked, nil
}

// Count returns how many arrays have a status, and their elements: those that
// the network wants, or else those that the file has.
func (r *Report) Count(s Status) (arrays int, elements int64) {
	for _, row := range r.Rows {
		if row.Status == s {
			arrays++
			if row.Want != nil {
				elements += int64(row.Want.Len())
			} else {
				elements += int64(row.Have.Len())
			}
		}
	}
	return arrays, elements
}

// Err returns nil if every parameter is matched and nothing in the file is
// unexpected, otherwise a [*FitError].
func (r *Report) Err() error {
	for _, row := range r.Rows {
		if row.Status == Missing || row.Status == Misshapen || row.Status == Unexpected {
			return &FitError{r}
		}
	}
	return nil
}

// FitError says, with a table, why a checkpoint does not fit a network. It
// wraps [ErrIncomplete].
type FitError struct{ Report *Report }

// maxErrorLines bounds the table in an error: what is wrong with an
// architecture shows in the first lines.
const maxErrorLines = 20

func (e *FitError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "weights: %s: %v: %s\n", e.Report.File, ErrIncomplete, e.Report.Summary())
	e.Report.table(&b, maxErrorLines, func(s Status) bool { return s == Missing || s == Misshapen || s == Unexpected })
	return strings.TrimRight(b.String(), "\n")
}

func (e *FitError) Unwrap() error { return ErrIncomplete }
