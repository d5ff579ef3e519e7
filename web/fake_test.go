package web

import (
	"bytes"
	"context"
	"encoding/json"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"io"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"resdet/internal/box"
	"resdet/internal/transform"
)

// fake is a detector that finds one cat at the top left and one dog at the
// bottom right of every picture. It counts what it is asked.
type fake struct {
	calls, images, closed atomic.Int64
	hold                  chan struct{} // if not nil, each call takes a value from it first
	pause                 time.Duration // of each call
	shift                 float32       // of all boxes
}

func (f *fake) Detect(ctx context.Context, images []image.Image, s Settings) ([][]Detection, Timing, error) {
	f.calls.Add(1)
	f.images.Add(int64(len(images)))
	if f.hold != nil {
		select {
		case <-f.hold:
		case <-ctx.Done():
			return nil, Timing{}, ctx.Err()
		}
	}
	select {
	case <-time.After(f.pause):
	case <-ctx.Done():
		return nil, Timing{}, ctx.Err()
	}
	lists := make([][]Detection, len(images))
	for i, img := range images {
		w, h := float32(img.Bounds().Dx()), float32(img.Bounds().Dy())
		all := []Detection{
			{Class: 0, Score: 0.9, Box: box.Box{X0: f.shift, Y0: 0, X1: w/2 + f.shift, Y1: h / 2}},
			{Class: 1, Score: 0.4, Box: box.Box{X0: w / 2, Y0: h / 2, X1: w, Y1: h}},
		}
		for _, d := range all {
			wanted := s.Only == nil
			for _, c := range s.Only {
				wanted = wanted || c == d.Class
			}
			if wanted && d.Score > s.Score && len(lists[i]) < s.Max {
				lists[i] = append(lists[i], d)
			}
		}
	}
	return lists, Timing{Total: time.Millisecond}, nil
}

// fakeModel is a model of that name on the detector.
func fakeModel(name string, f *fake) Model {
	t := transform.DefaultConfig()
	t.ShortSide, t.LongSide = 64, 128
	return Model{
		Name: name,
		Info: Info{
			Arch: "fake", Classes: []Class{{7, "cat"}, {9, "dog"}}, Transform: t, Precision: "f32", Source: "nowhere",
			Scores: map[string]float64{"mAP": 0.5},
		},
		Settings: Settings{Score: 0.05, NMS: 0.5, Max: 100},
		Detector: f,
		Close:    func() error { f.closed.Add(1); return nil },
	}
}

// testConfig has short time-outs.
func testConfig() Config {
	c := DefaultConfig()
	c.Addr = "127.0.0.1:0"
	c.Drain = 10 * time.Second
	return c
}

// jobsConfig is testConfig with a folder for jobs.
func jobsConfig(t testing.TB) Config {
	c := testConfig()
	c.StateDir = t.TempDir()
	return c
}

// newTestServer serves models a (the default) and b on fakes.
func newTestServer(t testing.TB, cfg Config) (*Server, *httptest.Server, *fake) {
	t.Helper()
	a := &fake{}
	s, err := New(cfg, fakeModel("a", a), fakeModel("b", &fake{shift: 1}))
	if err != nil {
		t.Fatal(err)
	}
	h := httptest.NewServer(s.Handler())
	t.Cleanup(func() {
		s.stop(errStopping)
		h.Close()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s, h, a
}

// eventually waits for a condition, on the slowest machine, and reports whether
// it came.
func eventually(holds func() bool) bool {
	for end := time.Now().Add(time.Minute); !holds(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			return false
		}
	}
	return true
}

// picture is a JPEG of that size.
func picture(t testing.TB, width, height int) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := jpeg.Encode(&b, gradient(width, height), nil); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// pngPicture is a PNG of that size.
func pngPicture(t testing.TB, width, height int) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := png.Encode(&b, gradient(width, height)); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func gradient(width, height int) image.Image {
	img := image.NewGray(image.Rect(0, 0, width, height))
	for y := range height {
		for x := range width {
			img.SetGray(x, y, color.Gray{uint8(x + y)})
		}
	}
	return img
}

// call makes a request and returns its status, headers and body.
func call(t testing.TB, method, url, kind string, body []byte) (int, http.Header, []byte) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if kind != "" {
		r.Header.Set("Content-Type", kind)
	}
	return do(t, r)
}

func do(t testing.TB, r *http.Request) (int, http.Header, []byte) {
	t.Helper()
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, res.Header, b
}

// failed checks that an answer has the one shape of errors, with its request's
// id, and returns the code.
func failed(t testing.TB, header http.Header, body []byte) string {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	var e errorBody
	if err := d.Decode(&e); err != nil || e.Error.Code == "" || e.Error.Message == "" || e.Error.RequestID == "" {
		t.Fatalf("not the shape of errors (%v): %s", err, body)
	}
	if id := header.Get("X-Request-Id"); id != e.Error.RequestID {
		t.Errorf("request id %q in the header, %q in the body", id, e.Error.RequestID)
	}
	return e.Error.Code
}
