package coco

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var someResults = []Result{
	{Image: "000012", Class: "dog", ClassID: 12, Box: Box{0.5, 1.25, 30.1, 40}, Score: 0.9175432801246644},
	{Image: "a b", Class: "cat", ClassID: 8, Box: Box{10, 20, 30, 40}, Score: 1},
	{Image: "7", Class: "dog", ClassID: 12, Box: Box{-3, 0, 1e-9, 1e17}, Score: 1e-12},
}

func TestResultsRoundTrip(t *testing.T) {
	dir := t.TempDir()
	var j, c strings.Builder
	if err := WriteResults(&j, someResults); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(j.String(), `[{"image_id":"000012","category_id":12,"bbox":[0.5,1.25,30.1,40],"score":0.9175432801246644},`+"\n") || !strings.Contains(j.String(), `{"image_id":7,`) {
		t.Error(j.String())
	}
	put(t, dir+"/x.json", j.String())
	if err := WriteCSV(&c, someResults); err != nil {
		t.Fatal(err)
	}
	put(t, dir+"/x.csv", c.String())
	var lines []byte
	for _, r := range someResults {
		b, err := AppendLine(nil, Line{Image: "photos/" + r.Image + ".jpg", Width: 100, Height: 80, Detections: []Result{r}, MS: map[string]float64{"total": 1.5, "a": 1}})
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, b...)
	}
	if want := `{"image":"photos/a b.jpg","width":100,"height":80,"detections":[{"class":"cat","class_id":8,"score":1,"box":[10,20,40,60]}],"ms":{"a":1,"total":1.5}}` + "\n"; !strings.Contains(string(lines), want) {
		t.Errorf("%s\nwant %s", lines, want)
	}
	put(t, dir+"/x.jsonl", string(lines)+`{"image":"empty.jpg","width":1,"height":1,"detections":[]}`)
	if err := WriteVOCResults(dir+"/voc", "test", []Class{{Name: "bird"}, {Name: "cat"}, {Name: "dog"}}, someResults); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(dir + "/voc/comp4_det_test_cat.txt")
	if err != nil || string(b) != "a b 1 11 21 40 60\n" {
		t.Errorf("%q %v", b, err)
	}
	if b, err := os.ReadFile(dir + "/voc/comp4_det_test_bird.txt"); err != nil || len(b) != 0 {
		t.Errorf("%q %v", b, err)
	}
	for _, name := range []string{"x.json", "x.csv", "x.jsonl", "voc"} {
		got, err := ReadResultsFile(filepath.Join(dir, name))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		want := make([]Result, len(someResults))
		copy(want, someResults)
		for i := range want {
			switch name {
			case "x.json":
				want[i].Class = ""
			case "x.jsonl":
				want[i].Image = "photos/" + want[i].Image + ".jpg"
			case "voc":
				want[i].ClassID = 0
			}
		}
		if name == "voc" {
			want = []Result{want[1], want[0], want[2]} // by class
		}
		if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b float64) bool { return math.Abs(a-b) <= 1e-12*math.Max(1, math.Abs(a)) })); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	one, err := ReadResultsFile(dir + "/voc/comp4_det_test_dog.txt")
	if err != nil || len(one) != 2 {
		t.Error(one, err)
	}
}

