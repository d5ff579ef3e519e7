package coco

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
)

// vocNames are VOC's twenty classes in the order of the devkit, which is the
// byte order (VOCdevkit 2007, VOCinit.m).
var vocNames = []string{
	"aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
	"diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
}

// cocoNames are the 80 classes of COCO's instances files by category id; the
// empty ones are ids that were never used (instances_val2017.json).
var cocoNames = [91]string{
	1: "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light",
	11: "fire hydrant", 13: "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow",
	22: "elephant", "bear", "zebra", "giraffe", 27: "backpack", "umbrella", 31: "handbag", "tie", "suitcase",
	34: "frisbee", "skis", "snowboard", "sports ball", "kite", "baseball bat", "baseball glove", "skateboard",
	42: "surfboard", "tennis racket", "bottle", 46: "wine glass", "cup", "fork", "knife", "spoon", "bowl",
	52: "banana", "apple", "sandwich", "orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake",
	62: "chair", "couch", "potted plant", "bed", 67: "dining table", 70: "toilet", 72: "tv", "laptop", "mouse",
	75: "remote", "keyboard", "cell phone", "microwave", "oven", "toaster", "sink", "refrigerator",
	84: "book", "clock", "vase", "scissors", "teddy bear", "hair drier", "toothbrush",
}

// synonyms are the classes that VOC and COCO name differently: VOC's name to
// COCO's.
var synonyms = map[string]string{
	"aeroplane": "airplane", "diningtable": "dining table", "motorbike": "motorcycle",
	"pottedplant": "potted plant", "sofa": "couch", "tvmonitor": "tv",
}

// VOCClasses returns VOC's twenty classes with their ids 1…20.
func VOCClasses() []Class {
	out := make([]Class, len(vocNames))
	for i, n := range vocNames {
		out[i] = Class{Name: n, ID: i + 1}
	}
	return out
}

// COCOClasses returns COCO's eighty classes with their ids 1…90.
func COCOClasses() []Class {
	out := make([]Class, 0, 80)
	for id, n := range cocoNames {
		if n != "" {
			out = append(out, Class{Name: n, ID: id})
		}
	}
	return out
}

// NamedClasses gives a list of names their ids: VOC's or COCO's where every
// name is one of theirs, otherwise index + 1.
func NamedClasses(names []string) []Class {
	ids := make([]int, len(names))
	for _, table := range [][]Class{VOCClasses(), COCOClasses()} {
		all := true
		for i, n := range names {
			k := slices.IndexFunc(table, func(c Class) bool { return c.Name == n })
			if k < 0 {
				all = false
				break
			}
			ids[i] = table[k].ID
		}
		if all {
			return classesOf(names, func(i int) int { return ids[i] })
		}
	}
	return classesOf(names, func(i int) int { return i + 1 })
}

func classesOf(names []string, id func(int) int) []Class {
	out := make([]Class, len(names))
	for i, n := range names {
		out[i] = Class{Name: n, ID: id(i)}
	}
	return out
}

// classesFound decides the classes of a set that does not list them: VOC's
// twenty where every name is one of them, otherwise the names in byte order.
func classesFound(names map[string]bool) []Class {
	voc := len(names) > 0
	list := make([]string, 0, len(names))
	for n := range names {
		voc = voc && slices.Contains(vocNames, n)
		list = append(list, n)
	}
	if voc {
		return VOCClasses()
	}
	slices.Sort(list)
	return classesOf(list, func(i int) int { return i + 1 })
}

// classIndex maps the names of classes to their positions.
func classIndex(classes []Class) map[string]int {
	m := make(map[string]int, len(classes))
	for i, c := range classes {
		if _, taken := m[c.Name]; !taken {
			m[c.Name] = i
		}
	}
	return m
}

// sameName is the form in which names that differ only in case and spacing
// are equal.
func sameName(s string) string {
	return strings.Map(func(r rune) rune {
		switch r {
		case ' ', '\t', '\n', '\r', '\u00a0', '_', '-':
			return -1
		}
		return r
	}, strings.ToLower(s))
}

// ErrNoCommonClass means that two lists of classes share no name, so that
// nothing could ever match.
var ErrNoCommonClass = errors.New("no class in common")

// ClassMap says which class of one list is which of another, by name.
type ClassMap struct {
	From, To []Class
	Index    []int // for each of From its position in To, −1 where To has none
}

// MapClasses maps one list of classes to another by name; where VOC and COCO
// name a class differently (sofa, couch) they are the same. Ids play no part.
// It returns [ErrNoCommonClass] with both lists' beginnings if no name is in
// both.
func MapClasses(from, to []Class) (ClassMap, error) {
	m := ClassMap{From: from, To: to, Index: make([]int, len(from))}
	at := classIndex(to)
	for name, other := range synonyms {
		if i, ok := at[name]; ok {
			if _, taken := at[other]; !taken {
				at[other] = i
			}
		} else if i, ok := at[other]; ok {
			at[name] = i
		}
	}
	found := false
	for i, c := range from {
		k, ok := at[c.Name]
		if !ok {
			k = -1
		}
		m.Index[i] = k
		found = found || ok
	}
	if !found {
		return m, fmt.Errorf("coco: %w: %s on one side, %s on the other", ErrNoCommonClass, someNames(from), someNames(to))
	}
	return m, nil
}

// String prints the mapping as a table, one line per class of From.
func (m ClassMap) String() string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "index\tid\tclass\t→ index\tid\tclass")
	for i, c := range m.From {
		if k := m.Index[i]; k >= 0 {
			fmt.Fprintf(w, "%d\t%d\t%s\t→ %d\t%d\t%s\n", i, c.ID, c.Name, k, m.To[k].ID, m.To[k].Name)
		} else {
			fmt.Fprintf(w, "%d\t%d\t%s\t→ none\t\t\n", i, c.ID, c.Name)
		}
	}
	w.Flush()
	return b.String()
}

// Mapping prints the dataset's own mapping: each class's index, its id in the
// dataset's format, its name and how many objects it has.
func (d *Dataset) Mapping() string {
	counts := make([]int, len(d.Classes))
	for i := range d.Images {
		for _, o := range d.Images[i].Objects {
			counts[o.Class]++
		}
	}
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "index\tid\tclass\tobjects")
	for i, c := range d.Classes {
		fmt.Fprintf(w, "%d\t%d\t%s\t%d\n", i, c.ID, c.Name, counts[i])
	}
	w.Flush()
	return b.String()
}

// someNames prints the first names of a list.
func someNames(classes []Class) string {
	names := make([]string, len(classes))
	for i, c := range classes {
		names[i] = c.Name
	}
	return some(names)
}

// some prints the first few of a list of names.
func some(names []string) string {
	const most = 5
	if len(names) == 0 {
		return "none"
	}
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s … (%d in all)", strings.Join(names[:most], ", "), len(names))
}
