package coco

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// strangers finds files that belong to nothing: photos that no annotation
// describes, YOLO's labels without a photo.
func (c *checker) strangers() {
	if c.spec.Every > 0 || c.spec.NotEvery > 0 || c.spec.First > 0 || c.d.Photos == "" {
		return // the others are there on purpose
	}
	if c.d.Format == FormatYOLO {
		c.yoloStrangers()
		return
	}
	used := map[string]bool{}
	dirs := map[string]bool{}
	for i := range c.d.Images {
		if p := c.d.Images[i].Path; p != "" {
			used[filepath.Clean(p)] = true
			dirs[filepath.Dir(filepath.Clean(p))] = true
		}
	}
	what, fix := "no image entry of the JSON names this photo", "annotate it, if only as an image without objects, or remove it; --fix leaves it out"
	annotated := func(string) bool { return false }
	if c.d.Format == FormatVOC {
		// The XML of other splits count, too.
		what = "there is no XML for this photo"
		xml := map[string]bool{}
		entries, _ := os.ReadDir(c.layout.annotations)
		for _, e := range entries {
			if strings.EqualFold(path.Ext(e.Name()), ".xml") {
				xml[stem(e.Name())] = true
			}
		}
		annotated = func(name string) bool { return xml[stem(name)] }
		dirs = map[string]bool{filepath.Clean(c.d.Photos): true}
	}
	var left []string
	c.photosIn(dirs, func(p string) {
		if !used[p] && !annotated(filepath.Base(p)) {
			left = append(left, p)
		}
	})
	if c.d.Format == FormatCOCO && len(left) > 0 {
		others := c.otherJSON()
		left = slices.DeleteFunc(left, func(p string) bool { return others[filepath.Base(p)] })
	}
	for _, p := range left {
		c.faults = append(c.faults, Fault{Kind: ImageUnannotated, File: p, Object: -1, Count: 1, Message: what, Fix: fix})
	}
}

// otherJSON returns the photos that the other JSON files beside this one list:
// train.json and val.json often share a folder of photos.
func (c *checker) otherJSON() map[string]bool {
	out := map[string]bool{}
	files, _ := filepath.Glob(filepath.Join(escapeGlob(filepath.Dir(c.d.Path)), "*.json"))
	for _, f := range files {
		if filepath.Clean(f) == filepath.Clean(c.d.Path) {
			continue
		}
		d, err := ReadCOCOFile(f)
		if err != nil {
			continue // captions, results, what not
		}
		for i := range d.Images {
			out[path.Base(slashed(d.Images[i].File))] = true
		}
	}
	return out
}

// photosIn calls f for the photos in folders.
func (c *checker) photosIn(dirs map[string]bool, f func(path string)) {
	for dir := range dirs {
		entries, err := os.ReadDir(dir)
		if err != nil {
			continue // a folder of missing photos, which are reported one by one
		}
		for _, e := range entries {
			if isPhoto(e.Name()) && !e.IsDir() {
				f(filepath.Join(dir, e.Name()))
			}
		}
	}
}

// yoloStrangers finds photos without a label file and label files without a
// photo.
func (c *checker) yoloStrangers() {
	dirs := map[string]string{} // of labels → of photos
	for i := range c.d.Images {
		im := &c.d.Images[i]
		dirs[filepath.Dir(im.Annotation)] = filepath.Dir(im.Path)
		if !exists(im.Annotation) && !c.gone[i] {
			c.changed[i] = true
			c.fault(ImageUnannotated, i, im.Path, "annotate it; if it has no objects, an empty label file says so; --fix writes one",
				"there is no %s for this photo; it is taken as one without objects", im.Annotation)
		}
	}
	for labels, photos := range dirs {
		find := newPhotoFinder(photos)
		entries, err := os.ReadDir(labels)
		if err != nil {
			continue // no labels at all, which is said of each photo
		}
		for _, e := range entries {
			name := e.Name()
			if path.Ext(name) != ".txt" || e.IsDir() || isLabelNote(name) || find.ofStem(stem(name)) != "" {
				continue
			}
			c.faults = append(c.faults, Fault{Kind: OrphanAnnotation, File: filepath.Join(labels, name), Object: -1, Count: 1,
				Message: fmt.Sprintf("labels without image: there is no photo %s in %s", stem(name), photos),
				Fix:     "put the photo there or remove the labels; --fix leaves them out"})
		}
	}
}

// maxSplit bounds a list of a split.
const maxSplit = 64 << 20

// lists looks through the lists of splits for images without an XML.
func (c *checker) lists() {
	if c.layout.sets == "" {
		return
	}
	find := newPhotoFinder(c.layout.annotations)
	for _, name := range splitNames(c.layout.sets) {
		file := filepath.Join(c.layout.sets, name+".txt")
		b, err := readBounded(file, maxSplit)
		if err != nil {
			c.faults = append(c.faults, Fault{Kind: BadAnnotation, File: file, Object: -1, Count: 1,
				Message: fmt.Sprintf("cannot be read: %v", err), Fix: "--fix leaves the list out"})
			continue
		}
		for _, e := range parseSplit(b) {
			if e.first > 0 {
				c.faults = append(c.faults, e.twice(file))
			} else if p, _ := find.named(e.stem + ".xml"); p == "" {
				c.faults = append(c.faults, Fault{Kind: ImageUnannotated, File: file, Line: e.line, Object: -1, Image: e.stem, Count: 1,
					Message: fmt.Sprintf("it lists %s, for which there is no XML", e.stem), Fix: "annotate it or take it off the list; --fix takes it off"})
			}
		}
	}
}
