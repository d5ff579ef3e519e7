package web

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"
	"github.com/gin-gonic/gin"

	"resdet/web/jobs"
)

// liveBody answers a camera's frame.
type liveBody struct {
	Seq        int                `json:"seq"` // which of the frames that came, from 1
	Width      int                `json:"width,omitempty"`
	Height     int                `json:"height,omitempty"`
	Detections []detectionBody    `json:"detections"`
	MS         map[string]float64 `json:"ms,omitempty"`
	// Dropped counts the frames so far that were passed by for newer ones.
	Dropped int `json:"dropped"`
	// Error says why there is nothing of this frame.
	Error *errorObject `json:"error,omitempty"`
}

const (
	// maxFrame is the most bytes of a frame: 8 megapixels at the best quality.
	maxFrame = 8 << 20
	// frameTimeout is how long a camera may send nothing.
	frameTimeout = time.Minute
	// pingEvery finds connections that died without a word, within pingTimeout
	// more.
	pingEvery, pingTimeout = 20 * time.Second, 10 * time.Second
	// badFrames in a row end a connection.
	badFrames = 20
)

// Subprotocols of /v1/live: a browser cannot give a WebSocket headers, so that
// an API key may come as the name of one, in base64url.
const (
	liveProtocol = "resdet"
	keyProtocol  = "resdet.key."
)

// liveRoutes are the routes of live pictures.
func (s *Server) liveRoutes(r *gin.RouterGroup) {
	r.GET("/live", s.handle(s.serveLive))
}

// serveLive answers a camera's frames. The client sends each as a binary
// message, and gets a text message for every one that was looked at.
//
//	client ── frame ▶ reader ── newest, the others dropped ▶ decode ▶ queue (live) ▶ answer
//
// The reader never waits for the network, so that frames do not pile up on the
// way: however fast they come, an answer is one detection behind its frame, or
// two.
func (s *Server) serveLive(c *gin.Context) error {
	q := parameters(c, append([]string{"model"}, thresholdNames...)...)
	wanted, model := q.wanted(), q.text("model")
	if err := q.problem(); err != nil {
		return err
	}
	if _, _, err := (jobModels{s}).Check(model, wanted); err != nil {
		return err
	}
	if err := s.upgradable(c.Request); err != nil {
		return err
	}
	if err := s.takeLive(c); err != nil {
		return err
	}
	defer s.giveLive()
	// net/http forgets a connection that is taken over, so that its Shutdown does
	// not wait for it: it is counted here, before.
	s.streams.Add(1)
	defer s.streams.Done()
	conn, err := websocket.Accept(c.Writer, c.Request, &websocket.AcceptOptions{
		Subprotocols: []string{liveProtocol}, InsecureSkipVerify: true, // upgradable has looked
	})
	if err != nil {
		s.cfg.Log.Debug("a WebSocket was not opened", "request_id", requestID(c), "error", err)
		return nil // Accept has answered
	}
	defer conn.CloseNow()
	conn.SetReadLimit(maxFrame)
	l := &liveConn{s: s, conn: conn, id: requestID(c), model: model, wanted: wanted, ready: make(chan struct{}, 1)}
	l.run(s.ctx)
	return nil
}

// upgradable refuses what is no WebSocket's handshake, and those of pages that
// are neither this server's nor listed: browsers send them without asking.
func (s *Server) upgradable(r *http.Request) error {
	h := r.Header
	if !strings.EqualFold(h.Get("Upgrade"), "websocket") || !strings.Contains(strings.ToLower(h.Get("Connection")), "upgrade") ||
		h.Get("Sec-Websocket-Version") != "13" || h.Get("Sec-Websocket-Key") == "" || r.ProtoMajor != 1 {
		return failf(426, "not_a_websocket", "this address speaks WebSocket (RFC 6455, version 13) only")
	}
	from := h.Get("Origin")
	if from == "" || slices.Contains(s.cfg.Origins, from) || slices.Contains(s.cfg.Origins, "*") {
		return nil
	}
	if u, err := url.Parse(from); err == nil && u.Host != "" && strings.EqualFold(u.Host, r.Host) {
		return nil
	}
	return failf(403, "wrong_origin", "pages of %s may not use this server", clip(from))
}

// keyInProtocol is the API key that a WebSocket's handshake offers as a
// subprotocol, empty if there is none.
func keyInProtocol(r *http.Request) string {
	for _, list := range r.Header.Values("Sec-Websocket-Protocol") {
		for name := range strings.SplitSeq(list, ",") {
			if text, ok := strings.CutPrefix(strings.TrimSpace(name), keyProtocol); ok {
				key, _ := base64.RawURLEncoding.DecodeString(text) // half a key is none
				return string(key)
			}
		}
	}
	return ""
}

