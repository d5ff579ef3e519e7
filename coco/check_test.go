package coco

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"resdet/internal/fixture"
)

func check(t *testing.T, arg string, classes ...string) *Report {
	t.Helper()
	spec, err := ParseSpec(arg)
	if err != nil {
		t.Fatal(err)
	}
	spec.Classes = classes
	r, err := Check(context.Background(), CheckConfig{Spec: spec})
	if err != nil {
		t.Fatalf("%s: %v", arg, err)
	}
	return r
}

// fixed repairs a set, makes sure that the copy checks clean and that the
// source is as it was, and loads the copy.
func fixed(t *testing.T, r *Report, source string, classes ...string) *Dataset {
	t.Helper()
	before := digest(t, source)
	out, err := r.Fix(context.Background(), filepath.Join(t.TempDir(), "fixed"), CopyPhotos, nil)
	if err != nil {
		t.Fatal(err)
	}
	if after := digest(t, source); after != before {
		t.Error("the source has changed")
	}
	again := check(t, out.Data, classes...)
	for _, f := range again.Faults {
		t.Errorf("still wrong in the repaired copy: %v", f)
	}
	d := mustLoad(t, out.Data)
	if d.Objects() != out.Objects || len(d.Images) != out.Images {
		t.Errorf("said %d images and %d objects, wrote %d and %d", out.Images, out.Objects, len(d.Images), d.Objects())
	}
	return d
}

func digest(t *testing.T, dir string) string {
	t.Helper()
	h := sha256.New()
	err := filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(p)
		fmt.Fprintf(h, "%s %d %x\n", p, len(b), sha256.Sum256(b))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", h.Sum(nil))
}

// finding is a fault as tests expect it.
type finding struct {
	kind Kind
	file string // end of the file's name
	at   string // "line:object", where it matters
	text string // in the message
}

func wantFindings(t *testing.T, r *Report, want ...finding) {
	t.Helper()
	left := slices.Clone(r.Faults)
	for _, w := range want {
		i := slices.IndexFunc(left, func(f Fault) bool {
			return f.Kind == w.kind && strings.HasSuffix(filepath.ToSlash(f.File), w.file) && strings.Contains(f.Message, w.text) &&
				(w.at == "" || w.at == fmt.Sprintf("%d:%d", f.Line, f.Object))
		})
		if i < 0 {
			t.Errorf("not found: %s in %s at %s: %q", w.kind, w.file, w.at, w.text)
			continue
		}
		if left[i].Fix == "" {
			t.Errorf("%v: does not say what to do", left[i])
		}
		left = slices.Delete(left, i, i+1)
	}
	for _, f := range left {
		t.Errorf("found, but not there: %v", f)
	}
}

func boxesOf(d *Dataset, id string) string {
	for i := range d.Images {
		if d.Images[i].ID == id {
			var s []string
			for _, o := range d.Images[i].Objects {
				s = append(s, d.Classes[o.Class].Name+o.Box.String())
			}
			return strings.Join(s, " ")
		}
	}
	return "no image " + id
}

