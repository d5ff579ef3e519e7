package video

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// camera is an HTTP server of MJPEG that drops each connection after a few
// pictures.
func camera(t *testing.T, each int) (*httptest.Server, *atomic.Int64) {
	var connections atomic.Int64
	picture := jpegOf(t, shade(32, 24, 90))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		connections.Add(1)
		if r.URL.Path != "/live" {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "multipart/x-mixed-replace; boundary=b")
		for range each {
			fmt.Fprintf(w, "--b\r\nContent-Type: image/jpeg\r\n\r\n%s\r\n", picture)
			w.(http.Flusher).Flush()
			time.Sleep(time.Millisecond)
		}
		panic(http.ErrAbortHandler) // the line is cut
	}))
	t.Cleanup(server.Close)
	return server, &connections
}

func TestHTTPStreamIsReconnected(t *testing.T) {
	server, connections := camera(t, 5)
	o := testOptions()
	o.Reconnect = 20 * time.Second
	s, err := Open(context.Background(), server.URL+"/live", o)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if i := s.Info(); !i.Live || i.Width != 32 {
		t.Errorf("%+v", i)
	}
	last := time.Duration(-1)
	damaged := 0
	for i := 0; i < 14; {
		f, err := s.Next(context.Background())
		var d *DamagedError
		if errors.As(err, &d) { // a picture that the cut went through
			damaged++
			i++
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if f.Index != i || f.Time <= last {
			t.Fatalf("frame %d has index %d and comes at %v after %v", i, f.Index, f.Time, last)
		}
		last = f.Time
		i++
	}
	if connections.Load() < 3 {
		t.Errorf("%d connections", connections.Load())
	}
	if s.(*reconnecting).reconnects() != int(connections.Load())-1 {
		t.Errorf("%d reconnections of %d connections", s.(*reconnecting).reconnects(), connections.Load())
	}
}

func TestHTTPIsGivenUp(t *testing.T) {
	server, _ := camera(t, 3)
	o := testOptions()
	if _, err := Open(context.Background(), server.URL+"/none", o); err == nil || !strings.Contains(err.Error(), "404") {
		t.Errorf("a path that is not there: %v", err)
	}
	o.Reconnect = 400 * time.Millisecond
	s, err := Open(context.Background(), server.URL+"/live", o)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	server.CloseClientConnections()
	server.Config.Close()
	n := 0
	for ; err == nil || errors.As(err, new(*DamagedError)); n++ {
		_, err = s.Next(context.Background())
	}
	if !strings.Contains(err.Error(), "could not be reached again") {
		t.Errorf("after %d frames: %v", n, err)
	}
	if _, err := Open(context.Background(), server.URL+"/live", o); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("a server that is not there: %v", err)
	}
}

func TestHTTPStall(t *testing.T) {
	end := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "multipart/x-mixed-replace; boundary=b")
		fmt.Fprintf(w, "--b\r\n\r\n%s\r\n", jpegOf(t, shade(8, 8, 1)))
		w.(http.Flusher).Flush()
		<-end
	}))
	defer server.Close()
	defer close(end)
	o := testOptions()
	o.ReadTimeout = 100 * time.Millisecond
	s, err := Open(context.Background(), server.URL, o)
	if err != nil {
		t.Fatal(err)
	}
	if all, _, err := frames(t, s); len(all) != 1 || !errors.Is(err, ErrStalled) {
		t.Errorf("%d frames, %v", len(all), err)
	}
}

func TestPasswordsStaySecret(t *testing.T) {
	_, err := Open(context.Background(), "http://user:secret@127.0.0.1:1/live", testOptions())
	if err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("%v", err)
	}
}

// TestBroadcast: what is sent can be read by this package's own reader, slow
// clients hold nobody up, and the end of the run ends the streams.
func TestBroadcast(t *testing.T) {
	b := NewBroadcast()
	server := httptest.NewServer(b)
	defer server.Close()
	picture := shade(320, 240, 77)
	r := &Result{Frame: &Frame{Image: picture}, Picture: picture}
	if err := b.Write(context.Background(), r); err != nil || b.newest != nil {
		t.Errorf("%v, encoded although nobody looks: %v", err, b.newest != nil)
	}

	lazy, err := http.Get(server.URL) // never reads
	if err != nil {
		t.Fatal(err)
	}
	defer lazy.Body.Close()
	answer, err := http.Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	stop := make(chan struct{})
	written := make(chan int)
	go func() {
		n := 0
		for ; ; n++ {
			select {
			case <-stop:
				b.Close()
				written <- n
				return
			case <-time.After(time.Millisecond):
				b.Write(context.Background(), r)
			}
		}
	}()
	split := newJPEGSplitter(answer.Body)
	for range 20 {
		if _, err := split.next(); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	<-written
	for err == nil {
		_, err = split.next()
	}
	if err != io.EOF && err != errBrokenJPEG {
		t.Errorf("at the end: %v", err)
	}
	if answer, err := http.Post(server.URL, "", nil); err != nil || answer.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("POST: %v", err)
	}
	after, err := http.Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer after.Body.Close()
	if _, err := io.Copy(io.Discard, bufio.NewReader(after.Body)); err != nil {
		t.Errorf("a client that comes after the end: %v", err)
	}
}
