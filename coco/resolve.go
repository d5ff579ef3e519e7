package coco

import (
	"fmt"
	"slices"
	"strings"
)

// Detection is a detection of a dataset: image and class are indices.
type Detection struct {
	Image, Class int
	Box          Box // original pixels
	Score        float64
}

// Resolved are results in terms of a dataset.
type Resolved struct {
	Detections []Detection // in the results' order
	// What is not among Detections: results of images that the dataset does
	// not have (as is right when a part of it is evaluated), and of classes
	// that it does not have.
	OtherImages, OtherClasses int
}

// MismatchError means that no result belongs to the dataset.
type MismatchError struct {
	What string // what was compared
	hint string
}

func (e *MismatchError) Error() string { return "coco: " + e.What }

// Hint says what to look at.
func (e *MismatchError) Hint() string { return e.hint }

// Resolve finds each result's image and class in the dataset: images by id,
// number without leading zeros, file name or stem; classes by name where the
// results have names and by the dataset's ids where they do not. If there are
// results and not one belongs to the dataset, that is a [MismatchError] with
// examples from both sides.
func (d *Dataset) Resolve(results []Result) (Resolved, error) {
	index := d.NewIndex()
	images := map[string]int{}
	byName := d.names(results)
	byID := make(map[int]int, len(d.Classes))
	for i, c := range d.Classes {
		byID[c.ID] = i
	}
	out := Resolved{Detections: make([]Detection, 0, len(results))}
	knownImages, knownClasses := 0, 0
	last, lastID := -1, ""
	for i := range results {
		r := &results[i]
		if r.Image != lastID || i == 0 {
			k, ok := images[r.Image]
			if !ok {
				if k, ok = index.Find(r.Image); !ok {
					k = -1
				}
				images[r.Image] = k
			}
			last, lastID = k, r.Image
		}
		var class int
		var ok bool
		if r.Class != "" {
			class, ok = byName[r.Class]
		} else {
			class, ok = byID[r.ClassID]
		}
		if ok {
			knownClasses++
		}
		if last >= 0 {
			knownImages++
		}
		switch {
		case last < 0:
			out.OtherImages++
		case !ok:
			out.OtherClasses++
		default:
			out.Detections = append(out.Detections, Detection{Image: last, Class: class, Box: r.Box, Score: r.Score})
		}
	}
	if len(results) == 0 || len(out.Detections) > 0 {
		return out, nil
	}
	return out, d.mismatch(results, knownImages, knownClasses)
}

// names maps the class names of the results to the dataset's classes.
func (d *Dataset) names(results []Result) map[string]int {
	out := map[string]int{}
	var list []Class
	seen := map[string]bool{}
	for i := range results {
		if n := results[i].Class; n != "" && !seen[n] {
			seen[n] = true
			list = append(list, Class{Name: n})
		}
	}
	m, _ := MapClasses(list, d.Classes) // nothing in common is told by mismatch
	for i, k := range m.Index {
		if k >= 0 {
			out[list[i].Name] = k
		}
	}
	return out
}

// mismatch says why nothing belongs together.
func (d *Dataset) mismatch(results []Result, knownImages, knownClasses int) error {
	var theirs, ours, classes []string
	for i := range results {
		r := &results[i]
		theirs = addSome(theirs, r.Image)
		name := r.Class
		if name == "" {
			name = fmt.Sprintf("id %d", r.ClassID)
		}
		classes = addSome(classes, name)
	}
	for i := range d.Images {
		ours = addSome(ours, d.Images[i].ID)
	}
	own := make([]string, len(d.Classes))
	for i, c := range d.Classes {
		own[i] = fmt.Sprintf("%s (id %d)", c.Name, c.ID)
	}
	switch {
	case knownImages == 0:
		return &MismatchError{
			What: fmt.Sprintf("none of the %d detections is of an image of the dataset: they name %s …, the dataset has %s …", len(results), strings.Join(theirs, ", "), strings.Join(ours, ", ")),
			hint: "image_id must be the dataset's image id or the photo's name; these look like results of another set",
		}
	case knownClasses == 0:
		return &MismatchError{
			What: fmt.Sprintf("none of the %d detections is of a class of the dataset: they have %s, the dataset has %s", len(results), strings.Join(classes, ", "), some(own)),
			hint: "category_id must be the dataset's own id, not an index from 0",
		}
	}
	return &MismatchError{
		What: fmt.Sprintf("none of the %d detections has both an image and a class of the dataset", len(results)),
		hint: "these look like results of another set",
	}
}

// addSome collects up to five different names.
func addSome(list []string, s string) []string {
	if len(list) < 5 && !slices.Contains(list, s) {
		list = append(list, s)
	}
	return list
}

// Result returns a detection as files of results have it.
func (d *Dataset) Result(x Detection) Result {
	c := d.Classes[x.Class]
	return Result{Image: d.Images[x.Image].ID, Class: c.Name, ClassID: c.ID, Box: x.Box, Score: x.Score}
}
