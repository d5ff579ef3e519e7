package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"resdet"
	"resdet/coco"
	"resdet/internal/weights"
)

// headScores is the parameter whose rows are the classes of a head.
const headScores = "roi_heads.box_predictor.cls_score.bias"

// matchClasses matches a checkpoint with a network whose head may be for other
// classes than the file's: those that both know keep their rows, by name.
// fileClasses are the file's as the command line has them; nil: as the file
// says or, where the head fits in no other way, as its number of rows tells.
func matchClasses(c *weights.Checkpoint, f *weights.Family, cfg resdet.Config, fileClasses []resdet.Class) (*weights.Report, *classMapping, error) {
	report, err := match(c, f, cfg)
	if err != nil {
		return nil, nil, err
	}
	origin := "--file-classes"
	if fileClasses == nil {
		if fileClasses, origin, err = classesOfFile(c, report); err != nil {
			return nil, nil, err
		}
	}
	if fileClasses == nil || slices.EqualFunc(fileClasses, cfg.Classes, func(a, b resdet.Class) bool { return a.Name == b.Name }) {
		return report, nil, nil
	}
	names, err := coco.MapClasses(cocoClasses(cfg.Classes), cocoClasses(fileClasses))
	if err != nil { // no class in common: nothing of the head can be carried over
		return report, nil, nil
	}
	trained := cfg
	trained.Classes = fileClasses
	if err := trained.Validate(); err != nil {
		return nil, nil, err
	}
	base, err := match(c, f, trained)
	if err != nil {
		return nil, nil, err
	}
	wanted, err := cfg.Params()
	if err != nil {
		return nil, nil, err
	}
	report = base.Reclass(wanted, weights.ClassRows{From: names.Index, Have: len(fileClasses), BackgroundLast: cfg.ROI.BackgroundLast})
	return report, newClassMapping(cfg, fileClasses, names.Index, report, origin), nil
}

// match finds what the checkpoint has for the configuration's network.
func match(c *weights.Checkpoint, f *weights.Family, cfg resdet.Config) (*weights.Report, error) {
	wanted, err := cfg.Params()
	if err != nil {
		return nil, err
	}
	ids := make([]int, len(cfg.Classes))
	for i, class := range cfg.Classes {
		ids[i] = class.ID
	}
	return weights.Match(c, f, weights.Network{Params: wanted, IDs: ids, Ratios: len(cfg.RPN.Anchors.Ratios), BackgroundLast: cfg.ROI.BackgroundLast}), nil
}

// classesOfFile returns the classes that a checkpoint's head is for and how
// that is known; nil if it is not known, or if the head fits as it is.
func classesOfFile(c *weights.Checkpoint, report *weights.Report) ([]resdet.Class, string, error) {
	if text, err := c.Config(); err == nil {
		cfg, err := resdet.ParseConfig(text)
		if err != nil {
			return nil, "", fmt.Errorf("%s: %w", c.Name, err)
		}
		return cfg.Classes, "its configuration", nil
	}
	i := slices.IndexFunc(report.Rows, func(r weights.Row) bool { return r.Key == headScores })
	if i < 0 || report.Rows[i].Status != weights.Misshapen || len(report.Rows[i].Have) != 1 {
		return nil, "", nil
	}
	origin := fmt.Sprintf("its %d rows", report.Rows[i].Have[0])
	switch report.Rows[i].Have[0] {
	case 91, 81: // COCO's ids up to 90, or its 80 classes, and the background
		return classesOf(coco.COCOClasses()), origin, nil
	case 21:
		return classesOf(coco.VOCClasses()), origin, nil
	}
	return nil, "", nil
}

func cocoClasses(classes []resdet.Class) []coco.Class {
	out := make([]coco.Class, len(classes))
	for i, c := range classes {
		out[i] = coco.Class{Name: c.Name, ID: c.ID}
	}
	return out
}

// classMapping says what became of a head's classes.
type classMapping struct {
	Origin  string        `json:"origin"` // how the file's classes are known
	Classes []mappedClass `json:"classes"`
	LeftOut []string      `json:"left_out"` // the file's classes that the model does not want
}

// mappedClass is one row of the class scores; the four rows of the box deltas
// go with it.
type mappedClass struct {
	Class   string  `json:"class"`
	Row     int     `json:"row"`
	From    *string `json:"from"`     // the file's name; null: the row is new
	FromRow *int    `json:"from_row"` // of the file's array
}

const background = "(background)"

func newClassMapping(cfg resdet.Config, file []resdet.Class, index []int, report *weights.Report, origin string) *classMapping {
	m := &classMapping{Origin: origin, LeftOut: []string{}}
	rows := report.FileRows(headScores)
	used := make([]bool, len(file))
	add := func(class string, from *string) {
		row := mappedClass{Class: class, Row: len(m.Classes), From: from}
		if from != nil && row.Row < len(rows) {
			row.FromRow = &rows[row.Row]
		}
		m.Classes = append(m.Classes, row)
	}
	behind := background
	if !cfg.ROI.BackgroundLast {
		add(background, &behind)
	}
	for i, class := range cfg.Classes {
		if k := index[i]; k >= 0 {
			used[k] = true
			add(class.Name, &file[k].Name)
		} else {
			add(class.Name, nil)
		}
	}
	if cfg.ROI.BackgroundLast {
		add(background, &behind)
	}
	for k, class := range file {
		if !used[k] {
			m.LeftOut = append(m.LeftOut, class.Name)
		}
	}
	return m
}

// fresh returns the classes whose rows are new.
func (m *classMapping) fresh() []string {
	var names []string
	for _, c := range m.Classes {
		if c.From == nil {
			names = append(names, c.Class)
		}
	}
	return names
}

func (m *classMapping) write(w io.Writer) error {
	fmt.Fprintf(w, "\nThe file's classes are known by %s; rows of the head, by name:\n", m.Origin)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "ROW\tCLASS\tFILE\tROW\n")
	for _, c := range m.Classes {
		if c.From == nil {
			fmt.Fprintf(t, "%d\t%s\t(new)\t\n", c.Row, weights.Printable(c.Class))
			continue
		}
		name := weights.Printable(*c.From)
		if *c.From == c.Class {
			name = "="
		}
		fmt.Fprintf(t, "%d\t%s\t%s\t", c.Row, weights.Printable(c.Class), name)
		if c.FromRow != nil {
			fmt.Fprintf(t, "%d", *c.FromRow)
		}
		fmt.Fprintln(t)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if len(m.LeftOut) > 0 {
		fmt.Fprintf(w, "left out: %s\n", weights.Printable(strings.Join(m.LeftOut, ", ")))
	}
	return nil
}
