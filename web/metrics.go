package web

import (
	"net/http"
	"strconv"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"resdet/web/jobs"
)

// metrics are what /metrics tells, beside Go's and the process's own.
type metrics struct {
	registry *prometheus.Registry
	requests *prometheus.CounterVec   // route, method, status
	latency  *prometheus.HistogramVec // route
	stages   *prometheus.HistogramVec // model, stage
	batches  *prometheus.HistogramVec // model
	pictures *prometheus.CounterVec   // model
	rejected *prometheus.CounterVec   // code
}

// seconds are the histograms' bounds: from a header that is looked at to a
// request that waited for a full queue.
var seconds = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60}

func (s *Server) newMetrics() *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "resdet_requests_total", Help: "Requests answered."}, []string{"route", "method", "status"}),
		latency:  prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "resdet_request_seconds", Help: "Time from a request's headers to the end of its answer; without live connections, which last as long as people look.", Buckets: seconds}, []string{"route"}),
		stages:   prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "resdet_stage_seconds", Help: "Time of each stage of a detection; those of the network are of the whole batch.", Buckets: seconds}, []string{"model", "stage"}),
		batches:  prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "resdet_batch_size", Help: "Pictures that went through the network at once.", Buckets: []float64{1, 2, 4, 8, 16, 32, 64}}, []string{"model"}),
		pictures: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "resdet_pictures_total", Help: "Pictures looked at, those of jobs and cameras included."}, []string{"model"}),
		rejected: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "resdet_rejected_total", Help: "Requests answered with an error, by its code."}, []string{"code"}),
	}
	m.registry.MustRegister(m.requests, m.latency, m.stages, m.batches, m.pictures, m.rejected, queueCollector{s}, jobsCollector{s},
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "resdet_live_connections", Help: "Connections that stay: events, running videos, cameras."}, func() float64 { return float64(len(s.live)) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "resdet_memory_bytes", Help: "Bytes of bodies and pictures in the server."}, func() float64 { return float64(s.budget.inUse()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "resdet_memory_limit_bytes", Help: "The most of resdet_memory_bytes; what does not fit is refused."}, func() float64 { return float64(s.cfg.Memory) }),
	)
	return m
}

// ran records a batch that went through a model.
func (m *metrics) ran(model string, batch []*task, t Timing) {
	m.batches.WithLabelValues(model).Observe(float64(len(batch)))
	m.pictures.WithLabelValues(model).Add(float64(len(batch)))
	for _, stage := range []struct {
		name string
		took time.Duration
	}{
		{"transform", t.Transform}, {"stage1", t.Stage1}, {"proposals", t.Proposals}, {"stage2", t.Stage2}, {"post", t.Post},
	} {
		m.stages.WithLabelValues(model, stage.name).Observe(stage.took.Seconds())
	}
	if t.Compile > 0 { // a shape that is known costs nothing and would hide the others
		m.stages.WithLabelValues(model, "compile").Observe(t.Compile.Seconds())
	}
	for _, task := range batch {
		m.stages.WithLabelValues(model, "queue").Observe(task.waited.Seconds())
	}
}

// answered records a request.
func (m *metrics) answered(c *gin.Context, took time.Duration) {
	route := c.FullPath()
	if route == "" {
		route = "other"
	}
	method := c.Request.Method
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodDelete, http.MethodOptions:
	default:
		method = "other" // clients may invent them
	}
	m.requests.WithLabelValues(route, method, strconv.Itoa(c.Writer.Status())).Inc()
	if !c.GetBool(liveKey) {
		m.latency.WithLabelValues(route).Observe(took.Seconds())
	}
}

func (s *Server) metricRoutes(r *gin.RouterGroup) {
	handler := promhttp.HandlerFor(s.metrics.registry, promhttp.HandlerOpts{ErrorHandling: promhttp.HTTPErrorOnError, Registry: s.metrics.registry})
	r.GET("/metrics", func(c *gin.Context) {
		s.writeSoon(c)
		handler.ServeHTTP(c.Writer, c.Request)
	})
}

// queueCollector tells the queues' lengths when it is asked, for the models
// that are there then.
type queueCollector struct{ s *Server }

var (
	queueLength   = prometheus.NewDesc("resdet_queue_length", "Places taken in a model's queue: pictures of requests that are decoded, wait, or are under way.", []string{"model"}, nil)
	queueCapacity = prometheus.NewDesc("resdet_queue_capacity", "Places in a model's queue; more pictures are refused.", []string{"model"}, nil)
)

func (queueCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- queueLength
	ch <- queueCapacity
}

func (q queueCollector) Collect(ch chan<- prometheus.Metric) {
	for _, m := range q.s.models.all() {
		ch <- prometheus.MustNewConstMetric(queueLength, prometheus.GaugeValue, float64(m.queue.length()), m.Name)
		ch <- prometheus.MustNewConstMetric(queueCapacity, prometheus.GaugeValue, float64(q.s.cfg.Queue), m.Name)
		m.release()
	}
}

// jobsCollector tells how many jobs there are, and how far a training is.
type jobsCollector struct{ s *Server }

var (
	jobCount = prometheus.NewDesc("resdet_jobs", "Jobs that are kept, by their kind and state.", []string{"kind", "state"}, nil)
	trained  = prometheus.NewDesc("resdet_training_progress", "Share of its steps that the running training has made.", nil, nil)
)

func (jobsCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- jobCount
	ch <- trained
}

func (j jobsCollector) Collect(ch chan<- prometheus.Metric) {
	if j.s.jobs == nil {
		return
	}
	type group struct{ kind, state string }
	counts := map[group]int{}
	for _, job := range j.s.jobs.List() {
		counts[group{string(job.Kind), string(job.State)}]++
		if job.Kind == jobs.Train && job.State == jobs.Running {
			ch <- prometheus.MustNewConstMetric(trained, prometheus.GaugeValue, max(0, job.Progress.Fraction))
		}
	}
	for g, n := range counts {
		ch <- prometheus.MustNewConstMetric(jobCount, prometheus.GaugeValue, float64(n), g.kind, g.state)
	}
}
