package coco

import (
	"bufio"
	"bytes"
	"context"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// Whatever the bytes: no panic, and what is read is consistent.

func sound(t *testing.T, d *Dataset) {
	t.Helper()
	for i := range d.Images {
		im := &d.Images[i]
		if im.Width < 0 || im.Height < 0 {
			t.Fatalf("image %q of %d×%d", im.ID, im.Width, im.Height)
		}
		for k := range im.Objects {
			o := &im.Objects[k]
			if !o.Box.Finite() || o.Class < 0 || o.Class >= len(d.Classes) || math.IsNaN(o.Area) {
				t.Fatalf("image %q: object %+v of %d classes", im.ID, *o, len(d.Classes))
			}
		}
	}
}

func FuzzCOCO(f *testing.F) {
	f.Add([]byte(small))
	f.Add([]byte("\ufeff{\"images\":[{\"id\":\"a\",\"file_name\":\"\\ud83d\\ude00\"}],\"categories\":[{\"id\":0,\"name\":\"x\"}],\"annotations\":[{\"image_id\":\"a\",\"category_id\":0,\"bbox\":[1e5,NaN,-Infinity,.5]}]}"))
	f.Add([]byte(`{"images":[],"categories":[],"annotations":null}`))
	f.Add([]byte(`[[[{"a":"\\"}]]]`))
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := ReadCOCO(bytes.NewReader(b), "x.json")
		if err != nil {
			return
		}
		sound(t, d)
		// What was read is written and read again as the same.
		var out bytes.Buffer
		if err := WriteCOCO(&out, d); err != nil {
			t.Fatal(err)
		}
		again, err := ReadCOCO(&out, "y.json")
		if err != nil {
			t.Fatalf("cannot read what was written: %v\n%s", err, out.Bytes())
		}
		if len(again.Images) != len(d.Images) || again.Objects() != d.Objects() {
			t.Fatalf("%d images and %d objects became %d and %d", len(d.Images), d.Objects(), len(again.Images), again.Objects())
		}
	})
}

func FuzzVOC(f *testing.F) {
	f.Add([]byte(xmlOf("a.jpg", 100, 80, "dog 1 2 3 4", "cat 1.5 2 3e1 4")))
	f.Add([]byte("\ufeff<?xml version=\"1.0\" encoding=\"gbk\"?><annotation><filename>a&b</filename><object><name>\xe4</name></object>"))
	f.Add([]byte(xmlOf("a.jpg", 0, 0, "dog NaN 2 3 4", "<object><part><bndbox/></part></object>")))
	f.Add([]byte(`<!DOCTYPE a [<!ENTITY x "y">]><annotation><![CDATA[x]]><!-- y --></annotation>`))
	f.Fuzz(func(t *testing.T, b []byte) {
		im, classes, err := ParseVOC(bytes.NewReader(b), "x.xml")
		if err != nil {
			return
		}
		d := &Dataset{Classes: classesOf(classes, func(i int) int { return i + 1 }), Images: []Image{im}}
		sound(t, d)
		out, err := AppendVOC(nil, im, d.Classes)
		if err != nil {
			t.Fatal(err)
		}
		again, _, err := ParseVOC(bytes.NewReader(out), "y.xml")
		if err != nil || len(again.Objects) != len(im.Objects) {
			t.Fatalf("cannot read what was written: %v\n%s", err, out)
		}
	})
}

func FuzzYOLOLabels(f *testing.F) {
	f.Add([]byte("0 0.5 0.5 0.1 0.2\n1 .5 .5 1e-3 1\r\n\n"))
	f.Add([]byte("\ufeff0 0 0 1 0 1 1 0 1\n-1 x nan 1 1\n9 1e308 1 1e308 1"))
	f.Fuzz(func(t *testing.T, b []byte) {
		objects, _ := parseYOLOLabels(b, "x.txt", 640, 480, 3)
		sound(t, &Dataset{Classes: make([]Class, 3), Images: []Image{{Objects: objects}}})
	})
}

func FuzzYOLOData(f *testing.F) {
	f.Add([]byte("path: x\ntrain: images/train\nval: [a, b]\nnc: 2\nnames: [dog, cat]\n"))
	f.Add([]byte("names:\n  0: dog\n  1: 'cat'\ntest: \n"))
	f.Add([]byte("a: &a [x]\nnames: *a\nnc: x"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 1<<12 {
			return // bounded in use; YAML of a megabyte is slow
		}
		y, err := parseYOLOData(b, "x.yaml")
		if err == nil && len(y.names) == 0 {
			t.Fatal("no names and no error")
		}
	})
}

func FuzzResults(f *testing.F) {
	f.Add([]byte(`[{"image_id":1,"category_id":1,"bbox":[1,2,3,4],"score":0.5},{"image_id":"a","category_id":18,"bbox":[1e0,-2,3.25,4],"score":1,"x":{"y":[]}}]`))
	f.Add([]byte(`[{"image_id":1,"category_id":1,"bbox":[1,2,3,NaN],"score":1e999}]`))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := ReadResults(bytes.NewReader(b), "x.json")
		if err != nil {
			return
		}
		var out bytes.Buffer
		if err := WriteResults(&out, got); err != nil {
			t.Fatal(err)
		}
		again, err := ReadResults(&out, "again")
		if err != nil || len(again) != len(got) {
			t.Fatalf("cannot read what was written: %v", err)
		}
		for i := range got {
			if again[i].Box != got[i].Box || again[i].Score != got[i].Score || again[i].ClassID != got[i].ClassID {
				t.Fatalf("%+v became %+v", got[i], again[i])
			}
		}
	})
}

