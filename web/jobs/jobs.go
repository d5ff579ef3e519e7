// Package jobs keeps and does a server's long work: videos, streams and
// archives of images.
//
//	Submit ─ upload ─▶ input ─ checked ─▶ queued ──▶ running ──▶ done │ failed
//	                   on disk            record     worker      results.jsonl, annotated.mp4 or .zip
//	                                       ▲           │
//	                                       └── the process ended: again, from the start
//
// A [Queue] has a folder to itself: jobs.db (bbolt) with a record for each job,
// and a folder with the files of each. A job is accepted once its input is
// whole on disk and its record is committed; every change of its state is one
// transaction. Results are written where nobody looks and moved into place
// when they are whole, before the record says done: so a job that is cut off at
// any moment is run again and never gives half a result, nor one twice.
//
// Jobs are bounded in number, bytes and age: the oldest finished ones make
// room for new ones, and what does not fit beside the unfinished ones is
// refused. What uploads contain is not trusted (see [Limits]), and nothing is
// fetched from hosts that are not allowed (see [Hosts]).
//
// Trainings are jobs as well, of which one runs at a time beside the others. They
// have a folder of their own: what a run leaves there when it is cut off it goes
// on with, and the models that came of trainings stay there as long as their
// jobs, which are removed by nobody but clients.
//
// The package knows no HTTP and no network: package web serves it, a
// [Detector] finds the objects, and a [Trainer] makes models.
package jobs

import (
	"context"
	"fmt"
	"image"
	"slices"
	"time"

	"resdet/internal/det"
	"resdet/internal/video"
)

// Names of other packages' types that stand in this one's signatures.
type (
	// Detection is an object found: Class indexes the model's classes, Box is in
	// pixels of the image.
	Detection = det.Detection
	// Class is what a detector finds: its name and its id in the model's own
	// data set.
	Class = video.Class
)

// Detector finds objects for the jobs. Its methods are called from several
// goroutines. A server puts the images of jobs behind those of requests.
type Detector interface {
	// Check returns the name and the classes of a model, the default one's for
	// an empty name. The error says that there is no such model, or that it
	// cannot run with these settings.
	Check(model string, s Settings) (name string, classes []Class, err error)
	// Detect finds the objects of an image, best first, which it may not keep.
	Detect(ctx context.Context, model string, s Settings, m image.Image) ([]Detection, error)
}

// Settings are the thresholds that a job asked for; nil means the model's own.
type Settings struct {
	Score   *float32 `json:"score,omitempty"`
	NMS     *float32 `json:"nms,omitempty"`
	Max     *int     `json:"max,omitempty"`
	Classes []string `json:"classes,omitempty"` // only these; nil: all
}

// Spec is what a client asks for.
type Spec struct {
	// Name is how the job is called: the name of its file.
	Name string `json:"name"`
	// Model is a model's name; empty: the default one.
	Model    string   `json:"model"`
	Settings Settings `json:"settings"`
	// Every N-th frame of a video is looked at; 0 means 1. Track numbers objects
	// from frame to frame and fills the frames between. Both are for videos.
	Every int  `json:"every,omitempty"`
	Track bool `json:"track,omitempty"`
	// Annotate asks for pictures with the objects drawn.
	Annotate bool `json:"annotate,omitempty"`
	// URL is where the input is fetched from, instead of an upload.
	URL string `json:"url,omitempty"`
	// Train makes it a job of kind [Train]: the input is an archive with a data
	// set, and Model the one to start from.
	Train *Training `json:"train,omitempty"`
}

// maxEvery is a frame in ten minutes of most videos; beyond it nothing is
// followed.
const maxEvery = 10000

// validate completes s and names what cannot work.
func (s *Spec) validate() error {
	s.Every = max(s.Every, 1)
	if s.Every > maxEvery {
		return faultf(BadRequest, "every %d: it must be 1 to %d", s.Every, maxEvery)
	}
	s.Name = cleanName(s.Name)
	if s.Train != nil {
		return s.Train.validate()
	}
	return nil
}

