package coco

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
	"golang.org/x/sync/errgroup"
)

const (
	maxYAML   = 1 << 20  // a data.yaml
	maxLabels = 64 << 20 // one label file, with polygons
)

// yoloData is a data.yaml (Ultralytics' dataset format).
type yoloData struct {
	file   string
	root   string              // "path", made absolute or relative to the working folder
	splits map[string][]string // train, val, test: folders or lists of images
	names  []string
	nc     int    // −1 where it is not given
	within string // nothing outside of it is read; "" allows everything
	faults []Fault
}

var yoloSplits = []string{"train", "val", "test"}

// readYOLOData reads a data.yaml; see [Spec] for within.
func readYOLOData(file, within string) (*yoloData, error) {
	b, err := readBounded(file, maxYAML)
	if err != nil {
		return nil, fmt.Errorf("coco: %w", err)
	}
	y, err := parseYOLOData(b, file)
	if err != nil {
		return nil, err
	}
	y.within = within
	base := filepath.Dir(file)
	isDir := func(p string) bool { return y.inside(p) && isDir(p) }
	switch {
	case y.root == "":
		y.root = base
	case filepath.IsAbs(y.root) && isDir(y.root):
	case isDir(filepath.Join(base, y.root)):
		y.root = filepath.Join(base, y.root)
	case isDir(y.root): // relative to the working folder, as Ultralytics has it
	default:
		y.root = base // a path of another machine
	}
	return y, nil
}

func parseYOLOData(b []byte, file string) (*yoloData, error) {
	var raw struct {
		Path  string `yaml:"path"`
		Train any    `yaml:"train"`
		Val   any    `yaml:"val"`
		Test  any    `yaml:"test"`
		NC    any    `yaml:"nc"`
		Names any    `yaml:"names"`
	}
	bad := func(format string, args ...any) (*yoloData, error) {
		return nil, &SyntaxError{File: file, Offset: -1, Msg: fmt.Sprintf(format, args...)}
	}
	if err := yaml.Unmarshal(trimBOM(b), &raw); err != nil {
		return bad("not a data.yaml: %v", err)
	}
	y := &yoloData{file: file, root: slashed(raw.Path), splits: map[string][]string{}, nc: -1}
	for i, v := range []any{raw.Train, raw.Val, raw.Test} {
		switch v := v.(type) {
		case nil:
		case string:
			if v != "" {
				y.splits[yoloSplits[i]] = []string{v}
			}
		case []any:
			for _, e := range v {
				s, ok := e.(string)
				if !ok {
					return bad("%s: %v is not a path", yoloSplits[i], e)
				}
				y.splits[yoloSplits[i]] = append(y.splits[yoloSplits[i]], s)
			}
		default:
			return bad("%s: %v is neither a path nor a list of paths", yoloSplits[i], v)
		}
	}
	switch v := raw.Names.(type) {
	case nil:
		return bad("no names: it must list the classes")
	case []any:
		for _, e := range v {
			y.names = append(y.names, fmt.Sprint(e))
		}
	case map[string]any:
		m := map[int]string{}
		for k, e := range v {
			i, err := strconv.Atoi(k)
			if err != nil || i < 0 || i >= 1<<16 {
				return bad("names: %q is not a class number", k)
			}
			m[i] = fmt.Sprint(e)
		}
		for i := range len(m) {
			n, ok := m[i]
			if !ok {
				return bad("names: %d classes, but none has the number %d", len(m), i)
			}
			y.names = append(y.names, n)
		}
	default:
		return bad("names: neither a list nor a map of numbers to names")
	}
	if len(y.names) == 0 || len(y.names) > 1<<16 {
		return bad("names: %d classes", len(y.names))
	}
	for i, n := range y.names {
		if t := strings.TrimSpace(n); t != n && t != "" {
			y.names[i] = t
			y.faults = append(y.faults, spacingFault(file, 0, i, n))
		}
		if strings.TrimSpace(n) == "" {
			y.names[i] = fmt.Sprintf("class %d", i)
			y.faults = append(y.faults, Fault{Kind: ClassEmpty, File: file, Object: i, Count: 1, blocks: true,
				Message: fmt.Sprintf("class %d has no name", i), Fix: fmt.Sprintf("name it; --fix calls it %q", y.names[i])})
		}
	}
	if raw.NC != nil {
		n, err := strconv.Atoi(fmt.Sprint(raw.NC))
		if err != nil {
			return bad("nc: %v is not a number", raw.NC)
		}
		if y.nc = n; n != len(y.names) {
			y.faults = append(y.faults, Fault{Kind: ClassCount, File: file, Object: -1, Count: 1,
				Message: fmt.Sprintf("nc is %d, but there are %d names", n, len(y.names)), Fix: "correct nc; --fix writes the number of names"})
		}
	}
	return y, nil
}

