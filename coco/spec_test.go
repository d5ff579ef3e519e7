package coco

import (
	"context"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseSpec(t *testing.T) {
	for arg, want := range map[string]Spec{
		"coco:a.json":                    {Format: FormatCOCO, Path: "a.json"},
		"coco:a.json,images=b/c":         {Format: FormatCOCO, Path: "a.json", Images: "b/c"},
		"voc:VOCdevkit,split=train":      {Format: FormatVOC, Path: "VOCdevkit", Split: "train"},
		"voc:d,images=i,annotations=a":   {Format: FormatVOC, Path: "d", Images: "i", Annotations: "a"},
		"voc:d,split=x,every=5,first=10": {Format: FormatVOC, Path: "d", Split: "x", Every: 5, First: 10},
		"voc:d,not-every=5":              {Format: FormatVOC, Path: "d", NotEvery: 5},
		`voc:C:\data\set`:                {Format: FormatVOC, Path: `C:\data\set`},
		"voc:a,b,split=c,d":              {Format: FormatVOC, Path: "a,b", Split: "c,d"},
		"yolo:data.yaml,split=val":       {Format: FormatYOLO, Path: "data.yaml", Split: "val"},
		"yolo:a/data.yaml,within=a":      {Format: FormatYOLO, Path: "a/data.yaml", Within: "a"},
	} {
		got, err := ParseSpec(arg)
		if err != nil {
			t.Errorf("%s: %v", arg, err)
			continue
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", arg, diff)
		}
		if got.String() != arg {
			t.Errorf("%s prints as %s", arg, got)
		}
	}
	for arg, want := range map[string]string{
		"":                          "does not begin with a format (coco:, voc: or yolo:)",
		"x.json":                    "did you mean coco:x.json?",
		"data.yaml":                 "did you mean yolo:data.yaml?",
		"mot:gt.txt":                "does not begin with",
		"voc:":                      "no path after the format (voc:)",
		"voc:d,splt=x":              `no option "splt"; it knows split, images, annotations, every`,
		"coco:a.json,split=train":   `coco: has no option "split"`,
		"voc:d,every=0":             "every=0: not a whole number from 1",
		"voc:d,first=x":             "first=x",
		"voc:d,split=":              "split= is empty",
		"voc:d,split=a,split=b":     "split= is given twice",
		"voc:d,every=2,not-every=2": "exclude each other",
	} {
		if _, err := ParseSpec(arg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q in it", arg, err, want)
		}
	}
}

func TestLoadVOCLayouts(t *testing.T) {
	x := xmlOf("a.jpg", 100, 80, "dog 10 10 50 50")
	photo := jpg(100, 80, 0)
	for name, c := range map[string]struct {
		files map[string]string
		arg   string
	}{
		"devkit":      {map[string]string{"VOC2012/Annotations/a.xml": x, "VOC2012/JPEGImages/a.jpg": photo}, ""},
		"year":        {map[string]string{"Annotations/a.xml": x, "JPEGImages/a.jpg": photo}, ""},
		"lower":       {map[string]string{"annotations/a.xml": x, "images/a.jpg": photo}, ""},
		"flat":        {map[string]string{"a.xml": x, "a.jpg": photo}, ""},
		"upper":       {map[string]string{"Annotations/a.XML": x, "JPEGImages/a.JPG": photo}, ""},
		"named":       {map[string]string{"labels/a.xml": x, "pics/a.png": pngPhoto(100, 80)}, ",annotations=labels,images=pics"},
		"split":       {map[string]string{"Annotations/a.xml": x, "Annotations/b.xml": "broken", "JPEGImages/a.jpg": photo, "ImageSets/Main/t.txt": "JPEGImages\\a.jpg\n"}, ",split=t"},
		"class split": {map[string]string{"Annotations/a.xml": x, "JPEGImages/a.jpg": photo, "ImageSets/Main/dog_t.txt": "a -1\n"}, ",split=dog_t"},
	} {
		dir := tree(t, c.files)
		d := mustLoad(t, "voc:"+dir+c.arg)
		if got := boxesOf(d, "a"); got != "dog[9 9 41 41]" || len(d.Images) != 1 || !exists(d.Images[0].Path) || d.Images[0].Path == "" {
			t.Errorf("%s: %s, photo %q", name, got, d.Images[0].Path)
		}
	}
}

func TestLoadErrors(t *testing.T) {
	x := xmlOf("a.jpg", 100, 80, "dog 10 10 50 50")
	dir := tree(t, map[string]string{
		"two/VOC2007/Annotations/a.xml": x, "two/VOC2012/Annotations/a.xml": x, "set/Annotations/a.xml": x, "set/ImageSets/Main/train.txt": "a\n", "set/ImageSets/Main/empty.txt": "\n",
		"set/ImageSets/Main/more.txt": "a\nb\n", "none/x.txt": "", "y/data.yaml": "train: images\nnames: [dog]\n", "y/bad.yaml": "names: [", "y/num.yaml": "names: {0: a, 2: b}", "y/none.yaml": "train: x",
		"y/images/a.jpg": jpg(10, 10, 0), "y/labels/a.txt": "",
	})
	for arg, want := range map[string]string{
		"voc:two":                        "two holds",
		"voc:none":                       "no XML in",
		"voc:nowhere":                    "no such file",
		"voc:set,split=val":              `no split "val" in`,
		"voc:set,split=empty":            "is empty",
		"voc:set,split=more":             "there is no XML",
		"voc:set,images=x":               "images: x: no such folder",
		"voc:none/x.txt":                 "is a file",
		"coco:nowhere.json":              "no such file",
		"yolo:y/data.yaml,split=val":     `no split "val"`,
		"yolo:y/bad.yaml":                "not a data.yaml",
		"yolo:y/num.yaml":                "none has the number 1",
		"yolo:y/none.yaml":               "no names",
		"voc:set,every=1,first=1":        "",
		"yolo:y/data.yaml,not-every=100": "none of its 1 images is left",
	} {
		spec, err := ParseSpec(arg)
		if err != nil {
			t.Fatal(err)
		}
		spec.Path = filepath.Join(dir, filepath.FromSlash(spec.Path))
		_, err = Load(context.Background(), spec)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q in it", arg, err, want)
		}
	}
}

