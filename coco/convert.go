package coco

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// ConvertConfig says how a dataset is written in another format, or its own.
type ConvertConfig struct {
	To     Format
	Dir    string    // is made; may hold other splits of the same set
	Split  string    // empty: as the source's, or train
	Photos PhotoMode // empty: CopyPhotos
	// Step is called from any goroutine after each photo; nil is fine.
	Step func(done, total int)
}

// Conversion says what [Convert] wrote.
type Conversion struct {
	Data    string   `json:"data"` // the argument under which it is read
	Images  int      `json:"images"`
	Objects int      `json:"objects"` // written
	Photos  int      `json:"photos"`
	Lost    []string `json:"lost"` // what the format cannot hold, and what was done about it
}

// Convert writes a dataset:
//
//	coco: DIR/annotations/instances_SPLIT.json, photos in DIR/SPLIT
//	voc:  DIR/Annotations, JPEGImages, ImageSets/Main/SPLIT.txt
//	yolo: DIR/data.yaml, images/SPLIT, labels/SPLIT; SPLIT is train, val or test
//
// Nothing that is there is overwritten, except that data.yaml gains a split.
func Convert(ctx context.Context, d *Dataset, cfg ConvertConfig) (*Conversion, error) {
	if len(d.Images) == 0 {
		return nil, fmt.Errorf("coco: %s: no images to convert", d.Path)
	}
	split := cmp.Or(cfg.Split, splitName(d))
	if split != filepath.Base(split) || strings.ContainsAny(split, "\\,") || strings.HasPrefix(split, ".") {
		return nil, fmt.Errorf("coco: %q cannot be the name of a split", split)
	}
	out := &Conversion{Images: len(d.Images), Objects: d.Objects(), Lost: lost(d, cfg.To)}
	w := &setWriter{d: d, dir: cfg.Dir, split: split, mode: cmp.Or(cfg.Photos, CopyPhotos), step: cfg.Step}
	w.name()
	for i := range d.Images {
		if cfg.To == FormatYOLO {
			for _, o := range d.Images[i].Objects {
				out.Objects -= bit(o.Crowd) // left out
			}
		}
		out.Photos += bit(d.Images[i].Path != "" && w.mode != NoPhotos)
	}
	if out.Photos < out.Images && w.mode != NoPhotos {
		out.Lost = append(out.Lost, fmt.Sprintf("the photos of %d images, which were not found", out.Images-out.Photos))
	}
	var photos string
	var annotate func() error
	switch cfg.To {
	case FormatCOCO:
		file := filepath.Join(cfg.Dir, "annotations", "instances_"+split+".json")
		photos = filepath.Join(cfg.Dir, split)
		out.Data = Spec{Format: FormatCOCO, Path: file}.String()
		ids, renumbered := cocoIDs(d)
		if renumbered {
			out.Lost = append(out.Lost, "image ids: COCO wants numbers, so they are 1, 2, 3 …; file_name has the names")
		}
		annotate = func() error { return w.writeCOCO(file, ids) }
	case FormatVOC:
		photos = filepath.Join(cfg.Dir, "JPEGImages")
		out.Data = Spec{Format: FormatVOC, Path: cfg.Dir, Split: split}.String()
		annotate = func() error { return w.writeVOC(ctx, nil) }
	case FormatYOLO:
		if !slices.Contains(yoloSplits, split) {
			w.split = yoloSplit(split)
			out.Lost = append(out.Lost, fmt.Sprintf("the split's name %s: YOLO has train, val and test, so it is %s", split, w.split))
		}
		photos = filepath.Join(cfg.Dir, "images", w.split)
		file := filepath.Join(cfg.Dir, "data.yaml")
		out.Data = Spec{Format: FormatYOLO, Path: file, Split: w.split}.String()
		annotate = func() error {
			if exists(filepath.Join(cfg.Dir, "labels", w.split)) {
				return fmt.Errorf("coco: %s is already there", filepath.Join(cfg.Dir, "labels", w.split))
			}
			if err := os.MkdirAll(cfg.Dir, 0o777); err != nil {
				return fmt.Errorf("coco: %w", err)
			}
			if err := writeYAML(file, d.Classes, []string{w.split}); err != nil {
				return err
			}
			return w.writeYOLO(ctx)
		}
	default:
		return nil, fmt.Errorf("coco: cannot convert to %q; it must be coco, voc or yolo", cfg.To)
	}
	if err := annotate(); err != nil {
		return nil, err
	}
	if err := w.photos(ctx, photos); err != nil {
		return nil, err
	}
	return out, nil
}

// lost says what a format cannot hold of a dataset.
func lost(d *Dataset, to Format) []string {
	var crowd, ignore, difficult, truncated, areas, numbers, fractions int
	for i := range d.Images {
		im := &d.Images[i]
		numbers += bit(trimZeros(stem(im.File)) != trimZeros(im.ID))
		for k := range im.Objects {
			o := &im.Objects[k]
			crowd += bit(o.Crowd)
			ignore += bit(o.Ignore)
			difficult += bit(o.Difficult)
			truncated += bit(o.Truncated)
			areas += bit(o.Area != o.Box.Area())
			fractions += bit(o.Box.X != float64(int64(o.Box.X)) || o.Box.Y != float64(int64(o.Box.Y)) || o.Box.W != float64(int64(o.Box.W)) || o.Box.H != float64(int64(o.Box.H)))
		}
	}
	out := []string{}
	say := func(n int, format string) {
		if n > 0 {
			out = append(out, fmt.Sprintf(format, n))
		}
	}
	switch d.Format {
	case FormatCOCO:
		out = append(out, "COCO's segmentations, licences and addresses, which are not read")
	case FormatVOC:
		out = append(out, "VOC's poses, parts and sources, which are not read")
	case FormatYOLO:
		out = append(out, "polygons, of each of which the box around it is left")
	}
	if to == FormatCOCO {
		return out
	}
	say(areas, "the areas of %d segments: the boxes' stand for them")
	say(ignore, "the ignore flags of %d objects")
	if to == FormatVOC {
		say(crowd, "%d crowds: they are difficult objects now")
		say(numbers, "the ids of %d images: VOC has file names only")
		say(fractions, "nothing of the fractions of pixels in %d boxes, but other programs may round them")
		if slices.ContainsFunc(d.Classes, func(c Class) bool { return !slices.Contains(vocNames, c.Name) }) {
			out = append(out, "the class ids and classes without objects: VOC has names only")
		}
		return out
	}
	say(crowd, "%d crowds: they are left out")
	say(difficult, "the difficult flags of %d objects: they are ordinary now")
	say(truncated, "the truncated flags of %d objects")
	if d.Format == FormatCOCO {
		out = append(out, "image, annotation and category ids: YOLO has file names and numbers from 0")
	}
	return out
}