// TestCheckVOC has each fault that a VOC set can have, one to an image.
func TestCheckVOC(t *testing.T) {
	photo := jpg(100, 80, 0)
	files := map[string]string{}
	ok := "dog 10 10 50 50"
	img := func(id string, objects ...string) {
		files["Annotations/"+id+".xml"] = xmlOf(id+".jpg", 100, 80, objects...)
		files["JPEGImages/"+id+".jpg"] = photo
	}
	for i := range 6 {
		img(fmt.Sprintf("ok%d", i), ok, "cat 1 1 100 80", "person 1 2 30 40")
	}
	img("empty")
	img("floats", "dog 10.5 10.25 50.75 60")
	img("parts", "<object><name>person</name><part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>999</xmax><ymax>999</ymax></bndbox></part><bndbox><ymax>60</ymax><ymin>5</ymin><xmax>40</xmax><xmin>5</xmin></bndbox></object>")
	files["Annotations/bom.xml"] = "\ufeff<?xml version=\"1.0\" encoding=\"gb2312\"?>\r\n" + strings.ReplaceAll(xmlOf("bom.jpg", 100, 80, ok), "\n", "\r\n")
	files["JPEGImages/bom.jpg"] = photo
	img("outside", ok, "dog 10 10 120 50", "dog 200 10 220 50")
	img("inverted", "dog 50 10 20 40")
	img("click", ok, "dog 30 30 30 30")
	img("zero", "dog 0 10 30 40")
	img("twice", ok, ok)
	img("Case", "Dog 10 10 50 50")
	img("space", "<object><name> dog</name><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>3</xmax><ymax>4</ymax></bndbox></object>")
	img("unicorn", ok, "unicorn 10 10 20 20")
	img("nameless", "<object><name></name><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>3</xmax><ymax>4</ymax></bndbox></object>", ok)
	img("boxless", "<object><name>dog</name></object>", ok)
	img("cornerless", "<object><name>dog</name><bndbox><xmin>1</xmin></bndbox></object>", ok)
	img("nan", "dog NaN 1 2 3", "dog 1 x 2 3", ok)
	img("missing", ok)
	delete(files, "JPEGImages/missing.jpg")
	img("cut", ok)
	files["JPEGImages/cut.jpg"] = photo[:len(photo)/2]
	img("text", ok)
	files["JPEGImages/text.jpg"] = "not a photo"
	img("gif", ok)
	files["JPEGImages/gif.jpg"] = "GIF89a123456789"
	files["Annotations/size.xml"] = xmlOf("size.jpg", 100, 90, ok)
	files["JPEGImages/size.jpg"] = photo
	files["Annotations/scaled.xml"] = xmlOf("scaled.jpg", 200, 160, "dog 20 20 100 100", "dog 1 1 200 160")
	files["JPEGImages/scaled.jpg"] = photo
	files["Annotations/nosize.xml"] = xmlOf("nosize.jpg", 0, 0, ok)
	files["JPEGImages/nosize.jpg"] = photo
	files["Annotations/turned.xml"] = xmlOf("turned.jpg", 100, 80, "dog 1 1 25 20")
	files["JPEGImages/turned.jpg"] = jpg(100, 80, 6)
	files["Annotations/upright.xml"] = xmlOf("upright.jpg", 80, 100, ok)
	files["JPEGImages/upright.jpg"] = jpg(100, 80, 8)
	files["Annotations/half.xml"] = xmlOf("half.jpg", 100, 80, ok)
	files["JPEGImages/half.jpg"] = jpg(100, 80, 3)
	files["Annotations/path.xml"] = xmlOf(`C:\photos\path.jpg`, 100, 80, ok)
	files["JPEGImages/path.jpg"] = photo
	files["Annotations/noext.xml"] = xmlOf("noext", 100, 80, ok)
	files["JPEGImages/noext.JPG"] = photo
	files["Annotations/copied.xml"] = xmlOf("ok1.jpg", 100, 80, ok)
	files["JPEGImages/copied.jpg"] = photo
	files["Annotations/second.xml"] = xmlOf("ok2.jpg", 100, 80, "dog 11 11 60 60")
	files["Annotations/broken.xml"] = "<annotation><object><name>dog</name></annotation>"
	files["JPEGImages/broken.jpg"] = photo
	files["Annotations/short.xml"] = xmlOf("short.jpg", 100, 80, ok)[:120]
	files["JPEGImages/short.jpg"] = photo
	files["Annotations/other.xml"] = "<html></html>"
	files["JPEGImages/other.jpg"] = photo
	files["Annotations/._mac.xml"] = "\x00\x05"
	files["JPEGImages/alone.jpg"] = photo
	files["ImageSets/Main/train.txt"] = "ok0\r\nok1\r\nok1\r\nnowhere\r\nok5\r\n"
	files["ImageSets/Main/dog_train.txt"] = "ok0  1\nok1 -1\n"
	dir := tree(t, files)

	r := check(t, "voc:"+dir)
	wantFindings(t, r,
		finding{BoxOutside, "outside.xml", "5:1", "reaches 20 px beyond the image of 100×80"},
		finding{BoxOutside, "outside.xml", "6:2", "lies outside the image of 100×80"},
		finding{BoxInverted, "inverted.xml", "4:0", "box 50 10 20 40 has its corners in the wrong order"},
		finding{BoxEmpty, "click.xml", "5:1", "box 30 30 30 30 has no area"},
		finding{ZeroBased, "zero.xml", "4:0", "1 boxes have xmin or ymin 0"},
		finding{BoxDuplicate, "twice.xml", "5:1", "is that of object 0 again"},
		finding{ClassSpelling, "Case.xml", "4:0", `"Dog" and "dog" differ in case or spacing only`},
		finding{ClassSpelling, "space.xml", "4:0", `" dog", with white space around it`},
		finding{UnknownClass, "unicorn.xml", "5:1", "not one of VOC's twenty"},
		finding{ClassEmpty, "nameless.xml", "4:0", "no name"},
		finding{BoxMissing, "boxless.xml", "4:0", "no bndbox"},
		finding{BoxMissing, "cornerless.xml", "4:0", "dog has no ymin"},
		finding{BadValue, "nan.xml", "4:0", `xmin is "NaN"`},
		finding{BadValue, "nan.xml", "5:1", `ymin is "x"`},
		finding{MissingImage, "missing.xml", "", "annotation without image"},
		finding{BadImage, "cut.jpg", "", "cut off"},
		finding{BadImage, "text.jpg", "", "neither JPEG nor PNG"},
		finding{UnsupportedFormat, "gif.jpg", "", "GIF"},
		finding{SizeMismatch, "size.xml", "", "the annotation says 100×90, but size.jpg has 100×80"},
		finding{SizeMismatch, "scaled.xml", "", "the annotation says 200×160"},
		finding{SizeMissing, "nosize.xml", "3:-1", `size is "0" × "0"`},
		finding{EXIFRotation, "turned.jpg", "", "turned right by 90°, as 80×100"},
		finding{EXIFRotation, "half.jpg", "", "turned by 180°, and its size does not tell"},
		finding{FileName, "path.xml", "", `named "C:\\photos\\path.jpg", but the file is path.jpg`},
		finding{FileName, "noext.xml", "", `named "noext", but the file is noext.JPG`},
		finding{FileName, "copied.xml", "", "it names ok1.jpg, as another XML does, but beside it is copied.jpg"},
		finding{ImageTwice, "second.xml", "", "ok2.jpg is annotated twice"},
		finding{BadAnnotation, "broken.xml", "1:-1", "</annotation> closes nothing"},
		finding{BadAnnotation, "short.xml", "", "cut short"},
		finding{BadAnnotation, "other.xml", "1:-1", "begins with <html>"},
		finding{ImageUnannotated, "alone.jpg", "", "no XML"},
		finding{ImageUnannotated, "train.txt", "4:-1", "lists nowhere"},
		finding{ImageTwice, "train.txt", "3:-1", "listed again (first in line 2)"},
	)
	d := fixed(t, r, dir)
	for id, want := range map[string]string{
		"outside":  "dog[9 9 41 41] dog[9 9 91 41]",
		"inverted": "dog[19 9 31 31]",
		"click":    "dog[9 9 41 41]",
		"zero":     "dog[0 9 30 31]",
		"twice":    "dog[9 9 41 41]",
		"Case":     "dog[9 9 41 41]",
		"unicorn":  "dog[9 9 41 41]",
		"scaled":   "dog[10 10 40 40] dog[0 0 100 80]",
		"turned":   "dog[60 0 20 25]",
		"upright":  "dog[9 9 41 41]",
		"half":     "dog[9 9 41 41]",
		"missing":  "no image missing",
		"cut":      "no image cut",
		"floats":   "dog[9.5 9.25 41.25 50.75]",
		"parts":    "person[4 4 36 56]",
		"empty":    "",
		"ok2":      "dog[9 9 41 41] cat[0 0 100 80] person[0 1 30 39] dog[10 10 50 50]",
		"second":   "no image second",
		"nan":      "dog[9 9 41 41]",
	} {
		if got := boxesOf(d, id); got != want {
			t.Errorf("%s: %s, want %s", id, got, want)
		}
	}
	if len(d.Classes) != 20 {
		t.Errorf("%d classes, want VOC's", len(d.Classes))
	}
	train, err := os.ReadFile(filepath.Join(d.Path, "ImageSets", "Main", "train.txt"))
	if err != nil || string(train) != "ok0\nok1\nok5\n" {
		t.Errorf("train.txt: %q %v", train, err)
	}
	// The photo that EXIF turned is upright in its pixels now.
	p := lookAt(filepath.Join(d.Photos, "turned.jpg"))
	if p.head.orientation != 1 || p.head.width != 80 || p.head.height != 100 {
		t.Errorf("turned.jpg: %+v", p.head)
	}
	// Load takes none of it.
	spec, _ := ParseSpec("voc:" + dir)
	if _, err := Load(context.Background(), spec); err == nil || !strings.Contains(err.Error(), ".xml:") {
		t.Errorf("Load: %v", err)
	}
}

