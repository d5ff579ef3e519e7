package coco

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/sync/errgroup"
)

// maxXML bounds one annotation file; VOC's largest has 30 kB.
const maxXML = 16 << 20

// vocLayout is where the parts of a VOC folder lie.
type vocLayout struct {
	root, annotations, photos, sets string // sets: ImageSets/Main, or ""
}

// findVOC finds the parts of a VOC folder: VOCdevkit, VOCdevkit/VOC2007, or a
// folder with XML in it, in Annotations or in annotations.
func findVOC(spec Spec) (vocLayout, error) {
	l := vocLayout{root: spec.Path}
	st, err := os.Stat(l.root)
	if err != nil {
		return l, fmt.Errorf("coco: %s: %w", spec, err)
	}
	if !st.IsDir() {
		return l, fmt.Errorf("coco: %s: %s is a file, not a folder with VOC's XML in it", spec, spec.Path)
	}
	if spec.Annotations != "" {
		if l.annotations, err = folder(spec.Annotations, l.root); err != nil {
			return l, fmt.Errorf("coco: %s: annotations: %w", spec, err)
		}
	} else if l.annotations, err = findXML(&l); err != nil {
		return l, fmt.Errorf("coco: %s: %w", spec, err)
	}
	if spec.Images != "" {
		if l.photos, err = folder(spec.Images, l.root); err != nil {
			return l, fmt.Errorf("coco: %s: images: %w", spec, err)
		}
	} else {
		l.photos = l.annotations // photos beside the XML
		for _, n := range []string{"JPEGImages", "images"} {
			if p := filepath.Join(l.root, n); isDir(p) {
				l.photos = p
				break
			}
		}
	}
	for _, n := range []string{"ImageSets/Main", "ImageSets"} {
		if p := filepath.Join(l.root, filepath.FromSlash(n)); isDir(p) {
			l.sets = p
			break
		}
	}
	return l, nil
}

// findXML finds the folder of the XML and, in a devkit, the year's root.
func findXML(l *vocLayout) (string, error) {
	in := func(root string) string {
		for _, n := range []string{"Annotations", "annotations"} {
			if p := filepath.Join(root, n); isDir(p) {
				return p
			}
		}
		if m, _ := filepath.Glob(filepath.Join(escapeGlob(root), "*.[xX][mM][lL]")); len(m) > 0 {
			return root
		}
		return ""
	}
	if p := in(l.root); p != "" {
		return p, nil
	}
	years, _ := filepath.Glob(filepath.Join(escapeGlob(l.root), "VOC[0-9]*"))
	years = slices.DeleteFunc(years, func(y string) bool { return in(y) == "" })
	switch len(years) {
	case 1:
		l.root = years[0]
		return in(l.root), nil
	case 0:
		return "", fmt.Errorf("no XML in %s, nor in its folders Annotations, annotations and VOC2007", l.root)
	}
	return "", fmt.Errorf("%s holds %s: name one of them", l.root, some(years))
}

func isDir(p string) bool {
	st, err := os.Stat(p)
	return err == nil && st.IsDir()
}

