package web

import (
	"encoding/json"
	"errors"
	"io"
	"math"
	"mime"
	"mime/multipart"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"resdet/web/jobs"
)

// jobBody describes a job.
type jobBody struct {
	ID       string       `json:"id"`
	Kind     string       `json:"kind"`
	State    string       `json:"state"`
	Name     string       `json:"name"`
	Model    string       `json:"model"`
	Created  time.Time    `json:"created"`
	Started  *time.Time   `json:"started"`  // null: not yet
	Finished *time.Time   `json:"finished"` // null: not yet
	Progress progressBody `json:"progress"`
	Error    *jobs.Fault  `json:"error,omitempty"` // why it failed
	Links    linksBody    `json:"links"`
	// Training is there for jobs of kind train.
	Training *trainingBody `json:"training,omitempty"`
}

// trainingBody tells of a training. Its curves are left out of lists.
type trainingBody struct {
	Model  string       `json:"model"` // the new one's name
	Phase  jobs.Phase   `json:"phase,omitempty"`
	Losses []jobs.Loss  `json:"losses,omitempty"`
	Scores []jobs.Score `json:"scores,omitempty"`
}

// progressBody counts pictures or frames with a result, or steps.
type progressBody struct {
	Done     int      `json:"done"`
	Total    int      `json:"total"`    // 0: not known
	Fraction float64  `json:"fraction"` // 0…1
	ETA      *float64 `json:"eta_s"`    // seconds; null: not known
	Failed   int      `json:"failed"`   // of those done, could not be read
}

// linksBody has the addresses behind which there is something now.
type linksBody struct {
	Self      string `json:"self"`
	Events    string `json:"events"`
	Results   string `json:"results,omitempty"`
	Annotated string `json:"annotated,omitempty"`
	Stream    string `json:"stream,omitempty"`
}

type jobsBody struct {
	Jobs []jobBody `json:"jobs"`
	// Trains says whether jobs of kind train are taken.
	Trains bool `json:"trains"`
}

// jobRoutes are the routes of jobs.
func (s *Server) jobRoutes(r *gin.RouterGroup) {
	g := r.Group("/jobs", s.handleNext(s.haveJobs))
	g.POST("", s.handle(s.submitJob))
	g.GET("", s.handle(s.listJobs))
	g.GET("/:id", s.handle(s.getJob))
	g.DELETE("/:id", s.handle(s.deleteJob))
	g.GET("/:id/results", s.handle(s.jobResults))
	g.GET("/:id/annotated", s.handle(s.jobAnnotated))
	g.GET("/:id/events", s.handle(s.jobEvents))
	g.GET("/:id/stream", s.handle(s.jobStream))
}

// handleNext makes a middleware of a function that returns why a request is
// refused.
func (s *Server) handleNext(f func(c *gin.Context) error) gin.HandlerFunc {
	return func(c *gin.Context) {
		if err := f(c); err != nil {
			s.fail(c, err)
			return
		}
		c.Next()
	}
}

func (s *Server) haveJobs(*gin.Context) error {
	if s.jobs == nil {
		return failf(501, "no_jobs", "this server has no folder for jobs (--state-dir)")
	}
	return nil
}

func jobAddress(id string) string { return "/v1/jobs/" + id }

func bodyOf(j jobs.Job) jobBody {
	b := jobBody{
		ID: j.ID, Kind: string(j.Kind), State: string(j.State), Name: j.Name, Model: j.Model, Created: j.Created,
		Progress: progressBody{Done: j.Progress.Done, Total: j.Progress.Total, Fraction: max(0, j.Progress.Fraction), Failed: j.Progress.Failed},
		Error:    j.Fault,
		Links:    linksBody{Self: jobAddress(j.ID), Events: jobAddress(j.ID) + "/events"},
	}
	if !j.Started.IsZero() {
		b.Started = &j.Started
	}
	if !j.Finished.IsZero() {
		b.Finished = &j.Finished
	}
	if j.State == jobs.Running && j.Progress.Left >= 0 {
		left := j.Progress.Left.Round(time.Millisecond).Seconds()
		b.Progress.ETA = &left
	}
	if j.State == jobs.Done {
		b.Links.Results = b.Links.Self + "/results"
		if j.Annotated {
			b.Links.Annotated = b.Links.Self + "/annotated"
		}
	}
	if t := j.Training; t != nil {
		b.Training = &trainingBody{t.Model, t.Phase, t.Losses, t.Scores}
	}
	if j.Watchable {
		b.Links.Stream = b.Links.Self + "/stream"
	}
	return b
}

// wanted are the thresholds that the parameters ask for.
func (q *query) wanted() (w jobs.Settings) {
	if q.text("score") != "" {
		score := float32(q.number("score", 0, 0, 1))
		w.Score = &score
	}
	if q.text("nms") != "" {
		nms := float32(q.number("nms", 0, leastNMS, 1))
		w.NMS = &nms
	}
	if q.text("max") != "" {
		most := q.integer("max", 1, 1, mostDetections)
		w.Max = &most
	}
	if text := q.text("classes"); text != "" {
		w.Classes = strings.Split(text, ",")
	}
	return w
}