func TestCheckVOCZeroBasedSets(t *testing.T) {
	photo := jpg(100, 80, 0)
	for _, c := range []struct{ name, low, high, wantLow, wantHigh string }{
		{"pixels from 0", "dog 0 0 29 39", "dog 50 50 99 79", "dog[0 0 30 40]", "dog[50 50 50 30]"},
		{"edges from 0", "dog 0 0 30 40", "dog 50 50 100 80", "dog[0 0 30 40]", "dog[50 50 50 30]"},
	} {
		dir := tree(t, map[string]string{
			"a.xml": xmlOf("a.jpg", 100, 80, c.low), "a.jpg": photo, "b.xml": xmlOf("b.jpg", 100, 80, c.high, c.low), "b.jpg": photo,
		})
		r := check(t, "voc:"+dir)
		wantFindings(t, r, finding{ZeroBased, "a.xml", "4:0", "2 boxes have xmin or ymin 0, 0 have 1"})
		if r.Counts[ZeroBased] != 2 {
			t.Errorf("%s: count %d", c.name, r.Counts[ZeroBased])
		}
		d := fixed(t, r, dir)
		if got := boxesOf(d, "a") + " " + boxesOf(d, "b"); got != c.wantLow+" "+c.wantHigh+" "+c.wantLow {
			t.Errorf("%s: %s", c.name, got)
		}
	}
}

