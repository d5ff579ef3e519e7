package web

import (
	"sync"

	"github.com/gin-gonic/gin"
)

var quietGin = sync.OnceFunc(func() { gin.SetMode(gin.ReleaseMode) })

// routes builds the handler: what every request passes, and the table of
// routes, one method per file of handlers.
func (s *Server) routes() *gin.Engine {
	quietGin()
	r := gin.New()
	r.HandleMethodNotAllowed = true
	r.RedirectTrailingSlash = false
	if err := r.SetTrustedProxies(s.cfg.Proxies); err != nil {
		panic("web: " + err.Error()) // Config.Validate has seen them
	}
	r.RemoteIPHeaders = []string{"X-Forwarded-For"}
	r.Use(s.identify, s.traced, s.recovered, s.secure, s.paced, s.origin)
	r.NoRoute(func(c *gin.Context) {
		s.fail(c, failf(404, "not_found", "there is nothing at %s", clip(c.Request.URL.Path)))
	})
	r.NoMethod(func(c *gin.Context) {
		s.fail(c, failf(405, "wrong_method", "%s does not take %s", clip(c.Request.URL.Path), clip(c.Request.Method)))
	})
	s.healthRoutes(&r.RouterGroup)
	s.pageRoutes(&r.RouterGroup)
	s.docRoutes(&r.RouterGroup)
	s.metricRoutes(r.Group("", s.access))
	v1 := r.Group("/v1", s.access)
	s.detectRoutes(v1)
	s.compareRoutes(v1)
	s.modelRoutes(v1)
	s.jobRoutes(v1)
	s.liveRoutes(v1)
	return r
}
