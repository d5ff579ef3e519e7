package jobs

import (
	"context"
	"errors"
	"fmt"
	"image"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"
)

// run is one attempt at a job.
type run struct {
	q       *Queue
	e       *entry
	job     Job // as it was when the run began
	spec    Spec
	classes []Class
	work    string // the folder to write to
	meter   meter
	told    time.Time // when progress was last told
	secret  []string  // the server's own addresses, which no message may show
}

// work runs one job of a lane after another until ctx ends.
func (q *Queue) work(ctx context.Context, l lane) {
	for ctx.Err() == nil {
		e, runCtx, err := q.start(ctx, l)
		if e != nil {
			q.attempt(runCtx, e)
			continue
		}
		retry := time.Duration(0)
		if err != nil {
			q.cfg.Log.Error("a job cannot be started", "error", err)
			retry = startRetry
		}
		q.idle(ctx, l, retry)
	}
}

// startRetry is the pause after the database could not be written.
const startRetry = 5 * time.Second

// idle waits for a job to be queued, or for the time to try again.
func (q *Queue) idle(ctx context.Context, l lane, retry time.Duration) {
	var again <-chan time.Time
	if retry > 0 {
		timer := time.NewTimer(retry)
		defer timer.Stop()
		again = timer.C
	}
	select {
	case <-q.wake[l]:
	case <-again:
	case <-ctx.Done():
	}
}

// start takes the job whose turn it is: first those that were never
// interrupted, in their order.
func (q *Queue) start(ctx context.Context, l lane) (*entry, context.Context, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	var first *entry
	for _, e := range q.entries {
		if e.State == Queued && e.lane() == l && (first == nil || e.before(first)) {
			first = e
		}
	}
	if first == nil || ctx.Err() != nil {
		return nil, nil, nil
	}
	err := q.commit(first, func(r *record) { r.State, r.Started, r.Attempts = Running, now(), r.Attempts+1 })
	if err != nil {
		return nil, nil, err
	}
	ctx, first.cancel = context.WithCancelCause(ctx)
	first.over = make(chan struct{})
	return first, ctx, nil
}

func (e *entry) before(o *entry) bool {
	if e.Attempts != o.Attempts {
		return e.Attempts < o.Attempts
	}
	return e.Order < o.Order
}

// attempt runs a job that was started and records how that ended.
func (q *Queue) attempt(ctx context.Context, e *entry) {
	q.mu.Lock()
	r := &run{q: q, e: e, job: e.snapshot(), spec: e.Spec, meter: meter{q: q}}
	q.mu.Unlock()
	log := q.cfg.Log.With("job", r.job.ID)
	log.Info("job started", "kind", r.job.Kind, "model", r.job.Model)
	out, err := r.do(ctx)
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err == nil {
		err = r.deliver(out)
	}

	q.settle(ctx, r, out, err)
	if q.trains() && e.Kind == Train && (e.State == Failed || e.State == Cancelled) { // final: nobody writes it any more
		q.dropModel(e.Spec.Train.Name) // it was being served just when that came
	}
}

// settle records how an attempt ended.
func (q *Queue) settle(ctx context.Context, r *run, out outcome, err error) {
	e, log := r.e, q.cfg.Log.With("job", r.job.ID)
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case e.State != Running: // cancelled
	case err == nil:
		e.progress = out.progress
		err = q.commit(e, func(r *record) {
			r.State, r.Finished, r.Attempts, r.Outcome, r.Annotated, r.Curves = Done, now(), 0, out.progress, out.annotated, out.curves
		})
	case q.closing && ctx.Err() != nil: // the next process runs it
		e.progress = unknown
		err = q.commit(e, func(r *record) { r.State, r.Started, r.Attempts = Queued, time.Time{}, r.Attempts-1 })
	}
	if err != nil && e.State == Running {
		f := r.fault(err)
		log.Warn("job failed", "error", err)
		edit := func(r *record) { r.State, r.Finished, r.Fault, r.Outcome = Failed, now(), f, e.progress }
		if err := q.commit(e, edit); err != nil {
			// The disk is full, or broken. Here it has failed; the next process,
			// which does not know, runs it again.
			log.Error("a job's end cannot be recorded", "error", err)
			edit(&e.record)
			e.notify()
		}
	}
	e.cancel(nil)
	e.cancel, e.stream, e.phase = nil, nil, ""
	r.meter.settle(0)
	q.clear(e)
	close(e.over)
	e.over = nil
	e.notify()
	log.Info("job ended", "state", e.State, "seconds", time.Since(r.job.Started).Seconds())
}

