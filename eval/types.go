package eval

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
)

// Box is a rectangle as COCO writes it: the corner with the least x and y,
// width and height, in pixels of the original image.
type Box struct{ X, Y, W, H float64 }

// Area returns W·H, which is what pycocotools takes for a detection's area.
func (b Box) Area() float64 { return b.W * b.H }

func (b Box) finite() bool {
	return b.X-b.X == 0 && b.Y-b.Y == 0 && b.W-b.W == 0 && b.H-b.H == 0 // x−x is NaN for NaN and ±Inf
}

// Truth is an object that is in an image.
type Truth struct {
	// ID is the annotation's id. Only 0 matters: pycocotools keeps matches by
	// id, so a match with annotation 0 counts as none.
	ID int64
	// Class is 0…K−1, an index into [Config.Classes].
	Class int
	Box   Box
	// Area decides the size of the object, in square pixels. COCO files give
	// the area of the mask, which is less than the box's; otherwise W·H.
	Area float64
	// Crowd marks a region that holds many objects: under COCO it takes any
	// number of detections, which then count neither for nor against.
	Crowd bool
	// Ignore is the file's "ignore" key. pycocotools overwrites it with
	// iscrowd, so no protocol here looks at it.
	Ignore bool
	// Difficult objects are ordinary under COCO and left out under VOC.
	Difficult bool
}

// Detection is an object that was found.
type Detection struct {
	Class int // 0…K−1
	Score float64
	Box   Box
}

// Class is one of the classes of a data set.
type Class struct {
	Name string
	ID   int // in the data set's own numbering, for output only
}

// Protocol is the set of rules by which detections are matched and scored.
type Protocol string

// The protocols; the package's documentation defines them.
const (
	COCO  Protocol = "coco"
	VOC07 Protocol = "voc07"
	VOC10 Protocol = "voc10"
)

// Config says what is evaluated and how.
type Config struct {
	Protocol Protocol
	// Classes are the data set's; truths and detections hold indices into
	// them. Classes without objects are listed as absent.
	Classes []Class
	// ConfusionScore is the least score of a detection that enters the
	// confusion matrix. (AP has no such limit, a matrix needs one: otherwise
	// thousands of detections with scores near 0 fill its background row.)
	ConfusionScore float64
}

// DefaultConfig returns COCO's protocol, without classes yet.
func DefaultConfig() Config { return Config{Protocol: COCO, ConfusionScore: 0.5} }

// Validate returns what is wrong with c.
func (c Config) Validate() error {
	switch c.Protocol {
	case COCO, VOC07, VOC10:
	default:
		return fmt.Errorf("eval: protocol %q is none of coco, voc07, voc10", c.Protocol)
	}
	if len(c.Classes) == 0 {
		return errors.New("eval: no classes: the data set names none")
	}
	if !(c.ConfusionScore >= 0 && c.ConfusionScore <= 1) {
		return fmt.Errorf("eval: confusion score %v is not in [0, 1]", c.ConfusionScore)
	}
	return nil
}

// Value is a figure that may be absent (NaN): the AP of a class without
// objects is not 0. JSON has null for it.
type Value float64

// Absent is the value of what cannot be measured.
func Absent() Value { return Value(math.NaN()) }

// Present reports whether there is a value.
func (v Value) Present() bool { return v == v }

// MarshalJSON writes the number, or null.
func (v Value) MarshalJSON() ([]byte, error) {
	if !v.Present() {
		return []byte("null"), nil
	}
	return json.Marshal(float64(v))
}

// UnmarshalJSON reads a number or null.
func (v *Value) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		*v = Absent()
		return nil
	}
	return json.Unmarshal(b, (*float64)(v))
}

// Percent writes v for people, in percent with the given decimals, or "n/a".
func (v Value) Percent(decimals int) string {
	if !v.Present() {
		return "n/a"
	}
	return strconv.FormatFloat(100*float64(v), 'f', decimals, 64)
}

// mean returns the mean of the present values.
func mean(values []Value) Value {
	sum, n := 0.0, 0
	for _, v := range values {
		if v.Present() {
			sum += float64(v)
			n++
		}
	}
	if n == 0 {
		return Absent()
	}
	return Value(sum / float64(n))
}

// Metric is a figure with its name, such as AP50.
type Metric struct {
	Name  string
	Value Value
}

// Metrics are figures in the order in which they are shown. JSON has them as
// one object.
type Metrics []Metric

// Get returns the figure of that name, absent if there is none.
func (m Metrics) Get(name string) Value {
	for _, x := range m {
		if x.Name == name {
			return x.Value
		}
	}
	return Absent()
}

// MarshalJSON writes {"AP": …, …}.
func (m Metrics) MarshalJSON() ([]byte, error) { return m.object(nil, nil) }

// object writes an object of before, the metrics, and after; the latter are
// key, value, key, value, ….
func (m Metrics) object(before, after []any) ([]byte, error) {
	out := []byte{'{'}
	add := func(key string, value any) error {
		if len(out) > 1 {
			out = append(out, ',')
		}
		k, err := json.Marshal(key)
		if err != nil {
			return err
		}
		v, err := json.Marshal(value)
		if err != nil {
			return err
		}
		out = append(append(append(out, k...), ':'), v...)
		return nil
	}
	for i := 0; i+1 < len(before); i += 2 {
		if err := add(before[i].(string), before[i+1]); err != nil {
			return nil, err
		}
	}
	for _, x := range m {
		if err := add(x.Name, x.Value); err != nil {
			return nil, err
		}
	}
	for i := 0; i+1 < len(after); i += 2 {
		if err := add(after[i].(string), after[i+1]); err != nil {
			return nil, err
		}
	}
	return append(out, '}'), nil
}
