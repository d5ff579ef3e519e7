package fetch

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// content is a file of some size that is no repetition.
func content(n int, seed byte) []byte {
	out := make([]byte, 0, n+32)
	for i := 0; len(out) < n; i++ {
		sum := sha256.Sum256([]byte{seed, byte(i), byte(i >> 8)})
		out = append(out, sum[:]...)
	}
	return out[:n]
}

func sha(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// site serves a file, and what it was asked for can be looked at.
type site struct {
	*httptest.Server
	mu       sync.Mutex
	requests []http.Header
	answer   func(w http.ResponseWriter, r *http.Request, n int) // n counts requests
}

func serve(t *testing.T, answer func(w http.ResponseWriter, r *http.Request, n int)) *site {
	t.Helper()
	s := &site{answer: answer}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.requests = append(s.requests, r.Header.Clone())
		n := len(s.requests)
		answer := s.answer
		s.mu.Unlock()
		answer(w, r, n)
	}))
	t.Cleanup(s.Close)
	return s
}

// asked returns a header of request n, counted from 1.
func (s *site) asked(n int, name string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n > len(s.requests) {
		return "no such request"
	}
	return s.requests[n-1].Get(name)
}

// count returns the number of requests so far.
func (s *site) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.requests)
}

// whole serves bytes as a file server does, with ranges.
func whole(w http.ResponseWriter, r *http.Request, body []byte, tag string) {
	if tag != "" {
		w.Header().Set("ETag", tag)
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
}

// cut sends a part of the bytes that were promised and hangs up.
func cut(w http.ResponseWriter, body []byte, n int, tag string) {
	w.Header().Set("ETag", tag)
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", fmt.Sprint(len(body)))
	w.Write(body[:n])
	w.(http.Flusher).Flush()
	panic(http.ErrAbortHandler)
}

func config(t *testing.T) Config {
	c := DefaultConfig(t.TempDir())
	c.Loopback, c.Wait = true, time.Millisecond
	return c
}

// leftovers lists the files in the folder.
func leftovers(t *testing.T, c Config) string {
	t.Helper()
	entries, err := os.ReadDir(c.Dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return strings.Join(names, " ")
}

func TestGet(t *testing.T) {
	body := content(1<<20+17, 1)
	s := serve(t, func(w http.ResponseWriter, r *http.Request, _ int) { whole(w, r, body, `"a"`) })
	c := config(t)
	var last, total int64
	c.Progress = func(d, n int64) {
		if d < last {
			t.Errorf("progress went from %d to %d", last, d)
		}
		last, total = d, n
	}
	sum := md5.Sum(body)
	f := File{Name: "weights.pth", URL: s.URL + "/weights.pth", Checks: []Check{{"sha256", sha(body)[:8], "here"}, {"md5", hex.EncodeToString(sum[:]), "there"}}}
	got, err := c.Get(context.Background(), f)
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile(got.Path)
	if err != nil || !bytes.Equal(file, body) {
		t.Errorf("%d bytes, %v", len(file), err)
	}
	if want := "sha256 " + sha(body)[:8] + "…, md5 " + hex.EncodeToString(sum[:]); got.Verified != want || got.SHA256 != sha(body) || !got.Downloaded || got.Bytes != int64(len(body)) {
		t.Errorf("%+v", got)
	}
	if last != int64(len(body)) || total != last {
		t.Errorf("progress ended at %d of %d", last, total)
	}
	if left := leftovers(t, c); left != "checksums.json weights.pth" {
		t.Errorf("in the folder: %s", left)
	}
	// It is there: nothing is asked for.
	s.Close()
	if got, err = c.Get(context.Background(), f); err != nil || got.Downloaded {
		t.Errorf("%+v, %v", got, err)
	}
}

// A file that was put there by hand is verified like any other.
func TestByHand(t *testing.T) {
	c := config(t)
	body := content(1000, 2)
	f := File{Name: "weights.pth", URL: "https://weights.invalid/weights.pth", Checks: []Check{{"sha256", sha(body), "here"}}}
	_, err := c.Get(context.Background(), f)
	var hint interface{ Hint() string }
	if err == nil || !errors.As(err, &hint) {
		t.Fatalf("error %v", err)
	}
	if h := hint.Hint(); !strings.Contains(h, f.URL) || !strings.Contains(h, filepath.Join(c.Dir, f.Name)) {
		t.Errorf("hint %q", h)
	}
	path := filepath.Join(c.Dir, f.Name)
	if err := os.WriteFile(path, body, 0o644); err != nil {
		t.Fatal(err)
	}
	if got, err := c.Get(context.Background(), f); err != nil || got.Downloaded || got.Verified == "" {
		t.Errorf("%+v, %v", got, err)
	}
	if err := os.WriteFile(path, body[1:], 0o644); err != nil {
		t.Fatal(err)
	}
	_, err = c.Get(context.Background(), f)
	var sum *ChecksumError
	if !errors.As(err, &sum) || !strings.Contains(err.Error(), "remove "+path) {
		t.Errorf("error %v", err)
	}
}

func TestWrongChecksum(t *testing.T) {
	body := content(5000, 3)
	s := serve(t, func(w http.ResponseWriter, r *http.Request, _ int) { whole(w, r, body, `"a"`) })
	for _, algorithm := range []string{"sha256", "sha1", "md5"} {
		c := config(t)
		_, err := c.Get(context.Background(), File{Name: "w.pth", URL: s.URL, Checks: []Check{{algorithm, "0123abcd", "the table"}}})
		var sum *ChecksumError
		if !errors.As(err, &sum) || sum.Algorithm != algorithm || sum.Want != "0123abcd" || !strings.Contains(err.Error(), "the table") {
			t.Errorf("%s: error %v", algorithm, err)
		}
		if left := leftovers(t, c); left != "" {
			t.Errorf("%s: in the folder: %s", algorithm, left)
		}
	}
	c := config(t)
	if _, err := c.Get(context.Background(), File{Name: "w.pth", URL: s.URL, Checks: []Check{{"crc32", "00", ""}}}); err == nil {
		t.Error("a check that is not known was passed")
	}
}

// What is not verified is pinned.
func TestPinned(t *testing.T) {
	body := content(5000, 4)
	s := serve(t, func(w http.ResponseWriter, r *http.Request, n int) {
		if n > 2 { // published anew
			whole(w, r, content(5000, 5), "")
			return
		}
		whole(w, r, body, "")
	})
	c, f := config(t), File{Name: "w.pth", URL: s.URL}
	got, err := c.Get(context.Background(), f)
	if err != nil || got.Verified != "" {
		t.Fatalf("%+v, %v", got, err)
	}
	var pins map[string]pinned
	b, err := os.ReadFile(filepath.Join(c.Dir, pinFile))
	if err == nil {
		err = json.Unmarshal(b, &pins)
	}
	if err != nil || pins["w.pth"] != (pinned{sha(body), 5000, s.URL}) {
		t.Errorf("pins %v, %v", pins, err)
	}
	os.Remove(got.Path)
	if _, err := c.Get(context.Background(), f); err != nil {
		t.Errorf("the same again: %v", err)
	}
	os.Remove(got.Path)
	_, err = c.Get(context.Background(), f)
	var sum *ChecksumError
	if !errors.As(err, &sum) || !strings.Contains(err.Error(), "pinned in ") {
		t.Errorf("another file: %v", err)
	}
	if left := leftovers(t, c); left != "checksums.json" {
		t.Errorf("in the folder: %s", left)
	}
	if err := os.WriteFile(filepath.Join(c.Dir, pinFile), []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Get(context.Background(), f); err == nil || !strings.Contains(err.Error(), "remove it to pin") {
		t.Errorf("broken pins: %v", err)
	}
}

// A connection that is cut is taken up where it was.
func TestCutConnection(t *testing.T) {
	body := content(100_000, 6)
	s := serve(t, func(w http.ResponseWriter, r *http.Request, n int) {
		switch n {
		case 1:
			cut(w, body, 30_000, `"a"`)
		case 2:
			w.WriteHeader(http.StatusServiceUnavailable)
		default:
			whole(w, r, body, `"a"`)
		}
	})
	c := config(t)
	got, err := c.Get(context.Background(), File{Name: "w.pth", URL: s.URL, Checks: []Check{{"sha256", sha(body), ""}}})
	if err != nil || got.Bytes != 100_000 {
		t.Fatalf("%+v, %v", got, err)
	}
	if r, i := s.asked(3, "Range"), s.asked(3, "If-Range"); r != "bytes=30000-" || i != `"a"` {
		t.Errorf("asked for %q if %q", r, i)
	}
}

// A server that only ever hangs up is given up.
func TestHopeless(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, r *http.Request, _ int) { panic(http.ErrAbortHandler) })
	c := config(t)
	_, err := c.Get(context.Background(), File{Name: "w.pth", URL: s.URL})
	if err == nil || !strings.Contains(err.Error(), "5 times without getting further") || s.count() < 5 {
		t.Errorf("%d requests, error %v", s.count(), err)
	}
}

// Where nobody answers there is no second attempt.
func TestUnreachable(t *testing.T) {
	s := serve(t, nil)
	s.Close()
	c := config(t)
	c.Wait = time.Hour
	if _, err := c.Get(context.Background(), File{Name: "w.pth", URL: s.URL}); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("error %v", err)
	}
}

