package coco

import (
	"cmp"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
)

// ReadCOCO reads COCO's instances JSON from a stream, in one pass and with its
// parts in any order; name stands in errors. Memory stays near the size of the
// result: segmentations, and whatever else is no image, box or class, are
// stepped over. Classes are those of "categories", by id.
//
// What cannot stand in a Dataset is left out and noted in its Faults:
// annotations of images or classes that are not listed, without a box or with
// numbers that are not finite, and second images of one id. [Load] returns an
// error for a set with such faults, except for annotations of unlisted
// images, which pycocotools leaves out, too.
func ReadCOCO(r io.Reader, name string) (*Dataset, error) {
	rd := cocoReader{
		s: newScanner(r, name), d: &Dataset{Format: FormatCOCO, Path: name},
		nums: map[int64]int32{}, names: map[string]int32{},
	}
	return rd.read()
}

// ReadCOCOFile is [ReadCOCO] for a file.
func ReadCOCOFile(path string) (*Dataset, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("coco: %w", err)
	}
	defer f.Close()
	return ReadCOCO(f, path)
}

// cocoReader collects the parts of a file. Images and annotations may come in
// either order, so an image id, wherever it is met first, gets a dense number,
// its ref.
type cocoReader struct {
	s     *scanner
	d     *Dataset
	nums  map[int64]int32 // image id → ref
	names map[string]int32
	image []int32 // ref → index in d.Images, −1 as long as no image has the id

	chunks [][]Object // Class holds the category id until the categories are known
	refs   [][]int32  // the images of the objects in chunks

	annotations        int // all of them, also those left out
	noArea, noID       int
	firstNoA, firstNoI Fault
	maxID              int64
	images, categories bool // seen
}

// Objects are collected in pieces: growing one slice of a million would hold
// two of them at a time.
const chunkObjects = 1 << 14

func (r *cocoReader) read() (*Dataset, error) {
	s := r.s
	if s.peek() == '[' {
		s.fail("a list where an object with images, annotations and categories should be: is this a file of detections?")
	}
	s.object(func(key []byte) {
		switch string(key) {
		case "images":
			r.images = true
			s.array(r.readImage)
		case "annotations":
			s.array(r.readAnnotation)
		case "categories":
			r.categories = true
			s.array(r.readCategory)
		default:
			s.skip()
		}
	})
	s.finish()
	if s.err != nil {
		return nil, s.err
	}
	if !r.images || !r.categories {
		missing := "images"
		if r.images {
			missing = "categories"
		}
		return nil, &SyntaxError{File: s.name, Offset: -1, Msg: fmt.Sprintf("no %q in it: not COCO's instances format", missing)}
	}
	class := r.sortClasses()
	r.distribute(class)
	r.noteMissing()
	return r.d, nil
}

func (r *cocoReader) fault(f Fault) {
	f.File, f.Count = r.s.name, 1
	r.d.Faults = append(r.d.Faults, f)
}

// id reads an image's id: a number, or a string as some write it. Numbers in
// quotes are numbers.
func (r *cocoReader) id() (num int64, name string) {
	if r.s.peek() != '"' {
		return r.s.integer(), ""
	}
	b := r.s.str()
	if n, err := strconv.ParseInt(string(b), 10, 64); err == nil && strconv.FormatInt(n, 10) == string(b) {
		return n, ""
	}
	return 0, string(b)
}

// ref returns the dense number of an image id.
func (r *cocoReader) ref(num int64, name string) int32 {
	next := int32(len(r.image))
	if name != "" {
		if ref, ok := r.names[name]; ok {
			return ref
		}
		r.names[name] = next
	} else {
		if ref, ok := r.nums[num]; ok {
			return ref
		}
		r.nums[num] = next
	}
	r.image = append(r.image, -1)
	return next
}

func (r *cocoReader) readImage(i int) {
	s := r.s
	im := Image{Annotation: s.name}
	line := s.line()
	hasID := false
	var num int64
	var name string
	s.object(func(key []byte) {
		switch string(key) {
		case "id":
			num, name = r.id()
			hasID = true
		case "file_name":
			if !s.null() {
				im.File = string(s.str())
			}
		case "width":
			im.Width = r.size()
		case "height":
			im.Height = r.size()
		default:
			s.skip()
		}
	})
	if s.err == nil && !hasID {
		s.fail("no id")
	}
	if s.err != nil {
		s.within("images[%d]", i)
		return
	}
	if im.ID = name; name == "" {
		im.ID = strconv.FormatInt(num, 10)
	}
	ref := r.ref(num, name)
	if k := r.image[ref]; k >= 0 {
		r.fault(Fault{
			Kind: DuplicateID, Line: line, Object: i, Image: im.ID, blocks: true,
			Message: fmt.Sprintf("images[%d] (%s) has the id of another (%s)", i, im.File, r.d.Images[k].File),
			Fix:     "give it an id of its own; --fix keeps the first and leaves this one out",
		})
		return
	}
	r.image[ref] = int32(len(r.d.Images))
	r.d.Images = append(r.d.Images, im)
}

