package coco

import (
	"cmp"
	"fmt"
	"math"
	"path"
	"strconv"
	"strings"
)

// Format names one of the three dataset formats.
type Format string

// The dataset formats.
const (
	FormatCOCO Format = "coco"
	FormatVOC  Format = "voc"
	FormatYOLO Format = "yolo"
)

// Dataset is a set of annotated images in memory, whatever format it came
// from. It is a value to read: nothing in this package changes a Dataset after
// it was loaded, so goroutines may share one.
type Dataset struct {
	Format  Format
	Path    string // what was loaded: the JSON or YAML file, or the VOC folder
	Photos  string // folder of the photos; empty where none was found
	Classes []Class
	Images  []Image // COCO: in the file's order; VOC: in the split's; YOLO: by file name
	// Faults are the things a reader passed over or put right, in the order
	// met. [Check] looks for many more.
	Faults []Fault
}

// Class is a class of a dataset. Its index in Dataset.Classes is what
// everything else in this program counts with; ID is only how the dataset's
// own format numbers it.
type Class struct {
	Name          string
	ID            int    // COCO: category id, with holes; VOC: 1…20; otherwise index + 1
	Supercategory string // COCO only
}

// Image is a photo and the objects in it. An image without objects is as good
// as any other.
type Image struct {
	ID            string // COCO: the id in decimal; VOC and YOLO: the file stem
	File          string // the name in the annotation, as written there
	Path          string // where the photo lies; empty where no folder of photos is known
	Split         string // VOC: the split that was asked for; YOLO: train, val or test
	Annotation    string // the file that describes it: the JSON, the XML, the label file
	Width, Height int    // pixels, as annotated (YOLO: of the upright photo); 0 where the annotation does not say
	Objects       []Object
}

// Object is one annotated object.
type Object struct {
	ID    int64 // COCO: the annotation's id; otherwise its running number in the dataset, from 1
	Class int   // index in Dataset.Classes
	Box   Box
	Area  float64 // square pixels: COCO's area of the segment, otherwise that of the box

	Crowd     bool // COCO's iscrowd: a region with many objects that were not told apart
	Ignore    bool // COCO's ignore key, as written (pycocotools overwrites it with iscrowd)
	Difficult bool // VOC's difficult; read from COCO files, too
	Truncated bool // VOC's truncated; read from COCO files, too

	Index int32 // position in its annotation file, from 0
	Line  int32 // line in its annotation file, from 1
}

// Box is a box in original pixels as COCO gives it: X and Y of the upper left
// corner, then width and height, continuous, no +1. It is float64 because
// pycocotools' results are to be met to the last digit.
type Box struct{ X, Y, W, H float64 }

// X1 returns the right edge.
func (b Box) X1() float64 { return b.X + b.W }

// Y1 returns the lower edge.
func (b Box) Y1() float64 { return b.Y + b.H }

// Area returns the box's area.
func (b Box) Area() float64 { return b.W * b.H }

// Corners returns x0, y0, x1, y1.
func (b Box) Corners() [4]float64 { return [4]float64{b.X, b.Y, b.X1(), b.Y1()} }

// VOC returns the box as VOC's XML and result files give it: corners of
// pixels counted from 1, both inside the box.
func (b Box) VOC() (xmin, ymin, xmax, ymax float64) { return b.X + 1, b.Y + 1, b.X + b.W, b.Y + b.H }

// BoxFromVOC is the inverse of [Box.VOC].
func BoxFromVOC(xmin, ymin, xmax, ymax float64) Box {
	return Box{X: xmin - 1, Y: ymin - 1, W: xmax - xmin + 1, H: ymax - ymin + 1}
}

// BoxFromCorners returns the box between two corners.
func BoxFromCorners(x0, y0, x1, y1 float64) Box { return Box{x0, y0, x1 - x0, y1 - y0} }

// Finite reports whether all four numbers are finite.
func (b Box) Finite() bool {
	return !math.IsNaN(b.X+b.Y+b.W+b.H) && !math.IsInf(b.X, 0) && !math.IsInf(b.Y, 0) && !math.IsInf(b.W, 0) && !math.IsInf(b.H, 0)
}

func (b Box) String() string {
	return fmt.Sprintf("[%s %s %s %s]", short(b.X), short(b.Y), short(b.W), short(b.H))
}