func TestCheckCOCO(t *testing.T) {
	photo := jpg(100, 80, 0)
	doc := `{"images":[
{"id":1,"file_name":"a.jpg","width":100,"height":80},
{"id":2,"file_name":"sub\\b.JPG","width":100,"height":80},
{"id":2,"file_name":"dup.jpg","width":100,"height":80},
{"id":3,"file_name":"gone.jpg","width":100,"height":80},
{"id":4,"file_name":"c.png","width":0,"height":0},
{"id":5,"file_name":"a.jpg","width":100,"height":80},
{"id":6,"file_name":"turned.jpg","width":100,"height":80}],
"annotations":[
{"id":1,"image_id":1,"category_id":1,"bbox":[10,10,30,30],"area":900,"iscrowd":0},
{"id":1,"image_id":1,"category_id":1,"bbox":[10,10,30,40],"area":1200,"iscrowd":0},
{"id":2,"image_id":1,"category_id":1,"bbox":[10,10,30,30],"area":0,"iscrowd":0},
{"id":3,"image_id":1,"category_id":1,"bbox":[10,10,0,30],"area":1,"iscrowd":0},
{"id":4,"image_id":1,"category_id":1,"bbox":[50,40,-20,-10],"area":200,"iscrowd":0},
{"id":5,"image_id":2,"category_id":0,"bbox":[10,10,5,5],"area":25,"iscrowd":0},
{"id":6,"image_id":99,"category_id":1,"bbox":[10,10,5,5],"area":25,"iscrowd":0},
{"id":7,"image_id":2,"category_id":2,"bbox":[90,10,30,20],"area":600,"iscrowd":0},
{"id":8,"image_id":2,"category_id":3,"bbox":[10,NaN,30,20],"area":600,"iscrowd":0},
{"id":9,"image_id":2,"category_id":3,"bbox":[1,2,3,4],"area":500,"iscrowd":0},
{"id":10,"image_id":5,"category_id":3,"bbox":[1,2,3.5,4],"area":10,"iscrowd":0},
{"id":11,"image_id":6,"category_id":3,"bbox":[0,0,25,20],"area":400,"iscrowd":0},
{"id":12,"image_id":4,"category_id":3,"bbox":[0,0,25,20],"area":400,"iscrowd":1}],
"categories":[{"id":1,"name":"traffic light"},{"id":2,"name":"Traffic_Light"},{"id":3,"name":"dog "},{"id":3,"name":"cow"}]}`
	dir := tree(t, map[string]string{
		"annotations/instances_x.json": doc, "images/a.jpg": photo, "images/sub/b.jpg": photo, "images/c.png": pngPhoto(50, 40), "images/turned.jpg": jpg(100, 80, 8),
		"images/alone.jpeg": photo,
	})
	r := check(t, "coco:"+dir+"/annotations/instances_x.json")
	wantFindings(t, r,
		finding{DuplicateID, "x.json", "4:2", "images[2] (dup.jpg) has the id of another"},
		finding{FileName, "x.json", "", `named "sub\\b.JPG", but the file is b.jpg`},
		finding{MissingImage, "x.json", "", "gone.jpg is not there"},
		finding{SizeMissing, "x.json", "", "c.png has no width and height"},
		finding{ImageTwice, "x.json", "", "a.jpg is annotated twice: as image 1 and as image 5"},
		finding{EXIFRotation, "turned.jpg", "", "turned left by 90°"},
		finding{DuplicateID, "x.json", "11:1", "another annotation has the id 1"},
		finding{BadArea, "x.json", "12:2", "area 0, its box has 900"},
		finding{BoxDuplicate, "x.json", "12:2", "that of object 0 again"},
		finding{BoxEmpty, "x.json", "13:3", "box [10 10 0 30] has no area"},
		finding{BoxInverted, "x.json", "14:4", "box [50 40 -20 -10]"},
		finding{UnknownClass, "x.json", "15:5", "category_id 0, which is not listed"},
		finding{OrphanAnnotation, "x.json", "16:6", "image 99, which is not listed"},
		finding{BoxOutside, "x.json", "17:7", "reaches 20 px beyond"},
		finding{BadValue, "x.json", "18:8", "bbox [10 NaN 30 20] is not finite"},
		finding{BadArea, "x.json", "19:9", "area 500, its box has 12"},
		finding{ClassSpelling, "x.json", "", `"Traffic_Light" (1 objects) and "traffic light"`},
		finding{ClassSpelling, "x.json", "23:2", `"dog "`},
		finding{DuplicateID, "x.json", "23:3", `category "cow" has the id 3 of category "dog"`},
		finding{ImageUnannotated, "alone.jpeg", "", "no image entry"},
	)
	d := fixed(t, r, dir)
	for id, want := range map[string]string{
		"1": "traffic light[10 10 30 30] traffic light[10 10 30 40] traffic light[30 30 20 10] dog[1 2 3.5 4]",
		"2": "traffic light[90 10 10 20] dog[1 2 3 4]",
		"4": "dog[0 0 25 20]",
		"6": "dog[0 75 20 25]",
		"3": "no image 3",
	} {
		if got := boxesOf(d, id); got != want {
			t.Errorf("%s: %s, want %s", id, got, want)
		}
	}
}

