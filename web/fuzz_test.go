package web

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// FuzzHandlers gives every handler what nobody thought of. Whatever comes is
// answered: never with a 500, always in the one shape if it is refused, and
// nothing is left behind.
func FuzzHandlers(f *testing.F) {
	one := picture(f, 24, 16)
	kind, body := form(f, one, one[:40])
	for _, seed := range []struct {
		method, target, kind string
		body                 []byte
	}{
		{"POST", "/v1/detect?score=0.1&nms=0.3&max=5&classes=cat,dog&model=b", "image/jpeg", one},
		{"POST", "/v1/detect?draw=true", "", one},
		{"POST", "/v1/detect", kind, body},
		{"POST", "/v1/compare?a=a&b=b&max=1", kind, body},
		{"POST", "/v1/compare?a=a&b=b", "image/png", pngPicture(f, 5, 5)},
		{"POST", "/v1/jobs?name=x&every=2&track=true&annotate=true", "application/json", []byte(`{"url":"http://localhost/x.mp4"}`)},
		{"POST", "/v1/jobs?name=../x", "application/octet-stream", []byte("YUV4MPEG2 W4 H4 F25:1\nFRAME\n")},
		{"POST", "/v1/jobs?kind=train&name=n&model=b&steps=3&rate=0.1&seed=2&lenient=true", "application/zip", dataset(f)},
		{"POST", "/v1/jobs?kind=train&every=2", "", photos(f, 1)},
		{"GET", "/v1/jobs", "", nil},
		{"GET", "/v1/jobs/../../etc/passwd", "", nil},
		{"GET", "/v1/jobs/1/results", "", nil},
		{"GET", "/v1/jobs/1/annotated", "", nil},
		{"GET", "/v1/jobs/1/events", "", nil},
		{"GET", "/v1/jobs/1/stream", "", nil},
		{"DELETE", "/v1/jobs/1", "", nil},
		{"GET", "/v1/live?score=0.5", "", nil},
		{"GET", "/v1/models?x=1", "", nil},
		{"GET", "/docs", "", nil},
		{"HEAD", "/", "", nil},
		{"OPTIONS", "/v1/detect", "", nil},
		{"PUT", "/%2e%2e/x?a=%zz;b", "multipart/form-data; boundary=", []byte("--")},
	} {
		f.Add(seed.method, seed.target, seed.kind, seed.body)
	}
	cfg, trainer := trainingConfig(f)
	cfg.MaxBody, cfg.MaxImages = 1<<16, 4
	s, err := New(cfg, fakeModel("a", &fake{}), fakeModel("b", &fake{shift: 1}))
	if err != nil {
		f.Fatal(err)
	}
	trainer.server = s
	f.Cleanup(func() { s.Close() })
	f.Fuzz(func(t *testing.T, method, target, kind string, body []byte) {
		u, err := url.ParseRequestURI(target)
		if err != nil || method == "" || strings.ContainsFunc(method, func(r rune) bool { return r <= ' ' || r > '~' }) {
			t.Skip("net/http lets none of it in")
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		r := (&http.Request{
			Method: method, URL: u, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Host: "test", RemoteAddr: "127.0.0.1:1",
			Header: http.Header{"Content-Type": {kind}}, Body: io.NopCloser(bytes.NewReader(body)), ContentLength: int64(len(body)),
		}).WithContext(ctx)
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, r)
		switch {
		case w.Code == 500:
			t.Errorf("%s %q: %s", method, target, w.Body)
		case w.Code >= 400 && method != "HEAD":
			failed(t, w.Header(), w.Body.Bytes())
		}
		if n := s.budget.inUse(); n != 0 {
			t.Errorf("%s %q: %d bytes are still accounted for", method, target, n)
		}
	})
}

// FuzzConnection sends bytes as they are: what comes back is nothing, or an
// answer whose refusals have the one shape.
func FuzzConnection(f *testing.F) {
	one := string(picture(f, 24, 16))
	for _, seed := range []string{
		request("POST", "/v1/detect", "image/jpeg", one),
		request("GET", "/v1/models", "", "") + request("GET", "/healthz", "", ""),
		"POST /v1/detect HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n\xff\xd8\xff\xe0\r\n0\r\n\r\n",
		"GET / HTTP/1.0\r\n\r\n", "GET / HTTP/1.1\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "\x16\x03\x01", "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
	} {
		f.Add([]byte(seed))
	}
	cfg := testConfig()
	cfg.HeaderTimeout = 200 * time.Millisecond
	s, err := New(cfg, fakeModel("a", &fake{}))
	if err != nil {
		f.Fatal(err)
	}
	l, err := net.Listen("unix", filepath.Join(f.TempDir(), "s")) // TCP would run out of ports
	if err != nil {
		f.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, l) }()
	f.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			f.Error(err)
		}
	})
	f.Fuzz(func(t *testing.T, sent []byte) {
		c, err := net.Dial("unix", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(20 * time.Second))
		go func() {
			c.Write(sent)
			c.(*net.UnixConn).CloseWrite()
		}()
		got, _ := io.ReadAll(c) // a reset is an answer too
		for text := string(got); text != ""; {
			head, rest, ok := strings.Cut(text, "\r\n\r\n")
			if !ok || !strings.HasPrefix(head, "HTTP/1.") {
				return // within a body: what follows is its matter
			}
			if status := head[9:12]; status >= "400" && status < "500" && status != "417" && !strings.Contains(head, "application/json") {
				t.Errorf("%.200q is answered %.300q", sent, text)
			}
			_, text, _ = strings.Cut(rest, "\n") // bodies are one line
		}
	})
}
