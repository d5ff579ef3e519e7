package web

import (
	"context"
	"fmt"
	"image"
	"time"

	"resdet/internal/transform"
	"resdet/internal/video"
	"resdet/web/jobs"
)

// openJobs opens the queue of jobs, if the configuration has a folder for it.
func (s *Server) openJobs() error {
	if s.cfg.StateDir == "" {
		return nil
	}
	c := jobs.DefaultConfig()
	c.Dir, c.Hosts, c.Log = s.cfg.StateDir, s.cfg.AllowHosts, s.cfg.Log
	c.MaxJobs, c.MaxBytes, c.MaxUpload, c.Age = s.cfg.MaxJobs, s.cfg.MaxJobBytes, s.cfg.MaxUpload, s.cfg.JobAge
	c.Trainer, c.TrainDir, c.MaxTrained, c.MaxTrainBytes = s.cfg.Trainer, s.cfg.TrainDir, s.cfg.MaxTrained, s.cfg.MaxTrainBytes
	c.Pictures = transform.Limits{Bytes: c.Archive.EntryBytes, Pixels: s.cfg.MaxPixels, Memory: s.cfg.Memory / 2}
	var err error
	if s.jobs, err = jobs.Open(c, jobModels{s}); err != nil {
		return fmt.Errorf("web: %w", err)
	}
	return nil
}

// jobModels are the server's models for its jobs, which stand behind requests
// and cameras. A model is looked up for every picture, so that a job of hours
// goes on with a model that was read anew.
type jobModels struct{ s *Server }

func (j jobModels) Check(model string, wanted jobs.Settings) (string, []jobs.Class, error) {
	m, err := j.s.models.acquire(model)
	if err != nil {
		return "", nil, err
	}
	defer m.release()
	if _, err := settingsFor(m.Model, wanted); err != nil {
		return "", nil, err
	}
	classes := make([]jobs.Class, len(m.Info.Classes))
	for i, c := range m.Info.Classes {
		classes[i] = video.Class{Name: c.Name, ID: c.ID}
	}
	return m.Name, classes, nil
}

func (j jobModels) Detect(ctx context.Context, model string, wanted jobs.Settings, img image.Image) ([]jobs.Detection, error) {
	m, err := j.s.models.acquire(model)
	if err != nil {
		return nil, err
	}
	defer m.release()
	settings, err := settingsFor(m.Model, wanted)
	if err != nil {
		return nil, err
	}
	f, err := m.queue.detect(ctx, background, img, settings)
	return f.detections, err
}

// settingsFor are a model's thresholds with what is wanted instead.
func settingsFor(m Model, wanted jobs.Settings) (Settings, error) {
	s := m.Settings
	if wanted.Score != nil {
		s.Score = *wanted.Score
	}
	if wanted.NMS != nil {
		s.NMS = *wanted.NMS
	}
	if wanted.Max != nil {
		s.Max = *wanted.Max
	}
	if wanted.Classes != nil {
		var f *failure
		if s.Only, f = m.only(wanted.Classes); f != nil {
			return s, f
		}
	}
	return s, nil
}

// jobFailure is what a client is told of a fault of package jobs.
func jobFailure(f *jobs.Fault) *failure {
	status, ok := jobStatus[f.Code]
	if !ok { // the log has it
		return failf(500, "internal", "the server failed; its log knows the request by its id")
	}
	answer := failf(status, string(f.Code), "%s", f.Message)
	switch f.Code {
	case jobs.Busy:
		return answer.after(10 * time.Second)
	case jobs.Closing:
		return answer.after(time.Second)
	}
	return answer
}

var jobStatus = map[jobs.Code]int{
	jobs.BadRequest: 400, jobs.Forbidden: 403, jobs.NotFound: 404, jobs.NotReady: 409, jobs.TooLarge: 413, jobs.Unsupported: 415,
	jobs.BadInput: 422, jobs.Busy: 429, jobs.Unreachable: 502, jobs.Closing: 503, jobs.TooLong: 413, jobs.NoSpace: 507,
	jobs.NoTraining: 501,
}