// maxFormExtra is what a form may have beside the file: the headers of its one
// part.
const maxFormExtra = 64 << 10

// maxJobJSON bounds a body that names an address.
const maxJobJSON = 16 << 10

// jobSpec reads the parameters of a new job.
func jobSpec(c *gin.Context) (jobs.Spec, error) {
	if c.Query("kind") == string(jobs.Train) {
		q := parameters(c, "kind", "name", "model", "steps", "rate", "seed", "lenient")
		t := jobs.Training{
			Name: q.text("name"), Steps: q.integer("steps", 0, 1, mostSteps), Rate: q.number("rate", 0, 0, mostRate),
			Seed: uint64(q.integer("seed", 1, 1, math.MaxInt32)), Lenient: q.flag("lenient"),
		}
		return jobs.Spec{Model: q.text("model"), Train: &t}, q.problem()
	}
	q := parameters(c, append([]string{"kind", "name", "model", "every", "track", "annotate"}, thresholdNames...)...)
	if kind := q.text("kind"); kind != "" {
		q.fail(`the kind %q is not known: it is "train", or left out`, clip(kind))
	}
	return jobs.Spec{
		Name: q.text("name"), Model: q.text("model"), Settings: q.wanted(),
		Every: q.integer("every", 1, 1, 10_000), Track: q.flag("track"), Annotate: q.flag("annotate"),
	}, q.problem()
}

// Bounds of what a training may be asked for.
const (
	mostSteps = 1_000_000
	mostRate  = 0.5
)

func (s *Server) submitJob(c *gin.Context) error {
	spec, err := jobSpec(c)
	if err != nil {
		return err
	}
	if e := c.GetHeader("Content-Encoding"); e != "" && e != "identity" {
		return failf(415, "encoded_body", "Content-Encoding %s is not taken: videos and pictures are compressed already", clip(e))
	}
	kind, options, err := mime.ParseMediaType(c.GetHeader("Content-Type"))
	if err != nil && c.GetHeader("Content-Type") != "" {
		return failf(415, "wrong_type", "the Content-Type is malformed")
	}
	var j jobs.Job
	switch kind {
	case "application/json":
		if spec.URL, err = jobURL(http.MaxBytesReader(c.Writer, c.Request.Body, maxJobJSON)); err == nil {
			j, err = s.jobs.Submit(c.Request.Context(), spec, nil, -1)
		}
	case "multipart/form-data":
		j, err = s.submitForm(c, spec, options["boundary"])
	default:
		// One byte more than is taken, for the queue to see that it is too much.
		body := http.MaxBytesReader(c.Writer, c.Request.Body, s.cfg.MaxUpload+1)
		if spec.Train != nil {
			spec.Name = spec.Train.Name // nothing else is known of it
		}
		j, err = s.jobs.Submit(c.Request.Context(), spec, body, c.Request.ContentLength)
		if unread := (*readError)(nil); errors.As(err, &unread) {
			err = badBody(unread)
		}
	}
	if err != nil {
		return err
	}
	c.Header("Location", jobAddress(j.ID))
	s.answer(c, http.StatusAccepted, bodyOf(j))
	return nil
}

// jobURL reads {"url": …}.
func jobURL(r io.Reader) (string, error) {
	var body struct {
		URL string `json:"url"`
	}
	d := json.NewDecoder(r)
	d.DisallowUnknownFields()
	if err := d.Decode(&body); err != nil {
		if known := badBody(err); asFailure(known).status != 500 {
			return "", known
		}
		return "", failf(400, "bad_body", "the body is no JSON that is known: %s", clip(err.Error()))
	}
	if _, err := d.Token(); err != io.EOF {
		return "", failf(400, "bad_body", "there is something behind the JSON object")
	}
	if body.URL == "" {
		return "", failf(400, "bad_body", `"url" is missing`)
	}
	return body.URL, nil
}