// What is resumed must be the same file, on a server that can.
func TestResumeFromTheStart(t *testing.T) {
	old, body := content(100_000, 7), content(90_000, 8)
	for _, tt := range []struct {
		name, tag, wantRange string
		then                 func(w http.ResponseWriter, r *http.Request)
	}{
		{"another ETag", `"a"`, "bytes=40000-", func(w http.ResponseWriter, r *http.Request) { whole(w, r, body, `"b"`) }},
		{"no ranges", `"a"`, "bytes=40000-", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/octet-stream")
			w.Write(body)
		}},
		{"weak ETag", `W/"a"`, "", func(w http.ResponseWriter, r *http.Request) { whole(w, r, body, `W/"a"`) }},
		{"no validator", "", "", func(w http.ResponseWriter, r *http.Request) { whole(w, r, body, "") }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := serve(t, func(w http.ResponseWriter, r *http.Request, n int) {
				if n == 1 {
					cut(w, old, 40_000, tt.tag)
				}
				tt.then(w, r)
			})
			c := config(t)
			got, err := c.Get(context.Background(), File{Name: "w.pth", URL: s.URL, Checks: []Check{{"sha256", sha(body), ""}}})
			if err != nil || got.Bytes != 90_000 {
				t.Errorf("%+v, %v", got, err)
			}
			if r := s.asked(2, "Range"); r != tt.wantRange {
				t.Errorf("asked for %q, want %q", r, tt.wantRange)
			}
		})
	}
}