func TestCheckCOCOSplitsThatShareTheirPhotos(t *testing.T) {
	doc := func(name string) string {
		return `{"images":[{"id":1,"file_name":"` + name + `","width":100,"height":80}],"annotations":[],"categories":[{"id":1,"name":"dog"}]}`
	}
	photo := jpg(100, 80, 0)
	dir := tree(t, map[string]string{"a/train.json": doc("x.jpg"), "a/val.json": doc("y.jpg"), "a/captions.json": "[]", "images/x.jpg": photo, "images/y.jpg": photo, "images/z.jpg": photo})
	wantFindings(t, check(t, "coco:"+dir+"/a/train.json"), finding{ImageUnannotated, "z.jpg", "", "no image entry"})
}

func TestYOLOWithoutAnyLabels(t *testing.T) {
	dir := tree(t, map[string]string{"data.yaml": "train: images\nnames: [dog]\n", "images/a.jpg": jpg(100, 80, 0)})
	_, err := Load(context.Background(), Spec{Format: FormatYOLO, Path: dir + "/data.yaml"})
	if err == nil || !strings.Contains(err.Error(), "none of the 1 photos has a label file") {
		t.Error(err)
	}
	fixed(t, check(t, "yolo:"+dir+"/data.yaml"), dir)
}

func TestCheckCOCOCorners(t *testing.T) {
	var annotations []string
	for i := range 20 {
		x, y := 5+i*3, 3+i*2
		annotations = append(annotations, fmt.Sprintf(`{"id":%d,"image_id":1,"category_id":1,"bbox":[%d,%d,%d,%d],"area":%d}`, i+1, x, y, x+30, y+20+i, 30*(20+i)))
	}
	dir := tree(t, map[string]string{"x.json": `{"images":[{"id":1,"file_name":"a.jpg","width":100,"height":80}],"categories":[{"id":1,"name":"dog"}],"annotations":[` + strings.Join(annotations, ",") + "]}", "a.jpg": jpg(100, 80, 0)})
	r := check(t, "coco:"+dir+"/x.json")
	wantFindings(t, r, finding{BoxCorners, "x.json", "", "look like x1, y1, x2, y2"})
	if got := boxesOf(fixed(t, r, dir), "1"); !strings.HasPrefix(got, "dog[5 3 30 20] dog[8 5 30 21]") {
		t.Error(got)
	}
}