// submitForm takes a form's one part "file" as it comes.
func (s *Server) submitForm(c *gin.Context, spec jobs.Spec, boundary string) (jobs.Job, error) {
	if boundary == "" {
		return jobs.Job{}, failf(400, "bad_form", "the form has no boundary")
	}
	if c.Request.ContentLength > s.cfg.MaxUpload+maxFormExtra {
		return jobs.Job{}, failf(413, "too_large", "the body has more than %d bytes", s.cfg.MaxUpload)
	}
	parts := multipart.NewReader(http.MaxBytesReader(c.Writer, c.Request.Body, s.cfg.MaxUpload+maxFormExtra), boundary)
	part, err := parts.NextRawPart()
	if err == io.EOF {
		return jobs.Job{}, failf(400, "bad_form", `the form has no part "file"`)
	}
	if err != nil {
		return jobs.Job{}, badForm(err)
	}
	if part.FormName() != "file" {
		return jobs.Job{}, failf(400, "bad_form", "the part %q is not known: the input is the part \"file\"", clip(part.FormName()))
	}
	if len(part.FileName()) > maxName {
		return jobs.Job{}, failf(400, "bad_name", "a file name of %d bytes is longer than %d", len(part.FileName()), maxName)
	}
	if spec.Name == "" {
		spec.Name = part.FileName()
	}
	j, err := s.jobs.Submit(c.Request.Context(), spec, &onlyPart{parts: parts, part: part}, -1)
	if wrong := (*formError)(nil); errors.As(err, &wrong) {
		return j, badForm(wrong.err)
	}
	return j, err
}

// formError tells what is wrong with a form from what is wrong with the job.
type formError struct{ err error }

func (e *formError) Error() string { return e.err.Error() }

// onlyPart reads a part, and makes sure that the form ends behind it: what was
// cut off is not taken for whole.
type onlyPart struct {
	parts *multipart.Reader
	part  *multipart.Part
}

func (o *onlyPart) Read(b []byte) (int, error) {
	n, err := o.part.Read(b)
	if err == io.EOF {
		switch _, next := o.parts.NextRawPart(); next {
		case io.EOF:
			return n, io.EOF
		case nil:
			return n, &formError{failf(400, "bad_form", "there is a part behind the file")}
		default:
			return n, &formError{next}
		}
	}
	if err != nil {
		return n, &formError{err}
	}
	return n, nil
}

func (s *Server) listJobs(c *gin.Context) error {
	if err := parameters(c).problem(); err != nil {
		return err
	}
	body := jobsBody{Jobs: []jobBody{}, Trains: s.cfg.Trainer != nil}
	for _, j := range s.jobs.List() {
		b := bodyOf(j)
		if b.Training != nil { // the list is asked for often
			b.Training.Losses, b.Training.Scores = nil, nil
		}
		body.Jobs = append(body.Jobs, b)
	}
	s.answer(c, 200, body)
	return nil
}

func (s *Server) getJob(c *gin.Context) error {
	if err := parameters(c).problem(); err != nil {
		return err
	}
	j, err := s.jobs.Get(c.Param("id"))
	if err != nil {
		return err
	}
	s.answer(c, 200, bodyOf(j))
	return nil
}

// deleteJob answers a job that it cancelled, and nothing of one that it
// removed.
func (s *Server) deleteJob(c *gin.Context) error {
	if err := parameters(c).problem(); err != nil {
		return err
	}
	j, removed, err := s.jobs.Delete(c.Request.Context(), c.Param("id"))
	switch {
	case err != nil:
		return err
	case removed:
		s.writeSoon(c)
		c.Status(http.StatusNoContent)
		c.Writer.WriteHeaderNow()
	default:
		s.answer(c, 200, bodyOf(j))
	}
	return nil
}

func (s *Server) jobResults(c *gin.Context) error {
	if err := parameters(c).problem(); err != nil {
		return err
	}
	f, j, err := s.jobs.Results(c.Param("id"))
	if err != nil {
		return err
	}
	defer f.Close()
	s.sendFile(c, f, j, "application/jsonl", stem(j.Name)+".jsonl")
	return nil
}

func (s *Server) jobAnnotated(c *gin.Context) error {
	if err := parameters(c).problem(); err != nil {
		return err
	}
	f, j, err := s.jobs.AnnotatedFile(c.Param("id"))
	if err != nil {
		return err
	}
	defer f.Close()
	ext := filepath.Ext(f.Name())
	kind := map[string]string{".mp4": "video/mp4", ".zip": "application/zip"}[ext]
	s.sendFile(c, f, j, kind, stem(j.Name)+"-annotated"+ext)
	return nil
}

// stem is a file's name without its ending.
func stem(name string) string {
	if base := strings.TrimSuffix(name, filepath.Ext(name)); base != "" {
		return base
	}
	return name
}

// sendFile answers with a job's file, or the range of it that is asked for, to
// be saved under a name. The client may take as long as it likes as long as it
// takes something.
func (s *Server) sendFile(c *gin.Context, f io.ReadSeeker, j jobs.Job, kind, name string) {
	h := c.Writer.Header()
	h.Set("Content-Type", kind)
	h.Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": name}))
	h.Set("Cache-Control", "private, no-cache")
	http.ServeContent(&pacedWriter{c.Writer, func() { s.writeSoon(c) }}, c.Request, "", j.Finished, f)
}

// pacedWriter gives the client time for each piece anew.
type pacedWriter struct {
	http.ResponseWriter
	extend func()
}

func (p *pacedWriter) Write(b []byte) (int, error) {
	p.extend()
	return p.ResponseWriter.Write(b)
}