// State is how far a job is.
type State string

// The states of a job. The last three are final.
const (
	Queued    State = "queued"
	Running   State = "running"
	Done      State = "done"
	Failed    State = "failed"
	Cancelled State = "cancelled"
)

// Finished reports whether the state is final.
func (s State) Finished() bool { return s == Done || s == Failed || s == Cancelled }

// next lists the states that may follow each one. Running goes back to Queued
// when the process ends.
var next = map[State][]State{
	Queued:  {Running, Failed, Cancelled},
	Running: {Done, Failed, Cancelled, Queued},
}

func (s State) mayBecome(t State) bool { return slices.Contains(next[s], t) }

// Kind is what a job's input is.
type Kind string

// The kinds of jobs.
const (
	Video  Kind = "video"
	Images Kind = "images" // an archive of them
	Train  Kind = "train"  // an archive with a data set, to train on
)

// Job describes a job at one moment.
type Job struct {
	ID       string
	Kind     Kind
	State    State
	Name     string
	Model    string
	Created  time.Time
	Started  time.Time // zero: not yet
	Finished time.Time // zero: not yet
	Progress Progress
	// Fault says why the job failed; nil otherwise.
	Fault *Fault
	// Annotated: there are, or will be, pictures with the objects drawn.
	Annotated bool
	// Watchable: the job is a running video, which [Queue.Watch] shows.
	Watchable bool
	// Training is what a job of kind [Train] tells beside; nil otherwise.
	Training *TrainingState
}

// TrainingState is how a training stands.
type TrainingState struct {
	// Model is the name of the new model, which is served once the job is done.
	Model string
	// Phase of a running job.
	Phase Phase
	Curves
}

// Progress says how far a running job is.
type Progress struct {
	// Done counts frames or images with a result, or a training's steps, Failed those of them that
	// could not be read; Total is how many there will be, 0 where nobody knows.
	Done, Failed, Total int
	// Fraction of the whole, 0…1; negative: unknown.
	Fraction float64
	// Left is the time to the end at the pace so far; negative: unknown.
	Left time.Duration
}

// unknown is the progress of a job that has not begun.
var unknown = Progress{Fraction: -1, Left: -1}

// Code tells kinds of errors apart, in stored jobs and for HTTP.
type Code string

// The codes of faults.
const (
	BadRequest  Code = "bad_request"    // settings that cannot work
	NotFound    Code = "not_found"      // there is no such job
	NotReady    Code = "not_ready"      // there is no such result, or not yet
	BadInput    Code = "bad_input"      // an upload that is damaged, or hostile
	Unsupported Code = "unsupported"    // an upload of no kind that is known, or without OpenCV
	TooLarge    Code = "too_large"      // more than a single job may have
	Busy        Code = "too_many_jobs"  // as many unfinished jobs as there may be
	NoSpace     Code = "no_space"       // no room on disk, or none that jobs may take
	Forbidden   Code = "host_forbidden" // a host that is not allowed
	Unreachable Code = "unreachable"    // a source that did not answer, or broke off
	TooLong     Code = "too_long"       // more time than a job may take
	Interrupted Code = "interrupted"    // the process ended too often while it ran
	NoModel     Code = "model_failed"   // the model is not there any more, or failed
	NoTraining  Code = "no_training"    // this server does not train
	TrainFailed Code = "train_failed"   // a training that broke off
	Internal    Code = "internal"       // a bug, or a broken disk
	Closing     Code = "shutting_down"  // the server is about to end
)

// Fault is an error that a client is told of.
type Fault struct {
	Code    Code   `json:"code"`
	Message string `json:"message"`

	err error
}

func (f *Fault) Error() string { return f.Message }

// Unwrap returns what caused the fault, if something did.
func (f *Fault) Unwrap() error { return f.err }

// faultf is a fault with fmt's formatting; an error among the arguments of %w
// can be found in it.
func faultf(code Code, format string, args ...any) *Fault {
	err := fmt.Errorf(format, args...)
	return &Fault{code, err.Error(), err}
}