func TestCheckYOLO(t *testing.T) {
	photo := jpg(100, 80, 0)
	dir := tree(t, map[string]string{
		"data.yaml":                "path: /somewhere/else\ntrain: ../train/images\nval: valid/images\nnc: 4\nnames: ['dog', 'Dog', ' cat']\r\n",
		"train/images/a.jpg":       photo,
		"train/labels/a.txt":       "0 0.5 0.5 0.2 0.25\n2 0.25 0.5 0.1 0.5\n",
		"train/images/b.jpg":       photo,
		"train/labels/b.txt":       "\ufeff0 0.5 0.5 0.2 0.25\r\n\r\n0 0.5 0.5 0.2 0.25\r\n1 0.95 0.5 0.2 0.2\r\n7 0.5 0.5 0.1 0.1\r\n0 0.5 0.5 0.1\r\n0 x 0.5 0.1 0.1\r\n0 inf 0.5 0.1 0.1\r\n-1 0.5 0.5 0.1 0.1\r\n0 0.5 0.5 0 0.1\r\n0 0.9 0.5 0.5 0.5 0.5 0.5\r\n0 5 5 0.1 0.1\r\n1.5 .5 .5 .1 .1\r\n",
		"train/images/c.jpg":       photo,
		"train/labels/orphan.txt":  "0 0.5 0.5 0.1 0.1\n",
		"train/labels/classes.txt": "dog\n",
		"valid/images/poly.png":    pngPhoto(200, 100),
		"valid/labels/poly.txt":    "0 0.1 0.2 0.5 0.2 0.5 0.6 0.1 0.6\n",
		"valid/images/bad.jpg":     photo[:200],
		"valid/labels/bad.txt":     "0 0.5 0.5 0.1 0.1\n",
		"valid/images/cut.jpg":     photo[:len(photo)-100],
		"valid/labels/cut.txt":     "0 0.5 0.5 0.1 0.1\n",
		"valid/images/t.jpg":       jpg(100, 80, 6),
		"valid/labels/t.txt":       "",
	})
	r := check(t, "yolo:"+dir+"/data.yaml")
	wantFindings(t, r,
		finding{ClassCount, "data.yaml", "", "nc is 4, but there are 3 names"},
		finding{ClassSpelling, "data.yaml", "", `" cat", with white space`},
		finding{ClassSpelling, "data.yaml", "", `"Dog" (1 objects) and "dog"`},
		finding{BoxDuplicate, "b.txt", "3:1", "that of object 0 again"},
		finding{BoxOutside, "b.txt", "4:2", "reaches 5 px beyond the image of 100×80"},
		finding{UnknownClass, "b.txt", "5:3", "class 7, but the 3 classes are 0 to 2"},
		finding{BadAnnotation, "b.txt", "6:4", "4 numbers, not class, x, y, width, height"},
		finding{BadValue, "b.txt", "7:5", `"x" is not a number`},
		finding{BadValue, "b.txt", "8:6", "inf is not finite"},
		finding{UnknownClass, "b.txt", "9:7", "class -1"},
		finding{BoxEmpty, "b.txt", "10:8", "has no area"},
		finding{BoxEmpty, "b.txt", "11:9", "has no area"}, // a polygon of no height
		finding{BoxOutside, "b.txt", "12:10", "lies outside"},
		finding{UnknownClass, "b.txt", "13:11", "class 1.5"},
		finding{ImageUnannotated, "c.jpg", "", "taken as one without objects"},
		finding{OrphanAnnotation, "orphan.txt", "", "labels without image"},
		finding{BadImage, "bad.jpg", "", "cannot be decoded"},
		finding{BadImage, "cut.jpg", "", "cannot be decoded"},
	)
	d := fixed(t, r, dir)
	for id, want := range map[string]string{
		"a": "dog[40 30 20 20] cat[20 20 10 40]", "b": "dog[40 30 20 20] dog[85 32 15 16]", "c": "", "poly": "dog[20 20 80 40]", "bad": "no image bad", "t": "",
	} {
		if got := boxesOf(d, id); got != want {
			t.Errorf("%s: %s, want %s", id, got, want)
		}
	}
	for i := range d.Images {
		if want := map[string]string{"a": "train", "b": "train", "c": "train"}[d.Images[i].ID]; d.Images[i].Split != want && (want != "" || d.Images[i].Split != "val") {
			t.Errorf("%s is in %s", d.Images[i].ID, d.Images[i].Split)
		}
	}
}

