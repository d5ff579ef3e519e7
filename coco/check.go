package coco

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"resdet/internal/transform"
)

// CheckConfig says what is checked.
type CheckConfig struct {
	// Spec names the dataset. Classes in it are those that may occur: objects
	// of other classes are faults.
	Spec Spec
	// SkipPhotos leaves the photos alone: only what the annotations say among
	// themselves is checked.
	SkipPhotos bool
	// Step is called from any goroutine after each photo; nil is fine.
	Step func(done, total int)
}

// Report is what [Check] found.
type Report struct {
	Dataset string `json:"dataset"` // the argument
	Format  Format `json:"format"`
	Images  int    `json:"images"`
	Empty   int    `json:"empty"` // images without objects
	Objects int    `json:"objects"`
	Classes int    `json:"classes"`
	// Counts says how many findings of each kind there are; a finding of the
	// whole set counts once for each object that has it.
	Counts map[Kind]int `json:"counts"`
	Faults []Fault      `json:"findings"` // by file, line and object

	repair repair
}

// repair is the dataset as --fix writes it.
type repair struct {
	d       *Dataset
	changed []bool // images whose annotation is not what the file says
	upright []bool // photos to be written upright, without EXIF
	layout  vocLayout
}

// Check looks for what ruins training and evaluation, decoding every photo
// once, in parallel. Faults are in the report; an error means that the dataset
// cannot be read at all. [Report.Fix] writes a repaired copy.
func Check(ctx context.Context, cfg CheckConfig) (*Report, error) {
	spec := cfg.Spec
	allowed := spec.Classes
	spec.Classes = nil
	d, err := load(ctx, spec)
	if err != nil {
		return nil, err
	}
	r := &Report{Dataset: spec.String(), Format: d.Format, Images: len(d.Images), Objects: d.Objects(), Classes: len(d.Classes), Counts: map[Kind]int{}}
	for i := range d.Images {
		if len(d.Images[i].Objects) == 0 {
			r.Empty++
		}
	}
	c := &checker{
		d: d, spec: spec, faults: slices.Clone(d.Faults), changed: make([]bool, len(d.Images)), upright: make([]bool, len(d.Images)),
		gone: make([]bool, len(d.Images)), photos: make([]photo, len(d.Images)),
	}
	if d.Format == FormatVOC {
		if c.layout, err = findVOC(spec); err != nil {
			return nil, err
		}
		if spec.Split == "" {
			c.lists()
		}
	}
	if !cfg.SkipPhotos {
		if err := c.decode(ctx, cfg.Step); err != nil {
			return nil, err
		}
	}
	c.markRead()
	c.conventions() // as drawn, before photos are turned or scaled
	c.sizes(cfg.SkipPhotos)
	c.classes(allowed)
	c.boxes()
	c.ids()
	c.duplicates()
	if !cfg.SkipPhotos {
		c.strangers()
	}
	r.finish(c)
	return r, nil
}

// checker goes through a dataset, notes what is wrong and puts it right in d.
type checker struct {
	d       *Dataset
	spec    Spec
	layout  vocLayout
	photos  []photo
	faults  []Fault
	changed []bool
	upright []bool
	gone    []bool // images that the repaired set does not have
}

// photo is what looking at an image's photo told.
type photo struct {
	head    imageHead
	err     error
	missing bool
	known   bool // head is valid
}

// fault notes a fault of an image as a whole.
func (c *checker) fault(kind Kind, i int, file, fix, format string, args ...any) {
	c.faults = append(c.faults, Fault{
		Kind: kind, File: file, Object: -1, Image: c.d.Images[i].ID, Count: 1, Message: fmt.Sprintf(format, args...), Fix: fix,
	})
}

// objectFault notes a fault of one object.
func (c *checker) objectFault(kind Kind, i int, o *Object, fix, format string, args ...any) {
	im := &c.d.Images[i]
	c.changed[i] = true
	c.faults = append(c.faults, Fault{
		Kind: kind, File: im.Annotation, Line: int(o.Line), Object: int(o.Index), Image: im.ID, Count: 1,
		Message: c.name(o) + ": " + fmt.Sprintf(format, args...), Fix: fix,
	})
}

// name says which object is meant.
func (c *checker) name(o *Object) string {
	if c.d.Format == FormatCOCO {
		return fmt.Sprintf("annotation %d (%s)", o.ID, c.d.Classes[o.Class].Name)
	}
	return c.d.Classes[o.Class].Name
}

// setFault notes a fault of the whole set once, at the first object that has
// it.
func (c *checker) setFault(kind Kind, first [2]int, count int, fix, format string, args ...any) {
	f := Fault{Kind: kind, File: c.d.Path, Object: -1, Count: count, Message: fmt.Sprintf(format, args...), Fix: fix}
	if first[1] >= 0 {
		im := &c.d.Images[first[0]]
		o := &im.Objects[first[1]]
		f.File, f.Line, f.Object, f.Image = im.Annotation, int(o.Line), int(o.Index), im.ID
	}
	c.faults = append(c.faults, f)
}

