package web

import (
	"time"

	"github.com/gin-gonic/gin"
)

// healthBody is the answer of /healthz and /readyz.
type healthBody struct {
	Status string `json:"status"`
}

// healthRoutes tell whether the process lives, and whether it wants requests.
func (s *Server) healthRoutes(r *gin.RouterGroup) {
	r.GET("/healthz", func(c *gin.Context) { s.answer(c, 200, healthBody{"ok"}) })
	r.GET("/readyz", func(c *gin.Context) {
		if err := s.ready(); err != nil {
			s.fail(c, err)
			return
		}
		s.answer(c, 200, healthBody{"ready"})
	})
}

// ready says why the server would refuse requests, if it would.
func (s *Server) ready() error {
	if s.ctx.Err() != nil {
		return errStopping
	}
	models := s.models.all()
	defer func() {
		for _, m := range models {
			m.release()
		}
	}()
	if len(models) == 0 {
		return failf(503, "not_ready", "no model is loaded yet").after(time.Second)
	}
	for _, m := range models {
		if m.queue.length() >= s.cfg.Queue {
			return failf(503, "overloaded", "the queue of the model %s is full", m.Name).after(time.Second)
		}
	}
	return nil
}