// size reads a width or height; null and what no image can have are 0, which
// means that the annotation does not say.
func (r *cocoReader) size() int {
	if r.s.null() {
		return 0
	}
	v := r.s.number()
	if !(v > 0 && v < math.MaxInt32) {
		return 0
	}
	return int(v)
}

func (r *cocoReader) readCategory(i int) {
	s := r.s
	var c Class
	hasID := false
	line := s.line()
	s.object(func(key []byte) {
		switch string(key) {
		case "id":
			c.ID, hasID = int(s.integer()), true
		case "name":
			c.Name = string(s.str())
		case "supercategory":
			if !s.null() {
				c.Supercategory = string(s.str())
			}
		default:
			s.skip()
		}
	})
	if s.err == nil && !hasID {
		s.fail("no id")
	}
	if s.err != nil {
		s.within("categories[%d]", i)
		return
	}
	if name := strings.TrimSpace(c.Name); name != c.Name {
		r.fault(spacingFault("", line, i, c.Name))
		c.Name = name
	}
	if c.Name == "" {
		c.Name = fmt.Sprintf("class %d", c.ID)
		r.fault(Fault{Kind: ClassEmpty, Line: line, Object: i, blocks: true,
			Message: fmt.Sprintf("category %d has no name", c.ID), Fix: fmt.Sprintf("name it; --fix calls it %q", c.Name)})
	}
	for _, o := range r.d.Classes {
		switch {
		case o.ID == c.ID:
			r.fault(Fault{Kind: DuplicateID, Line: line, Object: i, blocks: true,
				Message: fmt.Sprintf("category %q has the id %d of category %q", c.Name, c.ID, o.Name),
				Fix:     "give it an id of its own; --fix keeps the first"})
			return
		case o.Name == c.Name:
			// Kept: its annotations are this class's, and check says so.
			r.fault(Fault{Kind: ClassSpelling, Line: line, Object: i,
				Message: fmt.Sprintf("categories %d and %d are both called %q", o.ID, c.ID, c.Name),
				Fix:     "make them one category; --fix does"})
		}
	}
	if len(r.d.Classes) >= 1<<16 {
		s.failIn(fmt.Sprintf("categories[%d]", i), "more than 65,536 categories")
	}
	r.d.Classes = append(r.d.Classes, c)
}

func (r *cocoReader) readAnnotation(i int) {
	s := r.s
	var o Object
	var box [4]float64
	boxLen := 0
	hasID, hasImage, hasClass, hasArea := false, false, false, false
	ref := int32(-1)
	o.Line, o.Index = int32(s.line()), int32(i)
	r.annotations++
	s.object(func(key []byte) {
		switch string(key) {
		case "id":
			if !s.null() {
				o.ID, hasID = s.integer(), true
			}
		case "image_id":
			ref = r.ref(r.id())
			hasImage = true
		case "category_id":
			o.Class, hasClass = int(s.integer()), true
		case "bbox":
			if s.null() {
				break
			}
			s.array(func(k int) {
				if v := s.number(); k < 4 {
					box[k] = v
				}
				boxLen++
			})
		case "area":
			if !s.null() {
				o.Area, hasArea = s.number(), true
			}
		case "iscrowd":
			o.Crowd = s.flag()
		case "ignore":
			o.Ignore = s.flag()
		case "difficult":
			o.Difficult = s.flag()
		case "truncated":
			o.Truncated = s.flag()
		default:
			s.skip()
		}
	})
	if s.err == nil {
		switch {
		case !hasImage:
			s.fail("no image_id")
		case !hasClass:
			s.fail("no category_id")
		}
	}
	if s.err != nil {
		s.within("annotations[%d]", i)
		return
	}
	at := Fault{Line: int(o.Line), Object: i, Image: r.idOf(ref), blocks: true}
	o.Box = Box{box[0], box[1], box[2], box[3]}
	switch {
	case boxLen != 4:
		at.Kind = BoxMissing
		at.Message = fmt.Sprintf("annotation %d has %d numbers in its bbox, not 4", o.ID, boxLen)
		if boxLen == 0 {
			at.Message = fmt.Sprintf("annotation %d has no bbox", o.ID)
		}
		at.Fix = "give it a bbox of x, y, width, height; --fix leaves it out"
	case !o.Box.Finite():
		at.Kind = BadValue
		at.Message = fmt.Sprintf("annotation %d: bbox %v is not finite", o.ID, box)
		at.Fix = "correct the numbers; --fix leaves the annotation out"
	case hasArea && (math.IsNaN(o.Area) || math.IsInf(o.Area, 0)):
		at.Kind = BadValue
		at.Message = fmt.Sprintf("annotation %d: area %v is not finite", o.ID, o.Area)
		at.Fix = "correct the number; --fix takes the area of the box"
		hasArea = false
		r.fault(at)
		fallthrough
	default:
		if !hasArea {
			o.Area = o.Box.Area()
			if r.noArea++; r.noArea == 1 {
				r.firstNoA = at
			}
		}
		if r.maxID = max(r.maxID, o.ID); !hasID {
			o.ID = math.MinInt64 // numbered at the end
			if r.noID++; r.noID == 1 {
				r.firstNoI = at
			}
		}
		r.keep(o, ref)
		return
	}
	r.fault(at)
}