// A range that the server no longer has, or another than was asked for.
func TestBadRanges(t *testing.T) {
	body := content(50_000, 9)
	t.Run("shorter file", func(t *testing.T) {
		s := serve(t, func(w http.ResponseWriter, r *http.Request, n int) {
			switch n {
			case 1:
				cut(w, content(100_000, 9), 60_000, `"a"`)
			case 2:
				w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
			default:
				whole(w, r, body, `"b"`)
			}
		})
		c := config(t)
		if got, err := c.Get(context.Background(), File{Name: "w", URL: s.URL, Checks: []Check{{"sha256", sha(body), ""}}}); err != nil {
			t.Errorf("%+v, %v", got, err)
		}
	})
	t.Run("another range", func(t *testing.T) {
		s := serve(t, func(w http.ResponseWriter, r *http.Request, n int) {
			if n == 1 {
				cut(w, body, 10_000, `"a"`)
			}
			w.Header().Set("Content-Range", "bytes 0-49999/50000")
			w.WriteHeader(http.StatusPartialContent)
			w.Write(body)
		})
		c := config(t)
		if _, err := c.Get(context.Background(), File{Name: "w", URL: s.URL}); err == nil || !strings.Contains(err.Error(), "asked for the bytes from 10000") {
			t.Errorf("error %v", err)
		}
	})
}

