package web

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// listen serves cfg on loopback and returns its address and how to end it.
func listen(t *testing.T, s *Server) (url string, end func() error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, l) }()
	return "http://" + l.Addr().String(), sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
}

// Stopping lets the request under way end, takes no other, and closes the
// models.
func TestServeDrains(t *testing.T) {
	f := &fake{hold: make(chan struct{})}
	s, err := New(testConfig(), fakeModel("a", f))
	if err != nil {
		t.Fatal(err)
	}
	url, end := listen(t, s)
	answer := make(chan error, 1)
	go func() {
		res, err := http.Post(url+"/v1/detect", "image/png", bytes.NewReader(pngPicture(t, 8, 8)))
		if err == nil {
			res.Body.Close()
			if res.StatusCode != 200 {
				err = fmt.Errorf("status %d", res.StatusCode)
			}
		}
		answer <- err
	}()
	for f.calls.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	ended := make(chan error, 1)
	go func() { ended <- end() }()
	for s.ctx.Err() == nil {
		time.Sleep(time.Millisecond)
	}
	if f.closed.Load() != 0 {
		t.Error("the model was closed under a request")
	}
	f.hold <- struct{}{}
	if err := <-answer; err != nil {
		t.Error(err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if f.closed.Load() != 1 {
		t.Error("the model is not closed")
	}
	if _, err := http.Get(url + "/healthz"); err == nil {
		t.Error("the server still answers")
	}
}

// What does not end in time is cut off, and said.
func TestServeDrainEnds(t *testing.T) {
	cfg := testConfig()
	cfg.Drain = 50 * time.Millisecond
	f := &fake{hold: make(chan struct{})}
	s, err := New(cfg, fakeModel("a", f))
	if err != nil {
		t.Fatal(err)
	}
	url, end := listen(t, s)
	go http.Post(url+"/v1/detect", "image/png", bytes.NewReader(pngPicture(t, 8, 8)))
	for f.calls.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	if err := end(); err == nil || !strings.Contains(err.Error(), "cut off after 50ms") {
		t.Errorf("error %v", err)
	}
}

// New models answer at once; the old ones are closed when their last request
// has its answer.
func TestSetModels(t *testing.T) {
	s, err := New(testConfig())
	if err != nil {
		t.Fatal(err)
	}
	url, end := listen(t, s)
	defer end()
	status, header, body := call(t, "POST", url+"/v1/detect", "image/png", pngPicture(t, 8, 8))
	if failed(t, header, body); status != 503 || header.Get("Retry-After") == "" {
		t.Errorf("%d without models", status)
	}
	if status, _, _ := call(t, "GET", url+"/readyz", "", nil); status != 503 {
		t.Errorf("ready without models: %d", status)
	}
	old, next := &fake{hold: make(chan struct{})}, &fake{}
	if err := s.SetModels(fakeModel("a", old)); err != nil {
		t.Fatal(err)
	}
	if status, _, _ := call(t, "GET", url+"/readyz", "", nil); status != 200 {
		t.Errorf("not ready: %d", status)
	}
	first := make(chan int, 1)
	go func() {
		res, err := http.Post(url+"/v1/detect", "image/png", bytes.NewReader(pngPicture(t, 8, 8)))
		if err != nil {
			first <- 0
			return
		}
		res.Body.Close()
		first <- res.StatusCode
	}()
	for old.calls.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	bad := fakeModel("b", &fake{})
	bad.Info.Classes = nil
	for _, models := range [][]Model{{fakeModel("a", next), fakeModel("a", next)}, {bad}} {
		if err := s.SetModels(models...); err == nil {
			t.Error("no error for two models of one name, or one without classes")
		}
	}
	if err := s.SetModels(fakeModel("a", next)); err != nil {
		t.Fatal(err)
	}
	old.hold <- struct{}{} // while it waits, the other model may not compute: turns are one
	if status := <-first; status != 200 {
		t.Errorf("the request under way: %d", status)
	}
	if status, _, _ := call(t, "POST", url+"/v1/detect", "image/png", pngPicture(t, 8, 8)); status != 200 || next.calls.Load() != 1 {
		t.Errorf("the new model: %d", status)
	}
	eventually(func() bool { return old.closed.Load() == 1 })
	if old.closed.Load() != 1 || next.closed.Load() != 0 {
		t.Errorf("the old model was closed %d times, the new one %d", old.closed.Load(), next.closed.Load())
	}
	if err := end(); err != nil {
		t.Error(err)
	}
	if next.closed.Load() != 1 {
		t.Error("the new model is not closed")
	}
}

// More than the queue takes is refused with the time to come again; what was
// taken is answered, and nothing is left over.
func TestOverload(t *testing.T) {
	cfg := testConfig()
	cfg.Queue, cfg.MaxImages = 3, 3
	f := &fake{hold: make(chan struct{})}
	s, err := New(cfg, fakeModel("a", f))
	if err != nil {
		t.Fatal(err)
	}
	url, end := listen(t, s)
	defer end()
	one := picture(t, 64, 64)
	answers := make(chan int, 3)
	for range 3 {
		go func() {
			res, err := http.Post(url+"/v1/detect", "image/jpeg", bytes.NewReader(one))
			if err != nil {
				answers <- 0
				return
			}
			res.Body.Close()
			answers <- res.StatusCode
		}()
	}
	for m := s.models.models[0]; m.queue.length() < 3; {
		time.Sleep(time.Millisecond)
	}
	status, header, body := call(t, "POST", url+"/v1/detect", "image/jpeg", one)
	if code := failed(t, header, body); status != 429 || code != "overloaded" {
		t.Errorf("%d %s", status, code)
	}
	if after, err := strconv.Atoi(header.Get("Retry-After")); err != nil || after < 1 {
		t.Errorf("Retry-After %q", header.Get("Retry-After"))
	}
	if status, _, body := call(t, "GET", url+"/readyz", "", nil); status != 503 || !strings.Contains(string(body), "overloaded") {
		t.Errorf("ready under overload: %d %s", status, body)
	}
	if _, _, body := call(t, "GET", url+"/metrics", "", nil); !strings.Contains(string(body), `resdet_queue_length{model="a"} 3`) ||
		!strings.Contains(string(body), `resdet_rejected_total{code="overloaded"}`) {
		t.Errorf("metrics do not tell: %s", body)
	}
	close(f.hold)
	for range 3 {
		if status := <-answers; status != 200 {
			t.Errorf("an accepted request was answered %d", status)
		}
	}
	if status, _, _ := call(t, "POST", url+"/v1/detect", "image/jpeg", one); status != 200 {
		t.Errorf("after the burst: %d", status)
	}
	if n := s.budget.inUse(); n != 0 {
		t.Errorf("%d bytes are still accounted for", n)
	}
}

// Pictures that would not fit into memory together are refused, not decoded.
func TestMemory(t *testing.T) {
	cfg := testConfig()
	cfg.Memory, cfg.MaxBody = 2<<20, 1<<20
	f := &fake{hold: make(chan struct{})}
	s, err := New(cfg, fakeModel("a", f))
	if err != nil {
		t.Fatal(err)
	}
	url, end := listen(t, s)
	defer end()
	big := pngPicture(t, 1000, 900) // grey: 0.9 MB decoded
	answer := make(chan int, 1)
	for range 2 {
		go func() {
			res, err := http.Post(url+"/v1/detect", "image/png", bytes.NewReader(big))
			if err != nil {
				answer <- 0
				return
			}
			res.Body.Close()
			answer <- res.StatusCode
		}()
	}
	for s.models.models[0].queue.length() < 2 || s.budget.inUse() < 1_800_000 {
		time.Sleep(time.Millisecond)
	}
	status, header, body := call(t, "POST", url+"/v1/detect", "image/png", big)
	if code := failed(t, header, body); status != 429 || code != "out_of_memory" || header.Get("Retry-After") == "" {
		t.Errorf("%d %s", status, code)
	}
	close(f.hold)
	for range 2 {
		if status := <-answer; status != 200 {
			t.Errorf("an accepted request was answered %d", status)
		}
	}
	if n := s.budget.inUse(); n != 0 {
		t.Errorf("%d bytes are still accounted for", n)
	}
}

// A client's deadline ends its request, and one that went away stops
// consuming.
func TestDeadline(t *testing.T) {
	f := &fake{hold: make(chan struct{})}
	s, err := New(testConfig(), fakeModel("a", f))
	if err != nil {
		t.Fatal(err)
	}
	url, end := listen(t, s)
	defer end()
	post := func(ctx context.Context, deadline string) (*http.Response, error) {
		r, _ := http.NewRequestWithContext(ctx, "POST", url+"/v1/detect", bytes.NewReader(picture(t, 8, 8)))
		r.Header.Set("Content-Type", "image/jpeg")
		if deadline != "" {
			r.Header.Set("X-Deadline", deadline)
		}
		return http.DefaultClient.Do(r)
	}
	for deadline, want := range map[string]int{"30ms": 504, "0.03": 504, "soon": 400, "-1s": 400} {
		res, err := post(t.Context(), deadline)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if failed(t, res.Header, body); res.StatusCode != want {
			t.Errorf("%s: %d, want %d", deadline, res.StatusCode, want)
		}
	}
	calls := f.calls.Load()
	ctx, cancel := context.WithCancel(t.Context())
	gone := make(chan error, 1)
	go func() {
		_, err := post(ctx, "")
		gone <- err
	}()
	for f.calls.Load() == calls {
		time.Sleep(time.Millisecond)
	}
	cancel()
	if err := <-gone; !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	for m := s.models.models[0]; m.queue.length() > 0; {
		time.Sleep(time.Millisecond) // or the test's time-out: the picture was never given up
	}
}

// A bug that a picture finds is an error of its request.
func TestGuarded(t *testing.T) {
	s, _, _ := newTestServer(t, testConfig())
	var none []byte
	if err := s.guarded("a decoder", func() error { none[0]++; return nil }); err == nil || asFailure(err).status != 500 {
		t.Error(err)
	}
}