// outcome is what a run made: files in its folder.
type outcome struct {
	annotated string // empty: none
	progress  Progress
	curves    *Curves // of a training
}

// safely makes an error of a panic, which is a bug: it must not end the server,
// and with it all other jobs.
func (r *run) safely(do func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			r.q.cfg.Log.Error("a job panicked", "job", r.job.ID, "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
			err = faultf(Internal, "jobs: the work panicked: %v", v)
		}
	}()
	return do()
}

// do runs the job in a folder of its own.
func (r *run) do(ctx context.Context) (out outcome, err error) {
	if _, r.classes, err = r.q.detector.Check(r.spec.Model, r.spec.Settings); err != nil {
		return out, faultf(NoModel, "%w", err)
	}
	if r.work, err = os.MkdirTemp(r.q.dir(r.job.ID), workPrefix); err != nil {
		return out, diskOr(err)
	}
	most := r.q.cfg.MaxTime
	if r.job.Kind == Train {
		most = r.q.cfg.TrainTime
	}
	limit := faultf(TooLong, "it takes more than %v", most)
	ctx, cancel := context.WithTimeoutCause(ctx, most, limit)
	defer cancel()
	err = r.safely(func() error {
		out, err = r.process(ctx)
		return err
	})
	if err != nil && context.Cause(ctx) == error(limit) {
		err = limit
	}
	return out, err
}

// process finds out what the input is and works on it.
func (r *run) process(ctx context.Context) (outcome, error) {
	input := filepath.Join(r.q.dir(r.job.ID), inputFile)
	if r.spec.URL != "" {
		in, err := r.fetch(ctx)
		if err != nil {
			return outcome{}, err
		}
		defer in.close()
		if in.live {
			out, err := r.film(ctx, in.name, in.options)
			return out, in.fault(err)
		}
		input = in.name
	}
	f, err := recogniseFile(input)
	if err != nil {
		return outcome{}, err
	}
	if r.job.Kind == Train {
		return r.train(ctx, input, f)
	}
	if f.kind() == Video {
		return r.film(ctx, input, r.q.videoOptions())
	}
	return r.pictures(ctx, input, f)
}

// deliver moves what a run made to where it is looked for. Whoever looks before
// the record says done is told that it is not.
func (r *run) deliver(out outcome) error {
	dir := r.q.dir(r.job.ID)
	for _, name := range []string{out.annotated, resultsFile} {
		if name == "" {
			continue
		}
		if err := syncFile(filepath.Join(r.work, name)); err != nil {
			return diskOr(err)
		}
		if err := os.Rename(filepath.Join(r.work, name), filepath.Join(dir, name)); err != nil {
			return diskOr(err)
		}
	}
	if err := syncDir(dir); err != nil {
		return diskOr(err)
	}
	return nil
}

func syncFile(name string) error {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// fault is what a client is told of an error: by its own names, not by those of
// the server's files.
func (r *run) fault(err error) *Fault {
	var f *Fault
	if !errors.As(err, &f) {
		f = faultf(Internal, "%w", err)
	}
	if f.Code == Internal { // the log has it
		return &Fault{Code: Internal, Message: "the server failed; its log knows why"}
	}
	text := f.Message
	dir := r.q.dir(r.job.ID)
	for _, own := range append(r.secret, filepath.Join(r.work, inputFile), filepath.Join(dir, inputFile), r.work, dir, r.q.runDir(r.job.ID)) {
		if own == "" {
			continue
		}
		if abs, err := filepath.Abs(own); err == nil && abs != own {
			text = strings.ReplaceAll(text, abs, r.job.Name)
		}
		text = strings.ReplaceAll(text, own, r.job.Name)
	}
	return &Fault{Code: f.Code, Message: text}
}

// detect finds the objects of an image with the job's settings.
func (r *run) detect(ctx context.Context, m image.Image) (found []Detection, err error) {
	err = r.safely(func() error {
		found, err = r.q.detector.Detect(ctx, r.spec.Model, r.spec.Settings, m)
		return err
	})
	var fault *Fault
	switch {
	case err == nil:
		return found, nil
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case errors.As(err, &fault):
		return nil, err
	}
	return nil, faultf(NoModel, "%w", err)
}

// tell reports progress, a few times a second at most.
func (r *run) tell(p Progress) {
	if time.Since(r.told) < tellEvery {
		return
	}
	r.told = time.Now()
	r.q.mu.Lock()
	defer r.q.mu.Unlock()
	r.e.progress = p
	r.e.notify()
}

const tellEvery = 200 * time.Millisecond
