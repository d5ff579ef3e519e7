package fetch

import (
	"slices"
	"strings"
)

// Published is a file of weights with what must be known to make a model of it.
type Published struct {
	Name  string // what the command line calls it: "detectron2-r101-fpn-3x"
	Title string // what people do
	File

	Arch   string // the detector's architecture, or the one that a backbone is for first
	Family string // of package weights; "" is told by the file
	// Classes are "coco" or "voc"; "" of a backbone, whose detector is the user's.
	Classes string
	// Config changes the configuration where the family's does not say all: a
	// JSON object.
	Config string

	Page    string // where its owner publishes it
	License string
	Data    string // what it was trained on
	Metric  string // what Score is: "COCO box AP"
	Score   float64
	// Read lists where the address, the figures and the licence were read.
	Read []string
}

// Backbone reports whether the file is of a classifier.
func (p Published) Backbone() bool { return p.Classes == "" }

// Find returns the entry of that name.
func Find(name string) (Published, bool) {
	i := slices.IndexFunc(Table, func(p Published) bool { return p.Name == name })
	if i < 0 {
		return Published{}, false
	}
	return Table[i], true
}

// Near returns names that have something of the given one, best first.
func Near(name string) []string {
	type near struct {
		name  string
		parts int
	}
	var found []near
	for _, p := range Table {
		n := 0
		for _, part := range strings.FieldsFunc(strings.ToLower(name), func(r rune) bool { return strings.ContainsRune("-_. ", r) }) {
			if strings.Contains(p.Name, part) {
				n++
			}
		}
		if n > 0 {
			found = append(found, near{p.Name, n})
		}
	}
	slices.SortStableFunc(found, func(a, b near) int { return b.parts - a.parts })
	names := make([]string, min(len(found), 3))
	for i := range names {
		names[i] = found[i].name
	}
	return names
}
