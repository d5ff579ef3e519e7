package web

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/gin-gonic/gin"
	"golang.org/x/net/netutil"

	"resdet/web/jobs"
)

// Server answers requests with its models. Its methods may be called from any
// goroutine.
type Server struct {
	cfg    Config
	engine *gin.Engine
	models *modelSet
	budget *budget
	// decoders has a place for each picture that may be decoded at a time.
	decoders chan struct{}
	metrics  *metrics
	tracing  *tracing
	keys     [][sha256.Size]byte
	rates    *rates
	sameSite *http.CrossOriginProtection
	jobs     *jobs.Queue // nil without a folder for them
	// live has a place for each connection that stays: events, pictures, cameras.
	live chan struct{}

	// ctx ends when the server stops: live streams and jobs end with it, while
	// requests are drained.
	ctx     context.Context
	stop    context.CancelCauseFunc
	streams sync.WaitGroup // connections that net/http does not wait for
}

// New makes a server without models: it is not ready until
// [Server.SetModels]. Close it if neither Run nor Serve is called.
func New(cfg Config, models ...Model) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	tracing, err := newTracing(cfg.Traces)
	if err != nil {
		return nil, err
	}
	s := &Server{
		tracing: tracing,
		cfg:     cfg, budget: &budget{limit: cfg.Memory}, decoders: make(chan struct{}, cfg.Decoders),
		keys: hashed(cfg.Keys), rates: newRates(cfg.Rate, cfg.Burst), sameSite: http.NewCrossOriginProtection(),
	}
	s.metrics = s.newMetrics()
	s.ctx, s.stop = context.WithCancelCause(context.Background())
	turns := make(chan struct{}, cfg.Turns)
	s.models = &modelSet{
		newQueue: func(m Model) *queue { return newQueue(m, cfg, turns, s.metrics.ran) },
		failed:   func(err error) { cfg.Log.Error("closing a model", "error", err) },
	}
	s.live = make(chan struct{}, cfg.MaxLive)
	if err := s.openJobs(); err != nil {
		return nil, err
	}
	if err := s.SetModels(models...); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	s.engine = s.routes()
	return s, nil
}

// SetModels serves these models from now on; the first is the default one.
// Requests under way keep theirs, which are closed when nobody uses them any
// more. After an error nothing has changed, and the models are still the
// caller's.
func (s *Server) SetModels(models ...Model) error {
	if err := s.models.replace(models); err != nil {
		return err
	}
	if s.jobs != nil && len(models) > 0 {
		s.jobs.Start()
	}
	return nil
}

// AddModel serves a model beside those that are there, from now on and until
// [Server.SetModels] or [Server.RemoveModel]; one of the same name is replaced.
// After an error the model is still the caller's.
func (s *Server) AddModel(m Model) error { return s.models.put(m) }

// RemoveModel ends what [Server.AddModel] began. Requests under way keep the
// model, which is closed when nobody uses it any more.
func (s *Server) RemoveModel(name string) { s.models.remove(name) }

// Handler is the server without a listener; [Server.Close] ends it.
func (s *Server) Handler() http.Handler { return s.engine }

// Run listens on the configuration's address and serves as [Server.Serve] does.
func (s *Server) Run(ctx context.Context) error {
	var listen net.ListenConfig
	l, err := listen.Listen(ctx, "tcp", s.cfg.Addr)
	if err != nil {
		return fmt.Errorf("web: %w", err)
	}
	return s.Serve(ctx, l)
}

// maxHeader bounds a request's line and headers; net/http adds 4 KiB. Nothing
// that is served needs a tenth of it.
const maxHeader = 64 << 10

// Serve answers requests until ctx ends. Then it takes no more, gives those
// under way the configuration's Drain to end, closes the models and returns
// nil, or what went wrong.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	h := &http.Server{
		Handler:           s.engine,
		ReadHeaderTimeout: s.cfg.HeaderTimeout,
		IdleTimeout:       s.cfg.IdleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(s.cfg.Log.Handler(), slog.LevelDebug),
	}
	s.cfg.Log.Info("serving", "address", l.Addr().String())
	ended := make(chan error, 1)
	go func() { ended <- h.Serve(refusals{netutil.LimitListener(l, s.cfg.MaxConns)}) }()
	var err error
	select {
	case err = <-ended:
	case <-ctx.Done():
		s.cfg.Log.Info("stopping", "drain", s.cfg.Drain)
		s.stop(errStopping)
		drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.Drain)
		err = h.Shutdown(drain)
		cancel()
		if err != nil {
			err = errors.Join(fmt.Errorf("web: requests were cut off after %v: %w", s.cfg.Drain, err), h.Close())
		}
		if served := <-ended; !errors.Is(served, http.ErrServerClosed) {
			err = errors.Join(err, served)
		}
	}
	return errors.Join(err, s.Close())
}

// Close ends streams and jobs, which the next server goes on with, closes the
// models and sends the last traces. Requests must have ended.
func (s *Server) Close() error {
	s.stop(errStopping)
	s.streams.Wait()
	var err error
	if s.jobs != nil {
		err = s.jobs.Close()
	}
	s.models.close()
	const flush = 5 * time.Second // of a collector that is not there
	ctx, cancel := context.WithTimeout(context.Background(), flush)
	defer cancel()
	if lost := s.tracing.end(ctx); lost != nil {
		s.cfg.Log.Warn("traces are lost", "error", lost)
	}
	return err
}

// answer writes v as JSON.
func (s *Server) answer(c *gin.Context, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil { // a bug: all that is answered can be marshalled
		s.cfg.Log.Error("marshalling an answer", "error", err)
		status, body = 500, []byte(`{"error":{"code":"internal","message":"the answer could not be written","request_id":""}}`)
	}
	s.send(c, status, "application/json; charset=utf-8", append(body, '\n'))
}

// send writes a whole answer. The client has the configuration's WriteTimeout
// to take it.
func (s *Server) send(c *gin.Context, status int, kind string, body []byte) {
	s.writeSoon(c)
	c.Data(status, kind, body)
}