// yoloPhoto is a photo and the split that lists it.
type yoloPhoto struct{ path, split string }

// images lists the photos of the splits asked for, in byte order of paths.
func (y *yoloData) images(spec Spec) (paths []yoloPhoto, faults []Fault, err error) {
	splits := yoloSplits
	if spec.Split != "" {
		if len(y.splits[spec.Split]) == 0 {
			var have []string
			for _, s := range yoloSplits {
				if len(y.splits[s]) > 0 {
					have = append(have, s)
				}
			}
			return nil, nil, fmt.Errorf("coco: %s: no split %q in %s; there are %s", spec, spec.Split, y.file, some(have))
		}
		splits = []string{spec.Split}
	}
	seen := map[string]bool{}
	for _, split := range splits {
		for _, entry := range y.splits[split] {
			list, err := y.list(entry)
			if err != nil {
				return nil, nil, fmt.Errorf("coco: %s: %s: %w", y.file, split, err)
			}
			for _, p := range list {
				if seen[p] {
					faults = append(faults, Fault{Kind: ImageTwice, File: p, Object: -1, Image: stem(p), Count: 1,
						Message: fmt.Sprintf("listed again by %s", split), Fix: "list each photo once, in one split; --fix keeps the first"})
					continue
				}
				seen[p] = true
				paths = append(paths, yoloPhoto{p, split})
			}
		}
	}
	if len(paths) == 0 {
		return nil, nil, fmt.Errorf("coco: %s: no photos in the folders of %s", spec, y.file)
	}
	slices.SortFunc(paths, func(a, b yoloPhoto) int { return strings.Compare(a.path, b.path) })
	return paths, faults, nil
}

// list returns the photos that an entry of data.yaml means: those below a
// folder, or those in a text file.
func (y *yoloData) list(entry string) ([]string, error) {
	p := y.resolve(entry)
	if !y.inside(p) {
		return nil, fmt.Errorf("%s: %w", entry, errOutside)
	}
	st, err := os.Stat(p)
	if err != nil {
		return nil, fmt.Errorf("%s: no such folder or list (looked at %s)", entry, p)
	}
	var out []string
	if st.IsDir() {
		err := filepath.WalkDir(p, func(q string, e fs.DirEntry, err error) error {
			if err == nil && !e.IsDir() && isPhoto(e.Name()) {
				out = append(out, q)
			}
			return err
		})
		return out, err
	}
	b, err := readBounded(p, maxLabels)
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(trimBOM(b))) {
		q := slashed(strings.TrimSpace(line))
		if q == "" {
			continue
		}
		if !filepath.IsAbs(q) {
			q = filepath.Join(filepath.Dir(p), strings.TrimPrefix(q, "./"))
			if r := filepath.Join(y.root, strings.TrimSpace(slashed(line))); !exists(q) && exists(r) {
				q = r
			}
		}
		if !y.inside(q) {
			return nil, fmt.Errorf("%s: %s: %w", p, q, errOutside)
		}
		out = append(out, filepath.Clean(q))
	}
	return out, nil
}

var errOutside = errors.New("it is outside of the data set's folder")