// Ctrl-C leaves what has arrived, and the next call goes on.
func TestInterrupted(t *testing.T) {
	body := content(100_000, 10)
	release := make(chan struct{})
	s := serve(t, func(w http.ResponseWriter, r *http.Request, n int) {
		if n > 1 {
			whole(w, r, body, `"a"`)
			return
		}
		w.Header().Set("ETag", `"a"`)
		w.Header().Set("Content-Length", fmt.Sprint(len(body)))
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Write(body[:70_000])
		w.(http.Flusher).Flush()
		<-release
	})
	defer close(release)
	interrupted := errors.New("interrupted")
	ctx, cancel := context.WithCancelCause(context.Background())
	c := config(t)
	c.Progress = func(done, _ int64) {
		if done == 70_000 {
			cancel(interrupted)
		}
	}
	f := File{Name: "w.pth", URL: s.URL, Checks: []Check{{"sha256", sha(body), ""}}}
	if _, err := c.Get(ctx, f); !errors.Is(err, interrupted) {
		t.Fatalf("error %v", err)
	}
	if left := leftovers(t, c); left != "w.pth.part w.pth.part.json" {
		t.Errorf("in the folder: %s", left)
	}
	if _, err := c.Get(context.Background(), f); err != nil {
		t.Error(err)
	}
	if r := s.asked(2, "Range"); r != "bytes=70000-" {
		t.Errorf("asked for %q", r)
	}
}

// A part of another address is not taken for the beginning of this one.
func TestPartOfAnotherAddress(t *testing.T) {
	body := content(9000, 11)
	s := serve(t, func(w http.ResponseWriter, r *http.Request, _ int) { whole(w, r, body, `"a"`) })
	c := config(t)
	part := filepath.Join(c.Dir, "w.pth.part")
	if err := os.WriteFile(part, content(4000, 12), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := writeOrigin(part, origin{"https://elsewhere.invalid/w.pth", `"a"`}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Get(context.Background(), File{Name: "w.pth", URL: s.URL, Checks: []Check{{"sha256", sha(body), ""}}}); err != nil {
		t.Error(err)
	}
	if r := s.asked(1, "Range"); r != "" {
		t.Errorf("asked for %q", r)
	}
}

func TestRedirects(t *testing.T) {
	body := content(3000, 13)
	s := serve(t, func(w http.ResponseWriter, r *http.Request, _ int) {
		switch r.URL.Path {
		case "/file":
			whole(w, r, body, "")
		case "/moved":
			http.Redirect(w, r, "/file", http.StatusFound)
		case "/loop":
			http.Redirect(w, r, "/loop", http.StatusFound)
		case "/http":
			http.Redirect(w, r, "http://weights.invalid/file", http.StatusFound)
		case "/local":
			http.Redirect(w, r, "file:///etc/hostname", http.StatusFound)
		}
	})
	c := config(t)
	for _, tt := range []struct {
		path string
		want error
	}{{"/moved", nil}, {"/loop", ErrRedirects}, {"/http", ErrInsecure}, {"/local", ErrInsecure}} {
		before := s.count()
		_, err := c.Get(context.Background(), File{Name: "w" + path.Base(tt.path), URL: s.URL + tt.path})
		if !errors.Is(err, tt.want) {
			t.Errorf("%s: error %v, want %v", tt.path, err, tt.want)
		}
		if n := s.count() - before; n > c.Redirects+1 {
			t.Errorf("%s: %d requests", tt.path, n)
		}
	}
	c.Loopback = false
	if _, err := c.Get(context.Background(), File{Name: "x", URL: s.URL + "/file"}); !errors.Is(err, ErrInsecure) {
		t.Errorf("plain HTTP: error %v", err)
	}
}

func TestTooLarge(t *testing.T) {
	body := content(300_000, 14)
	s := serve(t, func(w http.ResponseWriter, r *http.Request, _ int) {
		if r.URL.Path == "/said" {
			whole(w, r, body, `"a"`)
			return
		}
		w.Header().Set("Content-Type", "application/octet-stream")
		for len(body) > 0 { // without a length
			if _, err := w.Write(body[:10_000]); err != nil {
				return
			}
			w.(http.Flusher).Flush()
		}
	})
	for _, path := range []string{"/said", "/unsaid"} {
		c := config(t)
		c.Limit = 100_000
		_, err := c.Get(context.Background(), File{Name: "w.pth", URL: s.URL + path})
		if !errors.Is(err, ErrTooLarge) {
			t.Errorf("%s: error %v", path, err)
		}
		if n := size(filepath.Join(c.Dir, "w.pth.part")); n > c.Limit {
			t.Errorf("%s: %d bytes were written", path, n)
		}
	}
}

func TestWebPages(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, r *http.Request, _ int) {
		if r.URL.Path == "/bytes" {
			w.Header().Set("Content-Type", "application/octet-stream")
		}
		io.WriteString(w, "\n<!DOCTYPE html><title>Log in to download</title>")
	})
	for _, path := range []string{"/html", "/bytes"} {
		c := config(t)
		if _, err := c.Get(context.Background(), File{Name: "w.pth", URL: s.URL + path}); !errors.Is(err, ErrWebPage) {
			t.Errorf("%s: error %v", path, err)
		}
		if s.count() > 2 {
			t.Errorf("%s: asked again", path)
		}
	}
}

