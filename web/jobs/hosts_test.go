package jobs

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestHosts(t *testing.T) {
	h, err := NewHosts([]string{"Videos.Example.", "10.1.0.0/16", "192.0.2.7", "::1"})
	if err != nil {
		t.Fatal(err)
	}
	for address, want := range map[string]Code{
		"https://videos.example/a.mp4":         "",
		"http://VIDEOS.example:8080/a":         "",
		"rtsp://user:pw@videos.example./cam":   "",
		"rtsps://10.1.2.3/cam":                 "",
		"http://[::1]:80/":                     "",
		"http://192.0.2.7":                     "",
		"http://[::ffff:192.0.2.7]/":           "",
		"https://other.example/a.mp4":          Forbidden,
		"https://videos.example.evil/a.mp4":    Forbidden,
		"https://sub.videos.example/":          Forbidden,
		"http://10.2.0.1/":                     Forbidden,
		"http://127.0.0.1/":                    Forbidden,
		"http://0x7f000001/":                   Forbidden,
		"http://videos.example@127.0.0.1/":     Forbidden,
		"http://[::ffff:127.0.0.1]/":           Forbidden,
		"file:///etc/passwd":                   BadRequest,
		"ftp://videos.example/":                BadRequest,
		"concat:http://videos.example/":        BadRequest,
		"videos.example/a.mp4":                 BadRequest,
		"/dev/video0":                          BadRequest,
		"0":                                    BadRequest,
		"http://" + strings.Repeat("a", 5000):  BadRequest,
		"https:videos.example":                 BadRequest,
		"http://videos.example:80:90/\x7f%zz/": BadRequest,
	} {
		if _, err := h.parse(address); code(err) != want {
			t.Errorf("%s: %v, want %q", address, err, want)
		}
	}
	for _, bad := range []string{"", "*", "http://x", "a b", "10.0.0.0/33", "x:80", "u@x"} {
		if _, err := NewHosts([]string{bad}); err == nil {
			t.Errorf("%q is taken for a host", bad)
		}
	}
}

// TestRebinding: a listed name is as good as the addresses that it leads to, at
// the moment of the connection.
func TestRebinding(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	h, err := NewHosts([]string{"videos.example", "10.1.0.0/16"})
	if err != nil {
		t.Fatal(err)
	}
	var answers []string
	h.resolve = func(_ context.Context, host string) (list []netip.Addr, err error) {
		if host != "videos.example" {
			return nil, errors.New("unknown")
		}
		for _, a := range answers {
			list = append(list, netip.MustParseAddr(a))
		}
		return list, nil
	}
	for _, private := range []string{
		"127.0.0.1", "127.9.9.9", "::1", "0.0.0.0", "::", "10.2.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "fe80::1", "fd00::1", "fd00:ec2::254",
		"100.64.0.1", "198.18.0.1", "224.0.0.1", "255.255.255.255", "240.0.0.1", "::ffff:127.0.0.1", "::ffff:192.168.1.1", "64:ff9b::7f00:1", "2002:7f00:1::",
	} {
		answers = []string{private}
		if _, err := h.dial(t.Context(), "tcp", "videos.example:"+port); code(err) != Forbidden {
			t.Errorf("a name that leads to %s: %v", private, err)
		}
	}
	for _, ok := range []string{"192.0.2.1", "2001:db8::1", "10.1.2.3"} { // the last one is listed
		answers = []string{"127.0.0.1", ok}
		if list, err := h.addresses(t.Context(), "videos.example"); err != nil || len(list) != 1 || list[0].String() != ok {
			t.Errorf("%v: %v %v", answers, list, err)
		}
	}
	if _, err := h.dial(t.Context(), "tcp", "127.0.0.1:"+port); code(err) != Forbidden {
		t.Errorf("an address that is not listed: %v", err)
	}
	h, _ = NewHosts([]string{"127.0.0.1"})
	c, err := h.dial(t.Context(), "tcp", "127.0.0.1:"+port)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}

