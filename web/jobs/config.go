package jobs

import (
	"fmt"
	"log/slog"
	"time"

	"resdet/internal/transform"
	"resdet/internal/video"
)

// Config says how a queue behaves. Start from [DefaultConfig].
type Config struct {
	// Dir is the folder of the queue, made where it is missing. One process may
	// have it at a time.
	Dir string
	// Workers is how many jobs run at a time. They share the models, so that
	// more than one helps where reading and writing videos takes the time.
	Workers int
	// MaxJobs is how many jobs are kept, finished ones included.
	MaxJobs int
	// MaxBytes is the most that the files of all jobs may take, MaxUpload the
	// most of one input.
	MaxBytes, MaxUpload int64
	// Age is how long a finished job is kept.
	Age time.Duration
	// MaxTime is the longest that a job may run; a live source is followed for
	// LiveTime, and the job is done.
	MaxTime, LiveTime time.Duration
	// Attempts is how often a job may be running when the process dies, before
	// it is given up: it may be the reason. Jobs that it happened to stand
	// behind the others.
	Attempts int
	// Hosts are those from which inputs may be fetched; see [Hosts].
	Hosts []string
	// Archive bounds archives, Pictures each image.
	Archive  Limits
	Pictures transform.Limits
	// Video says how videos are opened, and by which helper program.
	Video video.Options
	// Trainer makes models, in TrainDir; nil: there are no jobs of kind [Train].
	// Their models are at most MaxTrained, those in training included, and all
	// files there take at most MaxTrainBytes. One training runs at a time, for at
	// most TrainTime.
	Trainer       Trainer
	TrainDir      string
	MaxTrained    int
	MaxTrainBytes int64
	TrainTime     time.Duration
	// Log is told of jobs and of what goes wrong.
	Log *slog.Logger
}

// DefaultConfig keeps a hundred jobs for a week, without a folder.
func DefaultConfig() Config {
	c := Config{
		Workers: 1,
		MaxJobs: 100, MaxBytes: 10 << 30, MaxUpload: 2 << 30, Age: 7 * 24 * time.Hour,
		MaxTime: 24 * time.Hour, LiveTime: time.Hour, Attempts: 10,
		MaxTrained: 10, MaxTrainBytes: 20 << 30, TrainTime: 14 * 24 * time.Hour,
		Archive: DefaultLimits(), Pictures: transform.DefaultLimits(), Video: video.DefaultOptions(),
		Log: slog.New(slog.DiscardHandler),
	}
	c.Video.Reconnect = 10 * time.Second // a job may be submitted again
	return c
}

// Validate names the first setting that cannot work.
func (c Config) Validate() error {
	switch {
	case c.Dir == "":
		return fmt.Errorf("jobs: there is no folder for them")
	case c.Workers < 1 || c.Workers > 64:
		return fmt.Errorf("jobs: %d workers: 1 to 64", c.Workers)
	case c.MaxJobs < 1 || c.MaxJobs > 1e6:
		return fmt.Errorf("jobs: at most %d jobs: it must be 1 to 1000000", c.MaxJobs)
	case c.MaxUpload < 1 || c.MaxBytes < c.MaxUpload:
		return fmt.Errorf("jobs: uploads of %d bytes in %d: they must be positive, and fit", c.MaxUpload, c.MaxBytes)
	case c.Age <= 0 || c.MaxTime <= 0 || c.LiveTime <= 0:
		return fmt.Errorf("jobs: an age of %v, runs of %v and %v: they must be positive", c.Age, c.MaxTime, c.LiveTime)
	case c.Trainer != nil && c.TrainDir == "":
		return fmt.Errorf("jobs: there is no folder for training")
	case c.MaxTrained < 1 || c.MaxTrainBytes < 1 || c.TrainTime <= 0:
		return fmt.Errorf("jobs: %d trained models, %d bytes, %v: they must be positive", c.MaxTrained, c.MaxTrainBytes, c.TrainTime)
	case c.Attempts < 1:
		return fmt.Errorf("jobs: %d attempts: at least 1", c.Attempts)
	}
	if _, err := NewHosts(c.Hosts); err != nil {
		return err
	}
	if err := c.Archive.validate(); err != nil {
		return err
	}
	return c.Video.Validate()
}
