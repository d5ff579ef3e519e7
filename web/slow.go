package web

import (
	"io"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"
)

// paced keeps clients that send slowly, or nothing, from holding connections:
// a body must come at the least rate, and its next bytes within the grace.
func (s *Server) paced(c *gin.Context) {
	control := http.NewResponseController(c.Writer)
	// Deadlines fail on recorders in tests only; of an earlier request on this
	// connection one may be left.
	_ = control.SetWriteDeadline(time.Time{})
	if r := c.Request; r.Body != nil && r.Body != http.NoBody {
		p := &pacedBody{ReadCloser: r.Body, control: control, began: time.Now(), grace: s.cfg.HeaderTimeout, rate: s.cfg.MinRate}
		// Also for a body that nobody reads: when it is refused, net/http reads a
		// part of it to keep the connection.
		p.extend()
		r.Body = p
	}
	c.Next()
}

// pacedBody moves the connection's deadline on as bytes come.
type pacedBody struct {
	io.ReadCloser
	control *http.ResponseController
	began   time.Time
	grace   time.Duration
	rate    int64 // bytes per second
	n       int64
}

func (p *pacedBody) extend() {
	next := time.Now().Add(p.grace)
	if due := p.began.Add(p.grace + time.Duration(float64(p.n)/float64(p.rate)*float64(time.Second))); due.Before(next) {
		next = due
	}
	_ = p.control.SetReadDeadline(next)
}

func (p *pacedBody) Read(b []byte) (int, error) {
	p.extend()
	n, err := p.ReadCloser.Read(b)
	p.n += int64(n)
	if err == io.EOF {
		// From here on net/http watches whether the client is still there: a
		// deadline would look as if it had gone.
		_ = p.control.SetReadDeadline(time.Time{})
	} else if err != nil && err != io.ErrUnexpectedEOF { // which readers compare with
		err = &readError{err}
	}
	return n, err
}

// readError is what went wrong with a body's transport: a broken chunk, a
// client that is gone.
type readError struct{ error }

func (e *readError) Unwrap() error { return e.error }

// writeSoon gives the client the configuration's WriteTimeout to take what is
// written next.
func (s *Server) writeSoon(c *gin.Context) {
	_ = http.NewResponseController(c.Writer).SetWriteDeadline(time.Now().Add(s.cfg.WriteTimeout))
}