func TestAnswers(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, r *http.Request, _ int) {
		switch r.URL.Path {
		case "/gone":
			w.WriteHeader(http.StatusNotFound)
		case "/packed":
			w.Header().Set("Content-Encoding", "gzip")
			w.Header().Set("Content-Type", "application/octet-stream")
			io.WriteString(w, "x")
		}
	})
	for path, want := range map[string]string{"/gone": "the server answers 404 Not Found", "/packed": `in encoding "gzip"`} {
		c := config(t)
		if _, err := c.Get(context.Background(), File{Name: "w.pth", URL: s.URL + path}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v", path, err)
		}
	}
	if s.count() != 2 {
		t.Errorf("%d requests: answers that stay were asked for again", s.count())
	}
}

// A server that says nothing is given up, before its answer and in the middle
// of it: on a busy machine it may be either.
func TestSilentServer(t *testing.T) {
	release := make(chan struct{})
	s := serve(t, func(w http.ResponseWriter, r *http.Request, _ int) {
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set("Content-Length", "1000")
		w.Write(make([]byte, 10))
		w.(http.Flusher).Flush()
		<-release
	})
	defer close(release)
	c := config(t)
	c.Stall, c.Attempts = 50*time.Millisecond, 1
	_, err := c.Get(context.Background(), File{Name: "w.pth", URL: s.URL})
	if err == nil || !strings.Contains(err.Error(), "sent nothing for 50ms") && !strings.Contains(err.Error(), "timeout awaiting response headers") {
		t.Errorf("error %v", err)
	}
}

// silent is a body of which nothing comes until its request ends.
type silent struct{ ctx context.Context }

func (s silent) Read([]byte) (int, error) {
	<-s.ctx.Done()
	return 0, s.ctx.Err()
}

func TestSilentBody(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "part"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	c := config(t)
	c.Stall = time.Millisecond
	ctx, cancel := context.WithCancelCause(context.Background())
	if err := c.copy(ctx, cancel, f, silent{ctx}, 0, 100); err == nil || err.Error() != "the server sent nothing for 1ms" {
		t.Errorf("error %v", err)
	}
}