func FuzzLines(f *testing.F) {
	f.Add([]byte(`{"image":"a.jpg","width":1,"height":2,"detections":[{"class":"dog","class_id":18,"score":0.98,"box":[1,2,3,4]}],"ms":{"total":1}}` + "\n" + `{"image":"b","detections":[]}`))
	f.Add([]byte(`{"image":7,"detections":[{"class":"","score":-0,"box":[1,2,3]}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := ReadLines(bytes.NewReader(b), "x.jsonl")
		if err != nil {
			return
		}
		for i := range got {
			if err := got[i].check(i); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func FuzzCSV(f *testing.F) {
	f.Add([]byte("image,class,class_id,score,x0,y0,x1,y1\na,dog,1,0.5,1,2,3,4\n\"b,c\",cat,,1,1,2,3,4\n"))
	f.Add([]byte("score,x,y,w,h,category_id,image_id\r\n0.5,1,2,3,nan,4,18\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := ReadCSV(bytes.NewReader(b), "x.csv")
		if err != nil {
			return
		}
		for i := range got {
			if err := got[i].check(i); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func FuzzVOCResults(f *testing.F) {
	f.Add([]byte("000012 0.5 1 2 3 4\na b c 1e-3 1.5 2 3 4\r\n\n"))
	f.Add([]byte("x NaN 1 2 3 4\n1 2 3"))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := readVOCRows(bytes.NewReader(b), "x.txt", "dog", nil)
		if err != nil {
			return
		}
		for i := range got {
			if err := got[i].check(i); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func FuzzSpec(f *testing.F) {
	for _, s := range []string{"coco:a.json,images=b", "voc:d,split=x,every=5,first=2", "yolo:a,b,not-every=3", "voc:,", "mot:x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, arg string) {
		s, err := ParseSpec(arg)
		if err != nil {
			return
		}
		again, err := ParseSpec(s.String())
		if err != nil || again.String() != s.String() {
			t.Fatalf("%q prints as %q, which reads as %q, %v", arg, s, again, err)
		}
	})
}

func FuzzImageHead(f *testing.F) {
	f.Add([]byte(jpg(20, 10, 6)))
	f.Add([]byte(pngPhoto(20, 10)))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := decodeHead(bufio.NewReader(bytes.NewReader(b)))
		if err == nil && (h.width <= 0 || h.height <= 0 || h.orientation < 1 || h.orientation > 8) {
			t.Fatalf("%+v", h)
		}
	})
}

// FuzzCheckVOC repairs whatever set the XML makes; the copy must check clean.
func FuzzCheckVOC(f *testing.F) {
	f.Add("dog", "Dog ", 0, 5, 30, 40, 101, 3, 0)
	f.Add("a", "b", -7, 1, 1, 1, 1, 900, 5)
	f.Add("cat", "cat", 1, 1, 100, 80, 100, 80, 3)
	photos := map[int]string{}
	for o := range 9 {
		photos[o] = jpg(100, 80, o)
	}
	f.Fuzz(func(t *testing.T, a, b string, x0, y0, x1, y1, x2, w, o int) {
		dir := t.TempDir()
		text := func(s string) string { return string(appendXML(nil, s)) }
		object := func(n string, x0, y0, x1, y1 int) string {
			const limit = 1 << 40
			return string(append(append([]byte("<object><name>"), text(n)...), []byte("</name><bndbox><xmin>"+strconv.Itoa(x0%limit)+"</xmin><ymin>"+strconv.Itoa(y0%limit)+"</ymin><xmax>"+strconv.Itoa(x1%limit)+"</xmax><ymax>"+strconv.Itoa(y1%limit)+"</ymax></bndbox></object>")...))
		}
		put(t, filepath.Join(dir, "p.xml"), xmlOf(text(strings.TrimSpace(a))+".jpg", w%200, 80, object(a, x0, y0, x1, y1), object(b, x0, y0, x2, y1), object(a, x1, y0, x2, y1)))
		put(t, filepath.Join(dir, "p.jpg"), photos[(o%9+9)%9])
		put(t, filepath.Join(dir, "q.xml"), xmlOf("q.jpg", 100, 80, object(b, 1, 1, x1, y1), object(b, 1, 1, x1, y1)))
		put(t, filepath.Join(dir, "q.jpg"), photos[0])
		r, err := Check(context.Background(), CheckConfig{Spec: Spec{Format: FormatVOC, Path: dir}})
		if err != nil {
			t.Fatal(err)
		}
		out := filepath.Join(t.TempDir(), "fixed")
		if _, err := r.Fix(context.Background(), out, CopyPhotos, nil); err != nil {
			if strings.Contains(err.Error(), "no image is left") {
				return
			}
			t.Fatal(err)
		}
		again, err := Check(context.Background(), CheckConfig{Spec: Spec{Format: FormatVOC, Path: out}})
		if err != nil {
			t.Fatal(err)
		}
		for _, fault := range again.Faults {
			xml, _ := os.ReadFile(fault.File)
			t.Errorf("after repair: %v\n%s", fault, xml)
		}
	})
}
