package web

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"
)

const (
	// heartbeat keeps proxies from taking a quiet stream of events for dead.
	heartbeat = 15 * time.Second
	// leastPause between two events: people see no more.
	leastPause = 200 * time.Millisecond
)

// takeLive takes one of the places for connections that stay. How long they do
// is no latency.
func (s *Server) takeLive(c *gin.Context) error {
	if s.ctx.Err() != nil {
		return errStopping
	}
	select {
	case s.live <- struct{}{}:
		c.Set(liveKey, true)
		return nil
	default:
		return failf(429, "too_many_streams", "%d live connections are open, as many as there may be", s.cfg.MaxLive).after(10 * time.Second)
	}
}

func (s *Server) giveLive() { <-s.live }

// whileServing is the request's context, which ends also when the server stops.
func (s *Server) whileServing(c *gin.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(c.Request.Context())
	stop := context.AfterFunc(s.ctx, func() { cancel(errStopping) })
	return ctx, func() { stop(); cancel(nil) }
}

// jobEvents tells of a job as server-sent events: "progress" with the job
// whenever it has changed, "end" with the job when it is over. A client that
// comes back needs no history, for each event says all, so that its
// Last-Event-ID plays no part; one that reads slowly gets fewer.
func (s *Server) jobEvents(c *gin.Context) error {
	if err := parameters(c).problem(); err != nil {
		return err
	}
	id := c.Param("id")
	job, changed, err := s.jobs.Follow(id)
	if err != nil {
		return err
	}
	if err := s.takeLive(c); err != nil {
		return err
	}
	defer s.giveLive()
	ctx, done := s.whileServing(c)
	defer done()
	h := c.Writer.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no") // nginx
	c.Writer.WriteHeader(http.StatusOK)
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	for n := 1; ; n++ {
		event := "progress"
		if err != nil || job.State.Finished() { // removed meanwhile, or over
			event = "end"
		}
		body, failed := json.Marshal(bodyOf(job))
		if failed != nil || !s.push(c, fmt.Sprintf("id: %d\nevent: %s\ndata: %s\n\n", n, event, body)) || event == "end" {
			return nil
		}
		if !s.pause(ctx, leastPause) {
			return nil
		}
		for waiting := true; waiting; {
			select {
			case <-changed:
				waiting = false
			case <-beat.C:
				if !s.push(c, ": still here\n\n") {
					return nil
				}
			case <-ctx.Done():
				return nil
			}
		}
		last := job
		if job, changed, err = s.jobs.Follow(id); err != nil {
			job = last
		}
	}
}

// push writes a piece of a stream, which the client must take in time.
func (s *Server) push(c *gin.Context, text string) bool {
	s.writeSoon(c)
	if _, err := c.Writer.WriteString(text); err != nil {
		return false
	}
	return http.NewResponseController(c.Writer).Flush() == nil
}

func (s *Server) pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// jobStream shows a running video as MJPEG.
func (s *Server) jobStream(c *gin.Context) error {
	if err := parameters(c).problem(); err != nil {
		return err
	}
	pictures, err := s.jobs.Watch(c.Param("id"))
	if err != nil {
		return err
	}
	if err := s.takeLive(c); err != nil {
		return err
	}
	defer s.giveLive()
	ctx, done := s.whileServing(c)
	defer done()
	pictures.ServeHTTP(c.Writer, c.Request.WithContext(ctx))
	return nil
}