// A folder that cannot be written to, and a disk without room.
func TestUnwritable(t *testing.T) {
	c := config(t)
	blocked := filepath.Join(c.Dir, "file")
	if err := os.WriteFile(blocked, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	c.Dir = filepath.Join(blocked, "cache")
	if _, err := c.Get(context.Background(), File{Name: "w.pth", URL: "https://weights.invalid"}); err == nil || !strings.Contains(err.Error(), "RESDET_CACHE") {
		t.Errorf("error %v", err)
	}
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip("no /dev/full to write to")
	}
	defer full.Close()
	ctx, cancel := context.WithCancelCause(context.Background())
	err = c.copy(ctx, cancel, full, bytes.NewReader(make([]byte, 1000)), 0, 5000)
	var final permanent
	if !errors.As(err, &final) || !strings.Contains(err.Error(), "no space left") || !strings.Contains(err.Error(), "4000 bytes are still to come") {
		t.Errorf("error %v", err)
	}
	for _, name := range []string{"", ".", "..", "a/b", "../w"} {
		if _, err := config(t).Get(context.Background(), File{Name: name, URL: "https://weights.invalid"}); err == nil || !strings.Contains(err.Error(), "no file name") {
			t.Errorf("name %q: %v", name, err)
		}
	}
}

// tgz packs files.
func tgz(t *testing.T, files map[string][]byte) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	for _, name := range []string{"models/other", "models/wanted.caffemodel"} {
		if body, ok := files[name]; ok {
			if err := w.WriteHeader(&tar.Header{Name: "./" + name, Mode: 0o644, Size: int64(len(body))}); err != nil {
				t.Fatal(err)
			}
			w.Write(body)
		}
	}
	if err := errors.Join(w.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestMember(t *testing.T) {
	wanted := content(20_000, 15)
	archive := tgz(t, map[string][]byte{"models/other": content(50_000, 16), "models/wanted.caffemodel": wanted})
	s := serve(t, func(w http.ResponseWriter, r *http.Request, _ int) { whole(w, r, archive, "") })
	c := config(t)
	f := File{Name: "models.tgz", URL: s.URL, Checks: []Check{{"sha256", sha(archive), ""}}, Member: "models/wanted.caffemodel", MemberChecks: []Check{{"sha256", sha(wanted), ""}}}
	got, err := c.Get(context.Background(), f)
	if err != nil || filepath.Base(got.Path) != "wanted.caffemodel" || got.SHA256 != sha(wanted) || !got.Downloaded {
		t.Fatalf("%+v, %v", got, err)
	}
	// The member is enough, also where there is no network, and the error says so.
	os.Remove(filepath.Join(c.Dir, "models.tgz"))
	s.Close()
	away := config(t)
	_, err = away.Get(context.Background(), f)
	var hint interface{ Hint() string }
	if !errors.As(err, &hint) || !strings.Contains(hint.Hint(), filepath.Join(away.Dir, "models.tgz")+", or what is wanted of it at "+filepath.Join(away.Dir, "wanted.caffemodel")) {
		t.Errorf("error %v", err)
	}
	if got, err := c.Get(context.Background(), f); err != nil || got.Downloaded {
		t.Errorf("%+v, %v", got, err)
	}
	f.MemberChecks[0].Hex = "00"
	if _, err := c.Get(context.Background(), f); err == nil {
		t.Error("a wrong member was taken")
	}
}

func TestBadArchives(t *testing.T) {
	good := tgz(t, map[string][]byte{"models/wanted.caffemodel": content(20_000, 17)})
	for _, tt := range []struct {
		name, want string
		archive    []byte
		limit      int64
	}{
		{"missing", "it has no models/wanted.caffemodel", tgz(t, map[string][]byte{"models/other": content(10, 1)}), 1 << 20},
		{"cut", "unexpected EOF", good[:len(good)/2], 1 << 20},
		{"no archive", "invalid header", content(1000, 18), 1 << 20},
		{"too large", "larger than the limit", tgz(t, map[string][]byte{"models/wanted.caffemodel": make([]byte, 200_000)}), 100_000},
		{"bomb", "unexpected EOF", tgz(t, map[string][]byte{"models/other": make([]byte, 500_000), "models/wanted.caffemodel": {1}}), 100_000},
	} {
		s := serve(t, func(w http.ResponseWriter, r *http.Request, _ int) { whole(w, r, tt.archive, "") })
		c := config(t)
		c.Limit = tt.limit
		_, err := c.Get(context.Background(), File{Name: "models.tgz", URL: s.URL, Member: "models/wanted.caffemodel"})
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v", tt.name, err)
		}
		if left := leftovers(t, c); strings.Contains(left, "wanted") {
			t.Errorf("%s: in the folder: %s", tt.name, left)
		}
	}
}

