package coco

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func convert(t *testing.T, d *Dataset, to Format, dir, split string) (*Dataset, *Conversion) {
	t.Helper()
	c, err := Convert(context.Background(), d, ConvertConfig{To: to, Dir: dir, Split: split})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range check(t, c.Data).Faults {
		t.Errorf("to %s: %v", to, f)
	}
	return mustLoad(t, c.Data), c
}

// content is what every format can hold of a set, in one order. digits bounds
// the boxes' decimals.
func content(d *Dataset, digits int, flags bool) string {
	var lines []string
	for i := range d.Images {
		im := &d.Images[i]
		lines = append(lines, fmt.Sprintf("%s %d×%d %t", stem(im.File), im.Width, im.Height, exists(im.Path)))
		for _, o := range im.Objects {
			s := fmt.Sprintf("%s %s", stem(im.File), d.Classes[o.Class].Name)
			for _, v := range []float64{o.Box.X, o.Box.Y, o.Box.W, o.Box.H} {
				p := math.Pow(10, float64(digits))
				s += fmt.Sprintf(" %.*f", digits, math.Round(v*p)/p+0)
			}
			if flags {
				s += fmt.Sprint(" ", o.Difficult, o.Truncated)
			}
			lines = append(lines, s)
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func TestConvertRoundTrips(t *testing.T) {
	obj := func(name string, difficult, truncated int, box string) string {
		f := strings.Fields(box)
		return fmt.Sprintf("<object><name>%s</name><truncated>%d</truncated><difficult>%d</difficult><bndbox><xmin>%s</xmin><ymin>%s</ymin><xmax>%s</xmax><ymax>%s</ymax></bndbox></object>", name, truncated, difficult, f[0], f[1], f[2], f[3])
	}
	photo := jpg(100, 80, 0)
	voc := mustLoad(t, "voc:"+tree(t, map[string]string{
		"Annotations/000012.xml": xmlOf("000012.jpg", 100, 80, obj("dog", 0, 1, "1 1 100 80"), obj("person &amp; co", 1, 0, "33 20 47.125 50")), "JPEGImages/000012.jpg": photo,
		"Annotations/000013.xml": xmlOf("000013.jpg", 80, 100, obj("cat", 1, 1, "3 5 7 77")), "JPEGImages/000013.jpg": jpg(100, 80, 6),
		"Annotations/000014.xml": xmlOf("000014.jpg", 100, 80), "JPEGImages/000014.jpg": photo,
		"ImageSets/Main/val.txt": "000012\n000013\n000014\n",
	})+",split=val")
	for _, to := range []Format{FormatCOCO, FormatVOC, FormatYOLO} {
		there, c := convert(t, voc, to, t.TempDir(), "")
		flags := to != FormatYOLO
		if got, want := content(there, 6, flags), content(voc, 6, flags); got != want {
			t.Errorf("to %s:\n%s\nwant\n%s", to, got, want)
		}
		if to == FormatYOLO != slices.Contains(c.Lost, "the difficult flags of 2 objects: they are ordinary now") {
			t.Errorf("to %s: lost %q", to, c.Lost)
		}
		if to == FormatCOCO && there.Images[0].ID != "12" {
			t.Errorf("id %s", there.Images[0].ID)
		}
		if !strings.HasSuffix(c.Data, map[Format]string{FormatCOCO: "instances_val.json", FormatVOC: ",split=val", FormatYOLO: ",split=val"}[to]) {
			t.Error(c.Data)
		}
		back, _ := convert(t, there, FormatVOC, t.TempDir(), "")
		if got, want := content(back, 6, flags), content(voc, 6, flags); got != want {
			t.Errorf("to %s and back:\n%s\nwant\n%s", to, got, want)
		}
	}
}

func TestConvertCOCOLossFree(t *testing.T) {
	dir := tree(t, map[string]string{"annotations/instances_a.json": strings.ReplaceAll(small, `"width":null,"height":1`, `"width":20,"height":20`),
		"images/b.jpg": jpg(640, 480, 0), "images/c.jpg": jpg(20, 20, 0), "images/empty.jpg": jpg(16, 16, 0)})
	d := mustLoad(t, "coco:"+dir+"/annotations/instances_a.json")
	d.Images[2].Width, d.Images[2].Height = 16, 16
	out := t.TempDir()
	there, _ := convert(t, d, FormatCOCO, out, "")
	for i := range d.Images {
		for k := range d.Images[i].Objects {
			a, b := d.Images[i].Objects[k], there.Images[i].Objects[k]
			a.Line, a.Index, b.Line, b.Index = 0, 0, 0, 0
			if a != b {
				t.Errorf("%+v became %+v", a, b)
			}
		}
		if d.Images[i].ID != there.Images[i].ID {
			t.Errorf("image %s became %s", d.Images[i].ID, there.Images[i].ID)
		}
	}
	if !slices.Equal(d.Classes, there.Classes) {
		t.Errorf("%v became %v", d.Classes, there.Classes)
	}
	if _, err := Convert(context.Background(), d, ConvertConfig{To: FormatCOCO, Dir: out}); err == nil {
		t.Error("wrote over what was there")
	}
	c, err := Convert(context.Background(), d, ConvertConfig{To: FormatVOC, Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	voc := mustLoad(t, c.Data)
	if !slices.Contains(c.Lost, "1 crowds: they are difficult objects now") || !voc.Images[0].Objects[1].Difficult {
		t.Error(c.Lost)
	}
	yolo, c := convert(t, d, FormatYOLO, t.TempDir(), "")
	if !slices.Contains(c.Lost, "1 crowds: they are left out") || yolo.Objects() != 2 || c.Objects != 2 {
		t.Error(c.Lost)
	}
}

func TestConvertSplitsIntoOneFolder(t *testing.T) {
	dir := tree(t, map[string]string{
		"a.xml": xmlOf("a.jpg", 100, 80, "dog 10 10 50 50"), "a.jpg": jpg(100, 80, 0), "b.xml": xmlOf("b.jpg", 100, 80, "dog 20 10 50 50"), "b.jpg": jpg(100, 80, 0),
	})
	for _, to := range []Format{FormatCOCO, FormatVOC, FormatYOLO} {
		out := t.TempDir()
		for _, part := range []string{"every", "not-every"} {
			split := map[string]string{"every": "train", "not-every": "val"}[part]
			d := mustLoad(t, "voc:"+dir+","+part+"=2")
			got, _ := convert(t, d, to, out, split)
			if content(got, 3, false) != content(d, 3, false) {
				t.Errorf("%s %s: %s", to, split, content(got, 3, false))
			}
		}
	}
}

func TestConvertNames(t *testing.T) {
	// Two photos of one stem, and one of another folder.
	dir := tree(t, map[string]string{"x.json": `{"images":[{"id":1,"file_name":"a.jpg","width":10,"height":10},{"id":2,"file_name":"a.png","width":10,"height":10},{"id":3,"file_name":"s/A.jpg","width":10,"height":10}],
"annotations":[{"id":1,"image_id":2,"category_id":5,"bbox":[1,1,5,5],"area":25}],"categories":[{"id":5,"name":"dog"}]}`, "a.jpg": jpg(10, 10, 0), "a.png": pngPhoto(10, 10), "s/A.jpg": jpg(10, 10, 0)})
	for _, to := range []Format{FormatVOC, FormatYOLO} {
		d, _ := convert(t, mustLoad(t, "coco:"+dir+"/x.json"), to, t.TempDir(), "train")
		if len(d.Images) != 3 || boxesOf(d, "a_2") != "dog[1 1 5 5]" {
			t.Errorf("%s: %d images, %s", to, len(d.Images), boxesOf(d, "a_2"))
		}
	}
}

func TestConvertRefuses(t *testing.T) {
	dir := tree(t, map[string]string{"a.xml": xmlOf("a.jpg", 0, 0, "dog 10 10 50 50"), "a.jpg": jpg(100, 80, 0), "full/data.yaml": "train: elsewhere\nnames: [dog]\n"})
	d, err := Load(context.Background(), Spec{Format: FormatVOC, Path: dir})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		cfg  ConvertConfig
		want string
	}{
		{ConvertConfig{To: FormatYOLO, Dir: t.TempDir()}, "without the image's size"},
		{ConvertConfig{To: "x", Dir: t.TempDir()}, `cannot convert to "x"`},
		{ConvertConfig{To: FormatCOCO, Dir: t.TempDir(), Split: "../x"}, "cannot be the name of a split"},
		{ConvertConfig{To: FormatYOLO, Dir: filepath.Join(dir, "full"), Split: "val"}, "lists other classes"},
	} {
		if _, err := Convert(context.Background(), d, c.cfg); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v", c.cfg, err)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "x")); err == nil {
		t.Error("wrote outside its folder")
	}
}

func TestDescribe(t *testing.T) {
	d := &Dataset{Classes: []Class{{Name: "a", ID: 1}, {Name: "b", ID: 2}}, Images: []Image{
		{ID: "1", Width: 800, Height: 800, Objects: []Object{
			{Class: 0, Box: Box{-16, -16, 32, 32}, Area: 1024}, // an anchor of 32 at the first cell
			{Class: 0, Box: Box{16 * 7, 16 * 7, 31, 31}, Area: 961},
			{Class: 1, Box: Box{100, 100, 600, 60}, Area: 36000, Difficult: true},
			{Class: 1, Box: Box{0, 0, 800, 800}, Area: 640000, Crowd: true},
		}},
		{ID: "2", Width: 400, Height: 800},
	}}
	a := Anchors{Levels: []AnchorLevel{{Stride: 16, Sizes: []float64{32}}}, Ratios: []float64{1}, ShortSide: 800, LongSide: 1333}
	s, err := d.Describe(&a)
	if err != nil {
		t.Fatal(err)
	}
	if s.Images != 2 || s.Empty != 1 || s.Objects != 4 || s.Small != 1 || s.Medium != 1 || s.Large != 2 || s.Crowd != 1 || s.Difficult != 1 {
		t.Errorf("%+v", s)
	}
	if c := s.Classes[0]; c.Objects != 2 || c.Images != 1 || c.Small != 1 || c.Medium != 1 {
		t.Errorf("%+v", c)
	}
	if s.PerImage.Mean != 2 || s.PerImage.Max != 4 || s.BoxAspect.Min != 0.1 {
		t.Errorf("%+v %+v", s.PerImage, s.BoxAspect)
	}
	rows := s.Anchors.Rows
	if rows[0].Objects != 3 || rows[1].Objects != 1 || rows[2].Objects != 1 || rows[3].Objects != 1 {
		t.Errorf("%+v", rows)
	}
	// The second box lies half a pixel off the anchor around (128, 128).
	small := 31 * 31 / (32.0 * 32)
	if *rows[2].At70 != 1 || *rows[2].Mean != 1 || math.Abs(*rows[1].Mean-small) > 0.02 || *rows[3].At50 != 0 || math.Abs(*rows[0].At50-2.0/3) > 1e-12 {
		t.Errorf("%v %v %v %v", *rows[1].Mean, *rows[2].Mean, *rows[3].Mean, *rows[0].At50)
	}
	if _, err := d.Describe(&Anchors{}); err == nil {
		t.Error("no anchors at all")
	}
}

// The quick search for the best anchor must agree with trying them all.
func TestCoverAgainstAllAnchors(t *testing.T) {
	a := Anchors{Levels: []AnchorLevel{{Stride: 16, Sizes: []float64{32, 100}}, {Stride: 50, Sizes: []float64{200}}}, Ratios: []float64{0.5, 1, 2}, ShortSide: 300, LongSide: 500}
	w, h := 333.0, 300.0
	for i := range 300 {
		f := float64(i)
		b := Box{math.Mod(f*37.7, 300), math.Mod(f*17.3, 280), 3 + math.Mod(f*7.77, 200), 3 + math.Mod(f*23.1, 250)}
		want := 0.0
		for _, l := range a.Levels {
			for y := 0.0; y < math.Ceil(h/float64(l.Stride)); y++ {
				for x := 0.0; x < math.Ceil(w/float64(l.Stride)); x++ {
					for _, r := range a.Ratios {
						for _, s := range l.Sizes {
							aw, ah := s/math.Sqrt(r), s*math.Sqrt(r)
							o := Box{x*float64(l.Stride) - aw/2, y*float64(l.Stride) - ah/2, aw, ah}
							iw, ih := min(o.X1(), b.X1())-max(o.X, b.X), min(o.Y1(), b.Y1())-max(o.Y, b.Y)
							if iw > 0 && ih > 0 {
								want = max(want, iw*ih/(o.Area()+b.Area()-iw*ih))
							}
						}
					}
				}
			}
		}
		if got := a.best(b, w, h); math.Abs(got-want) > 1e-9 {
			t.Errorf("%v: %v, want %v", b, got, want)
		}
	}
}
