package jobs

import (
	"archive/tar"
	"archive/zip"
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"io"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"resdet/internal/box"
	"resdet/internal/video"
)

// fake finds in every picture one object of class "level", whose score is the
// picture's brightness at its centre.
type fake struct {
	pause time.Duration // of each call
	hold  chan struct{} // if not nil, each call takes a value from it first
	fail  atomic.Bool
	calls atomic.Int64
	gone  atomic.Bool // the model is not there any more
}

func (f *fake) Check(model string, s Settings) (string, []Class, error) {
	if model != "" && model != "m" || f.gone.Load() {
		return "", nil, errors.New("there is no such model")
	}
	for _, c := range s.Classes {
		if c != "level" {
			return "", nil, fmt.Errorf("there is no class %q", c)
		}
	}
	return "m", []Class{{Name: "level", ID: 7}}, nil
}

func (f *fake) Detect(ctx context.Context, model string, s Settings, m image.Image) ([]Detection, error) {
	f.calls.Add(1)
	if f.fail.Load() {
		return nil, errors.New("the network is on fire")
	}
	if f.hold != nil {
		select {
		case <-f.hold:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	select {
	case <-time.After(f.pause):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	b := m.Bounds()
	level := color.GrayModel.Convert(m.At((b.Min.X+b.Max.X)/2, (b.Min.Y+b.Max.Y)/2)).(color.Gray).Y
	return []Detection{{Class: 0, Score: float32(level) / 255, Box: box.Box{X0: 1, Y0: 2, X1: float32(b.Dx()), Y1: float32(b.Dy())}}}, nil
}

// testConfig is small and quick.
func testConfig(t testing.TB) Config {
	c := DefaultConfig()
	c.Dir = t.TempDir()
	c.MaxJobs, c.MaxBytes, c.MaxUpload = 20, 64<<20, 16<<20
	t.Setenv(video.HelperEnv, "/nonexistent")
	return c
}

// openQueue opens and starts a queue, which the test's end closes.
func openQueue(t testing.TB, c Config, d Detector) *Queue {
	t.Helper()
	q, err := Open(c, d)
	if err != nil {
		t.Fatal(err)
	}
	q.Start()
	t.Cleanup(func() {
		if err := q.Close(); err != nil {
			t.Error(err)
		}
	})
	return q
}

// shade is a JPEG picture of one grey.
func shade(t testing.TB, level uint8) []byte {
	t.Helper()
	m := image.NewGray(image.Rect(0, 0, 32, 24))
	for i := range m.Pix {
		m.Pix[i] = level
	}
	var b bytes.Buffer
	if err := jpeg.Encode(&b, m, nil); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// member is a file of an archive.
type member struct {
	name string
	data []byte
}

// shades are n pictures of different greys.
func shades(t testing.TB, n int) []member {
	list := make([]member, n)
	for i := range list {
		list[i] = member{fmt.Sprintf("p%03d.jpg", i), shade(t, uint8(i*7))}
	}
	return list
}

func zipOf(t testing.TB, members ...member) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, m := range members {
		f, err := w.Create(m.name)
		if err == nil {
			_, err = f.Write(m.data)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	w.Close()
	return b.Bytes()
}

func tarOf(t testing.TB, members ...member) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, m := range members {
		err := w.WriteHeader(&tar.Header{Name: m.name, Size: int64(len(m.data)), Mode: 0o600, Typeflag: tar.TypeReg})
		if err == nil {
			_, err = w.Write(m.data)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	w.Close()
	return b.Bytes()
}

func gzipOf(data []byte) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	w.Write(data)
	w.Close()
	return b.Bytes()
}

// submit submits an upload that must be accepted.
func submit(t testing.TB, q *Queue, spec Spec, data []byte) Job {
	t.Helper()
	j, err := q.Submit(t.Context(), spec, bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	return j
}

// wait returns the job once it is what want says.
func wait(t testing.TB, q *Queue, id string, want func(Job) bool) Job {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		j, changed, err := q.Follow(id)
		if err != nil {
			t.Fatal(err)
		}
		if want(j) {
			return j
		}
		select {
		case <-changed:
		case <-ctx.Done():
			t.Fatalf("it stays %+v (%v)", j, j.Fault)
		}
	}
}

func finished(j Job) bool { return j.State.Finished() }

func is(s State) func(Job) bool { return func(j Job) bool { return j.State == s } }

// line is what tests look at of a line of results.
type line struct {
	Image      string
	Frame      int
	Width      int
	Error      string
	Detections []struct {
		Class   string
		ClassID int `json:"class_id"`
		Score   float64
		Track   int
	}
}

// resultsOf reads a job's results.
func resultsOf(t testing.TB, q *Queue, id string) []line {
	t.Helper()
	f, _, err := q.Results(id)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	return linesOf(t, f)
}

func linesOf(t testing.TB, r io.Reader) []line {
	t.Helper()
	var lines []line
	s := bufio.NewScanner(r)
	for s.Scan() {
		var l line
		if err := json.Unmarshal(s.Bytes(), &l); err != nil {
			t.Fatalf("%v: %s", err, s.Text())
		}
		lines = append(lines, l)
	}
	return lines
}

// code is a fault's.
func code(err error) Code {
	var f *Fault
	if !errors.As(err, &f) {
		return ""
	}
	return f.Code
}

// filesIn lists what is in a queue's folder of jobs.
func filesIn(t testing.TB, c Config) []string {
	t.Helper()
	var names []string
	entries, err := os.ReadDir(c.Dir + "/jobs")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		inside, err := os.ReadDir(c.Dir + "/jobs/" + e.Name())
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range inside {
			names = append(names, e.Name()+"/"+i.Name())
		}
		if len(inside) == 0 {
			names = append(names, e.Name()+"/")
		}
	}
	slices.Sort(names)
	return names
}

func y4m(frames int) []byte {
	var b strings.Builder
	b.WriteString("YUV4MPEG2 W16 H8 F10:1 Cmono XCOLORRANGE=FULL\n")
	for i := range frames {
		b.WriteString("FRAME\n" + strings.Repeat(string([]byte{byte(i)}), 16*8))
	}
	return []byte(b.String())
}