var globMeta = strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`)

func escapeGlob(p string) string { return globMeta.Replace(p) }

// stems lists the images of the split, or every XML in byte order.
func (l vocLayout) stems(spec Spec) (stems []string, faults []Fault, err error) {
	if spec.Split == "" {
		entries, err := os.ReadDir(l.annotations)
		if err != nil {
			return nil, nil, fmt.Errorf("coco: %w", err)
		}
		for _, e := range entries {
			n := e.Name()
			if strings.EqualFold(path.Ext(n), ".xml") && !strings.HasPrefix(n, ".") && !e.IsDir() {
				stems = append(stems, strings.TrimSuffix(n, path.Ext(n)))
			}
		}
		if len(stems) == 0 {
			return nil, nil, fmt.Errorf("coco: %s: no XML in %s", spec, l.annotations)
		}
		return stems, nil, nil
	}
	if l.sets == "" {
		return nil, nil, fmt.Errorf("coco: %s: no ImageSets/Main in %s; without split= every XML is taken", spec, l.root)
	}
	file := filepath.Join(l.sets, spec.Split+".txt")
	b, err := readBounded(file, maxSplit)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil, fmt.Errorf("coco: %s: no split %q in %s; there are %s", spec, spec.Split, l.sets, some(splitNames(l.sets)))
	}
	if err != nil {
		return nil, nil, fmt.Errorf("coco: %w", err)
	}
	for _, e := range parseSplit(b) {
		if e.first > 0 {
			faults = append(faults, e.twice(file))
			continue
		}
		stems = append(stems, e.stem)
	}
	if len(stems) == 0 {
		return nil, nil, fmt.Errorf("coco: %s: %s is empty", spec, file)
	}
	return stems, faults, nil
}

// splitEntry is a line of a split.
type splitEntry struct {
	stem  string
	text  string // the line as it is
	line  int
	first int // the line that lists the stem first; 0 if this does
}

func (e splitEntry) twice(file string) Fault {
	return Fault{Kind: ImageTwice, File: file, Line: e.line, Object: -1, Image: e.stem, Count: 1,
		Message: fmt.Sprintf("%s is listed again (first in line %d)", e.stem, e.first), Fix: "remove the line; --fix does"}
}

// parseSplit reads a file of ImageSets/Main. CLASS_SPLIT.txt has a second
// column, −1, 0 or 1; some write paths or file names where the devkit has
// stems.
func parseSplit(b []byte) []splitEntry {
	var out []splitEntry
	seen := map[string]int{}
	line := 0
	for text := range strings.Lines(string(trimBOM(b))) {
		line++
		fields := strings.Fields(text)
		if len(fields) == 0 {
			continue
		}
		s := fields[0]
		if len(fields) > 2 || len(fields) == 2 && !isFlag(fields[1]) {
			s = strings.TrimSpace(text) // a name with spaces
		}
		s = path.Base(slashed(s))
		if e := strings.ToLower(path.Ext(s)); e == ".xml" || slices.Contains(photoExt, e) {
			s = strings.TrimSuffix(s, path.Ext(s))
		}
		out = append(out, splitEntry{stem: s, text: strings.TrimRight(text, "\r\n"), line: line, first: seen[s]})
		if seen[s] == 0 {
			seen[s] = line
		}
	}
	return out
}

func isFlag(s string) bool { return s == "1" || s == "-1" || s == "0" }

func splitNames(dir string) []string {
	m, _ := filepath.Glob(filepath.Join(escapeGlob(dir), "*.txt"))
	for i := range m {
		m[i] = stem(m[i])
	}
	return m
}

// loadVOC reads the XML files in parallel.
func loadVOC(ctx context.Context, spec Spec) (*Dataset, error) {
	l, err := findVOC(spec)
	if err != nil {
		return nil, err
	}
	stems, faults, err := l.stems(spec)
	if err != nil {
		return nil, err
	}
	files := make([]vocFile, len(stems))
	names := newPhotoFinder(l.annotations) // for upper-case extensions
	g, ctx := errgroup.WithContext(ctx)
	n := runtime.GOMAXPROCS(0)
	for w := range n {
		g.Go(func() error {
			for i := w; i < len(stems); i += n {
				if err := ctx.Err(); err != nil {
					return context.Cause(ctx)
				}
				files[i] = readVOCFile(filepath.Join(l.annotations, stems[i]+".xml"), names)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	d := &Dataset{Format: FormatVOC, Path: l.root, Photos: l.photos, Faults: faults}
	d.assembleVOC(l, spec.Split, stems, files)
	return d, nil
}

// vocFile is one XML as read; objects have the name of their class.
type vocFile struct {
	path          string
	filename      string
	width, height int
	objects       []vocObject
	faults        []Fault
	missing       bool
}

type vocObject struct {
	Object
	name string
}

// assembleVOC decides the classes and makes images of the files.
func (d *Dataset) assembleVOC(l vocLayout, split string, stems []string, files []vocFile) {
	found := map[string]bool{}
	for i := range files {
		for _, o := range files[i].objects {
			found[o.name] = true
		}
	}
	d.Classes = classesFound(found)
	at := classIndex(d.Classes)
	find := newPhotoFinder(l.photos)
	id := int64(0)
	for i, f := range files {
		im := Image{ID: stems[i], File: f.filename, Split: split, Annotation: f.path, Width: f.width, Height: f.height}
		im.Path, _ = find.named(f.filename)
		if im.Path == "" {
			im.Path = find.ofStem(stems[i])
		}
		if im.File == "" {
			im.File = path.Base(slashed(im.Path))
			if im.Path == "" {
				im.File = stems[i] + ".jpg"
			}
		}
		for k := range f.faults {
			f.faults[k].Image = stems[i]
		}
		d.Faults = append(d.Faults, f.faults...)
		if f.missing || slices.ContainsFunc(f.faults, func(x Fault) bool { return x.Kind == BadAnnotation }) {
			continue
		}
		if len(f.objects) > 0 {
			im.Objects = make([]Object, len(f.objects))
			for k, o := range f.objects {
				id++
				o.Object.ID, o.Object.Class = id, at[o.name]
				im.Objects[k] = o.Object
			}
		}
		d.Images = append(d.Images, im)
	}
	d.untangle(find)
}

// untangle gives XML files that were copied from another, and still have its
// filename, their own photos.
func (d *Dataset) untangle(find *photoFinder) {
	users := make(map[string]int, len(d.Images))
	for i := range d.Images {
		users[d.Images[i].Path]++
	}
	for i := range d.Images {
		im := &d.Images[i]
		if users[im.Path] < 2 || stem(im.Path) == im.ID {
			continue
		}
		own := find.ofStem(im.ID)
		if own == "" || own == im.Path {
			continue
		}
		d.Faults = append(d.Faults, Fault{Kind: FileName, File: im.Annotation, Object: -1, Image: im.ID, Count: 1,
			Message: fmt.Sprintf("it names %s, as another XML does, but beside it is %s", im.File, filepath.Base(own)),
			Fix:     fmt.Sprintf("name %s; --fix does", filepath.Base(own))})
		im.Path, im.File = own, filepath.Base(own)
	}
}

// readVOCFile reads one XML; what is wrong with it is in its faults.
func readVOCFile(file string, names *photoFinder) vocFile {
	f := vocFile{path: file}
	b, err := readBounded(file, maxXML)
	if errors.Is(err, os.ErrNotExist) {
		if p, _ := names.named(path.Base(file)); p != "" {
			f.path = p
			b, err = readBounded(p, maxXML)
		}
	}
	if err != nil {
		f.missing = true
		fault := Fault{Kind: BadAnnotation, File: file, Object: -1, Count: 1, blocks: true,
			Message: fmt.Sprintf("cannot be read: %v", err), Fix: "--fix leaves the image out"}
		if errors.Is(err, os.ErrNotExist) {
			fault.Kind = ImageUnannotated
			fault.Message = "the split lists this image, but there is no XML"
			fault.Fix = "annotate it or take it off the list; --fix takes it off"
		}
		f.faults = append(f.faults, fault)
		return f
	}
	f.parse(b)
	return f
}

// ParseVOC reads one VOC annotation from memory; name stands in errors.
// Corners become bbox [xmin−1, ymin−1, xmax−xmin+1, ymax−ymin+1]. Parts (head,
// hand, foot of a person) are not objects of their own and are left out. The
// image's ID is the file's stem; its objects' classes are indices in the
// returned names, which are in order of appearance.
func ParseVOC(r io.Reader, name string) (Image, []string, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxXML+1))
	if err != nil {
		return Image{}, nil, fmt.Errorf("coco: %s: %w", name, err)
	}
	if len(b) > maxXML {
		return Image{}, nil, &SyntaxError{File: name, Offset: -1, Msg: "more than 16 MiB"}
	}
	f := vocFile{path: name}
	f.parse(b)
	for _, fault := range f.faults {
		if fault.blocks {
			return Image{}, nil, &FaultError{Dataset: name, Faults: f.faults}
		}
	}
	im := Image{ID: stem(name), File: f.filename, Annotation: name, Width: f.width, Height: f.height}
	var classes []string
	for i, o := range f.objects {
		k := slices.Index(classes, o.name)
		if k < 0 {
			k = len(classes)
			classes = append(classes, o.name)
		}
		o.ID, o.Class = int64(i+1), k
		im.Objects = append(im.Objects, o.Object)
	}
	return im, classes, nil
}

func (f *vocFile) fault(kind Kind, line, object int, blocks bool, fix, format string, args ...any) {
	f.faults = append(f.faults, Fault{
		Kind: kind, File: f.path, Line: line, Object: object, Count: 1, blocks: blocks,
		Message: fmt.Sprintf(format, args...), Fix: fix,
	})
}

// rawObject is an object as the XML has it. Numbers are text: people write
// 12.0, and what else they write is reported with its place.
type rawObject struct {
	name, difficult, truncated string
	corner                     [4]string // xmin ymin xmax ymax
	box                        bool
	line                       int
}

var cornerName = [4]string{"xmin", "ymin", "xmax", "ymax"}

// parse reads the XML. It is lenient about what does not matter (encodings,
// bare ampersands in names) since such files are common.
func (f *vocFile) parse(b []byte) {
	b = trimBOM(b)
	dec := xml.NewDecoder(bytes.NewReader(b))
	dec.Strict = false
	dec.CharsetReader = latin1
	var (
		path          []string // of open elements
		text          []byte
		o             rawObject
		width, height string
		index         int
		root          bool
		sizeLine      int
	)
	for {
		tok, err := dec.RawToken()
		line, _ := dec.InputPos()
		if err == io.EOF {
			break
		}
		if err != nil && len(path) > 0 && int(dec.InputOffset()) >= len(b) {
			break // cut short
		}
		if err != nil {
			var syntax *xml.SyntaxError
			what := err.Error()
			if errors.As(err, &syntax) {
				what, line = syntax.Msg, syntax.Line
			}
			f.fault(BadAnnotation, line, -1, true, "correct the XML; --fix leaves the image out", "not well-formed XML: %s", what)
			return
		}
		switch t := tok.(type) {
		case xml.StartElement:
			path = append(path, t.Name.Local)
			text = text[:0]
			if len(path) > 64 {
				f.fault(BadAnnotation, line, -1, true, "--fix leaves the image out", "elements nested more than 64 deep")
				return
			}
			switch {
			case len(path) == 1:
				if root = t.Name.Local == "annotation"; !root {
					f.fault(BadAnnotation, line, -1, true, "--fix leaves the image out", "begins with <%s>, not <annotation>: not VOC's XML", t.Name.Local)
					return
				}
			case len(path) == 2 && t.Name.Local == "object":
				o = rawObject{line: line}
			case len(path) == 2 && t.Name.Local == "size":
				sizeLine = line
			case len(path) == 3 && path[1] == "object" && t.Name.Local == "bndbox":
				o.box = true
			}
		case xml.CharData:
			if len(text)+len(t) < 1<<16 {
				text = append(text, t...)
			}
		case xml.EndElement:
			if len(path) == 0 || path[len(path)-1] != t.Name.Local {
				f.fault(BadAnnotation, line, -1, true, "correct the XML; --fix leaves the image out", "</%s> closes nothing that is open", t.Name.Local)
				return
			}
			value := string(bytes.TrimSpace(text))
			switch name := t.Name.Local; {
			case len(path) == 2 && name == "filename":
				f.filename = value
			case len(path) == 3 && path[1] == "size":
				switch name {
				case "width":
					width = value
				case "height":
					height = value
				}
			case len(path) == 3 && path[1] == "object":
				switch name {
				case "name":
					o.name = value
					// Indented text is some tools' style; a stray space is not.
					if raw := string(text); raw != value && value != "" && !strings.Contains(raw, "\n") {
						f.faults = append(f.faults, spacingFault(f.path, line, index, raw))
					}
				case "difficult":
					o.difficult = value
				case "truncated":
					o.truncated = value
				}
			case len(path) == 4 && path[1] == "object" && path[2] == "bndbox":
				if k := slices.Index(cornerName[:], name); k >= 0 {
					o.corner[k] = value
				}
			case len(path) == 2 && name == "object":
				f.object(o, index)
				index++
			}
			path = path[:len(path)-1]
			text = text[:0]
		}
	}
	switch {
	case !root:
		f.fault(BadAnnotation, 0, -1, true, "--fix leaves the image out", "holds no <annotation>: empty or not XML")
	case len(path) > 0:
		f.fault(BadAnnotation, bytes.Count(b, []byte{'\n'})+1, -1, true, "restore the rest of the file; --fix leaves the image out", "ends inside <%s>: cut short", path[len(path)-1])
	default:
		f.size(width, height, sizeLine)
	}
}

// size reads width and height; what no image can have is 0: not said.
func (f *vocFile) size(width, height string, line int) {
	read := func(s string) int {
		v, err := strconv.ParseFloat(s, 64)
		if err != nil || !(v > 0 && v < math.MaxInt32) {
			return 0
		}
		return int(v)
	}
	if f.width, f.height = read(width), read(height); f.width == 0 || f.height == 0 {
		f.fault(SizeMissing, line, -1, false, "enter the photo's size; --fix does", "size is %q × %q", width, height)
		f.width, f.height = 0, 0
	}
}

// object reads one object's values.
func (f *vocFile) object(raw rawObject, index int) {
	const leave = "; --fix leaves the object out"
	if raw.name == "" {
		f.fault(ClassEmpty, raw.line, index, true, "enter the class"+leave, "the object has no name")
		return
	}
	if !raw.box {
		f.fault(BoxMissing, raw.line, index, true, "draw its box"+leave, "%s has no bndbox", raw.name)
		return
	}
	var c [4]float64
	for k, s := range raw.corner {
		v, err := strconv.ParseFloat(s, 64)
		switch {
		case s == "":
			f.fault(BoxMissing, raw.line, index, true, "complete the box"+leave, "%s has no %s in its bndbox", raw.name, cornerName[k])
			return
		case err != nil || math.IsNaN(v) || math.IsInf(v, 0):
			f.fault(BadValue, raw.line, index, true, "correct the number"+leave, "%s: %s is %q, not a finite number", raw.name, cornerName[k], clip([]byte(s)))
			return
		}
		c[k] = v
	}
	o := vocObject{name: raw.name}
	o.Box = BoxFromVOC(c[0], c[1], c[2], c[3])
	o.Area = o.Box.Area()
	o.Difficult, o.Truncated = isTrue(raw.difficult), isTrue(raw.truncated)
	o.Index, o.Line = int32(index), int32(raw.line)
	f.objects = append(f.objects, o)
}

// isTrue reads VOC's flags: 1, and what tools make of it. Truncated is
// sometimes a fraction.
func isTrue(s string) bool {
	v, err := strconv.ParseFloat(s, 64)
	return err == nil && v > 0 || strings.EqualFold(s, "true")
}

// latin1 reads what is declared as another encoding, and is not UTF-8 after
// all, byte by byte: names of classes are ASCII in practice, and no table of
// encodings is worth the rest.
func latin1(_ string, in io.Reader) (io.Reader, error) {
	b, err := io.ReadAll(in)
	if err != nil {
		return nil, err
	}
	if utf8.Valid(b) {
		return bytes.NewReader(b), nil // whatever it is declared as
	}
	runes := make([]rune, len(b))
	for i, c := range b {
		runes[i] = rune(c)
	}
	return strings.NewReader(string(runes)), nil
}

// trimBOM takes off the byte order mark that Windows' editors write.
func trimBOM(b []byte) []byte { return bytes.TrimPrefix(b, []byte("\xef\xbb\xbf")) }

// readBounded reads a file of at most limit bytes.
func readBounded(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil {
		return nil, err
	} else if st.IsDir() {
		return nil, fmt.Errorf("%s is a folder", path)
	} else if st.Size() > limit {
		return nil, fmt.Errorf("%s has %d bytes, more than the %d that are read", path, st.Size(), limit)
	}
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = fmt.Errorf("%s has more than the %d bytes that are read", path, limit)
	}
	return b, err
}
