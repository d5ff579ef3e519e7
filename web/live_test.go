package web

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// camera opens a connection that the test's end closes.
func camera(t testing.TB, base, query string, o *websocket.DialOptions) *websocket.Conn {
	t.Helper()
	c, _, err := websocket.Dial(t.Context(), "ws"+strings.TrimPrefix(base, "http")+"/v1/live"+query, o)
	if err != nil {
		t.Fatal(err)
	}
	c.SetReadLimit(1 << 20)
	t.Cleanup(func() { c.CloseNow() })
	return c
}

// frame sends a frame and liveAnswer waits for an answer.
func frame(t testing.TB, c *websocket.Conn, data []byte) {
	t.Helper()
	if err := c.Write(t.Context(), websocket.MessageBinary, data); err != nil {
		t.Fatal(err)
	}
}

func liveAnswer(t testing.TB, c *websocket.Conn) (b liveBody) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	kind, data, err := c.Read(ctx)
	if err != nil || kind != websocket.MessageText {
		t.Fatalf("%v %v", kind, err)
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&b); err != nil {
		t.Fatalf("%v: %s", err, data)
	}
	return b
}

func TestLive(t *testing.T) {
	_, h, _ := newTestServer(t, testConfig())
	c := camera(t, h.URL, "?model=b&score=0.5&classes=cat", nil)
	for i := range 3 {
		frame(t, c, picture(t, 100+i, 50))
		a := liveAnswer(t, c)
		if a.Seq != i+1 || a.Width != 100+i || a.Height != 50 || len(a.Detections) != 1 || a.Detections[0].Class != "cat" || a.Dropped != 0 || a.Error != nil {
			t.Errorf("%+v", a)
		}
		if _, ok := a.MS["total"]; !ok || a.Detections[0].Box[0] != 1 { // model b's shift
			t.Errorf("%+v", a)
		}
	}
	// What is no picture is answered; the next one is.
	frame(t, c, []byte("no picture"))
	if a := liveAnswer(t, c); a.Seq != 4 || a.Error == nil || a.Error.Code != "not_a_picture" || a.Error.RequestID == "" {
		t.Errorf("%+v", a)
	}
	frame(t, c, picture(t, 100, 50))
	if a := liveAnswer(t, c); a.Seq != 5 || a.Error != nil {
		t.Errorf("%+v", a)
	}
}

// TestLiveKeepsUp: however fast frames come, one is at most in the network and
// one waits for it: what is looked at next is always the newest one, and the
// others are counted.
func TestLiveKeepsUp(t *testing.T) {
	s, h, f := newTestServer(t, testConfig())
	f.hold = make(chan struct{})
	c := camera(t, h.URL, "", nil)
	const frames = 200
	small, last := picture(t, 64, 48), picture(t, 65, 48)
	frame(t, c, small)
	for f.calls.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	// The network is busy with the first frame all the time. The last one comes
	// behind 198 others; the reader has them all when a ping is answered.
	for range frames - 2 {
		frame(t, c, small)
	}
	frame(t, c, last)
	if used := s.budget.inUse(); used > 4<<20 {
		t.Errorf("frames of %d bytes hold %d bytes", len(small), used)
	}
	read := context.Background()
	answers := make(chan liveBody, frames)
	go func() {
		defer close(answers)
		for {
			_, data, err := c.Read(read)
			if err != nil {
				return
			}
			var b liveBody
			if json.Unmarshal(data, &b) == nil {
				answers <- b
			}
		}
	}()
	if err := c.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.hold <- struct{}{}
	first := <-answers
	f.hold <- struct{}{}
	second := <-answers
	if first.Seq != 1 || second.Seq != frames || second.Width != 65 || second.Dropped != frames-2 {
		t.Errorf("answers to frames %d and %d (%d pixels wide), %d dropped", first.Seq, second.Seq, second.Width, second.Dropped)
	}
	if n := f.images.Load(); n != 2 {
		t.Errorf("the network saw %d pictures", n)
	}
}

// A producer ten times faster than the detector: the delay of an answer, counted
// in frames, does not grow.
func TestLiveDelayIsBounded(t *testing.T) {
	_, h, f := newTestServer(t, testConfig())
	f.hold = make(chan struct{})
	c := camera(t, h.URL, "", nil)
	data := picture(t, 64, 48)
	var a liveBody
	behind := []int{}
	for sent := 0; sent < 300; {
		for range 10 {
			frame(t, c, data)
			sent++
		}
		f.hold <- struct{}{} // the detector is through with one
		a = liveAnswer(t, c)
		behind = append(behind, sent-a.Seq)
	}
	// A queue would hold nine frames more after every answer: 270 by now.
	if late := behind[len(behind)-1]; late > 100 || a.Dropped < 100 || a.Seq != 30+a.Dropped {
		t.Errorf("frames behind at each answer: %v; %d dropped of %d", behind, a.Dropped, a.Seq)
	}
}

