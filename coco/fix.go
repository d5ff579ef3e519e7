package coco

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Fixed says what [Report.Fix] wrote.
type Fixed struct {
	Data    string   `json:"data"` // the argument under which it is read
	Images  int      `json:"images"`
	Objects int      `json:"objects"`
	Lost    []string `json:"lost,omitempty"` // what the source had and a rewritten file has not
}

// Fix writes a repaired copy of the dataset, photos included, into a folder
// that must be empty or not there, in the same format: what each finding says
// that --fix does. The source is not touched. A check of the copy finds
// nothing.
func (r *Report) Fix(ctx context.Context, dir string, mode PhotoMode, step func(done, total int)) (*Fixed, error) {
	d := r.repair.d
	if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
		return nil, fmt.Errorf("coco: %s is not empty: a repaired copy needs a folder of its own", dir)
	} else if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("coco: %w", err)
	}
	if len(d.Images) == 0 {
		return nil, fmt.Errorf("coco: %s: no image is left to write", r.Dataset)
	}
	if err := outside(dir, d); err != nil {
		return nil, err
	}
	w := &setWriter{d: d, dir: dir, mode: mode, upright: r.repair.upright, step: step}
	w.name()
	out := &Fixed{Images: len(d.Images), Objects: d.Objects()}
	switch d.Format {
	case FormatCOCO:
		file := filepath.Join(dir, "annotations", filepath.Base(d.Path))
		out.Data = Spec{Format: FormatCOCO, Path: file}.String()
		out.Lost = []string{"COCO's segmentations, licences and addresses, which are not read"}
		ids, _ := cocoIDs(d)
		if err := w.writeCOCO(file, ids); err != nil {
			return nil, err
		}
		return out, w.photos(ctx, filepath.Join(dir, "images"))
	case FormatVOC:
		return out, r.fixVOC(ctx, w, out)
	}
	return out, r.fixYOLO(ctx, w, out)
}

// outside makes sure that a folder does not lie among the photos of d where
// they are looked for in folders within folders.
func outside(dir string, d *Dataset) error {
	if d.Format != FormatYOLO {
		return nil // these look into one folder only
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return fmt.Errorf("coco: %w", err)
	}
	for i := range d.Images {
		in, err := filepath.Abs(filepath.Dir(d.Images[i].Path))
		if err == nil && (abs == in || strings.HasPrefix(abs, in+string(filepath.Separator))) {
			return fmt.Errorf("coco: %s lies among the photos of the source: name a folder beside it", dir)
		}
	}
	return nil
}

// fixVOC writes XML, as it was where nothing was wrong, and the lists of
// splits without what is gone.
func (r *Report) fixVOC(ctx context.Context, w *setWriter, out *Fixed) error {
	changed := r.repair.changed
	out.Data = Spec{Format: FormatVOC, Path: w.dir}.String()
	if slices.Contains(changed, true) {
		out.Lost = []string{"poses, parts and sources in the XML that was rewritten"}
	}
	verbatim := func(i int) bool {
		return !changed[i] && stem(w.names[i]) == w.d.Images[i].ID && w.names[i] == w.d.Images[i].File
	}
	if err := w.writeVOC(ctx, verbatim); err != nil {
		return err
	}
	renamed := make(map[string]string, len(w.names))
	for i, n := range w.names {
		renamed[w.d.Images[i].ID] = stem(n)
	}
	splits := []string{}
	if s := w.d.split(); s != "" {
		splits = append(splits, s)
		out.Data += ",split=" + s
	} else if r.repair.layout.sets != "" {
		splits = splitNames(r.repair.layout.sets)
	}
	for _, s := range splits {
		b, err := readBounded(filepath.Join(r.repair.layout.sets, s+".txt"), maxSplit)
		if err != nil {
			continue // reported, and left out
		}
		var list strings.Builder
		for _, e := range parseSplit(b) {
			name, ok := renamed[e.stem]
			if !ok || e.first > 0 {
				continue
			}
			if fields := strings.Fields(e.text); len(fields) == 2 && isFlag(fields[1]) {
				fmt.Fprintf(&list, "%s %2s\n", name, fields[1])
			} else {
				fmt.Fprintln(&list, name)
			}
		}
		if err := writeNew(filepath.Join(w.dir, "ImageSets", "Main", s+".txt"), list.String()); err != nil {
			return err
		}
	}
	return w.photos(ctx, filepath.Join(w.dir, "JPEGImages"))
}

// fixYOLO writes split by split.
func (r *Report) fixYOLO(ctx context.Context, w *setWriter, out *Fixed) error {
	file := filepath.Join(w.dir, "data.yaml")
	out.Data = Spec{Format: FormatYOLO, Path: file}.String()
	out.Lost = []string{"polygons: of each the box around it is left"}
	if err := os.MkdirAll(w.dir, 0o777); err != nil {
		return fmt.Errorf("coco: %w", err)
	}
	var splits []string
	for _, split := range yoloSplits {
		part := *w
		sub := Dataset{Format: w.d.Format, Path: w.d.Path, Classes: w.d.Classes}
		part.names, part.upright = nil, nil
		for i := range w.d.Images {
			if w.d.Images[i].Split == split {
				sub.Images = append(sub.Images, w.d.Images[i])
				part.names = append(part.names, w.names[i])
			}
		}
		if len(sub.Images) == 0 {
			continue
		}
		splits = append(splits, split)
		part.d, part.split = &sub, split
		if err := part.writeYOLO(ctx); err != nil {
			return err
		}
		if err := part.photos(ctx, filepath.Join(w.dir, "images", split)); err != nil {
			return err
		}
	}
	return writeYAML(file, w.d.Classes, splits)
}