// inside reports whether a path may be read.
func (y *yoloData) inside(p string) bool {
	if y.within == "" {
		return true
	}
	dir, err := filepath.Abs(y.within)
	if err == nil {
		p, err = filepath.Abs(p)
	}
	if err != nil {
		return false
	}
	rel, err := filepath.Rel(dir, p)
	return err == nil && filepath.IsLocal(rel)
}

// resolve finds an entry's place. Exports of Roboflow say ../train/images
// where train/images is meant.
func (y *yoloData) resolve(entry string) string {
	entry = slashed(entry)
	if filepath.IsAbs(entry) {
		return entry
	}
	p := filepath.Join(y.root, entry)
	if !y.inside(p) || !exists(p) {
		if q := filepath.Join(y.root, strings.TrimLeft(entry, "./")); exists(q) {
			return q
		}
	}
	return p
}

// labelPath is where the labels of a photo lie: the last folder called images
// in its path becomes labels, the extension .txt.
func labelPath(photo string) string {
	p := filepath.ToSlash(photo)
	if i := strings.LastIndex(p, "/images/"); i >= 0 {
		p = p[:i] + "/labels/" + p[i+len("/images/"):]
	} else if strings.HasPrefix(p, "images/") {
		p = "labels/" + p[len("images/"):]
	}
	return filepath.FromSlash(strings.TrimSuffix(p, path.Ext(p)) + ".txt")
}