// TestLiveRefused: what is no WebSocket of an allowed page gets an error of the
// one shape.
func TestLiveRefused(t *testing.T) {
	cfg := testConfig()
	cfg.Origins = []string{"https://app.example"}
	_, h, _ := newTestServer(t, cfg)
	ask := func(query string, set func(http.Header)) (int, string) {
		r, err := http.NewRequest("GET", h.URL+"/v1/live"+query, nil)
		if err != nil {
			t.Fatal(err)
		}
		for k, v := range map[string]string{"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA=="} {
			r.Header.Set(k, v)
		}
		set(r.Header)
		status, header, body := do(t, r)
		return status, failed(t, header, body)
	}
	for _, c := range []struct {
		name, query string
		set         func(http.Header)
		status      int
		code        string
	}{
		{"plain", "", func(h http.Header) { h.Del("Upgrade") }, 426, "not_a_websocket"},
		{"version", "", func(h http.Header) { h.Set("Sec-WebSocket-Version", "8") }, 426, "not_a_websocket"},
		{"origin", "", func(h http.Header) { h.Set("Origin", "https://evil.example") }, 403, "wrong_origin"},
		{"null origin", "", func(h http.Header) { h.Set("Origin", "null") }, 403, "wrong_origin"},
		{"model", "?model=c", func(http.Header) {}, 404, "unknown_model"},
		{"class", "?classes=cow", func(http.Header) {}, 400, "bad_parameter"},
		{"parameter", "?fps=3", func(http.Header) {}, 400, "bad_parameter"},
	} {
		if status, code := ask(c.query, c.set); status != c.status || code != c.code {
			t.Errorf("%s: %d %s", c.name, status, code)
		}
	}
	for _, origin := range []string{"https://app.example", h.URL} {
		c := camera(t, h.URL, "", &websocket.DialOptions{HTTPHeader: http.Header{"Origin": {origin}}})
		frame(t, c, picture(t, 64, 48))
		liveAnswer(t, c)
	}
}

func TestLiveKey(t *testing.T) {
	cfg := testConfig()
	cfg.Keys = []string{"0123456789abcdef0123456789abcdef"}
	_, h, _ := newTestServer(t, cfg)
	for _, c := range []struct {
		key string
		ok  bool
	}{{cfg.Keys[0], true}, {"0123456789abcdef0123456789abcdee", false}} {
		o := &websocket.DialOptions{Subprotocols: []string{"resdet", "resdet.key." + base64.RawURLEncoding.EncodeToString([]byte(c.key))}}
		conn, answer, err := websocket.Dial(t.Context(), "ws"+strings.TrimPrefix(h.URL, "http")+"/v1/live", o)
		if (err == nil) != c.ok {
			t.Errorf("%v: %v", c, err)
		}
		if err != nil {
			if answer.StatusCode != 401 {
				t.Errorf("status %d", answer.StatusCode)
			}
			continue
		}
		if conn.Subprotocol() != "resdet" {
			t.Errorf("subprotocol %q", conn.Subprotocol())
		}
		conn.CloseNow()
	}
}

// TestLiveEnds: too large a frame, a text, too many that are no pictures and the
// server's end close the connection with a reason, and give its place back.
func TestLiveEnds(t *testing.T) {
	cfg := testConfig()
	cfg.MaxLive = 1
	s, h, _ := newTestServer(t, cfg)
	ends := func(c *websocket.Conn) websocket.StatusCode {
		for {
			if _, _, err := c.Read(t.Context()); err != nil {
				return websocket.CloseStatus(err)
			}
		}
	}
	free := func() {
		for len(s.live) > 0 {
			time.Sleep(time.Millisecond)
		}
	}
	for _, e := range []struct {
		name string
		send func(*websocket.Conn)
		want websocket.StatusCode
	}{
		{"too large", func(c *websocket.Conn) { c.Write(t.Context(), websocket.MessageBinary, make([]byte, maxFrame+1)) }, websocket.StatusMessageTooBig},
		{"text", func(c *websocket.Conn) { c.Write(t.Context(), websocket.MessageText, []byte("hello")) }, websocket.StatusUnsupportedData},
		{"no pictures", func(c *websocket.Conn) {
			for i := range badFrames {
				frame(t, c, []byte("no picture"))
				if a := liveAnswer(t, c); a.Seq != i+1 || a.Error == nil {
					t.Errorf("%+v", a)
				}
			}
		}, websocket.StatusUnsupportedData},
		{"server's end", func(*websocket.Conn) { s.stop(errStopping) }, websocket.StatusGoingAway},
	} {
		c := camera(t, h.URL, "", nil)
		if status, header, body := call(t, "GET", h.URL+"/v1/live", "", nil); status != 426 {
			t.Errorf("%d %v %s", status, header, body)
		}
		_, answer, err := websocket.Dial(t.Context(), "ws"+strings.TrimPrefix(h.URL, "http")+"/v1/live", nil)
		if err == nil || answer.StatusCode != 429 {
			t.Errorf("more connections than allowed: %v", err)
		}
		e.send(c)
		if got := ends(c); got != e.want {
			t.Errorf("%s: closed with %v, want %v", e.name, got, e.want)
		}
		free()
	}
	if used := s.budget.inUse(); used != 0 {
		t.Errorf("%d bytes are still taken", used)
	}
}

// TestLiveSignWithoutFrame: between a sign and the look at the newest frame
// another may come, whose sign then finds nothing.
func TestLiveSignWithoutFrame(t *testing.T) {
	l := &liveConn{ready: make(chan struct{}, 1)}
	l.ready <- struct{}{}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		l.answer(ctx)
	}()
	for len(l.ready) > 0 {
		time.Sleep(time.Millisecond)
	}
	cancel()
	<-ended
}