// short prints a coordinate with at most two decimals.
func short(v float64) string {
	s := strconv.FormatFloat(v, 'f', 2, 64)
	if strings.Contains(s, ".") {
		s = strings.TrimRight(strings.TrimRight(s, "0"), ".")
	}
	return s
}

// Objects returns how many objects the dataset has.
func (d *Dataset) Objects() int {
	n := 0
	for i := range d.Images {
		n += len(d.Images[i].Objects)
	}
	return n
}

// Validate returns an error for the first box that no training survives: not
// finite, inverted, empty, or outside its image altogether. [Check] lists all
// of them, and much more.
func (d *Dataset) Validate() error {
	for i := range d.Images {
		im := &d.Images[i]
		for j := range im.Objects {
			o := &im.Objects[j]
			var what string
			switch b := o.Box; {
			case !b.Finite():
				what = "is not finite"
			case b.W <= 0 || b.H <= 0:
				what = "is empty or inverted"
			case b.X1() <= 0 || b.Y1() <= 0 || im.Width > 0 && b.X >= float64(im.Width) || im.Height > 0 && b.Y >= float64(im.Height):
				what = fmt.Sprintf("lies outside its image of %d×%d", im.Width, im.Height)
			default:
				continue
			}
			return &FaultError{Dataset: d.Path, Faults: []Fault{{
				Kind: BoxEmpty, File: im.Annotation, Line: int(o.Line), Object: int(o.Index), Image: im.ID, Count: 1,
				Message: fmt.Sprintf("box %v %s", o.Box, what),
			}}}
		}
	}
	return nil
}

// Index finds images by the ids that result files use.
type Index struct {
	exact map[string]int // ids as they are
	loose map[string]int // numbers without leading zeros, stems and file names
}

// NewIndex makes an index of the dataset's images.
func (d *Dataset) NewIndex() *Index {
	x := &Index{exact: make(map[string]int, len(d.Images)), loose: make(map[string]int)}
	add := func(m map[string]int, key string, i int) {
		if _, taken := m[key]; !taken && key != "" {
			m[key] = i
		}
	}
	for i := range d.Images {
		im := &d.Images[i]
		add(x.exact, im.ID, i)
		if n := trimZeros(im.ID); n != im.ID {
			add(x.loose, n, i)
		}
		base := path.Base(slashed(im.File))
		add(x.loose, base, i)
		add(x.loose, stem(base), i)
	}
	return x
}

// Find returns the image that a result's id names: the id itself, the number
// without leading zeros, or else the file's name or stem (a path is allowed).
func (x *Index) Find(id string) (int, bool) {
	if i, ok := x.exact[id]; ok {
		return i, true
	}
	if i, ok := x.loose[id]; ok {
		return i, true
	}
	if n := trimZeros(id); n != id {
		if i, ok := x.exact[n]; ok {
			return i, true
		}
	}
	base := path.Base(slashed(id))
	if i, ok := x.loose[base]; ok {
		return i, true
	}
	if i, ok := x.exact[stem(base)]; ok {
		return i, true
	}
	i, ok := x.loose[stem(base)]
	return i, ok
}

// CompareIDs orders image ids as pycocotools does: numbers by value, before
// names, which are in byte order.
func CompareIDs(a, b string) int {
	na, errA := strconv.ParseInt(a, 10, 64)
	nb, errB := strconv.ParseInt(b, 10, 64)
	switch {
	case errA == nil && errB == nil:
		return cmp.Or(cmp.Compare(na, nb), strings.Compare(a, b))
	case errA == nil:
		return -1
	case errB == nil:
		return 1
	}
	return strings.Compare(a, b)
}

// trimZeros takes the leading zeros off a name that is a number.
func trimZeros(s string) string {
	if len(s) < 2 || s[0] != '0' {
		return s
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return s
		}
	}
	if t := strings.TrimLeft(s, "0"); t != "" {
		return t
	}
	return "0"
}

// slashed gives a path the separators of this system's URLs: people annotate
// on Windows.
func slashed(p string) string { return strings.ReplaceAll(p, `\`, "/") }

// stem is a file name without folder and extension.
func stem(p string) string {
	b := path.Base(slashed(p))
	return strings.TrimSuffix(b, path.Ext(b))
}
