package video

import (
	"bytes"
	"context"
	"errors"
	"image/jpeg"
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"resdet/internal/box"
	"resdet/internal/det"
	"resdet/internal/track"
)

func someResult(index int) *Result {
	m := shade(64, 48, 120)
	return &Result{
		Frame:    &Frame{Index: index, Time: time.Duration(index) * 40 * time.Millisecond, Image: m},
		Detected: index%2 == 0,
		Objects: []track.Object{
			{ID: 7, Detection: det.Detection{Class: 1, Score: 0.123456789, Box: box.Box{X0: 1.234567, Y0: 2, X1: 30.5, Y1: 40}}},
			{Detection: det.Detection{Class: 9, Score: 1, Box: box.Box{X0: float32(math.Inf(1))}}},
		},
		Picture: m,
	}
}

type closer struct {
	bytes.Buffer
	n int
}

func (c *closer) Close() error { c.n++; return nil }

func TestJSONLines(t *testing.T) {
	var b closer
	s := NewJSONLines(&b, b.Close, []Class{{"cat", 17}, {"dog", 18}})
	for _, r := range []*Result{someResult(2), {Frame: &Frame{Index: 3, Time: time.Second / 3, Image: shade(2, 2, 0)}}} {
		if err := s.Write(context.Background(), r); err != nil {
			t.Fatal(err)
		}
	}
	s.Close()
	want := `{"frame":2,"time":0.08,"width":64,"height":48,"detected":true,"detections":[{"class":"dog","class_id":18,"score":0.12346,"box":[1.23,2,30.5,40],"track":7}]}
{"frame":3,"time":0.333333,"width":2,"height":2,"detected":false,"detections":[]}
`
	if d := cmp.Diff(want, b.String()); d != "" || b.n != 1 || s.Draws() {
		t.Error(d, b.n)
	}
}

func TestMOTLines(t *testing.T) {
	var b closer
	s := NewMOT(&b)
	for i := 10; i < 12; i++ {
		r := someResult(i)
		r.Objects = r.Objects[:1]
		if err := s.Write(context.Background(), r); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(s.Close(), s.Close()); err != nil {
		t.Fatal(err)
	}
	want := "1,7,1.23,2.00,29.27,38.00,0.12346,-1,-1,-1\n2,7,1.23,2.00,29.27,38.00,0.12346,-1,-1,-1\n"
	if d := cmp.Diff(want, b.String()); d != "" || b.n != 1 {
		t.Error(d, b.n)
	}
}

func TestFolderSink(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	s, err := NewFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.Write(context.Background(), someResult(12)), s.Close()); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(dir, "000012.jpg"))
	if err != nil {
		t.Fatal(err)
	}
	if m, err := jpeg.Decode(bytes.NewReader(data)); err != nil || m.Bounds().Dx() != 64 {
		t.Error(err)
	}
	os.RemoveAll(dir)
	if err := s.Write(context.Background(), someResult(13)); err == nil {
		t.Error("a folder that is gone was written to")
	}
	if _, err := NewFolder("/dev/null/x"); err == nil {
		t.Error("a folder below a file was made")
	}
}