func TestClassesOverride(t *testing.T) {
	dir := tree(t, map[string]string{"a.xml": xmlOf("a.jpg", 100, 80, "dog 10 10 50 50", "hedgehog 1 1 5 5", "cat 2 2 9 9")})
	load := func(classes ...string) (*Dataset, error) {
		return Load(context.Background(), Spec{Format: FormatVOC, Path: dir, Classes: classes})
	}
	d, err := load()
	if err != nil || d.Mapping() != "index  id  class     objects\n0      1   cat       1\n1      2   dog       1\n2      3   hedgehog  1\n" {
		t.Errorf("%v\n%s", err, d.Mapping())
	}
	if d, err = load("dog", "bird"); err != nil || boxesOf(d, "a") != "dog[9 9 41 41]" || d.Classes[0].ID != 12 || d.Classes[1].ID != 3 {
		t.Errorf("%v %v %v", err, d.Classes, boxesOf(d, "a"))
	}
	if _, err = load("zebra"); err == nil || !strings.Contains(err.Error(), "no class in common: the data has cat, dog, hedgehog, asked for are zebra") {
		t.Error(err)
	}
	if _, err = load("dog", "dog"); err == nil {
		t.Error("a class twice")
	}
}

func TestClassTables(t *testing.T) {
	voc, coco := VOCClasses(), COCOClasses()
	if len(voc) != 20 || voc[19] != (Class{Name: "tvmonitor", ID: 20}) {
		t.Error(voc)
	}
	if len(coco) != 80 || coco[0] != (Class{Name: "person", ID: 1}) || coco[79] != (Class{Name: "toothbrush", ID: 90}) || coco[11] != (Class{Name: "stop sign", ID: 13}) {
		t.Error(coco)
	}
	m, err := MapClasses(coco, voc)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for i, k := range m.Index {
		if k >= 0 {
			n++
			if coco[i].Name == "couch" && voc[k].Name != "sofa" {
				t.Errorf("couch is %s", voc[k].Name)
			}
		}
	}
	if n != 20 {
		t.Errorf("%d of VOC's classes are in COCO, want all 20", n)
	}
	if !strings.Contains(m.String(), "57     63  couch           → 17     18  sofa\n") {
		t.Error(m)
	}
	if _, err := MapClasses(coco, []Class{{Name: "raccoon", ID: 1}}); err == nil || !strings.Contains(err.Error(), "person, bicycle, car, motorcycle, airplane … (80 in all) on one side, raccoon on the other") {
		t.Error(err)
	}
}
