package eval

import (
	"fmt"
	"sort"
	"strings"
)

// Strays are detections that could not be added, because the data set does not
// have their image or class.
type Strays struct {
	UnknownImages, UnknownClasses int // detections
}

// AddStrays reports detections that could not be added; it replaces an earlier
// report. They are told in the settings, and in the diagnosis if nothing else
// is left.
func (e *Evaluator) AddStrays(s Strays) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.strays = s
}

// MismatchError says that detections and truths do not belong together, so
// that every figure would be 0 for a reason that has nothing to do with the
// detector.
type MismatchError struct {
	Found string // what is wrong
	Do    string // what to do about it
}

func (e *MismatchError) Error() string { return "eval: " + e.Found }

// Hint says what to do.
func (e *MismatchError) Hint() string { return e.Do }

// diagnose finds out why nothing matches. A detector that is merely bad gets
// no error: its AP is 0. One that ran here may find nothing at all, or only
// classes that the data set does not show, as those do that were trained for a
// few steps; in a results file that is a mistake.
func diagnose(cfg Config, images []*Image, strays Strays, ran bool) error {
	var dets, truths, hits int
	detClasses, truthClasses := make([]bool, len(cfg.Classes)), make([]bool, len(cfg.Classes))
	for _, img := range images {
		dets += len(img.Detections)
		truths += len(img.Truths)
		for i := range img.Detections {
			detClasses[img.Detections[i].Class] = true
		}
		for i := range img.Truths {
			truthClasses[img.Truths[i].Class] = true
		}
		for i := range img.rows {
			if img.rows[i].Truth >= 0 {
				hits++
			}
		}
	}
	lost := strays.UnknownImages + strays.UnknownClasses
	switch {
	case truths == 0:
		return &MismatchError{
			fmt.Sprintf("the data set has no objects in its %d images", len(images)),
			"check the annotations' path and split; AP is not defined without objects",
		}
	case dets == 0 && lost == 0 && ran:
		return nil
	case dets == 0 && lost == 0:
		return &MismatchError{
			fmt.Sprintf("there are no detections at all for %d images with %d objects", len(images), truths),
			"check the results file, the detector's score threshold and its classes",
		}
	case hits == 0 && strays.UnknownImages > 0 && strays.UnknownImages >= dets:
		return &MismatchError{
			fmt.Sprintf("%d of %d detections are on images that the data set does not have, and no other one matches an object", strays.UnknownImages, dets+lost),
			"the results seem to be of another data set or split; image_id must be the data set's own id (VOC: the file stem)",
		}
	case hits == 0 && strays.UnknownClasses > 0 && strays.UnknownClasses >= dets:
		return &MismatchError{
			fmt.Sprintf("%d of %d detections have classes that the data set does not have, and no other one matches an object; it has %s",
				strays.UnknownClasses, dets+lost, names(cfg.Classes, truthClasses)),
			"a class is named by the data set's own number (COCO 1…90, VOC 1…20), not by an index from 0",
		}
	}
	if hits > 0 {
		return otherReading(images, hits, truths)
	}
	common := false
	for k := range detClasses {
		common = common || detClasses[k] && truthClasses[k]
	}
	if !common && !ran {
		return &MismatchError{
			fmt.Sprintf("no class in common: detections are of %s, objects of %s", names(cfg.Classes, detClasses), names(cfg.Classes, truthClasses)),
			"check that category_id of the results and of the data set mean the same classes",
		}
	}
	return otherReading(images, 0, truths)
}

// names lists the classes that are set, at most five.
func names(classes []Class, set []bool) string {
	var out []string
	for k, yes := range set {
		if yes {
			out = append(out, fmt.Sprintf("%q", classes[k].Name))
		}
	}
	sort.Strings(out)
	if len(out) > 5 {
		out = append(out[:5], fmt.Sprintf("… (%d)", len(out)))
	}
	return strings.Join(out, " ")
}

// readings are other things that four numbers of a box may mean. fits tells
// whether a box can be meant so.
var readings = []struct {
	name string
	fits func(b Box) bool
	box  func(b Box) Box
}{
	{"corners x1 y1 x2 y2", func(b Box) bool { return b.W >= b.X && b.H >= b.Y }, func(b Box) Box { return Box{b.X, b.Y, b.W - b.X, b.H - b.Y} }},
	{"centre and size", func(b Box) bool { return b.X >= b.W/2-2 && b.Y >= b.H/2-2 }, func(b Box) Box { return Box{b.X - b.W/2, b.Y - b.H/2, b.W, b.H} }},
}

// otherReading returns an error if the detections' boxes find many more of the
// truths when read in another way; hits is how many match as they stand.
func otherReading(images []*Image, hits, truths int) error {
	var total, small int
	fits := make([]int, len(readings))
	for _, img := range images {
		for i := range img.Detections {
			b := img.Detections[i].Box
			total++
			if max(b.X, b.Y, b.W, b.H) <= 1 {
				small++
			}
			for k, r := range readings {
				if r.fits(b) {
					fits[k]++
				}
			}
		}
	}
	for k, r := range readings {
		if fits[k]*100 < total*99 { // too many boxes that cannot be meant so
			continue
		}
		found := foundWith(images, func(b Box) Box { return b })
		if other := foundWith(images, r.box); other > found && other >= 3*found && other*10 >= 3*truths {
			return &MismatchError{
				fmt.Sprintf("%d of %d objects are found by boxes read as [x, y, width, height], but %d would be if the boxes were %s", found, truths, other, r.name),
				"write boxes as [x, y, width, height] in pixels of the original image",
			}
		}
	}
	if hits == 0 && small == total {
		return &MismatchError{
			fmt.Sprintf("none of %d detections matches an object, and all their boxes lie within 1 × 1 pixel: they seem to be fractions of the image", total),
			"write boxes as [x, y, width, height] in pixels of the original image",
		}
	}
	return nil
}

// foundWith counts truths that a detection of their class overlaps by at least
// a half when its box is read by box.
func foundWith(images []*Image, box func(Box) Box) int {
	n := 0
	for _, img := range images {
		for j := range img.Truths {
			t := &img.Truths[j]
			for i := range img.Detections {
				d := &img.Detections[i]
				if t.Class == d.Class && !t.Crowd && overlap(box(d.Box), t.Box, false) >= 0.5 {
					n++
					break
				}
			}
		}
	}
	return n
}
