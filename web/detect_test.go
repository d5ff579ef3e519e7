package web

import (
	"bytes"
	"encoding/json"
	"fmt"
	"image/jpeg"
	"mime/multipart"
	"net/http"
	"strings"
	"testing"
)

// form builds a multipart body with these pictures as parts "image".
func form(t testing.TB, pictures ...[]byte) (kind string, body []byte) {
	t.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for i, p := range pictures {
		part, err := w.CreateFormFile("image", fmt.Sprintf("photo%d.jpg", i))
		if err != nil {
			t.Fatal(err)
		}
		part.Write(p)
	}
	w.Close()
	return w.FormDataContentType(), b.Bytes()
}

func TestDetect(t *testing.T) {
	_, h, _ := newTestServer(t, testConfig())
	one := picture(t, 100, 50)
	for _, c := range []struct {
		name, query string
		body        []byte
		form        bool
		want        string // of the first detections: class score, …
	}{
		{"raw", "", one, false, "cat 0.9, dog 0.4"},
		{"form", "", one, true, "cat 0.9, dog 0.4"},
		{"png", "", pngPicture(t, 100, 50), false, "cat 0.9, dog 0.4"},
		{"score", "?score=0.5", one, false, "cat 0.9"},
		{"max", "?max=1", one, false, "cat 0.9"},
		{"classes", "?classes=dog", one, false, "dog 0.4"},
		{"model", "?model=b&classes=cat,dog&nms=0.3", one, false, "cat 0.9, dog 0.4"},
	} {
		t.Run(c.name, func(t *testing.T) {
			kind, body, image := "image/jpeg", c.body, "image"
			if c.form {
				kind, body = form(t, c.body)
				image = "photo0.jpg"
			}
			status, _, answer := call(t, "POST", h.URL+"/v1/detect"+c.query, kind, body)
			if status != 200 {
				t.Fatalf("status %d: %s", status, answer)
			}
			var r resultBody
			if err := json.Unmarshal(answer, &r); err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, d := range r.Detections {
				got = append(got, fmt.Sprintf("%s %.1f", d.Class, d.Score))
			}
			if strings.Join(got, ", ") != c.want || r.Width != 100 || r.Height != 50 || r.Image != image {
				t.Errorf("%s", answer)
			}
			if _, ok := r.MS["total"]; !ok {
				t.Errorf("no time: %s", answer)
			}
		})
	}
}

// Several pictures are answered in their order; a bad one does not spoil the
// others.
func TestDetectSeveral(t *testing.T) {
	_, h, _ := newTestServer(t, testConfig())
	kind, body := form(t, picture(t, 40, 30), []byte("no picture at all"), picture(t, 60, 30))
	status, _, answer := call(t, "POST", h.URL+"/v1/detect", kind, body)
	var r struct {
		Results []struct {
			resultBody
			Error *refusedError `json:"error"`
		}
	}
	if err := json.Unmarshal(answer, &r); err != nil || status != 200 || len(r.Results) != 3 {
		t.Fatalf("%d %v %s", status, err, answer)
	}
	if a, b, c := r.Results[0], r.Results[1], r.Results[2]; a.Width != 40 || c.Width != 60 || a.Error != nil || b.Error == nil || b.Error.Code != "not_a_picture" || b.Image != "photo1.jpg" {
		t.Errorf("%s", answer)
	}
}

func TestDetectDrawn(t *testing.T) {
	_, h, _ := newTestServer(t, testConfig())
	status, header, answer := call(t, "POST", h.URL+"/v1/detect?draw=true", "image/jpeg", picture(t, 100, 50))
	img, err := jpeg.Decode(bytes.NewReader(answer))
	if status != 200 || header.Get("Content-Type") != "image/jpeg" || err != nil || img.Bounds().Dx() != 100 {
		t.Fatalf("%d %v %v", status, header, err)
	}
}

func TestDetectErrors(t *testing.T) {
	_, h, f := newTestServer(t, testConfig())
	one := picture(t, 10, 10)
	two, twoBody := form(t, one, one)
	for _, c := range []struct {
		name, method, path, kind string
		body                     []byte
		status                   int
		code                     string
	}{
		{"nothing there", "GET", "/nothing", "", nil, 404, "not_found"},
		{"method", "GET", "/v1/detect", "", nil, 405, "wrong_method"},
		{"no body", "POST", "/v1/detect", "image/jpeg", nil, 400, "no_picture"},
		{"text", "POST", "/v1/detect", "image/jpeg", []byte("hello"), 415, "not_a_picture"},
		{"cut", "POST", "/v1/detect", "image/jpeg", one[:len(one)-20], 422, "damaged_picture"},
		{"curl's default", "POST", "/v1/detect", "application/x-www-form-urlencoded", one, 415, "wrong_type"},
		{"parameter", "POST", "/v1/detect?scor=1", "image/jpeg", one, 400, "bad_parameter"},
		{"twice", "POST", "/v1/detect?max=1&max=2", "image/jpeg", one, 400, "bad_parameter"},
		{"score", "POST", "/v1/detect?score=NaN", "image/jpeg", one, 400, "bad_parameter"},
		{"max", "POST", "/v1/detect?max=0", "image/jpeg", one, 400, "bad_parameter"},
		{"draw", "POST", "/v1/detect?draw=yes", "image/jpeg", one, 400, "bad_parameter"},
		{"draw two", "POST", "/v1/detect?draw=true", two, twoBody, 400, "bad_parameter"},
		{"class", "POST", "/v1/detect?classes=cart", "image/jpeg", one, 400, "bad_parameter"},
		{"escape", "POST", "/v1/detect?score=%zz", "image/jpeg", one, 400, "bad_parameter"},
		{"model", "POST", "/v1/detect?model=c", "image/jpeg", one, 404, "unknown_model"},
	} {
		t.Run(c.name, func(t *testing.T) {
			status, header, answer := call(t, c.method, h.URL+c.path, c.kind, c.body)
			if code := failed(t, header, answer); status != c.status || code != c.code {
				t.Errorf("%d %s, want %d %s: %s", status, code, c.status, c.code, answer)
			}
		})
	}
	if n := f.calls.Load(); n != 0 {
		t.Errorf("the detector was called %d times", n)
	}
}

// A client's id comes back; one that a log line cannot hold does not.
func TestRequestID(t *testing.T) {
	_, h, _ := newTestServer(t, testConfig())
	for id, kept := range map[string]bool{"abc-123": true, "a b": false, strings.Repeat("x", 200): false, "": false} {
		r, _ := http.NewRequestWithContext(t.Context(), "GET", h.URL+"/healthz", nil)
		r.Header.Set("X-Request-Id", id)
		_, header, _ := do(t, r)
		if got := header.Get("X-Request-Id"); (got == id) != kept || got == "" {
			t.Errorf("id %q came back as %q", id, got)
		}
	}
}
