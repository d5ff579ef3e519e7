package coco

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"resdet/internal/transform"
)

// PhotoMode says what becomes of the photos when a dataset is written.
type PhotoMode string

// The ways to bring photos along.
const (
	CopyPhotos PhotoMode = "copy"
	LinkPhotos PhotoMode = "link" // hard links where the file system can, otherwise copies
	NoPhotos   PhotoMode = "none"
)

// setWriter writes one split of a dataset into a folder, in its own names.
type setWriter struct {
	d       *Dataset
	dir     string
	split   string
	mode    PhotoMode
	upright []bool // photos to be written upright, without EXIF; may be nil
	step    func(done, total int)
	names   []string // of the photos in the written set
}

// name gives each photo a file name that no other has, nor another's stem:
// VOC and YOLO find the annotation by it.
func (w *setWriter) name() {
	used := make(map[string]bool, len(w.d.Images))
	w.names = make([]string, len(w.d.Images))
	for i := range w.d.Images {
		im := &w.d.Images[i]
		name := path.Base(slashed(im.File))
		if im.Path != "" {
			name = filepath.Base(im.Path)
		}
		ext, s := path.Ext(name), stem(name)
		if w.d.Format == FormatVOC {
			s = im.ID // which the splits list
		}
		if ext == "" {
			ext = ".jpg"
		}
		if s == "" || s == "." || s == ".." || used[strings.ToLower(s)] {
			s += "_" + strings.Map(func(r rune) rune {
				if r == '/' || r == '\\' || r == 0 {
					return '_'
				}
				return r
			}, im.ID)
			for base, k := s, 2; used[strings.ToLower(s)]; k++ {
				s = fmt.Sprintf("%s_%d", base, k)
			}
		}
		used[strings.ToLower(s)] = true // file systems of Windows and macOS take them for the same
		w.names[i] = s + ext
	}
}

