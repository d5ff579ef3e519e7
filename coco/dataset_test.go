package coco

import (
	"context"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"resdet/internal/fixture"
)

func mustLoad(t *testing.T, arg string) *Dataset {
	t.Helper()
	spec, err := ParseSpec(arg)
	if err != nil {
		t.Fatal(err)
	}
	d, err := Load(context.Background(), spec)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestLoadSharedSets(t *testing.T) {
	data := fixture.Shared(t, "data")
	for _, c := range []struct {
		arg                      string
		images, objects, classes int
	}{
		{"voc:" + data + "/VOCdevkit,split=minival", 250, 0, 20},
		{"voc:" + data + "/raccoon", 200, 217, 1},
		{"voc:" + data + "/bccd", 364, 4888, 3},
		{"voc:" + data + "/bccd,every=5", 73, 0, 3},
		{"voc:" + data + "/bccd,not-every=5", 291, 0, 3},
		{"voc:" + data + "/bccd,every=5,first=10", 10, 0, 3},
		{"coco:" + data + "/coco-tiny/annotations/instances_val2017.json", 80, 815, 80},
	} {
		d := mustLoad(t, c.arg)
		if len(d.Images) != c.images || c.objects != 0 && d.Objects() != c.objects || len(d.Classes) != c.classes {
			t.Errorf("%s: %d images, %d objects, %d classes; want %d, %d, %d", c.arg, len(d.Images), d.Objects(), len(d.Classes), c.images, c.objects, c.classes)
		}
		for i := range d.Images {
			if !exists(d.Images[i].Path) || d.Images[i].Path == "" {
				t.Fatalf("%s: image %s: no photo (%q)", c.arg, d.Images[i].ID, d.Images[i].Path)
			}
		}
	}
}

func TestEveryAndNotEveryPartTheSet(t *testing.T) {
	data := fixture.Shared(t, "data")
	all := mustLoad(t, "voc:"+data+"/raccoon")
	var ids []string
	for _, part := range []string{"every=3", "not-every=3"} {
		for _, im := range mustLoad(t, "voc:"+data+"/raccoon,"+part).Images {
			ids = append(ids, im.ID)
		}
	}
	slices.Sort(ids)
	if n := len(slices.Compact(ids)); n != len(all.Images) || len(ids) != n {
		t.Errorf("parts have %d images, %d different; the set has %d", len(ids), n, len(all.Images))
	}
}

// The VOC fixture's JSON was made from VOC's XML with the convention that
// [Box.VOC] states.
func TestVOCBoxes(t *testing.T) {
	b := BoxFromVOC(48, 240, 195, 371) // 000001.xml of VOC 2007, the dog
	if want := (Box{47, 239, 148, 132}); b != want {
		t.Errorf("got %v, want %v", b, want)
	}
	if xmin, ymin, xmax, ymax := b.VOC(); xmin != 48 || ymin != 240 || xmax != 195 || ymax != 371 {
		t.Errorf("back: %v %v %v %v", xmin, ymin, xmax, ymax)
	}
}

func TestResolveFindsAllOfTheReferenceResults(t *testing.T) {
	dir := fixture.Dir(t, "eval")
	cases, err := filepath.Glob(filepath.Join(dir, "*", "gt.json"))
	if err != nil || len(cases) == 0 {
		t.Fatal("no cases", err)
	}
	for _, gt := range cases {
		d, err := ReadCOCOFile(gt)
		if err != nil {
			t.Fatal(err)
		}
		results, err := ReadResultsFile(filepath.Join(filepath.Dir(gt), "dt.json"))
		if err != nil {
			t.Fatal(err)
		}
		r, err := d.Resolve(results)
		if err != nil {
			t.Fatal(err)
		}
		if len(r.Detections) != len(results) || len(results) == 0 {
			t.Errorf("%s: %d of %d results resolved", gt, len(r.Detections), len(results))
		}
	}
}

func TestIndexFind(t *testing.T) {
	d := &Dataset{Images: []Image{{ID: "000012", File: "000012.jpg"}, {ID: "0", File: "zero.png"}, {ID: "7", File: `sub\000000000007.JPG`}, {ID: "dog 1", File: "dog 1.jpg"}}}
	x := d.NewIndex()
	for id, want := range map[string]int{
		"000012": 0, "12": 0, "000012.jpg": 0, "a/b/000012.jpg": 0, `C:\x\000012.jpg`: 0,
		"0": 1, "zero": 1, "000": 1, "7": 2, "007": 2, "000000000007.JPG": 2, "dog 1": 3, "dog 1.jpg": 3,
		"13": -1, "": -1,
	} {
		got, ok := x.Find(id)
		if !ok {
			got = -1
		}
		if got != want {
			t.Errorf("Find(%q) = %d, want %d", id, got, want)
		}
	}
}

func TestCompareIDs(t *testing.T) {
	ids := []string{"b", "10", "9", "a", "-1", "000012"}
	slices.SortFunc(ids, CompareIDs)
	if got := strings.Join(ids, " "); got != "-1 9 10 000012 a b" {
		t.Error(got)
	}
}
