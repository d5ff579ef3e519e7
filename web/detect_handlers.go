package web

import (
	"bytes"
	"context"
	"image"
	"sync"
	"time"

	"github.com/gin-gonic/gin"

	"resdet/internal/transform"
)

// detectionBody is one object in an answer, as `resdet detect --json` writes
// it.
type detectionBody struct {
	Class   string     `json:"class"`
	ClassID int        `json:"class_id"`
	Score   float64    `json:"score"`
	Box     [4]float64 `json:"box"` // x0 y0 x1 y1 in pixels of the picture
}

// resultBody is what was found in one picture.
type resultBody struct {
	Image      string             `json:"image"`
	Width      int                `json:"width"`
	Height     int                `json:"height"`
	Detections []detectionBody    `json:"detections"`
	MS         map[string]float64 `json:"ms"`
	Model      string             `json:"model"`
}

// refusedBody stands for a picture of several that could not be looked at.
type refusedBody struct {
	Image string       `json:"image"`
	Error refusedError `json:"error"`
}

type refusedError struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// resultsBody answers a request with several pictures; each of Results is a
// resultBody or a refusedBody.
type resultsBody struct {
	Results []any `json:"results"`
}

func (s *Server) detectRoutes(r *gin.RouterGroup) {
	r.POST("/detect", s.handle(s.detect))
}

// handle makes a handler of a function that returns what went wrong.
func (s *Server) handle(f func(c *gin.Context) error) gin.HandlerFunc {
	return func(c *gin.Context) {
		if err := f(c); err != nil {
			s.fail(c, err)
		}
	}
}

// looked is a picture with what was found in it.
type looked struct {
	img    image.Image
	decode time.Duration
	found  found
	err    error
}

func (s *Server) detect(c *gin.Context) error {
	q := parameters(c, append([]string{"model", "draw"}, thresholdNames...)...)
	if err := q.problem(); err != nil {
		return err
	}
	m, err := s.models.acquire(q.text("model"))
	if err != nil {
		return err
	}
	defer m.release()
	settings, drawn := q.settings(m.Model), q.flag("draw")
	wait, err := s.patienceOf(c)
	if err == nil {
		err = q.problem()
	}
	if err != nil {
		return err
	}
	if err := m.queue.full(); err != nil {
		return err // before the body is read
	}
	uploads, err := s.uploads(c)
	defer func() { closeAll(uploads) }()
	if err != nil {
		return err
	}
	if drawn && len(uploads) > 1 {
		return failf(400, "bad_parameter", "draw=true is for one picture; there are %d", len(uploads))
	}
	if err := m.queue.reserve(len(uploads)); err != nil {
		return err
	}
	defer m.queue.unreserve(len(uploads))
	ctx, cancel := context.WithTimeoutCause(c.Request.Context(), wait, errDeadline)
	defer cancel()

	all := make([]looked, len(uploads))
	var group sync.WaitGroup
	for i, u := range uploads[1:] {
		group.Go(func() { all[1+i] = s.look(ctx, m, u, settings) })
	}
	all[0] = s.look(ctx, m, uploads[0], settings)
	group.Wait()
	switch {
	case len(all) > 1:
		body := resultsBody{make([]any, len(all))}
		for i, l := range all {
			if l.err != nil {
				f := asFailure(l.err)
				body.Results[i] = refusedBody{uploads[i].name, refusedError{f.code, f.message}}
				continue
			}
			body.Results[i] = result(m.Model, uploads[i].name, l)
		}
		s.answer(c, 200, body)
	case all[0].err != nil:
		return all[0].err
	case drawn:
		return s.sendDrawn(ctx, c, m.Model, uploads[0], all[0])
	default:
		s.answer(c, 200, result(m.Model, uploads[0].name, all[0]))
	}
	return nil
}

// look decodes a picture, for which a place is reserved, and detects.
func (s *Server) look(ctx context.Context, m *served, u *upload, settings Settings) (l looked) {
	l.img, l.decode, l.err = s.decode(ctx, u)
	if l.err == nil {
		s.metrics.stages.WithLabelValues(m.Name, "decode").Observe(l.decode.Seconds())
		queued := time.Now()
		s.tracing.stage(ctx, "decode", queued.Add(-l.decode), l.decode)
		if l.found, l.err = m.queue.detect(ctx, interactive, l.img, settings); l.err == nil {
			s.tracing.stages(ctx, m.Name, queued, l.found)
		}
	}
	return l
}

// result is what a client is told of a picture.
func result(m Model, name string, l looked) resultBody {
	size := l.img.Bounds()
	return resultBody{
		Image: name, Width: size.Dx(), Height: size.Dy(), Model: m.Name,
		Detections: detections(m, l.found.detections), MS: milliseconds(l.decode, l.found),
	}
}

func detections(m Model, list []Detection) []detectionBody {
	bodies := make([]detectionBody, len(list))
	for i, d := range list {
		class, b := m.Info.Classes[d.Class], d.Box
		bodies[i] = detectionBody{class.Name, class.ID, float64(d.Score), [4]float64{float64(b.X0), float64(b.Y0), float64(b.X1), float64(b.Y1)}}
	}
	return bodies
}

// milliseconds of each stage, as the command line tells them, and of waiting.
func milliseconds(decode time.Duration, f found) map[string]float64 {
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	t := f.timing
	return map[string]float64{
		"decode": ms(decode), "queue": ms(f.waited), "compile": ms(t.Compile), "transform": ms(t.Transform), "stage1": ms(t.Stage1),
		"proposals": ms(t.Proposals), "stage2": ms(t.Stage2), "post": ms(t.Post), "total": ms(t.Total),
	}
}

// sendDrawn answers with the picture, its detections drawn.
func (s *Server) sendDrawn(ctx context.Context, c *gin.Context, m Model, u *upload, l looked) error {
	size := l.img.Bounds()
	if err := u.account.take(5 * int64(size.Dx()) * int64(size.Dy())); err != nil { // RGBA, and a JPEG that is large
		return err
	}
	select {
	case s.decoders <- struct{}{}: // encoding takes as much of the cores
		defer func() { <-s.decoders }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	names := make([]string, len(m.Info.Classes))
	for i, class := range m.Info.Classes {
		names[i] = class.Name
	}
	var jpeg bytes.Buffer
	if err := transform.Encode(&jpeg, "drawn.jpg", transform.Draw(l.img, l.found.detections, names)); err != nil {
		return err
	}
	s.send(c, 200, "image/jpeg", jpeg.Bytes())
	return nil
}