func TestCacheDir(t *testing.T) {
	t.Setenv("RESDET_CACHE", "/elsewhere")
	if dir, err := CacheDir(); dir != "/elsewhere" || err != nil {
		t.Errorf("%s, %v", dir, err)
	}
	t.Setenv("RESDET_CACHE", "")
	t.Setenv("XDG_CACHE_HOME", "/var/cache/user")
	if dir, err := CacheDir(); filepath.Base(dir) != "resdet" || err != nil {
		t.Errorf("%s, %v", dir, err)
	}
}

// Every entry of the table says all that it must.
func TestTable(t *testing.T) {
	names, files := map[string]bool{}, map[string]bool{}
	for _, p := range Table {
		u, err := url.Parse(p.URL)
		if err != nil || u.Scheme != "https" || u.Host == "" {
			t.Errorf("%s: address %q, %v", p.Name, p.URL, err)
		}
		if names[p.Name] || files[p.File.Name] || p.File.Name != path.Base(p.File.Name) {
			t.Errorf("%s, file %s: taken, or no name", p.Name, p.File.Name)
		}
		names[p.Name], files[p.File.Name] = true, true
		if p.Title == "" || p.License == "" || p.Data == "" || p.Arch == "" || p.Page == "" || len(p.Read) == 0 {
			t.Errorf("%s: something is not said: %+v", p.Name, p)
		}
		if (p.Score == 0) != (p.Metric == "") || p.Score < 0 || p.Score > 100 {
			t.Errorf("%s: %v of %q", p.Name, p.Score, p.Metric)
		}
		for _, c := range append(p.Checks[:len(p.Checks):len(p.Checks)], p.MemberChecks...) {
			full := map[string]int{"sha256": 64, "sha1": 40, "md5": 32}[c.Algorithm]
			if len(c.Hex) < 6 || len(c.Hex) > full || strings.Trim(c.Hex, "0123456789abcdef") != "" || !strings.HasPrefix(c.Read, "https://") {
				t.Errorf("%s: check %+v", p.Name, c)
			}
		}
		for _, r := range p.Read {
			if !strings.HasPrefix(r, "https://") {
				t.Errorf("%s: read at %q", p.Name, r)
			}
		}
	}
	if p, ok := Find("resnet101"); !ok || !p.Backbone() || p.Checks[0].Hex != "63fe2227" {
		t.Errorf("resnet101: %+v", p)
	}
	if near := Near("detectron2-resnet101"); len(near) == 0 {
		t.Error("nothing is near detectron2-resnet101")
	}
}

// A server may send anything as a range.
func FuzzContentRange(f *testing.F) {
	for _, s := range []string{"bytes 100-199/200", "bytes 5-9/*", "bytes */300", "bytes -1-2/3", "items 0-1/2", "bytes 0-1", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		from, total, err := contentRange(s)
		if err == nil && !strings.HasPrefix(s, "bytes ") {
			t.Errorf("%q: %d, %d", s, from, total)
		}
	})
}
