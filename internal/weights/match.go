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
	ByClass                  // the file gives the rows of some classes ([Report.Reclass])
	Misshapen                // the file has it in another shape
	Unexpected               // the file has it, the network does not want it
	Ignored                  // the same, as it should be: a classifier's last layer
)

var statuses = [...]string{"matched", "missing", "by class", "wrong shape", "unexpected", "ignored"}

func (s Status) String() string { return statuses[s] }

// trouble reports whether a checkpoint with such a row fits only in part.
func (s Status) trouble() bool { return s != Matched && s != Ignored }

// Row is one line of a [Report].
type Row struct {
	Status Status
	Key    string   // the network's name; "" of what it does not want
	From   string   // the file's name; "" of what it does not have
	Want   nd.Shape // the network's shape; nil with Key ""
	Have   nd.Shape // the file's shape; nil with From ""

	recipe       // of the elements
	moved  []int // of a head's row: of the array for the file's classes, −1: new
}

// Report says how a checkpoint fits a network, and gives the network its
// parameters: it is a [Params]. The checkpoint must stay open meanwhile.
type Report struct {
	File   string
	Family string // how the file names things: "torchvision classifier"
	Rows   []Row  // the network's parameters in its order, then what else the file has, in its order

	c     *Checkpoint
	index map[string]int // of Rows by Key
	base  *Report        // the match with the file's own classes; nil: those are the network's
}

// Network is what a checkpoint is matched with.
type Network struct {
	Params []nn.ParamSpec // what it wants
	// IDs are the classes' ids in their data. torchvision's published detectors
	// have a row in their predictor for every id up to the largest, also for the
	// ten that COCO never used: where the file has that many, the classes' rows
	// are picked.
	IDs []int
	// Ratios is how many ratios a size of anchors has.
	Ratios int
	// BackgroundLast says where the network has the background's row.
	BackgroundLast bool
}

// Match finds what a checkpoint has for a network, under the names and in the
// arrangement of a family; nil: whichever known names give most.
func Match(c *Checkpoint, f *Family, n Network) *Report {
	if f != nil {
		return match(c, f, n)
	}
	best, most := (*Report)(nil), int64(-1)
	for _, f := range families {
		if f.file != nil || f.rows != 0 { // nothing but the marks tells them from others
			continue
		}
		r := match(c, f, n)
		if _, n := r.Count(Matched); n > most {
			best, most = r, n
		}
	}
	return best
}

// Fit returns an error that wraps [ErrIncomplete] unless the file is a model
// file of exactly the wanted parameters.
func (c *Checkpoint) Fit(wanted []nn.ParamSpec) error {
	return match(c, modelFile, Network{Params: wanted}).Err()
}

func match(c *Checkpoint, f *Family, n Network) *Report {
	r := &Report{File: c.Name, Family: f.Title, c: c, index: make(map[string]int, len(n.Params)), Rows: make([]Row, 0, len(n.Params))}
	for _, w := range n.Params {
		r.index[w.Key] = len(r.Rows)
		r.Rows = append(r.Rows, Row{Status: Missing, Key: w.Key, Want: w.Shape})
	}
	isWanted := func(key string) bool { _, ok := r.index[key]; return ok }
	// A name as it is goes before one that is rewritten; of two for the same
	// parameter the second is left over.
	var rest []*Tensor
	for i := range c.Tensors {
		if t := &c.Tensors[i]; isWanted(t.Key) {
			r.assign(t.Key, t, f, n)
		} else {
			rest = append(rest, t)
		}
	}
	used := map[string]bool{}
	first := len(r.Rows)
	for _, t := range rest {
		name := t.Key
		if f != modelFile {
			name = unwrapName(name)
		}
		if key, ok := f.find(name, isWanted); ok && r.Rows[r.index[key]].From == "" {
			for _, helper := range r.assign(key, t, f, n) {
				used[helper] = true
			}
			continue
		}
		status := Unexpected
		if f.ignored != nil && f.ignored.MatchString(name) {
			status = Ignored
		}
		r.Rows = append(r.Rows, Row{Status: status, From: t.Key, Have: t.Shape})
	}
	r.Rows = append(r.Rows[:first], slices.DeleteFunc(r.Rows[first:], func(row Row) bool { return used[row.From] })...)
	if f.affine {
		r.complete()
	}
	return r
}

// assign gives a parameter an array of the file, and returns the names of the
// others that it takes.
func (r *Report) assign(key string, t *Tensor, f *Family, n Network) []string {
	row := &r.Rows[r.index[key]]
	row.From, row.Have, row.Status = t.Key, t.Shape, Matched
	var fits bool
	row.recipe, fits = newRecipe(r.c, key, t, row.Want, f, n)
	if !fits {
		row.Status = Misshapen
		return nil
	}
	return row.helpers()
}

// complete gives norms of a scale and a shift the statistics that they stand for.
func (r *Report) complete() {
	for i := range r.Rows {
		row := &r.Rows[i]
		base, last := layer(row.Key), row.Key[len(layer(row.Key)):]
		if row.Status != Missing || last != "running_mean" && last != "running_var" {
			continue
		}
		if j, ok := r.index[base+"weight"]; !ok || r.Rows[j].Status != Matched {
			continue
		}
		row.Status, row.Have, row.constant = Matched, row.Want, new(float32)
		row.From = "(0)"
		if last == "running_var" {
			row.From, *row.constant = "(1)", 1
		}
	}
}

// Param returns a parameter's elements: out of the file, or, where the file
// has none that fits, as a new network would begin ([Initial]).
func (r *Report) Param(key string, shape nd.Shape) ([]float32, error) {
	i, ok := r.index[key]
	if !ok || !r.Rows[i].Want.Equal(shape) {
		return nil, fmt.Errorf("weights: the report knows no parameter %q of shape %v", key, shape)
	}
	row := r.Rows[i]
	switch {
	case row.moved != nil:
		return r.byClass(row)
	case row.Status != Matched:
		return Initial(key, shape), nil
	case r.base != nil:
		return r.base.Param(key, shape)
	}
	return row.read(r.c, row.From, shape)
}

// ParamInto is Param into dst: a Report is a device.ParamsInto, so that a device
// reads large arrays straight into its own memory.
func (r *Report) ParamInto(dst []float32, key string, shape nd.Shape) error {
	if i, ok := r.index[key]; ok {
		switch row := r.Rows[i]; {
		case row.Status != Matched || row.moved != nil || !row.Want.Equal(shape):
		case r.base != nil:
			return r.base.ParamInto(dst, key, shape)
		case row.asItIs():
			return r.c.ParamInto(dst, row.From, shape)
		}
	}
	values, err := r.Param(key, shape)
	if err == nil && len(values) != len(dst) {
		err = fmt.Errorf("weights: parameter %q of shape %v does not fit %d elements", key, shape, len(dst))
	}
	copy(dst, values)
	return err
}

// Count returns how many arrays have a status, and their elements: those that
// the network wants, or else those that the file has; of [ByClass] those that
// the file gives.
func (r *Report) Count(s Status) (arrays int, elements int64) {
	for _, row := range r.Rows {
		if row.Status == s {
			arrays++
			if s == ByClass {
				elements += row.movedElements()
			} else if row.Want != nil {
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
		if row.Status.trouble() {
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
	e.Report.table(&b, maxErrorLines, Status.trouble)
	return strings.TrimRight(b.String(), "\n")
}

func (e *FitError) Unwrap() error { return ErrIncomplete }