// decode reads every photo whole, as detection and training will.
func (c *checker) decode(ctx context.Context, step func(done, total int)) error {
	n := len(c.d.Images)
	var g errgroup.Group
	next := make(chan int)
	var done atomic.Int64
	// A photo may take transform's 768 MiB: no more than 8 at a time.
	for range min(runtime.GOMAXPROCS(0), 8) {
		g.Go(func() error {
			for i := range next {
				c.photos[i] = lookAt(c.d.Images[i].Path)
				if k := int(done.Add(1)); step != nil {
					step(k, n)
				}
			}
			return nil
		})
	}
	for i := range n {
		if ctx.Err() != nil {
			break
		}
		next <- i
	}
	close(next)
	g.Wait() // the workers return no error
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

func lookAt(path string) (p photo) {
	if path == "" {
		p.missing = true
		return p
	}
	f, err := os.Open(path)
	if err != nil {
		p.missing = errors.Is(err, os.ErrNotExist)
		p.err = err
		return p
	}
	defer f.Close()
	if p.head, p.err = readHead(path); p.err != nil {
		return p
	}
	img, err := transform.Decode(f, transform.DefaultLimits())
	if err != nil {
		p.err = err
		return p
	}
	size := img.Bounds().Size()
	p.head.width, p.head.height = size.X, size.Y
	p.known = true
	return p
}

// markRead marks the images whose readers left something out or put it right.
func (c *checker) markRead() {
	at := make(map[string]int, len(c.d.Images))
	for i := range c.d.Images {
		at[c.d.Images[i].ID] = i
	}
	for _, f := range c.d.Faults {
		if i, ok := at[f.Image]; ok && f.Image != "" {
			c.changed[i] = true
		}
	}
}

// sizes compares photos with what the annotations say of them.
func (c *checker) sizes(skip bool) {
	if c.d.Format == FormatYOLO {
		for i := range c.d.Images {
			c.gone[i] = c.d.Images[i].Width == 0 // its labels mean nothing; the reader has said so
		}
	}
	if skip {
		return
	}
	found := slices.ContainsFunc(c.photos, func(p photo) bool { return !p.missing })
	if !found && c.d.Format == FormatCOCO && c.spec.Images == "" && len(c.photos) > 0 {
		c.setFault(MissingImage, [2]int{0, -1}, len(c.photos), "name the folder of the photos with images=DIR, or check the annotations alone with --no-photos",
			"no photo of this set was found near its JSON, such as %s", c.d.Images[0].File)
		for i := range c.gone {
			c.gone[i] = true
		}
		return
	}
	for i := range c.d.Images {
		c.photo(i)
	}
}

func (c *checker) photo(i int) {
	im, p := &c.d.Images[i], &c.photos[i]
	shown := im.Path
	if shown == "" {
		shown = filepath.Join(c.d.Photos, filepath.FromSlash(slashed(im.File)))
	}
	switch {
	case p.missing:
		c.gone[i] = true
		if c.d.Format == FormatYOLO {
			return // the reader has said so
		}
		c.faults = append(c.faults, Fault{Kind: MissingImage, File: im.Annotation, Object: -1, Image: im.ID, Count: 1,
			Message: fmt.Sprintf("annotation without image: %s is not there", shown),
			Fix:     "put the photo there or remove the annotation; --fix leaves the image out"})
		return
	case p.err != nil:
		c.gone[i] = true
		if c.d.Format == FormatYOLO && im.Width == 0 {
			return // the reader has said so
		}
		kind := BadImage
		if errors.Is(p.err, errUnsupported) {
			kind = UnsupportedFormat
		}
		text := strings.TrimPrefix(p.err.Error(), "transform: ")
		c.fault(kind, i, shown, "replace the photo; --fix leaves the image out", "cannot be decoded: %s", text)
		return
	case c.d.Format == FormatYOLO:
		return // its sizes are the photos'
	}
	if base := filepath.Base(im.Path); c.inexact(im) {
		c.changed[i] = true
		c.faults = append(c.faults, Fault{Kind: FileName, File: im.Annotation, Object: -1, Image: im.ID, Count: 1,
			Message: fmt.Sprintf("the photo is named %q, but the file is %s", im.File, base),
			Fix:     fmt.Sprintf("name it %q; --fix does", base)})
		im.File = base
	}
	c.size(i)
}

// inexact reports whether the photo was found by another name than the
// annotation's.
func (c *checker) inexact(im *Image) bool {
	if filepath.Base(im.Path) == im.File {
		return false
	}
	rel, err := filepath.Rel(c.d.Photos, im.Path)
	return err != nil || filepath.ToSlash(rel) != im.File
}

// size compares the annotated size with the photo's.
func (c *checker) size(i int) {
	im, head := &c.d.Images[i], c.photos[i].head
	w, h := head.width, head.height
	if im.Width == 0 || im.Height == 0 {
		if c.d.Format == FormatCOCO {
			c.fault(SizeMissing, i, im.Annotation, "enter the photo's size; --fix does", "images: %s has no width and height", im.File)
		}
		im.Width, im.Height = w, h
		c.changed[i], c.upright[i] = true, head.orientation > 1
		return
	}
	sw, sh := head.stored()
	if head.orientation > 1 && c.turned(i, sw, sh) {
		return
	}
	if im.Width == w && im.Height == h {
		return
	}
	c.changed[i], c.upright[i] = true, head.orientation > 1 // what is corrected shall be beyond doubt
	fits := true
	for _, o := range im.Objects {
		b := o.Box
		fits = fits && b.X1() <= float64(im.Width)+slack && b.Y1() <= float64(im.Height)+slack
	}
	sx, sy := float64(w)/float64(im.Width), float64(h)/float64(im.Height)
	fix := "correct the size; --fix does, and leaves the boxes"
	// A photo scaled after it was annotated keeps its proportions, up to
	// rounding; then the boxes are in the old size.
	if scaled := max(sx, sy)/min(sx, sy) < 1.02 && fits; scaled && len(im.Objects) > 0 {
		fix = fmt.Sprintf("the photo seems to have been scaled by %.3g after it was annotated; --fix corrects the size and scales the boxes", sx)
		for k := range im.Objects {
			o := &im.Objects[k]
			o.Box = Box{o.Box.X * sx, o.Box.Y * sy, o.Box.W * sx, o.Box.H * sy}
			if c.d.Format == FormatVOC { // whole pixels
				o.Box = roundBox(o.Box)
			}
			o.Area *= sx * sy
		}
	} else if im.Width == h && im.Height == w {
		fix = "width and height are exchanged; --fix puts them right and leaves the boxes"
	}
	c.fault(SizeMismatch, i, im.Annotation, fix, "the annotation says %d×%d, but %s has %d×%d", im.Width, im.Height, filepath.Base(im.Path), w, h)
	im.Width, im.Height = w, h
}

// turned looks at a photo that EXIF turns and reports whether that explains
// the annotated size.
func (c *checker) turned(i, storedW, storedH int) bool {
	im, head := &c.d.Images[i], c.photos[i].head
	how := exifTurn[head.orientation]
	asStored := im.Width == storedW && im.Height == storedH
	asShown := im.Width == head.width && im.Height == head.height
	switch {
	case asStored && !asShown:
		c.fault(EXIFRotation, i, im.Path, "--fix writes the photo upright, without EXIF, and turns the boxes with it",
			"EXIF shows this photo %s, as %d×%d, but its %d boxes were drawn on the %d×%d pixels as stored", how, head.width, head.height, len(im.Objects), storedW, storedH)
		for k := range im.Objects {
			o := &im.Objects[k]
			o.Box = turnBox(o.Box, head.orientation, float64(storedW), float64(storedH))
		}
		im.Width, im.Height = head.width, head.height
	case asStored && asShown && len(im.Objects) > 0:
		c.fault(EXIFRotation, i, im.Path, "look at the photo with its boxes; --fix takes them as drawn on the upright photo and writes that without EXIF",
			"EXIF shows this photo %s, and its size does not tell whether its %d boxes were drawn before or after", how, len(im.Objects))
	default:
		return false
	}
	c.changed[i], c.upright[i] = true, true
	return true
}

var exifTurn = [9]string{2: "mirrored", 3: "turned by 180°", 4: "upside down and mirrored", 5: "on its side and mirrored", 6: "turned right by 90°", 7: "on its side and mirrored", 8: "turned left by 90°"}

// turnBox brings a box from the stored pixels (w × h) into the upright photo.
func turnBox(b Box, orientation int, w, h float64) Box {
	x0, y0, x1, y1 := b.X, b.Y, b.X1(), b.Y1()
	switch orientation {
	case 2:
		return BoxFromCorners(w-x1, y0, w-x0, y1)
	case 3:
		return BoxFromCorners(w-x1, h-y1, w-x0, h-y0)
	case 4:
		return BoxFromCorners(x0, h-y1, x1, h-y0)
	case 5:
		return BoxFromCorners(y0, x0, y1, x1)
	case 6:
		return BoxFromCorners(h-y1, x0, h-y0, x1)
	case 7:
		return BoxFromCorners(h-y1, w-x1, h-y0, w-x0)
	case 8:
		return BoxFromCorners(y0, w-x1, y1, w-x0)
	}
	return b
}

// finish leaves out what is gone and sorts the findings.
func (r *Report) finish(c *checker) {
	r.Faults = c.faults
	slices.SortStableFunc(r.Faults, func(a, b Fault) int {
		return cmp.Or(strings.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Object, b.Object))
	})
	for _, f := range r.Faults {
		r.Counts[f.Kind] += f.Count
	}
	kept := Dataset{Format: c.d.Format, Path: c.d.Path, Photos: c.d.Photos, Classes: c.d.Classes}
	for i, im := range c.d.Images {
		if !c.gone[i] {
			kept.Images = append(kept.Images, im)
			r.repair.changed = append(r.repair.changed, c.changed[i])
			r.repair.upright = append(r.repair.upright, c.upright[i])
		}
	}
	if r.Faults == nil {
		r.Faults = []Fault{} // [] in JSON, not null
	}
	r.repair.d, r.repair.layout = &kept, c.layout
}