// liveConn is a camera's connection.
type liveConn struct {
	s      *Server
	conn   *websocket.Conn
	id     string // of the request
	model  string
	wanted jobs.Settings

	mu      sync.Mutex
	newest  *upload
	seq     int // of newest
	dropped int
	ready   chan struct{} // capacity 1: there is a newest frame
}

// run goes on until the client or the server ends it.
func (l *liveConn) run(serving context.Context) {
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	idle := time.AfterFunc(frameTimeout, func() {
		l.conn.Close(websocket.StatusPolicyViolation, "no frame came for "+frameTimeout.String())
	})
	stop := context.AfterFunc(serving, func() { l.conn.Close(websocket.StatusGoingAway, "the server is stopping") })
	group.Go(func() {
		defer cancel()
		l.answer(ctx)
	})
	group.Go(func() {
		defer cancel()
		l.ping(ctx)
	})
	l.read(ctx, idle)
	cancel()
	idle.Stop()
	stop()
	group.Wait()
	if l.newest != nil {
		l.newest.account.close()
	}
}

// read takes frames as they come, and keeps the newest.
func (l *liveConn) read(ctx context.Context, idle *time.Timer) {
	for seq := 1; ; seq++ {
		kind, r, err := l.conn.Reader(ctx)
		if err != nil {
			return
		}
		if kind != websocket.MessageBinary {
			l.conn.Close(websocket.StatusUnsupportedData, "frames are binary messages")
			return
		}
		u := &upload{name: "frame", account: &account{budget: l.s.budget}}
		if u.data, err = u.account.readAll(r); err != nil {
			u.account.close()
			if f := asFailure(err); f.status == http.StatusTooManyRequests { // the server's memory is full
				l.conn.Close(websocket.StatusTryAgainLater, f.message)
			}
			return
		}
		idle.Reset(frameTimeout)
		l.put(u, seq)
	}
}

func (l *liveConn) put(u *upload, seq int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.newest != nil {
		l.newest.account.close()
		l.dropped++
	}
	l.newest, l.seq = u, seq
	select {
	case l.ready <- struct{}{}:
	default: // it is known that there is one
	}
}

func (l *liveConn) take() (u *upload, seq, dropped int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	u, l.newest = l.newest, nil
	return u, l.seq, l.dropped
}

// answer looks at the newest frame, again and again.
func (l *liveConn) answer(ctx context.Context) {
	for bad := 0; ; {
		select {
		case <-l.ready:
		case <-ctx.Done():
			return
		}
		u, seq, dropped := l.take()
		if u == nil {
			continue // a newer frame came before the last look, which took it: this is its sign
		}
		body := liveBody{Seq: seq, Dropped: dropped, Detections: []detectionBody{}}
		err := l.look(ctx, u, &body)
		u.account.close()
		if ctx.Err() != nil {
			return
		}
		bad++
		if err == nil {
			bad = 0
		} else {
			f := asFailure(err)
			if f.status == 500 {
				l.s.cfg.Log.Error("a frame failed", "request_id", l.id, "error", err)
			}
			body.Error = &errorObject{f.code, f.message, l.id}
		}
		text, err := json.Marshal(body)
		if err != nil {
			return
		}
		writing, cancel := context.WithTimeout(ctx, l.s.cfg.WriteTimeout)
		err = l.conn.Write(writing, websocket.MessageText, text)
		cancel()
		if err != nil {
			return
		}
		if bad == badFrames {
			l.conn.Close(websocket.StatusUnsupportedData, "too many frames in a row could not be looked at")
			return
		}
	}
}

func (l *liveConn) look(ctx context.Context, u *upload, body *liveBody) error {
	m, err := l.s.models.acquire(l.model)
	if err != nil {
		return err
	}
	defer m.release()
	settings, err := settingsFor(m.Model, l.wanted)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, l.s.cfg.MaxWait, errDeadline)
	defer cancel()
	var one looked
	if one.img, one.decode, err = l.s.decode(ctx, u); err != nil {
		return err
	}
	if one.found, err = m.queue.detect(ctx, live, one.img, settings); err != nil {
		return err
	}
	size := one.img.Bounds()
	body.Width, body.Height = size.Dx(), size.Dy()
	body.Detections, body.MS = detections(m.Model, one.found.detections), milliseconds(one.decode, one.found)
	return nil
}

// ping looks now and then whether the client is still there.
func (l *liveConn) ping(ctx context.Context) {
	tick := time.NewTicker(pingEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		waiting, cancel := context.WithTimeout(ctx, pingTimeout)
		err := l.conn.Ping(waiting)
		cancel()
		if err != nil && !errors.Is(ctx.Err(), context.Canceled) {
			return
		}
	}
}
