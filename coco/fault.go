package coco

import (
	"fmt"
	"strings"
)

// Kind names a sort of fault; it is what `data check --json` prints.
type Kind string

// The faults that readers meet and [Check] looks for.
const (
	MissingImage      Kind = "missing-image"            // annotation without image: the photo is not there
	BadImage          Kind = "undecodable-image"        // the photo cannot be decoded
	SizeMismatch      Kind = "size-mismatch"            // size in the annotation unlike the photo's
	SizeMissing       Kind = "size-missing"             // no size, or 0, in the annotation
	BoxOutside        Kind = "box-outside"              // reaches beyond the image, or lies outside
	BoxInverted       Kind = "box-inverted"             // corners in the wrong order
	BoxEmpty          Kind = "box-empty"                // no width or no height
	BoxMissing        Kind = "box-missing"              // an object without a box
	BoxCorners        Kind = "box-corners"              // x1 y1 x2 y2 where x y w h belongs
	BoxPixels         Kind = "box-pixels"               // YOLO rows in pixels, not fractions
	BoxDuplicate      Kind = "box-duplicate"            // same class, same box, same image
	BadArea           Kind = "bad-area"                 // COCO area absent, not positive or above the box's
	BadValue          Kind = "bad-value"                // NaN, infinite or not a number
	ZeroBased         Kind = "zero-based"               // VOC data that counts pixels from 0
	DuplicateID       Kind = "duplicate-id"             // two images, annotations or classes with one id
	MissingID         Kind = "missing-id"               // COCO annotations without an id
	ImageTwice        Kind = "image-twice"              // one photo listed twice
	UnknownClass      Kind = "unknown-class"            // class that is not among the set's
	ClassSpelling     Kind = "class-spelling"           // names that differ in case or spacing only
	ClassEmpty        Kind = "class-empty"              // a class without a name
	OrphanAnnotation  Kind = "annotation-without-image" // annotation of an image that is not listed
	ImageUnannotated  Kind = "image-without-annotation" // photo that no annotation describes
	EXIFRotation      Kind = "exif-rotation"            // the photo's EXIF turns it under its boxes
	FileName          Kind = "file-name"                // photo found, but not by the name given
	BadAnnotation     Kind = "bad-annotation"           // file or row that cannot be read
	ClassCount        Kind = "class-count"              // YOLO's nc unlike the number of names
	UnsupportedFormat Kind = "unsupported-image"        // an image format that is not read
)

// Fault is one thing that is wrong with a dataset: where, what, and what to
// do about it.
type Fault struct {
	Kind    Kind   `json:"kind"`
	File    string `json:"file"`            // the annotation file, or the photo
	Line    int    `json:"line,omitempty"`  // in File, from 1; 0 where it has none
	Object  int    `json:"object"`          // position of the object or row in File, from 0; −1 where none is meant
	Image   string `json:"image,omitempty"` // id of the image
	Message string `json:"message"`         // what is wrong, with the values
	Fix     string `json:"fix,omitempty"`   // what to do
	Count   int    `json:"count"`           // how often, where a fault of the whole set is reported once

	blocks bool // the dataset cannot be used with it: [Load] returns an error
}

func (f Fault) String() string {
	var b strings.Builder
	b.WriteString(f.File)
	if f.Line > 0 {
		fmt.Fprintf(&b, ":%d", f.Line)
	}
	if f.Object >= 0 {
		fmt.Fprintf(&b, ": object %d", f.Object)
	}
	fmt.Fprintf(&b, ": %s [%s]", f.Message, f.Kind)
	return b.String()
}

// FaultError is a dataset that cannot be used as it is.
type FaultError struct {
	Dataset string
	Faults  []Fault
}

func (e *FaultError) Error() string {
	s := fmt.Sprintf("coco: %v", e.Faults[0])
	if n := len(e.Faults) - 1; n > 0 {
		s += fmt.Sprintf(" (and %d more)", n)
	}
	return s
}

// Hint says how to go on.
func (e *FaultError) Hint() string {
	return "resdet data check lists every fault of the dataset with what to do; --fix DIR writes a repaired copy"
}

// SyntaxError is a file that cannot be read, with the place.
type SyntaxError struct {
	File         string
	Line, Column int    // from 1; 0 where unknown
	Offset       int64  // in bytes; −1 where unknown
	Where        string // what was being read, such as annotations[12].bbox
	Msg          string
}

func (e *SyntaxError) Error() string {
	var b strings.Builder
	b.WriteString("coco: ")
	b.WriteString(e.File)
	if e.Line > 0 {
		fmt.Fprintf(&b, ":%d", e.Line)
		if e.Column > 0 {
			fmt.Fprintf(&b, ":%d", e.Column)
		}
	}
	if e.Offset >= 0 {
		fmt.Fprintf(&b, " (byte %d)", e.Offset)
	}
	if e.Where != "" {
		fmt.Fprintf(&b, ": %s", e.Where)
	}
	fmt.Fprintf(&b, ": %s", e.Msg)
	return b.String()
}

// spacingFault is a class name with white space around it. Readers take it
// off, other programs may not.
func spacingFault(file string, line, object int, name string) Fault {
	return Fault{Kind: ClassSpelling, File: file, Line: line, Object: object, Count: 1,
		Message: fmt.Sprintf("the class is called %q, with white space around it", name),
		Fix:     fmt.Sprintf("call it %q; --fix does", strings.TrimSpace(name))}
}
