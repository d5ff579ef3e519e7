package coco

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Spec is a dataset argument: what to read and which part of it.
//
//	coco:ANNOTATIONS.json[,images=DIR]
//	voc:DIR[,split=NAME][,images=DIR][,annotations=DIR]
//	yolo:DATA.yaml[,split=NAME][,within=DIR]
//
// and after each ,every=N or ,not-every=N or ,first=N.
type Spec struct {
	Format      Format
	Path        string
	Split       string // VOC: a file of ImageSets/Main; YOLO: train, val or test; empty: everything
	Images      string // folder of the photos, where it is not the format's own
	Annotations string // VOC: folder of the XML, where it is not the format's own
	// Within is for a YOLO set of a stranger: what its data.yaml names outside of
	// this folder is not read. The other formats cannot name such places.
	Within string

	// Of the images in byte order of file names: 0, N, 2N …; the others; the
	// first N of what is left. 0 is off.
	Every, NotEvery, First int

	// Classes overrides the classes of the data, by name and in this order;
	// objects of other classes are left out. It is a flag of its own on the
	// command line, not part of the argument.
	Classes []string
}

var reOption = regexp.MustCompile(`^[a-z][a-z-]*=`)

// ParseSpec reads a dataset argument. A comma within a path is fine as long as
// what follows does not look like an option.
func ParseSpec(arg string) (Spec, error) {
	var s Spec
	format, rest, ok := strings.Cut(arg, ":")
	s.Format = Format(format)
	switch s.Format {
	case FormatCOCO, FormatVOC, FormatYOLO:
	default:
		err := fmt.Errorf("coco: dataset %q: does not begin with a format (coco:, voc: or yolo:)", arg)
		if guess := guessFormat(arg); !ok && guess != "" {
			err = fmt.Errorf("%w (did you mean %s:%s?)", err, guess, arg)
		}
		return s, err
	}
	var parts []string
	for i, p := range strings.Split(rest, ",") {
		if i > 0 && !reOption.MatchString(p) {
			parts[len(parts)-1] += "," + p
		} else {
			parts = append(parts, p)
		}
	}
	if s.Path = parts[0]; s.Path == "" {
		return s, fmt.Errorf("coco: dataset %q: no path after the format (%s:)", arg, format)
	}
	seen := map[string]bool{}
	for _, p := range parts[1:] {
		key, value, _ := strings.Cut(p, "=")
		if seen[key] {
			return s, fmt.Errorf("coco: dataset %q: %s= is given twice", arg, key)
		}
		seen[key] = true
		if err := s.set(key, value); err != nil {
			return s, fmt.Errorf("coco: dataset %q: %w", arg, err)
		}
	}
	if s.Every > 0 && s.NotEvery > 0 {
		return s, fmt.Errorf("coco: dataset %q: every= and not-every= exclude each other", arg)
	}
	return s, nil
}

// options are the keys that each format knows, besides every, not-every, first.
var options = map[Format][]string{
	FormatCOCO: {"images"},
	FormatVOC:  {"split", "images", "annotations"},
	FormatYOLO: {"split", "within"},
}

func (s *Spec) set(key, value string) error {
	number := func(to *int) error {
		n, err := strconv.Atoi(value)
		if err != nil || n < 1 {
			return fmt.Errorf("%s=%s: not a whole number from 1", key, value)
		}
		*to = n
		return nil
	}
	switch key {
	case "every":
		return number(&s.Every)
	case "not-every":
		return number(&s.NotEvery)
	case "first":
		return number(&s.First)
	}
	if !slices.Contains(options[s.Format], key) {
		return fmt.Errorf("%s: has no option %q; it knows %s, every, not-every, first", s.Format, key, strings.Join(options[s.Format], ", "))
	}
	if value == "" {
		return fmt.Errorf("%s= is empty", key)
	}
	switch key {
	case "split":
		s.Split = value
	case "images":
		s.Images = value
	case "annotations":
		s.Annotations = value
	case "within":
		s.Within = value
	}
	return nil
}

// String returns the argument that ParseSpec reads as s; Classes are not in it.
func (s Spec) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s:%s", s.Format, s.Path)
	for _, o := range []struct{ key, value string }{{"split", s.Split}, {"images", s.Images}, {"annotations", s.Annotations}, {"within", s.Within}} {
		if o.value != "" {
			fmt.Fprintf(&b, ",%s=%s", o.key, o.value)
		}
	}
	for _, o := range []struct {
		key string
		n   int
	}{{"every", s.Every}, {"not-every", s.NotEvery}, {"first", s.First}} {
		if o.n != 0 {
			fmt.Fprintf(&b, ",%s=%d", o.key, o.n)
		}
	}
	return b.String()
}

// guessFormat looks at a path given without a format.
func guessFormat(path string) Format {
	switch ext := strings.ToLower(filepath.Ext(path)); {
	case ext == ".json":
		return FormatCOCO
	case ext == ".yaml" || ext == ".yml":
		return FormatYOLO
	}
	if st, err := os.Stat(path); err == nil && st.IsDir() {
		return FormatVOC
	}
	return ""
}

// Load reads the dataset that spec names. A set with faults that leave out
// objects or images it should have gives a [FaultError]; milder ones are in
// the result's Faults.
func Load(ctx context.Context, spec Spec) (*Dataset, error) {
	d, err := load(ctx, spec)
	if err != nil {
		return nil, err
	}
	var bad []Fault
	for _, f := range d.Faults {
		if f.blocks {
			bad = append(bad, f)
		}
	}
	if len(bad) > 0 {
		return nil, &FaultError{Dataset: spec.String(), Faults: bad}
	}
	return d, nil
}

