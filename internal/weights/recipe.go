package weights

import (
	"fmt"
	"slices"
	"strings"

	"resdet/internal/nd"
)

// recipe says how a parameter is made of a file's array. The zero value takes
// it as it is.
type recipe struct {
	pairs    bool     // the difference of its second half and its first
	rows     []int    // which rows, in their new order, −1 for zeros; nil: all
	divisor  string   // the array whose only number divides it; 0 makes zeros
	less     string   // the array that is then subtracted
	constant *float32 // no array at all
}

// asItIs reports whether the parameter is the file's array.
func (r recipe) asItIs() bool {
	return !r.pairs && r.rows == nil && r.divisor == "" && r.less == "" && r.constant == nil
}

// newRecipe returns how the family's array t becomes the parameter key of the
// wanted shape; false if it does not fit.
func newRecipe(c *Checkpoint, key string, t *Tensor, want nd.Shape, f *Family, n Network) (recipe, bool) {
	var r recipe
	have := t.Shape
	if f.sums && strings.Contains(key, ".running_") {
		r.divisor = existing(c, layer(t.Key)+"2")
		if strings.HasSuffix(key, ".running_mean") {
			r.less = existing(c, convOf(layer(t.Key))+"1")
		}
	}
	if f.pairs && strings.HasPrefix(key, "rpn.head.cls_logits.") && len(have) > 0 && have[0]%2 == 0 {
		r.pairs = true
		have = slices.Clone(have)
		have[0] /= 2
	}
	switch {
	case f.backgroundLast && strings.HasPrefix(key, "roi_heads.box_predictor."):
		r.rows = headRows(key, want, have, n.BackgroundLast)
	case f.sizeMajor && (strings.HasPrefix(key, "rpn.head.cls_logits.") || strings.HasPrefix(key, "rpn.head.bbox_pred.")):
		r.rows = anchorRows(key, want, have, n.Ratios)
	case !have.Equal(want):
		r.rows = classRows(key, want, have, n.IDs)
	}
	return r, r.rows != nil || have.Equal(want)
}

// existing returns the name if the file has such an array, otherwise "".
func existing(c *Checkpoint, name string) string {
	if c.Tensor(name) == nil {
		return ""
	}
	return name
}

// convOf returns the convolution before a batch norm of Caffe's: res2a_branch1
// of bn2a_branch1, conv1 of bn_conv1. (ResNet-50's conv1 has a bias.)
func convOf(norm string) string {
	if rest, ok := strings.CutPrefix(norm, "bn_"); ok {
		return rest
	}
	return "res" + strings.TrimPrefix(norm, "bn")
}

// headRows brings the background's row of a predictor from one end to the
// other. A family with the background last has no box deltas for it: they
// become zeros, which nothing reads.
func headRows(key string, want, have nd.Shape, networkLast bool) []int {
	if len(want) == 0 || len(want) != len(have) || !want[1:].Equal(have[1:]) {
		return nil
	}
	var background, classes []int // rows of the file
	switch scores := strings.Contains(key, ".cls_score."); {
	case scores && have[0] == want[0]:
		background = []int{have[0] - 1}
	case !scores && have[0] == want[0]-4:
		background = []int{-1, -1, -1, -1}
	default:
		return nil // such as class-agnostic boxes
	}
	for row := range want[0] - len(background) {
		classes = append(classes, row)
	}
	if networkLast {
		return append(classes, background...)
	}
	return append(background, classes...)
}

// anchorRows turns the anchors of a cell from size-major to ratio-major.
func anchorRows(key string, want, have nd.Shape, ratios int) []int {
	per := 1 // rows of an anchor
	if strings.Contains(key, ".bbox_pred.") {
		per = 4
	}
	if len(want) == 0 || !have.Equal(want) || ratios < 1 || want[0]%(per*ratios) != 0 {
		return nil
	}
	sizes := want[0] / (per * ratios)
	rows := make([]int, 0, want[0])
	for ratio := range ratios {
		for size := range sizes {
			for i := range per {
				rows = append(rows, (size*ratios+ratio)*per+i)
			}
		}
	}
	return rows
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

// helpers returns the names of the arrays that the recipe takes beside its own.
func (r recipe) helpers() []string {
	var names []string
	for _, name := range []string{r.divisor, r.less} {
		if name != "" {
			names = append(names, name)
		}
	}
	return names
}

// read makes the parameter of the given shape from the file's array.
func (r recipe) read(c *Checkpoint, from string, shape nd.Shape) ([]float32, error) {
	if r.constant != nil {
		return slices.Repeat([]float32{*r.constant}, shape.Len()), nil
	}
	values, err := c.Read(from)
	if err != nil {
		return nil, err
	}
	if r.pairs {
		half := len(values) / 2
		for i, v := range values[half:] {
			values[i] = v - values[i]
		}
		values = values[:half]
	}
	if r.rows != nil {
		width := shape[1:].Len()
		picked := make([]float32, shape.Len())
		for to, from := range r.rows {
			if from >= 0 {
				copy(picked[to*width:][:width], values[from*width:][:width])
			}
		}
		values = picked
	}
	if r.divisor != "" {
		if err := divide(c, values, r.divisor); err != nil {
			return nil, err
		}
	}
	if r.less != "" {
		less, err := c.Read(r.less)
		if err != nil {
			return nil, err
		}
		if len(less) != len(values) {
			return nil, c.fail(fmt.Errorf("tensor %q has %d numbers, %q has %d", r.less, len(less), from, len(values)))
		}
		for i := range values {
			values[i] -= less[i]
		}
	}
	return values, nil
}

// divide divides values by the only number of an array, as Caffe does with its
// sums: nothing was added up where it is 0.
func divide(c *Checkpoint, values []float32, by string) error {
	factor, err := c.Read(by)
	if err != nil {
		return err
	}
	if len(factor) != 1 {
		return c.fail(fmt.Errorf("tensor %q has %d numbers, a norm's divisor is one", by, len(factor)))
	}
	scale := float32(0)
	if factor[0] != 0 {
		scale = 1 / factor[0]
	}
	for i := range values {
		values[i] *= scale
	}
	return nil
}