func TestCheckYOLOPixels(t *testing.T) {
	dir := tree(t, map[string]string{
		"data.yaml": "train: images\nnames: {0: dog}\n", "images/a.jpg": jpg(100, 80, 0), "labels/a.txt": "0 50 40 20 10\n0 30 20 10 10\n",
	})
	r := check(t, "yolo:"+dir+"/data.yaml")
	wantFindings(t, r, finding{BoxPixels, "a.txt", "1:0", "2 of 2 rows have values far above 1"})
	if got := boxesOf(fixed(t, r, dir), "a"); got != "dog[40 35 20 10] dog[25 15 10 10]" {
		t.Error(got)
	}
}

func TestCheckAgainstGivenClasses(t *testing.T) {
	dir := tree(t, map[string]string{"a.xml": xmlOf("a.jpg", 100, 80, "dog 10 10 50 50", "hog 10 10 40 40"), "a.jpg": jpg(100, 80, 0)})
	r := check(t, "voc:"+dir, "dog", "cat")
	wantFindings(t, r, finding{UnknownClass, "a.xml", "5:1", "the class is not one of dog, cat"})
	if got := boxesOf(fixed(t, r, dir, "dog", "cat"), "a"); got != "dog[9 9 41 41]" {
		t.Error(got)
	}
}

// A photo and a row for each of EXIF's orientations: the box must lie on the
// white block in the photo as it is shown.
func TestTurnBox(t *testing.T) {
	for o := 1; o <= 8; o++ {
		dir := tree(t, map[string]string{"p.jpg": jpg(96, 64, o), "p.xml": xmlOf("p.jpg", 96, 64, "dog 1 1 24 16")})
		d := fixed(t, check(t, "voc:"+dir), dir)
		b := turnBox(Box{0, 0, 24, 16}, o, 96, 64)
		if o >= 2 && o <= 4 {
			b = Box{0, 0, 24, 16} // it cannot be told, so it stays
		}
		if got, want := boxesOf(d, "p"), "dog"+b.String(); got != want {
			t.Errorf("orientation %d: %s, want %s", o, got, want)
		}
		if o >= 2 && o <= 4 {
			continue
		}
		if light := brightness(t, d.Images[0].Path, b); light < 240 {
			t.Errorf("orientation %d: the box %v has brightness %v, not the white block's", o, b, light)
		}
	}
}

func TestCheckMisspeltClass(t *testing.T) {
	files := map[string]string{}
	for i := range 12 {
		files[fmt.Sprintf("%02d.xml", i)] = xmlOf(fmt.Sprintf("%02d.jpg", i), 100, 80, "raccoon 10 10 50 50", "class1 1 2 8 8")
		files[fmt.Sprintf("%02d.jpg", i)] = jpg(100, 80, 0)
	}
	files["03.xml"] = xmlOf("03.jpg", 100, 80, "racoon 10 10 50 50", "class2 1 2 8 8")
	dir := tree(t, files)
	r := check(t, "voc:"+dir)
	wantFindings(t, r, finding{UnknownClass, "03.xml", "4:0", `1 objects of the set are called "racoon", 11 are called "raccoon"`})
	if got := boxesOf(fixed(t, r, dir), "03"); got != "raccoon[9 9 41 41] class2[0 1 8 7]" {
		t.Error(got)
	}
	for _, c := range []struct {
		a, b string
		want bool
	}{{"raccoon", "racoon", true}, {"bottel", "bottle", true}, {"horse", "house", true}, {"cats", "cat", true}, {"class1", "class2", false}, {"class1", "class10", false}, {"dog", "dog", false}, {"abcd", "dcba", false}, {"", "a", true}} {
		if oneLetterApart(c.a, c.b) != c.want || oneLetterApart(c.b, c.a) != c.want {
			t.Errorf("oneLetterApart(%q, %q) is not %t", c.a, c.b, c.want)
		}
	}
}