// load is Load for those who want to see the faults.
func load(ctx context.Context, spec Spec) (d *Dataset, err error) {
	switch spec.Format {
	case FormatCOCO:
		d, err = loadCOCO(spec)
	case FormatVOC:
		d, err = loadVOC(ctx, spec)
	case FormatYOLO:
		d, err = loadYOLO(ctx, spec)
	default:
		err = fmt.Errorf("coco: unknown dataset format %q", spec.Format)
	}
	if err != nil {
		return nil, err
	}
	if err := d.take(spec); err != nil {
		return nil, err
	}
	if len(spec.Classes) > 0 {
		err = d.override(spec.Classes)
	}
	return d, err
}

// take keeps the part of the images that spec asks for.
func (d *Dataset) take(spec Spec) error {
	if spec.Every == 0 && spec.NotEvery == 0 && spec.First == 0 {
		return nil
	}
	slices.SortStableFunc(d.Images, func(a, b Image) int {
		return cmp.Or(strings.Compare(a.fileName(), b.fileName()), strings.Compare(a.ID, b.ID))
	})
	var kept []Image
	for i, im := range d.Images {
		if spec.Every > 0 && i%spec.Every != 0 || spec.NotEvery > 0 && i%spec.NotEvery == 0 {
			continue
		}
		if spec.First > 0 && len(kept) == spec.First {
			break
		}
		kept = append(kept, im)
	}
	if len(kept) == 0 {
		return fmt.Errorf("coco: dataset %s: none of its %d images is left", spec, len(d.Images))
	}
	ids := make(map[string]bool, len(kept))
	for _, im := range kept {
		ids[im.ID] = true
	}
	d.Images = kept
	// Faults of images that are not asked for are not asked for either.
	d.Faults = slices.DeleteFunc(d.Faults, func(f Fault) bool { return f.Image != "" && !ids[f.Image] })
	return nil
}

// fileName is what images are ordered by: the photo's name, or the id where
// the annotation names none.
func (im *Image) fileName() string { return cmp.Or(im.File, im.ID) }

// override replaces the classes of the data.
func (d *Dataset) override(names []string) error {
	for i, n := range names {
		if n == "" || slices.Contains(names[:i], n) {
			return fmt.Errorf("coco: classes %s: %q is empty or there twice", strings.Join(names, ","), n)
		}
	}
	classes := NamedClasses(names)
	at := classIndex(classes)
	index := make([]int, len(d.Classes))
	own := classIndex(d.Classes)
	for i, c := range d.Classes {
		k, ok := at[c.Name]
		if !ok {
			k = -1
		}
		index[i] = k
	}
	for i, c := range classes {
		if k, ok := own[c.Name]; ok && d.Format == FormatCOCO {
			classes[i] = d.Classes[k] // results are in the file's own ids
		}
	}
	none := true
	for i := range d.Images {
		im := &d.Images[i]
		kept := make([]Object, 0, len(im.Objects))
		for _, o := range im.Objects {
			if k := index[o.Class]; k >= 0 {
				o.Class = k
				kept = append(kept, o)
				none = false
			}
		}
		im.Objects = kept
	}
	if none && !slices.ContainsFunc(index, func(k int) bool { return k >= 0 }) {
		return fmt.Errorf("coco: %s: %w: the data has %s, asked for are %s", d.Path, ErrNoCommonClass, someNames(d.Classes), some(names))
	}
	d.Classes = classes
	return nil
}

// loadCOCO reads the JSON and finds the photos.
func loadCOCO(spec Spec) (*Dataset, error) {
	d, err := ReadCOCOFile(spec.Path)
	if err != nil {
		return nil, err
	}
	if spec.Images != "" {
		if d.Photos, err = folder(spec.Images, filepath.Dir(spec.Path)); err != nil {
			return nil, fmt.Errorf("coco: %s: images: %w", spec, err)
		}
	} else {
		d.Photos = guessPhotos(spec.Path, d.Images)
	}
	if d.Photos == "" {
		return d, nil
	}
	find := newPhotoFinder(d.Photos)
	for i := range d.Images {
		im := &d.Images[i]
		im.Path, _ = find.named(im.File)
		if im.Path == "" {
			im.Path = filepath.Join(d.Photos, filepath.FromSlash(slashed(im.File)))
		}
	}
	return d, nil
}

// guessPhotos looks for the photos of a COCO file where they usually lie:
// instances_val2017.json in annotations, beside it val2017; or images; or the
// JSON's own folder.
func guessPhotos(path string, images []Image) string {
	if len(images) == 0 {
		return ""
	}
	dir := filepath.Dir(path)
	name := stem(path)
	if _, split, ok := strings.Cut(name, "_"); ok {
		name = split
	}
	for _, c := range []string{
		filepath.Join(dir, "..", name), filepath.Join(dir, "..", "images", name), filepath.Join(dir, name), filepath.Join(dir, "images", name),
		filepath.Join(dir, "..", "images"), filepath.Join(dir, "images"), dir, filepath.Join(dir, ".."),
	} {
		st, err := os.Stat(c)
		if err != nil || !st.IsDir() {
			continue
		}
		find := newPhotoFinder(c)
		for _, k := range []int{0, len(images) / 2, len(images) - 1} {
			if p, _ := find.named(images[k].File); p != "" {
				return filepath.Clean(c)
			}
		}
	}
	return ""
}

// folder returns dir as given or, if that does not exist, within base.
func folder(dir, base string) (string, error) {
	for _, p := range []string{dir, filepath.Join(base, dir)} {
		if st, err := os.Stat(p); err == nil && st.IsDir() {
			return p, nil
		}
	}
	return "", fmt.Errorf("%s: no such folder", dir)
}

// exists reports whether a file or folder is there; an error other than that
// it is missing counts as there, and comes up when it is opened.
func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil || !errors.Is(err, os.ErrNotExist)
}