func (r *cocoReader) keep(o Object, ref int32) {
	k := len(r.chunks) - 1
	if k < 0 || len(r.chunks[k]) == cap(r.chunks[k]) {
		// Small files get small pieces.
		n := chunkObjects
		if k < 0 {
			n = 256
		}
		r.chunks = append(r.chunks, make([]Object, 0, n))
		r.refs = append(r.refs, make([]int32, 0, n))
		k++
	}
	r.chunks[k] = append(r.chunks[k], o)
	r.refs[k] = append(r.refs[k], ref)
}

// idOf is the text of an image id; it searches, and is for faults only.
func (r *cocoReader) idOf(ref int32) string {
	if ref < 0 || int(ref) >= len(r.image) {
		return ""
	}
	if k := r.image[ref]; k >= 0 {
		return r.d.Images[k].ID
	}
	return ""
}

// sortClasses orders the categories by id and returns the way from an id to
// an index; categories of one name become one class.
func (r *cocoReader) sortClasses() map[int]int {
	slices.SortStableFunc(r.d.Classes, func(a, b Class) int { return cmp.Compare(a.ID, b.ID) })
	at := make(map[int]int, len(r.d.Classes))
	byName := map[string]int{}
	kept := r.d.Classes[:0]
	for _, c := range r.d.Classes {
		k, ok := byName[c.Name]
		if !ok {
			k = len(kept)
			byName[c.Name] = k
			kept = append(kept, c)
		}
		at[c.ID] = k
	}
	r.d.Classes = kept
	return at
}

// distribute gives the images their objects, in the file's order, and leaves
// out those of unknown images and classes.
func (r *cocoReader) distribute(class map[int]int) {
	counts := make([]int, len(r.d.Images))
	total := 0
	for c, chunk := range r.chunks {
		for i := range chunk {
			if k := r.image[r.refs[c][i]]; k >= 0 {
				if _, ok := class[chunk[i].Class]; ok {
					counts[k]++
					total++
				}
			}
		}
	}
	all := make([]Object, 0, total)
	for i, n := range counts {
		if n > 0 {
			r.d.Images[i].Objects = all[len(all) : len(all) : len(all)+n]
			all = all[:len(all)+n]
		}
	}
	var text map[int32]string
	for c, chunk := range r.chunks {
		for i := range chunk {
			o := &chunk[i]
			ref := r.refs[c][i]
			k := r.image[ref]
			if k < 0 {
				if text == nil {
					text = r.texts()
				}
				r.fault(Fault{Kind: OrphanAnnotation, Line: int(o.Line), Object: int(o.Index), Image: text[ref],
					Message: fmt.Sprintf("annotation %s belongs to image %s, which is not listed", idText(o.ID), text[ref]),
					Fix:     "list the image or remove the annotation; --fix leaves it out"})
				continue
			}
			im := &r.d.Images[k]
			id, ok := class[o.Class]
			if !ok {
				fix := "list the category or correct the id; --fix leaves the annotation out"
				if o.Class == 0 {
					fix = "category ids of this file do not start at 0; correct the id; --fix leaves the annotation out"
				}
				r.fault(Fault{Kind: UnknownClass, Line: int(o.Line), Object: int(o.Index), Image: im.ID, blocks: true,
					Message: fmt.Sprintf("annotation %s has category_id %d, which is not listed", idText(o.ID), o.Class), Fix: fix})
				continue
			}
			o.Class = id
			if o.ID == math.MinInt64 {
				r.maxID++
				o.ID = r.maxID
			}
			im.Objects = append(im.Objects, *o)
		}
		r.chunks[c], r.refs[c] = nil, nil
	}
}

func idText(id int64) string {
	if id == math.MinInt64 {
		return "without id"
	}
	return strconv.FormatInt(id, 10)
}

// texts returns the image ids as text by ref.
func (r *cocoReader) texts() map[int32]string {
	m := make(map[int32]string, len(r.image))
	for n, ref := range r.nums {
		m[ref] = strconv.FormatInt(n, 10)
	}
	for s, ref := range r.names {
		m[ref] = s
	}
	return m
}

// noteMissing notes keys that are absent throughout once, not per object.
func (r *cocoReader) noteMissing() {
	note := func(n int, f Fault, key, fix string) {
		if n == 0 {
			return
		}
		f.blocks, f.File, f.Count = false, r.s.name, n
		f.Message = fmt.Sprintf("%d of %d annotations have no %s", n, r.annotations, key)
		f.Fix = fix
		r.d.Faults = append(r.d.Faults, f)
	}
	r.firstNoA.Kind, r.firstNoI.Kind = BadArea, MissingID
	note(r.noArea, r.firstNoA, "area", "add it: results by size depend on it; --fix takes the box's")
	note(r.noID, r.firstNoI, "id", "number them; --fix does")
}