func TestResultErrors(t *testing.T) {
	dir := t.TempDir()
	ok := `{"image_id":1,"category_id":1,"bbox":[1,2,3,4],"score":0.5}`
	for name, c := range map[string]struct{ text, want string }{
		"nan.json":                {`[` + ok + ",\n" + `{"image_id":1,"category_id":1,"bbox":[1,2,3,4],"score":NaN}]`, "nan.json:2:59 (byte 120): detection 1: score: NaN is not finite"},
		"inf.json":                {`[{"image_id":1,"category_id":1,"bbox":[1,-Infinity,3,4],"score":1}]`, "detection 0: bbox: -Inf is not finite"},
		"big.json":                {`[{"image_id":1,"category_id":1,"bbox":[1,1e400,3,4],"score":1}]`, "detection 0: bbox: +Inf is not finite"},
		"three.json":              {`[{"image_id":1,"category_id":1,"bbox":[1,2,3],"score":1}]`, "detection 0: bbox: 3 numbers, not 4"},
		"noscore.json":            {`[` + ok + `,{"image_id":1,"category_id":1,"bbox":[1,2,3,4]}]`, "detection 1: no score"},
		"text.json":               {`[{"image_id":1,"category_id":"dog","bbox":[1,2,3,4],"score":1}]`, `detection 0: '"' where an integer should be`},
		"cut.json":                {`[` + ok + `,{"image_id":1,`, "detection 1: the file ends where a key should be"},
		"gt.json":                 {`{"images":[],"annotations":[]}`, "is this a dataset's annotation file?"},
		"empty.json":              {" \n", "the file is empty"},
		"lines.jsonl":             {`{"image":"a","detections":[{"class":"dog","score":2,"box":[1,2,3,NaN]}]}`, "detection 0: box: NaN is not finite"},
		"nobox.jsonl":             {`{"image":"a","detections":[{"class":"dog","score":2}]}`, "detection 0: no box"},
		"head.csv":                {"a,b,c\n1,2,3\n", `head.csv:1: the header is "a,b,c"`},
		"nan.csv":                 {"image,class,score,x0,y0,x1,y1\na,dog,1,2,3,4,5\na,dog,1,2,nan,4,5\n", `nan.csv:3:11: detection 1: y0: "nan" is not a finite number`},
		"short.csv":               {"image,class,score,x0,y0,x1,y1\na,dog\n", "short.csv:2"},
		"comp4_det_test_dog.txt":  {"a 1 2 3 4 5\na 1 2 3 4\n", "dog.txt:2: 5 values, not image, score"},
		"comp4_det_test_cat.txt":  {"a inf 2 3 4 5\n", "inf is not finite"},
		"comp4_det_test_bird.txt": {"a x 2 3 4 5\n", `"x" is not a number`},
	} {
		put(t, filepath.Join(dir, name), c.text)
		if _, err := ReadResultsFile(filepath.Join(dir, name)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q in it", name, err, c.want)
		}
	}
	bad := []Result{{Image: "a", Score: math.NaN()}}
	if err := WriteResults(&strings.Builder{}, bad); err == nil {
		t.Error("WriteResults wrote NaN")
	}
	if err := WriteCSV(&strings.Builder{}, bad); err == nil {
		t.Error("WriteCSV wrote NaN")
	}
	if got, err := ReadResults(strings.NewReader("[]"), "x"); err != nil || len(got) != 0 {
		t.Error(got, err)
	}
}

func TestCSVColumns(t *testing.T) {
	got, err := ReadCSV(strings.NewReader("\ufeffScore, x,y,w,h,category_id,Image_ID\r\n0.5,1,2,3,4,18,\"a,b\"\r\n"), "x")
	want := []Result{{Image: "a,b", ClassID: 18, Box: Box{1, 2, 3, 4}, Score: 0.5}}
	if err != nil || cmp.Diff(want, got) != "" {
		t.Error(got, err)
	}
}

func TestResolveMismatch(t *testing.T) {
	d := &Dataset{Classes: VOCClasses(), Images: []Image{{ID: "000012", File: "000012.jpg"}, {ID: "000017", File: "000017.jpg"}}}
	for _, c := range []struct {
		name string
		r    Result
		want string
	}{
		{"other images", Result{Image: "99", ClassID: 1}, "none of the 1 detections is of an image of the dataset: they name 99 …, the dataset has 000012, 000017 …"},
		{"other ids", Result{Image: "12", ClassID: 0}, "none of the 1 detections is of a class of the dataset: they have id 0, the dataset has aeroplane (id 1), bicycle (id 2)"},
		{"other names", Result{Image: "12", Class: "raccoon", ClassID: 1}, "they have raccoon"},
	} {
		_, err := d.Resolve([]Result{c.r})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	got, err := d.Resolve([]Result{{Image: "12", ClassID: 12, Score: 1}, {Image: "photos/000017.jpg", Class: "couch"}, {Image: "5", ClassID: 1}, {Image: "17", ClassID: 99}})
	want := Resolved{Detections: []Detection{{Image: 0, Class: 11, Score: 1}, {Image: 1, Class: 17}}, OtherImages: 1, OtherClasses: 1}
	if err != nil || cmp.Diff(want, got) != "" {
		t.Error(got, err)
	}
	if back := d.Result(got.Detections[0]); back != (Result{Image: "000012", Class: "dog", ClassID: 12, Score: 1}) {
		t.Error(back)
	}
}