// loadYOLO reads labels and the photos' headers, which alone know the size,
// in parallel.
func loadYOLO(ctx context.Context, spec Spec) (*Dataset, error) {
	y, err := readYOLOData(spec.Path, spec.Within)
	if err != nil {
		return nil, err
	}
	paths, faults, err := y.images(spec)
	if err != nil {
		return nil, err
	}
	d := &Dataset{Format: FormatYOLO, Path: spec.Path, Photos: y.root, Faults: append(y.faults, faults...)}
	d.Classes = classesOf(y.names, func(i int) int { return i + 1 })
	d.Images = make([]Image, len(paths))
	found := make([][]Fault, len(paths))
	g, ctx := errgroup.WithContext(ctx)
	n := runtime.GOMAXPROCS(0)
	for w := range n {
		g.Go(func() error {
			for i := w; i < len(paths); i += n {
				if ctx.Err() != nil {
					return context.Cause(ctx)
				}
				d.Images[i], found[i] = readYOLOImage(paths[i].path, len(y.names))
				d.Images[i].Split = paths[i].split
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	d.numberYOLO(y.root)
	if !slices.ContainsFunc(d.Images, func(im Image) bool { return exists(im.Annotation) }) {
		d.Faults = append(d.Faults, Fault{Kind: ImageUnannotated, File: spec.Path, Object: -1, Count: len(paths), blocks: true,
			Message: fmt.Sprintf("none of the %d photos has a label file; the first would be %s", len(paths), d.Images[0].Annotation),
			Fix:     "put the labels into folders called labels beside those called images"})
	}
	for i, fs := range found {
		for k := range fs {
			fs[k].Image = d.Images[i].ID
		}
		d.Faults = append(d.Faults, fs...)
	}
	return d, nil
}

// numberYOLO gives images and objects their ids: the stem, or where two
// photos share one the path below root.
func (d *Dataset) numberYOLO(root string) {
	count := map[string]int{}
	for i := range d.Images {
		count[stem(d.Images[i].Path)]++
	}
	id := int64(0)
	for i := range d.Images {
		im := &d.Images[i]
		if im.ID = stem(im.Path); count[im.ID] > 1 {
			if rel, err := filepath.Rel(root, im.Path); err == nil {
				rel = filepath.ToSlash(rel)
				im.ID = strings.TrimSuffix(rel, path.Ext(rel))
			}
		}
		for k := range im.Objects {
			id++
			im.Objects[k].ID = id
		}
	}
}

// readYOLOImage reads one photo's header and labels. A photo without a label
// file has no objects.
func readYOLOImage(photo string, classes int) (Image, []Fault) {
	im := Image{File: filepath.Base(photo), Path: photo, Annotation: labelPath(photo)}
	head, err := readHead(photo)
	if err != nil {
		fault := Fault{Kind: BadImage, File: photo, Object: -1, Count: 1, blocks: true,
			Message: fmt.Sprintf("cannot be decoded: %v", err), Fix: "replace the photo; --fix leaves it out"}
		switch {
		case errors.Is(err, os.ErrNotExist):
			fault.Kind, fault.Message = MissingImage, "listed, but not there"
			fault.Fix = "put the photo there or take it off the list; --fix leaves it out"
		case errors.Is(err, errUnsupported):
			fault.Kind = UnsupportedFormat
		}
		return im, []Fault{fault}
	}
	im.Width, im.Height = head.width, head.height
	b, err := readBounded(im.Annotation, maxLabels)
	if errors.Is(err, os.ErrNotExist) {
		return im, nil
	}
	if err != nil {
		return im, []Fault{{Kind: BadAnnotation, File: im.Annotation, Object: -1, Count: 1, blocks: true,
			Message: fmt.Sprintf("cannot be read: %v", err), Fix: "--fix leaves the image out"}}
	}
	var faults []Fault
	im.Objects, faults = parseYOLOLabels(b, im.Annotation, im.Width, im.Height, classes)
	return im, faults
}

// parseYOLOLabels reads rows of class, centre x, centre y, width, height in
// fractions of the image's size; rows with a polygon in place of the box
// (class x y x y x y …) become the box around it.
func parseYOLOLabels(b []byte, file string, width, height, classes int) (objects []Object, faults []Fault) {
	line, row := 0, -1
	w, h := float64(width), float64(height)
	var v []float64
	for text := range bytes.Lines(trimBOM(b)) {
		line++
		fields := bytes.Fields(text)
		if len(fields) == 0 {
			continue
		}
		row++
		bad := func(kind Kind, format string, args ...any) {
			faults = append(faults, Fault{Kind: kind, File: file, Line: line, Object: row, Count: 1, blocks: true,
				Message: fmt.Sprintf(format, args...), Fix: "correct the row; --fix leaves it out"})
		}
		polygon := len(fields) >= 7 && len(fields)%2 == 1
		if len(fields) != 5 && !polygon {
			what := "not class, x, y, width, height"
			if len(fields) == 6 {
				what += "; are these detections with a score?"
			}
			bad(BadAnnotation, "%d numbers, %s", len(fields), what)
			continue
		}
		v = v[:0]
		for _, f := range fields {
			x, ok := parseNumber(f)
			if !ok {
				bad(BadValue, "%q is not a number", clip(f))
				break
			}
			if math.IsNaN(x) || math.IsInf(x, 0) {
				bad(BadValue, "%s is not finite", f)
				break
			}
			v = append(v, x)
		}
		if len(v) != len(fields) {
			continue
		}
		if v[0] != math.Trunc(v[0]) || v[0] < 0 || v[0] >= float64(classes) {
			bad(UnknownClass, "class %s, but the %d classes are 0 to %d", fields[0], classes, classes-1)
			continue
		}
		o := Object{Class: int(v[0]), Index: int32(row), Line: int32(line)}
		if polygon {
			x0, y0, x1, y1 := v[1], v[2], v[1], v[2]
			for k := 3; k < len(v); k += 2 {
				x0, x1 = min(x0, v[k]), max(x1, v[k])
				y0, y1 = min(y0, v[k+1]), max(y1, v[k+1])
			}
			o.Box = BoxFromCorners(x0*w, y0*h, x1*w, y1*h)
		} else {
			o.Box = Box{(v[1] - v[3]/2) * w, (v[2] - v[4]/2) * h, v[3] * w, v[4] * h}
		}
		if !o.Box.Finite() {
			bad(BadValue, "the box is not finite")
			continue
		}
		o.Area = o.Box.Area()
		objects = append(objects, o)
	}
	return objects, faults
}
