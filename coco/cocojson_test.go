package coco

import (
	"fmt"
	"io"
	"math"
	"os"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
)

const small = `{"info":{"x":[{},[1,2,{"a":"]}\"\\"}]]},
"annotations":[
 {"id":0,"image_id":7,"category_id":3,"bbox":[1.5,2,3e1,4],"area":100.25,"iscrowd":0,"segmentation":[[1,2,3,4]]},
 {"segmentation":{"counts":"a\"]","size":[1,2]},"iscrowd":1,"id":5,"image_id":"7","category_id":1,"bbox":[0,0,10,20.0]},
 {"id":6,"image_id":9,"category_id":1,"bbox":[0,0,1,1],"area":1,"ignore":1,"difficult":1,"truncated":true}],
"categories":[{"id":3,"name":"dog","supercategory":"animal"},{"id":1,"name":"c\u00e4t \ud83d\ude00"},{"id":90,"name":"none of it"}],
"images":[{"id":7,"file_name":"a\/b.jpg","width":640,"height":480.0},{"id":9,"file_name":"c.jpg","width":null,"height":1},{"id":8,"file_name":"empty.jpg","width":5,"height":6}]}
`

func TestReadCOCO(t *testing.T) {
	for name, r := range map[string]io.Reader{
		"whole": strings.NewReader(small), "bytes": iotest.OneByteReader(strings.NewReader(small)), "BOM and CRLF": strings.NewReader("\ufeff" + strings.ReplaceAll(small, "\n", "\r\n")),
	} {
		d, err := ReadCOCO(r, "x.json")
		if err != nil {
			t.Fatal(name, err)
		}
		want := &Dataset{
			Format: FormatCOCO, Path: "x.json",
			Classes: []Class{{Name: "cät 😀", ID: 1}, {Name: "dog", ID: 3, Supercategory: "animal"}, {Name: "none of it", ID: 90}},
			Images: []Image{
				{ID: "7", File: "a/b.jpg", Annotation: "x.json", Width: 640, Height: 480, Objects: []Object{
					{ID: 0, Class: 1, Box: Box{1.5, 2, 30, 4}, Area: 100.25, Index: 0, Line: 3},
					{ID: 5, Class: 0, Box: Box{0, 0, 10, 20}, Area: 200, Crowd: true, Index: 1, Line: 4},
				}},
				{ID: "9", File: "c.jpg", Annotation: "x.json", Height: 1, Objects: []Object{
					{ID: 6, Class: 0, Box: Box{0, 0, 1, 1}, Area: 1, Ignore: true, Difficult: true, Truncated: true, Index: 2, Line: 5},
				}},
				{ID: "8", File: "empty.jpg", Annotation: "x.json", Width: 5, Height: 6},
			},
			Faults: []Fault{{Kind: BadArea, File: "x.json", Line: 4, Object: 1, Count: 1, Message: "1 of 3 annotations have no area", Fix: "add it: results by size depend on it; --fix takes the box's"}},
		}
		if diff := cmp.Diff(want, d, cmp.AllowUnexported(Fault{})); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestReadCOCOErrors(t *testing.T) {
	doc := func(images, annotations, categories string) string {
		return `{"images":[` + images + `],"annotations":[` + annotations + "],\n" + `"categories":[` + categories + `]}`
	}
	im, cat := `{"id":1,"file_name":"a.jpg","width":10,"height":10}`, `{"id":1,"name":"dog"}`
	for _, c := range []struct{ name, in, want string }{
		{"empty", "", "x.json:1:1 (byte 0): the file ends where '{' should be"},
		{"results", `[{"image_id":1}]`, "is this a file of detections?"},
		{"cut", `{"images":[{"id":1,"file_name":"a`, "images[0]: the file ends inside a string"},
		{"cut in skip", `{"info":[[1,2`, "the file ends inside a list or an object"},
		{"no categories", `{"images":[]}`, `no "categories" in it`},
		{"no images", `{"categories":[]}`, `no "images" in it`},
		{"trailing", doc(im, "", cat) + "x", `x.json:2:38 (byte 119): 'x' where the end of the file should be`},
		{"bbox text", doc(im, `{"id":1,"image_id":1,"category_id":1,"bbox":["a"]}`, cat), "annotations[0]: '\"' where a number should be"},
		{"no image_id", doc(im, `{"id":1,"category_id":1,"bbox":[1,2,3,4]}`, cat), "annotations[0]: no image_id"},
		{"word", doc(im, `{"id":1,"image_id":1,"category_id":1,"bbox":nil}`, cat), `annotations[0]: "nil" is not a value`},
		{"deep", `{"info":` + strings.Repeat("[", 20000), "nested more than 10000 deep"},
		{"comma", `{"images":[{"id":1}{"id":2}]}`, "'{' where ',' or ']' should be"},
		{"long", `{"images":[{"id":1,"file_name":"` + strings.Repeat("a", 3<<20) + `"}]}`, "images[0]: a value of more than 1 MiB"},
	} {
		_, err := ReadCOCO(strings.NewReader(c.in), "x.json")
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v; want %q in it", c.name, err, c.want)
		}
	}
	for _, c := range []struct {
		name, in string
		kind     Kind
		want     string
		blocks   bool
	}{
		{"NaN", doc(im, `{"id":4,"image_id":1,"category_id":1,"bbox":[1,NaN,3,4]}`, cat), BadValue, "x.json:1: object 0: annotation 4: bbox [1 NaN 3 4] is not finite", true},
		{"too big", doc(im, `{"id":4,"image_id":1,"category_id":1,"bbox":[1,1e999,3,4]}`, cat), BadValue, "not finite", true},
		{"area", doc(im, `{"id":4,"image_id":1,"category_id":1,"bbox":[1,1,3,4],"area":Infinity}`, cat), BadValue, "area +Inf is not finite", true},
		{"three", doc(im, `{"id":4,"image_id":1,"category_id":1,"bbox":[1,2,3]}`, cat), BoxMissing, "3 numbers in its bbox, not 4", true},
		{"none", doc(im, `{"id":4,"image_id":1,"category_id":1}`, cat), BoxMissing, "no bbox", true},
		{"class", doc(im, `{"id":4,"image_id":1,"category_id":0,"bbox":[1,2,3,4],"area":1}`, cat), UnknownClass, "category_id 0, which is not listed", true},
		{"orphan", doc(im, `{"id":4,"image_id":77,"category_id":1,"bbox":[1,2,3,4],"area":1}`, cat), OrphanAnnotation, "belongs to image 77, which is not listed", false},
		{"image twice", doc(im+","+im, ``, cat), DuplicateID, "images[1] (a.jpg) has the id of another", true},
		{"class twice", doc(im, ``, cat+`,{"id":1,"name":"cat"}`), DuplicateID, `category "cat" has the id 1 of category "dog"`, true},
		{"one name", doc(im, ``, cat+`,{"id":2,"name":"dog"}`), ClassSpelling, `both called "dog"`, false},
		{"no name", doc(im, ``, `{"id":1,"name":""}`), ClassEmpty, "category 1 has no name", true},
	} {
		d, err := ReadCOCO(strings.NewReader(c.in), "x.json")
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if len(d.Faults) == 0 || d.Faults[0].Kind != c.kind || !strings.Contains(d.Faults[0].String(), c.want) || d.Faults[0].blocks != c.blocks {
			t.Errorf("%s: %+v; want %s %q", c.name, d.Faults, c.kind, c.want)
		}
	}
}

func TestParseNumberIsExact(t *testing.T) {
	for _, s := range []string{"0", "-0", "1", "0.1", "239.01", "0.30000000000000004", "123456789012345", "1234567890123456789", "1e-7", "1E5", "2.5e+3", "5e-324", "179769313486231570000000000000000000000", ".5", "3.", "99999999999999.9"} {
		got, ok := parseNumber([]byte(s))
		var want float64
		if _, err := fmt.Sscanf(s, "%g", &want); err != nil || !ok || math.Float64bits(got) != math.Float64bits(want) {
			t.Errorf("%s: %v %v, want %v", s, got, ok, want)
		}
	}
	for _, s := range []string{"", "-", ".", "1..2", "0x10", "1_0", "--1", "e5", "1e"} {
		if v, ok := parseNumber([]byte(s)); ok {
			t.Errorf("%q is read as %v", s, v)
		}
	}
}

// bigCOCO writes an instances file in COCO's manner: objects with polygons of
// some 30 corners.
func bigCOCO(w io.Writer, images, objects int) error {
	b := []byte(`{"info":{"description":"made"},"licenses":[],"images":[`)
	for i := range images {
		if i > 0 {
			b = append(b, ',')
		}
		b = fmt.Appendf(b, `{"license":4,"file_name":"%012d.jpg","coco_url":"http://images.cocodataset.org/train2017/%012d.jpg","height":480,"width":640,"date_captured":"2013-11-14 11:18:45","flickr_url":"http://farm9.staticflickr.com/8186/%d_z.jpg","id":%d}`, i*5, i*5, i, i*5)
	}
	b = append(b, `],"annotations":[`...)
	for i := range objects {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"segmentation":[[`...)
		for k := range 30 {
			b = fmt.Appendf(b, "%d.%02d,%d.%d,", i*k%640, k, i%480, k%10)
		}
		b = fmt.Appendf(b, `1]],"area":%d.5,"iscrowd":0,"image_id":%d,"bbox":[%d.52,%d.1,%d.28,%d.77],"category_id":%d,"id":%d}`, i%9999, i%images*5, i%300, i%200, 20+i%200, 30+i%200, 1+i%80, i+1)
		if len(b) > 1<<20 {
			if _, err := w.Write(b); err != nil {
				return err
			}
			b = b[:0]
		}
	}
	b = append(b, `],"categories":[`...)
	for i := range 80 {
		if i > 0 {
			b = append(b, ',')
		}
		b = fmt.Appendf(b, `{"supercategory":"thing","id":%d,"name":"class %d"}`, i+1, i)
	}
	_, err := w.Write(append(b, "]}"...))
	return err
}

// BenchmarkReadCOCO reads 50 MB of instances, a tenth of COCO's train2017.
func BenchmarkReadCOCO(b *testing.B) {
	f, err := os.CreateTemp(b.TempDir(), "*.json")
	if err != nil {
		b.Fatal(err)
	}
	if err := bigCOCO(f, 12_000, 110_000); err != nil {
		b.Fatal(err)
	}
	f.Close()
	st, err := os.Stat(f.Name())
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(st.Size())
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ReadCOCOFile(f.Name()); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkReadResults reads 140,000 detections, as many as VOC 2007 test has
// in issue 4's measure.
func BenchmarkReadResults(b *testing.B) {
	results := make([]Result, 140_000)
	for i := range results {
		f := float64(i)
		results[i] = Result{Image: fmt.Sprint(1 + i*7%9963), ClassID: 1 + i%20, Box: Box{math.Mod(f*1.37, 300), math.Mod(f*0.77, 300), 20 + math.Mod(f*3.11, 100), 30.25}, Score: math.Mod(f*0.6180339887, 1)}
	}
	var sb strings.Builder
	if err := WriteResults(&sb, results); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(sb.Len()))
	b.ReportAllocs()
	for b.Loop() {
		got, err := ReadResults(strings.NewReader(sb.String()), "x")
		if err != nil || len(got) != len(results) {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed())/float64(b.N)/float64(time.Millisecond), "ms/op")
}