// webcam is a web server with an archive, a video, a stream, and ways that lead
// elsewhere.
func webcam(t *testing.T) (*httptest.Server, *atomic.Int64) {
	elsewhere := new(atomic.Int64)
	inner := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { elsewhere.Add(1) }))
	t.Cleanup(inner.Close)
	secret := strings.Replace(inner.URL, "127.0.0.1", "localhost", 1) + "/secret"
	mux := http.NewServeMux()
	data := func(b []byte) http.HandlerFunc { return func(w http.ResponseWriter, r *http.Request) { w.Write(b) } }
	pictures := zipOf(t, shades(t, 4)...)
	mux.HandleFunc("/photos.zip", data(pictures))
	mux.HandleFunc("/film", data(y4m(6)))
	mux.HandleFunc("/page", data([]byte("<html>")))
	mux.HandleFunc("/playlist.m3u8", data([]byte("#EXTM3U\n#EXTINF:1,\n"+secret+"\n")))
	mux.HandleFunc("/large", func(w http.ResponseWriter, r *http.Request) { w.Header().Set("Content-Length", fmt.Sprint(1<<40)) })
	mux.HandleFunc("/endless", func(w http.ResponseWriter, r *http.Request) {
		w.Write(y4m(1))
		for r.Context().Err() == nil {
			if _, err := w.Write(make([]byte, 1<<16)); err != nil {
				return
			}
		}
	})
	mux.HandleFunc("/cut", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "100000")
		w.Write(y4m(2))
	})
	mux.HandleFunc("/stalled", func(w http.ResponseWriter, r *http.Request) {
		w.Write(y4m(1))
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	mux.HandleFunc("/moved", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/photos.zip", http.StatusFound) })
	mux.HandleFunc("/away", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, secret, http.StatusFound) })
	mux.HandleFunc("/file", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Location", "file:///etc/passwd")
		w.WriteHeader(302)
	})
	mux.HandleFunc("/round", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/round", http.StatusFound) })
	picture := shade(t, 99)
	visits := new(atomic.Int64)
	mux.HandleFunc("/live", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "multipart/x-mixed-replace; boundary=b")
		for r.Context().Err() == nil {
			if _, err := fmt.Fprintf(w, "--b\r\nContent-Type: image/jpeg\r\n\r\n%s\r\n", picture); err != nil {
				return
			}
			w.(http.Flusher).Flush()
			time.Sleep(2 * time.Millisecond)
		}
	})
	// A stream at first; when it is asked again it leads away.
	mux.HandleFunc("/turncoat", func(w http.ResponseWriter, r *http.Request) {
		if visits.Add(1) > 1 {
			http.Redirect(w, r, secret, http.StatusFound)
			return
		}
		w.Header().Set("Content-Type", "multipart/x-mixed-replace; boundary=b")
	})
	// A stream at first, then a video, which the helper would fetch by itself.
	mux.HandleFunc("/chameleon", func(w http.ResponseWriter, r *http.Request) {
		if visits.Add(1) > 1 {
			w.Header().Set("Content-Type", "video/mp4")
			return
		}
		w.Header().Set("Content-Type", "multipart/x-mixed-replace; boundary=b")
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server, elsewhere
}

// TestFetch: inputs from an allowed host, and what does not come from there.
func TestFetch(t *testing.T) {
	server, elsewhere := webcam(t)
	c := testConfig(t)
	c.Hosts = []string{"127.0.0.1"}
	// Honest servers are in time on the slowest machine; so that the others do not
	// take as long one after the other, several jobs run at a time.
	c.MaxUpload, c.LiveTime, c.Workers = 4<<20, time.Second, 8
	c.Video.ReadTimeout, c.Video.Reconnect = 2*time.Second, 0
	q := openQueue(t, c, &fake{})
	secret := strings.Replace(server.URL, "http://", "http://me:secret@", 1)
	cases := []struct {
		path  string
		lines int // at least
		kind  Kind
		want  Code
	}{
		{"/photos.zip", 4, Images, ""},
		{"/moved", 4, Images, ""},
		{"/film", 6, Video, ""},
		{"/live", 2, Video, ""},
		{"/page", 0, "", Unsupported},
		{"/playlist.m3u8", 0, "", Unsupported},
		{"/large", 0, "", TooLarge},
		{"/endless", 0, "", TooLarge},
		{"/cut", 0, "", Unreachable},
		{"/stalled", 0, "", Unreachable},
		{"/none", 0, "", Unreachable},
		{"/away", 0, "", Forbidden},
		{"/file", 0, "", BadRequest},
		{"/round", 0, "", Unreachable},
	}
	ids := make([]string, len(cases))
	for i, f := range cases {
		j, err := q.Submit(t.Context(), Spec{URL: secret + f.path}, nil, -1)
		if err != nil {
			t.Fatal(err)
		}
		ids[i] = j.ID
	}
	for i, f := range cases {
		j := wait(t, q, ids[i], finished)
		if f.want != "" {
			if j.State != Failed || j.Fault.Code != f.want || strings.Contains(j.Fault.Message, "secret") {
				t.Errorf("%s: %+v %v, want %s", f.path, j, j.Fault, f.want)
			}
			continue
		}
		if j.State != Done || j.Kind != f.kind || j.Name != f.path[1:] {
			t.Errorf("%s: %+v %v", f.path, j, j.Fault)
			continue
		}
		if n := len(resultsOf(t, q, j.ID)); n < f.lines || f.path != "/live" && n != f.lines {
			t.Errorf("%s: %d lines", f.path, n)
		}
	}
	for _, path := range []string{"/turncoat", "/chameleon"} {
		server, elsewhere = webcam(t)
		j, err := q.Submit(t.Context(), Spec{URL: server.URL + path}, nil, -1)
		if err != nil {
			t.Fatal(err)
		}
		if j = wait(t, q, j.ID, finished); j.State != Failed || strings.Contains(j.Fault.Message, server.URL) {
			t.Errorf("%s: %+v %v", path, j, j.Fault)
		}
	}
	if n := elsewhere.Load(); n > 0 {
		t.Errorf("%d requests came to a host that is not allowed", n)
	}
	if _, err := q.Submit(t.Context(), Spec{URL: "http://localhost/a.mp4"}, nil, -1); code(err) != Forbidden {
		t.Errorf("a host that is not listed: %v", err)
	}
}

// TestForward: answers and packets pass unchanged, redirects and nonsense do
// not.
func TestForward(t *testing.T) {
	describe := "RTSP/1.0 200 OK\r\nCSeq: 2\r\nContent-Length: 5\r\n\r\nv=0\r\n"
	packet := "$\x00\x00\x04abcd"
	long := "$\x01\x12\x34" + strings.Repeat("p", 0x1234)
	for _, c := range []struct{ name, in, out string }{
		{"answers and packets", describe + packet + describe + long + packet, describe + packet + describe + long + packet},
		{"blank lines between", "\r\n\r\n" + describe, "\r\n\r\n" + describe},
		{"a request", "OPTIONS rtsp://x RTSP/1.0\r\nCSeq: 1\r\n\r\n", "OPTIONS rtsp://x RTSP/1.0\r\nCSeq: 1\r\n\r\n"},
		{"redirect", describe + "RTSP/1.0 302 Moved\r\nLocation: rtsp://10.0.0.1/\r\n\r\n", describe},
		{"redirect in other words", "RTSP/1.0  301  Moved\r\nLocation: rtsp://10.0.0.1/\r\n\r\n", ""},
		{"request to redirect", "REDIRECT rtsp://x RTSP/1.0\r\nLocation: rtsp://10.0.0.1/\r\n\r\n", ""},
		{"a long header", "RTSP/1.0 200 OK\r\n" + strings.Repeat("X: y\r\n", 20000), ""},
		{"a long line", strings.Repeat("x", 200000), ""},
		{"a huge body", "RTSP/1.0 200 OK\r\nContent-Length: 99999999\r\n\r\n", ""},
		{"a negative body", "RTSP/1.0 200 OK\r\nContent-Length: -5\r\n\r\n", ""},
		{"no header", "hello\r\n\r\n", ""},
	} {
		var out bytes.Buffer
		if err := forward(&out, strings.NewReader(c.in)); err == nil || out.String() != c.out {
			t.Errorf("%s: %v, %.100q", c.name, err, out.String())
		}
	}
}

// TestRelay: between a helper and a camera, it connects to the camera alone.
func TestRelay(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				line, err := bufio.NewReader(c).ReadString('\n')
				if err == nil {
					fmt.Fprintf(c, "RTSP/1.0 200 OK\r\nX-Asked: %s\r\n\r\n", strings.TrimSpace(line))
				}
			}()
		}
	}()
	u, _ := url.Parse("rtsp://me:secret@" + l.Addr().String() + "/cam?x=1")
	hosts, _ := NewHosts(nil)
	if _, err := newRelay(t.Context(), hosts, u, time.Second); code(err) != Forbidden {
		t.Errorf("to a host that is not allowed: %v", err)
	}
	hosts, _ = NewHosts([]string{"127.0.0.1"})
	r, err := newRelay(t.Context(), hosts, u, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	local, _ := url.Parse(r.address())
	if local.Path != "/cam" || local.RawQuery != "x=1" || local.User.Username() != "me" || local.Host == u.Host {
		t.Errorf("the helper is told %s", local)
	}
	for range 2 {
		c, err := net.Dial("tcp", local.Host)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(c, "DESCRIBE %s RTSP/1.0\r\n", local)
		answer, err := io.ReadAll(c)
		if err != nil || !strings.Contains(string(answer), "X-Asked: DESCRIBE") {
			t.Errorf("%q, %v", answer, err)
		}
		c.Close()
	}
	held, err := net.Dial("tcp", local.Host) // says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	if err := r.close(); err != nil {
		t.Error(err)
	}
	if _, err := io.ReadAll(held); err != nil && !errors.Is(err, net.ErrClosed) && !strings.Contains(err.Error(), "reset") {
		t.Error(err)
	}
	l.Close()
	if _, err := newRelay(t.Context(), hosts, u, time.Second); code(err) != Unreachable {
		t.Errorf("to a camera that is not there: %v", err)
	}
}

// FuzzForward: whatever a camera sends, what passes is a beginning of it, and no
// redirect.
func FuzzForward(f *testing.F) {
	f.Add([]byte("RTSP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nv=0\r\n$\x00\x00\x04abcd"))
	f.Add([]byte("RTSP/1.0 302 Moved\r\nLocation: rtsp://x/\r\n\r\n"))
	f.Add([]byte("$\x00\x00\x00\r\n\r\nREDIRECT x y\r\n\r\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var out bytes.Buffer
		if err := forward(&out, bytes.NewReader(data)); err == nil {
			t.Error("it never ended")
		}
		if !bytes.HasPrefix(data, out.Bytes()) {
			t.Errorf("%q became %q", data, out.Bytes())
		}
		if bytes.HasPrefix(out.Bytes(), []byte("RTSP/1.0 3")) {
			t.Errorf("%q passed", out.Bytes())
		}
	})
}