// photos brings the photos into a folder, in parallel.
func (w *setWriter) photos(ctx context.Context, dir string) error {
	if w.mode == NoPhotos {
		return nil
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return fmt.Errorf("coco: %w", err)
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(min(runtime.GOMAXPROCS(0), 8))
	var done atomic.Int64
	for i := range w.d.Images {
		g.Go(func() error {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			src, dst := w.d.Images[i].Path, filepath.Join(dir, w.names[i])
			var err error
			switch {
			case src == "":
			case w.upright != nil && w.upright[i]:
				err = writeUpright(dst, src)
			case w.mode == LinkPhotos && os.Link(src, dst) == nil:
			default:
				err = copyFile(dst, src)
			}
			if err != nil {
				return fmt.Errorf("coco: photo %s: %w", src, err)
			}
			if k := int(done.Add(1)); w.step != nil {
				w.step(k, len(w.d.Images))
			}
			return nil
		})
	}
	return g.Wait()
}

// copyFile copies a file that must not be there yet.
func copyFile(dst, src string) (err error) {
	in, err := os.Open(src)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(dst, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	_, err = io.Copy(out, in)
	return err
}

// writeUpright writes a photo with its pixels turned as its EXIF says, and
// without EXIF.
func writeUpright(dst, src string) error {
	in, err := os.Open(src)
	if err != nil {
		return err
	}
	defer in.Close()
	img, err := transform.Decode(in, transform.DefaultLimits())
	if err != nil {
		return err
	}
	return transform.Save(dst, img)
}

// writeCOCO writes a JSON that must not be there yet.
func (w *setWriter) writeCOCO(file string, ids []string) (err error) {
	if err := os.MkdirAll(filepath.Dir(file), 0o777); err != nil {
		return fmt.Errorf("coco: %w", err)
	}
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return fmt.Errorf("coco: %w", err)
	}
	defer func() {
		if closed := f.Close(); err == nil && closed != nil {
			err = fmt.Errorf("coco: %w", closed)
		}
	}()
	return writeCOCO(f, w.d, ids, w.names)
}

// cocoIDs gives images ids for COCO's JSON: their own where they come from a
// JSON or are all numbers, leading zeros apart; otherwise 1, 2, 3 …
func cocoIDs(d *Dataset) (ids []string, renumbered bool) {
	ids = make([]string, len(d.Images))
	seen := make(map[string]bool, len(ids))
	for i := range d.Images {
		id := d.Images[i].ID
		if d.Format != FormatCOCO {
			id = trimZeros(id)
			if n, err := strconv.ParseInt(id, 10, 54); err != nil || n < 0 || seen[id] {
				for k := range ids {
					ids[k] = strconv.Itoa(k + 1)
				}
				return ids, true
			}
		}
		seen[id] = true
		ids[i] = id
	}
	return ids, false
}

// WriteCOCO writes a dataset as COCO's JSON. Flags that are not set are left
// out, except iscrowd. An image id that is not a number is written as a
// string.
func WriteCOCO(out io.Writer, d *Dataset) error {
	names := make([]string, len(d.Images))
	for i := range d.Images {
		names[i] = slashed(d.Images[i].File)
	}
	ids, _ := cocoIDs(d)
	return writeCOCO(out, d, ids, names)
}

func writeCOCO(out io.Writer, d *Dataset, ids, names []string) error {
	bw := bufio.NewWriterSize(out, 1<<16)
	b := []byte("{\"images\":[")
	flush := func() {
		bw.Write(b) // its error sticks, and Flush returns it
		b = b[:0]
	}
	for i := range d.Images {
		im := &d.Images[i]
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, "\n{\"id\":"...)
		b = appendID(b, ids[i])
		b = append(b, `,"file_name":`...)
		b = appendString(b, names[i])
		b = fmt.Appendf(b, `,"width":%d,"height":%d}`, im.Width, im.Height)
		flush()
	}
	b = append(b, "],\n\"annotations\":["...)
	first := true
	for i := range d.Images {
		for k := range d.Images[i].Objects {
			o := &d.Images[i].Objects[k]
			if !o.Box.Finite() || o.Class < 0 || o.Class >= len(d.Classes) {
				return fmt.Errorf("coco: image %s: object %d: class %d, box %v cannot be written", d.Images[i].ID, k, o.Class, o.Box)
			}
			if !first {
				b = append(b, ',')
			}
			first = false
			b = fmt.Appendf(b, "\n{\"id\":%d,\"image_id\":", o.ID)
			b = appendID(b, ids[i])
			b = fmt.Appendf(b, `,"category_id":%d,"bbox":[`, d.Classes[o.Class].ID)
			b = appendNumbers(b, o.Box.X, o.Box.Y, o.Box.W, o.Box.H)
			b = append(b, `],"area":`...)
			b = appendNumbers(b, o.Area)
			b = fmt.Appendf(b, `,"iscrowd":%d`, bit(o.Crowd))
			for _, f := range []struct {
				key string
				set bool
			}{{"ignore", o.Ignore}, {"difficult", o.Difficult}, {"truncated", o.Truncated}} {
				if f.set {
					b = fmt.Appendf(b, `,"%s":1`, f.key)
				}
			}
			b = append(b, '}')
			flush()
		}
	}
	b = append(b, "],\n\"categories\":["...)
	for i, c := range d.Classes {
		if i > 0 {
			b = append(b, ',')
		}
		b = fmt.Appendf(b, "\n{\"id\":%d,\"name\":", c.ID)
		b = appendString(b, c.Name)
		if c.Supercategory != "" {
			b = append(b, `,"supercategory":`...)
			b = appendString(b, c.Supercategory)
		}
		b = append(b, '}')
	}
	b = append(b, "]}\n"...)
	flush()
	if err := bw.Flush(); err != nil {
		return fmt.Errorf("coco: %w", err)
	}
	return nil
}

// writeVOC writes Annotations and, for a split, its list. Images for which
// verbatim is true keep their XML as it is.
func (w *setWriter) writeVOC(ctx context.Context, verbatim func(i int) bool) error {
	xmlDir := filepath.Join(w.dir, "Annotations")
	if err := os.MkdirAll(xmlDir, 0o777); err != nil {
		return fmt.Errorf("coco: %w", err)
	}
	var list strings.Builder
	for i := range w.d.Images {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		im := w.d.Images[i]
		s := stem(w.names[i])
		file := filepath.Join(xmlDir, s+".xml")
		fmt.Fprintln(&list, s)
		if exists(file) {
			return fmt.Errorf("coco: %s is already there", file)
		}
		if verbatim != nil && verbatim(i) {
			if err := copyFile(file, im.Annotation); err != nil {
				return fmt.Errorf("coco: %w", err)
			}
			continue
		}
		im.File = w.names[i]
		if err := WriteVOCFile(file, im, w.d.Classes); err != nil {
			return err
		}
	}
	if w.split == "" {
		return nil
	}
	return writeNew(filepath.Join(w.dir, "ImageSets", "Main", w.split+".txt"), list.String())
}

