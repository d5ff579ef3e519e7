package web

import (
	"crypto/rand"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"time"

	"github.com/gin-gonic/gin"
)

// Keys of what middleware keeps in a gin.Context.
const (
	idKey   = "request_id"
	codeKey = "error_code"
	liveKey = "live" // the connection stays
)

// requestID is the id of the request, for its log lines and errors.
func requestID(c *gin.Context) string { return c.GetString(idKey) }

// identify gives the request its id, the client's own where it is a sensible
// one, and logs the request when it is answered.
func (s *Server) identify(c *gin.Context) {
	id := c.GetHeader("X-Request-Id")
	if !sensibleID(id) {
		id = rand.Text()
	}
	c.Set(idKey, id)
	c.Header("X-Request-Id", id)
	start := time.Now()
	c.Next()
	s.metrics.answered(c, time.Since(start))
	level := slog.LevelInfo
	if c.Writer.Status() >= 500 {
		level = slog.LevelWarn
	}
	s.cfg.Log.LogAttrs(c.Request.Context(), level, "request",
		slog.String("request_id", id), slog.String("method", c.Request.Method), slog.String("path", clip(c.Request.URL.Path)),
		slog.Int("status", c.Writer.Status()), slog.Int("bytes", c.Writer.Size()), slog.Duration("took", time.Since(start)),
		slog.String("client", c.ClientIP()), slog.String("error_code", c.GetString(codeKey)))
}

// sensibleID: what a log can hold on one line.
func sensibleID(id string) bool {
	if id == "" || len(id) > 128 {
		return false
	}
	for _, r := range []byte(id) {
		if r <= ' ' || r > '~' || r == '"' || r == '\\' {
			return false
		}
	}
	return true
}

// recovered answers 500 where a handler panics, which is a bug; the
// connection of an answer that has begun is closed.
func (s *Server) recovered(c *gin.Context) {
	defer func() {
		v := recover()
		if v == nil {
			return
		}
		s.cfg.Log.ErrorContext(c.Request.Context(), "a handler panicked", "request_id", requestID(c), "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
		if c.Writer.Written() {
			panic(http.ErrAbortHandler)
		}
		s.fail(c, failf(500, "internal", "the server failed; its log knows the request by its id"))
	}()
	c.Next()
}

// guarded makes an error of a panic, a bug that some client's bytes find: on a
// goroutine of its own it would end the server.
func (s *Server) guarded(what string, do func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			s.cfg.Log.Error(what+" panicked", "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
			err = fmt.Errorf("web: %s panicked: %v", what, v)
		}
	}()
	return do()
}

// policy lets the page use its own files only: no inline script or style, no
// frames, nothing from elsewhere. Pictures that were dropped are blobs.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; connect-src 'self'; " +
	"worker-src 'self'; font-src 'self'; manifest-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// secure sets the headers that keep browsers from doing more than is needed.
func (s *Server) secure(c *gin.Context) {
	h := c.Writer.Header()
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Permissions-Policy", "camera=(self), microphone=(), geolocation=()")
	h.Set("X-Frame-Options", "DENY") // for browsers older than frame-ancestors
	c.Next()
}