func TestCheckCleanRealSets(t *testing.T) {
	data := fixture.Shared(t, "data")
	wantFindings(t, check(t, "voc:"+data+"/raccoon,every=4"))
	wantFindings(t, check(t, "coco:"+data+"/coco-tiny/annotations/instances_val2017.json,every=4"))
	r := check(t, "voc:"+data+"/bccd,split=test,every=2")
	for _, f := range r.Faults {
		if f.Kind != BoxEmpty { // two boxes of the set are clicks
			t.Error(f)
		}
	}
}

func TestCheckStopsWithItsContext(t *testing.T) {
	dir := tree(t, map[string]string{"p.jpg": jpg(96, 64, 0), "p.xml": xmlOf("p.jpg", 96, 64)})
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Check(ctx, CheckConfig{Spec: Spec{Format: FormatVOC, Path: dir}}); err == nil {
		t.Error("no error")
	}
}

func TestReportJSON(t *testing.T) {
	dir := tree(t, map[string]string{"p.jpg": jpg(96, 64, 0), "p.xml": xmlOf("p.jpg", 96, 64)})
	b, err := json.Marshal(check(t, "voc:"+dir))
	if err != nil {
		t.Fatal(err)
	}
	want := `{"dataset":"voc:` + dir + `","format":"voc","images":1,"empty":1,"objects":0,"classes":0,"counts":{},"findings":[]}`
	if string(b) != want {
		t.Errorf("%s\nwant %s", b, want)
	}
}

func TestFixRefuses(t *testing.T) {
	dir := tree(t, map[string]string{"data.yaml": "train: images\nnames: [dog]\n", "images/a.jpg": jpg(100, 80, 0), "full/x": ""})
	r := check(t, "yolo:"+dir+"/data.yaml")
	for _, out := range []string{dir + "/full", dir + "/images/fixed", dir + "/data.yaml"} {
		if _, err := r.Fix(context.Background(), out, CopyPhotos, nil); err == nil {
			t.Errorf("wrote into %s", out)
		}
	}
}

// What a stranger's data.yaml names outside of its folder is not read, nor is
// it told whether it is there.
func TestYOLOWithin(t *testing.T) {
	dir := tree(t, map[string]string{
		"set/images/a.jpg": jpg(100, 80, 0), "set/labels/a.txt": "0 0.5 0.4 0.2 0.1\n", "set/list.txt": "images/a.jpg\n", "set/leak.txt": "../secret/images/b.jpg\n",
		"secret/images/b.jpg": jpg(100, 80, 0), "secret/labels/b.txt": "0 0.5 0.4 0.2 0.1\n",
	})
	for _, c := range []struct{ yaml, want string }{
		{"train: images", ""},
		{"train: list.txt", ""},
		{"path: " + dir + "\ntrain: images", ""}, // as if it were of another machine
		{"path: ..\ntrain: images", ""},
		{"train: ../images", ""}, // Roboflow's
		{"train: ../secret/images", "outside of the data set's folder"},
		{"train: " + dir + "/secret/images", "outside of the data set's folder"},
		{"train: " + dir + "/nothing", "outside of the data set's folder"},
		{"train: /etc/passwd", "outside of the data set's folder"},
		{"train: [images, " + dir + "/set/../secret/images]", "outside of the data set's folder"},
		{"train: leak.txt", "outside of the data set's folder"},
	} {
		put(t, filepath.Join(dir, "set", "data.yaml"), c.yaml+"\nnames: [dog]\n")
		spec := Spec{Format: FormatYOLO, Path: filepath.Join(dir, "set", "data.yaml"), Within: filepath.Join(dir, "set")}
		d, err := Load(context.Background(), spec)
		if c.want == "" && (err != nil || len(d.Images) != 1 || d.Images[0].ID != "a") || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%q: %v, want %q", c.yaml, err, c.want)
		}
	}
}