// writeNew writes a file that must not be there yet, and makes its folder.
func writeNew(file, text string) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o777); err != nil {
		return fmt.Errorf("coco: %w", err)
	}
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return fmt.Errorf("coco: %w", err)
	}
	_, err = f.WriteString(text)
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("coco: %w", err)
	}
	return nil
}

// writeYOLO writes the label files of a split.
func (w *setWriter) writeYOLO(ctx context.Context) error {
	dir := filepath.Join(w.dir, "labels", w.split)
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return fmt.Errorf("coco: %w", err)
	}
	var b []byte
	for i := range w.d.Images {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		im := &w.d.Images[i]
		b = b[:0]
		for k := range im.Objects {
			o := &im.Objects[k]
			if o.Crowd {
				continue // a region of many is no object; Ultralytics' converter leaves it out, too
			}
			if im.Width <= 0 || im.Height <= 0 || !o.Box.Finite() {
				return fmt.Errorf("coco: image %s: object %d: without the image's size YOLO's fractions cannot be written", im.ID, k)
			}
			width, height := float64(im.Width), float64(im.Height)
			b = strconv.AppendInt(b, int64(o.Class), 10)
			for _, v := range [4]float64{(o.Box.X + o.Box.W/2) / width, (o.Box.Y + o.Box.H/2) / height, o.Box.W / width, o.Box.H / height} {
				b = append(b, ' ')
				b = strconv.AppendFloat(b, v, 'f', -1, 64)
			}
			b = append(b, '\n')
		}
		if err := writeNew(filepath.Join(dir, stem(w.names[i])+".txt"), string(b)); err != nil {
			return err
		}
	}
	return nil
}

// writeYAML writes data.yaml for the splits given and those that are already
// in it.
func writeYAML(file string, classes []Class, splits []string) error {
	have := map[string]string{}
	for _, s := range splits {
		have[s] = "images/" + s
	}
	if exists(file) {
		old, err := readYOLOData(file, "")
		if err != nil {
			return err
		}
		if !slices.EqualFunc(old.names, classes, func(n string, c Class) bool { return n == c.Name }) {
			return fmt.Errorf("coco: %s lists other classes (%s) than this set (%s)", file, some(old.names), someNames(classes))
		}
		for s, entries := range old.splits {
			if len(entries) != 1 || entries[0] != "images/"+s {
				return fmt.Errorf("coco: %s: split %s is %s, not images/%s: write into another folder", file, s, some(entries), s)
			}
			have[s] = entries[0]
		}
	}
	var b strings.Builder
	// Without path the folders are those beside this file. Ultralytics wants
	// both train and val.
	for _, s := range yoloSplits {
		if d := have[s]; d != "" {
			fmt.Fprintf(&b, "%s: %s\n", s, d)
		} else if s != "test" {
			fmt.Fprintf(&b, "%s: \n", s)
		}
	}
	fmt.Fprintf(&b, "nc: %d\nnames:\n", len(classes))
	for i, c := range classes {
		fmt.Fprintf(&b, "  %d: %s\n", i, strconv.Quote(c.Name))
	}
	if err := os.WriteFile(file, []byte(b.String()), 0o666); err != nil {
		return fmt.Errorf("coco: %w", err)
	}
	return nil
}

// yoloSplit is the one of YOLO's three splits that a name means.
func yoloSplit(name string) string {
	switch {
	case strings.Contains(name, "trainval"):
		return "train"
	case strings.Contains(name, "val"):
		return "val"
	case strings.Contains(name, "test"):
		return "test"
	}
	return "train"
}

// splitName is what a written split is called where nobody says: as the
// source's.
func splitName(d *Dataset) string {
	if s := d.split(); s != "" {
		return s
	}
	if d.Format == FormatCOCO {
		if _, s, ok := strings.Cut(stem(d.Path), "_"); ok && s != "" {
			return s
		}
	}
	return "train"
}

// split is the split that all images have, or "".
func (d *Dataset) split() string {
	for i := range d.Images {
		if d.Images[i].Split != d.Images[0].Split {
			return ""
		}
	}
	if len(d.Images) == 0 {
		return ""
	}
	return d.Images[0].Split
}
