package jobs

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"resdet/internal/video"
)

// Queue holds the jobs and runs them. Its methods may be called from any
// goroutine.
type Queue struct {
	cfg      Config
	detector Detector
	hosts    *Hosts
	store    *store

	ctx    context.Context // of the workers and of what they run
	end    context.CancelFunc
	ended  sync.WaitGroup
	wake   map[lane]chan struct{} // told when a job was queued; with room for each worker
	closed chan struct{}

	mu       sync.Mutex
	started  bool
	closing  bool
	entries  map[string]*entry
	incoming int // jobs that are being submitted
	space    space
}

// entry is a job in memory: its record as stored, and what need not be.
type entry struct {
	record
	bytes    int64 // of its files, while it does not run
	progress Progress
	changed  chan struct{} // closed at the next change
	// Of a running job; nil otherwise.
	cancel context.CancelCauseFunc
	over   chan struct{} // closed when nothing of the run is left
	stream *video.Broadcast
	phase  Phase
	curves *Curves
}

// lane is one of the two lines that jobs stand in, so that none waits for a
// training of hours.
type lane bool

const (
	detections lane = false
	trainings  lane = true
)

func (e *entry) lane() lane { return e.Kind == Train }

// errCancelled is the cause of a run's end by [Queue.Delete].
var errCancelled = errors.New("jobs: cancelled")

// Open opens the queue in cfg.Dir, with the jobs of the process that had it
// before: those that were running stand in line again. Nothing runs before
// [Queue.Start].
func Open(cfg Config, d Detector) (*Queue, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	hosts, err := NewHosts(cfg.Hosts)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Join(cfg.Dir, "jobs"), 0o700); err != nil {
		return nil, fmt.Errorf("jobs: the data directory: %w", err)
	}
	s, err := openStore(cfg.Dir)
	if err != nil {
		return nil, err
	}
	q := &Queue{
		cfg: cfg, detector: d, hosts: hosts, store: s,
		wake:    map[lane]chan struct{}{detections: make(chan struct{}, cfg.Workers), trainings: make(chan struct{}, 1)},
		closed:  make(chan struct{}),
		entries: map[string]*entry{}, space: space{most: cfg.MaxBytes},
	}
	if err := q.recover(); err != nil {
		s.close()
		return nil, err
	}
	q.ctx, q.end = context.WithCancel(context.Background())
	q.ended.Go(func() { q.sweep(q.ctx) })
	return q, nil
}

// Start begins to run the jobs, once the models are there. It is idempotent.
func (q *Queue) Start() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.started || q.closing {
		return
	}
	q.started = true
	for range q.cfg.Workers {
		q.ended.Go(func() { q.work(q.ctx, detections) })
	}
	if q.trains() {
		q.ended.Go(func() { q.work(q.ctx, trainings) })
	}
}

// Close ends the running jobs, which will run again when the queue is opened
// next, and frees everything. It is idempotent.
func (q *Queue) Close() error {
	q.mu.Lock()
	first := !q.closing
	q.closing = true
	q.mu.Unlock()
	if !first {
		<-q.closed
		return nil
	}
	q.end()
	q.ended.Wait()
	for { // uploads under way see that it ends
		q.mu.Lock()
		n := q.incoming
		q.mu.Unlock()
		if n == 0 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	err := q.store.close()
	close(q.closed)
	return err
}

// recover takes over what the process before left behind.
func (q *Queue) recover() error {
	records, err := q.store.all(func(id string, err error) {
		q.cfg.Log.Error("a job's record cannot be read", "job", id, "error", err)
	})
	if err != nil {
		return fmt.Errorf("jobs: reading the jobs: %w", err)
	}
	var changed []*record
	for _, r := range records {
		e := &entry{record: r, progress: unknown, changed: make(chan struct{})}
		if r.State == Running {
			e.State, e.Started = Queued, time.Time{}
			if e.Attempts >= q.cfg.Attempts {
				e.State, e.Finished = Failed, now()
				e.Fault = faultf(Interrupted, "the server ended %d times while it worked on this; it is not tried again", e.Attempts)
			}
			changed = append(changed, &e.record)
		}
		if e.State.Finished() {
			e.progress = e.Outcome
		}
		q.entries[e.ID] = e
	}
	if err := q.store.put(changed...); err != nil {
		return fmt.Errorf("jobs: %w", err)
	}
	return q.tidy()
}

// tidy removes files that belong to no job, or to none of its states, and
// counts the others.
func (q *Queue) tidy() error {
	folders, err := os.ReadDir(filepath.Join(q.cfg.Dir, "jobs"))
	if err != nil {
		return fmt.Errorf("jobs: the data directory: %w", err)
	}
	for _, f := range folders {
		dir := q.dir(f.Name())
		e := q.entries[f.Name()]
		if e == nil {
			os.RemoveAll(dir) // of an upload that was not accepted, or a job that was removed
			continue
		}
		files, err := os.ReadDir(dir)
		if err != nil {
			return fmt.Errorf("jobs: the data directory: %w", err)
		}
		for _, file := range files {
			if !e.keeps(file.Name()) {
				os.RemoveAll(filepath.Join(dir, file.Name()))
			}
		}
		e.bytes = folderBytes(dir)
		q.space.used += e.bytes
	}
	return q.tidyRuns()
}

// tidyRuns removes what trainings left behind that will not go on.
func (q *Queue) tidyRuns() error {
	if !q.trains() {
		return nil
	}
	runs, err := os.ReadDir(filepath.Join(q.cfg.TrainDir, runsFolder))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("jobs: the folder for training: %w", err)
	}
	for _, r := range runs {
		if e := q.entries[r.Name()]; e == nil || e.State.Finished() {
			os.RemoveAll(q.runDir(r.Name()))
		}
	}
	return nil
}

// Names of files in a job's folder.
const (
	inputFile   = "input"
	resultsFile = "results.jsonl"
	workPrefix  = "work-" // of the folder that a run writes to

	annotatedVideo  = "annotated.mp4"
	annotatedImages = "annotated.zip"
)

// keeps reports whether a file belongs to the job's state.
func (e *entry) keeps(name string) bool {
	switch e.State {
	case Done:
		return name == resultsFile || name == e.Annotated
	case Queued, Running:
		return name == inputFile
	}
	return false
}

func (q *Queue) dir(id string) string { return filepath.Join(q.cfg.Dir, "jobs", id) }

func now() time.Time { return time.Now().UTC().Truncate(time.Millisecond) }

// newID returns an id that nobody guesses.
func newID() string {
	b := make([]byte, idBytes)
	rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

const idBytes = 12

// validID keeps everything out of file names that newID does not make.
func validID(id string) bool {
	_, err := hex.DecodeString(id)
	return err == nil && len(id) == 2*idBytes
}

// commit stores the job as edit makes it, and tells who waits for a change. The
// caller holds the lock. If storing fails nothing has changed.
func (q *Queue) commit(e *entry, edit func(*record)) error {
	r := e.record
	edit(&r)
	if r.State != e.State && !e.State.mayBecome(r.State) {
		return fmt.Errorf("jobs: a job that is %s cannot become %s", e.State, r.State)
	}
	if err := q.store.put(&r); err != nil {
		if full := diskFault(err); full != err {
			return full
		}
		return faultf(Internal, "jobs: %w", err)
	}
	e.record = r
	e.notify()
	return nil
}

func (e *entry) notify() {
	close(e.changed)
	e.changed = make(chan struct{})
}

func (e *entry) snapshot() Job {
	j := Job{
		ID: e.ID, Kind: e.Kind, State: e.State, Name: e.Spec.Name, Model: e.Spec.Model,
		Created: e.Created, Started: e.Started, Finished: e.Finished,
		Progress: e.progress, Fault: e.Fault, Annotated: e.Spec.Annotate, Watchable: e.stream != nil,
	}
	if e.Kind == Train {
		j.Training = &TrainingState{Model: e.Spec.Train.Name, Phase: e.phase}
		if c := cmp.Or(e.curves, e.record.Curves); c != nil {
			j.Training.Curves = *c
		}
	}
	return j
}

// List returns all jobs, the newest first.
func (q *Queue) List() []Job {
	q.mu.Lock()
	defer q.mu.Unlock()
	entries := make([]*entry, 0, len(q.entries))
	for _, e := range q.entries {
		entries = append(entries, e)
	}
	slices.SortFunc(entries, func(a, b *entry) int { return cmp.Compare(b.Order, a.Order) })
	list := make([]Job, len(entries))
	for i, e := range entries {
		list[i] = e.snapshot()
	}
	return list
}

// Get returns a job.
func (q *Queue) Get(id string) (Job, error) {
	j, _, err := q.Follow(id)
	return j, err
}

// Follow returns a job and a channel that is closed when it has changed or is
// removed: who looks seldom misses changes, but never the last one.
func (q *Queue) Follow(id string) (Job, <-chan struct{}, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	e, err := q.find(id)
	if err != nil {
		return Job{}, nil, err
	}
	return e.snapshot(), e.changed, nil
}

func (q *Queue) find(id string) (*entry, error) {
	e := q.entries[id]
	if e == nil {
		return nil, faultf(NotFound, "there is no such job; finished ones are removed after %v, or to make room", q.cfg.Age)
	}
	return e, nil
}

// Results opens the JSON lines of a job that is done. The caller closes the
// file, which may be read although the job is removed meanwhile.
func (q *Queue) Results(id string) (*os.File, Job, error) {
	return q.open(id, func(e *entry) string { return resultsFile })
}

// AnnotatedFile opens the video (.mp4) or the archive (.zip) of a job that is
// done, with its objects drawn.
func (q *Queue) AnnotatedFile(id string) (*os.File, Job, error) {
	return q.open(id, func(e *entry) string { return e.record.Annotated })
}

func (q *Queue) open(id string, name func(*entry) string) (*os.File, Job, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	e, err := q.find(id)
	if err != nil {
		return nil, Job{}, err
	}
	switch {
	case e.State == Failed || e.State == Cancelled:
		return nil, Job{}, faultf(NotReady, "the job is %s: it has no results", e.State)
	case e.State != Done:
		return nil, Job{}, faultf(NotReady, "the job is %s; its results come when it is done", e.State)
	case name(e) == "" && e.Kind == Train:
		return nil, Job{}, faultf(NotReady, "the job trained a model: it has no pictures")
	case name(e) == "":
		return nil, Job{}, faultf(NotReady, "the job was submitted without annotate=true")
	}
	f, err := os.Open(filepath.Join(q.dir(id), name(e)))
	if err != nil {
		return nil, Job{}, faultf(Internal, "jobs: a result is missing: %w", err)
	}
	return f, e.snapshot(), nil
}

// Watch returns a handler that shows a running video with its objects as MJPEG,
// until the run or the request ends.
func (q *Queue) Watch(id string) (http.Handler, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	e, err := q.find(id)
	switch {
	case err != nil:
		return nil, err
	case e.stream == nil:
		return nil, faultf(NotReady, "the job is %s: only running videos can be watched", describe(e))
	}
	return e.stream, nil
}

func describe(e *entry) string {
	if e.State == Running && e.Kind == Images {
		return "an archive"
	}
	if e.State == Running {
		return "opening its video"
	}
	return string(e.State)
}

// Delete cancels a job that is not finished, which returns at once, and removes
// one that is. It reports the job as it is now, and whether it is gone.
func (q *Queue) Delete(ctx context.Context, id string) (j Job, removed bool, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	e, err := q.find(id)
	if err != nil {
		return Job{}, false, err
	}
	if e.State.Finished() {
		if over := e.over; over != nil { // the run is just ending
			q.mu.Unlock()
			select {
			case <-over:
			case <-ctx.Done():
			}
			q.mu.Lock()
			if ctx.Err() != nil {
				return Job{}, false, ctx.Err()
			}
			if e, err = q.find(id); err != nil {
				return Job{}, false, err
			}
		}
		if e.keepsModel() && q.trains() { // which has users, and takes its time
			name := e.Spec.Train.Name
			q.mu.Unlock()
			q.dropModel(name)
			q.mu.Lock()
			if e, err = q.find(id); err != nil {
				return Job{}, false, err
			}
		}
		j = e.snapshot()
		return j, true, q.discard(e)
	}
	running := e.State == Running
	err = q.commit(e, func(r *record) { r.State, r.Finished = Cancelled, now() })
	if err != nil {
		return Job{}, false, err
	}
	if running {
		e.cancel(errCancelled) // the worker removes the files
	} else {
		q.clear(e)
	}
	q.cfg.Log.Info("job cancelled", "job", id)
	return e.snapshot(), false, nil
}

// discard forgets a finished job that does not run any more. The caller holds
// the lock.
func (q *Queue) discard(e *entry) error {
	if err := q.store.remove(e.ID); err != nil {
		return faultf(Internal, "jobs: %w", err)
	}
	delete(q.entries, e.ID)
	os.RemoveAll(q.dir(e.ID))
	q.space.used -= e.bytes
	e.notify()
	return nil
}

// clear removes the files that a job does not need any more. The caller holds
// the lock.
func (q *Queue) clear(e *entry) {
	dir := q.dir(e.ID)
	files, _ := os.ReadDir(dir)
	for _, f := range files {
		if !e.keeps(f.Name()) {
			os.RemoveAll(filepath.Join(dir, f.Name()))
		}
	}
	if e.Kind == Train && e.State.Finished() && q.trains() {
		os.RemoveAll(q.runDir(e.ID))
	}
	left := folderBytes(dir)
	q.space.used += left - e.bytes
	e.bytes = left
}

// keepsModel reports whether the job has a model that people use.
func (e *entry) keepsModel() bool { return e.Kind == Train && e.State == Done }

// removable reports whether the job may be removed to make room, or for its
// age.
func (e *entry) removable() bool { return e.State.Finished() && e.over == nil && !e.keepsModel() }

// evict removes the job that has been finished for the longest time. The caller
// holds the lock.
func (q *Queue) evict() bool {
	var oldest *entry
	for _, e := range q.entries {
		if e.removable() && (oldest == nil || e.Finished.Before(oldest.Finished)) {
			oldest = e
		}
	}
	if oldest == nil {
		return false
	}
	q.cfg.Log.Info("a finished job makes room", "job", oldest.ID)
	return q.discard(oldest) == nil
}

// sweepEvery is how often old jobs are looked for.
const sweepEvery = time.Minute

// sweep removes finished jobs when they are too old.
func (q *Queue) sweep(ctx context.Context) {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		q.mu.Lock()
		for _, e := range q.entries {
			if e.removable() && time.Since(e.Finished) > q.cfg.Age {
				if err := q.discard(e); err != nil {
					q.cfg.Log.Error("an old job cannot be removed", "job", e.ID, "error", err)
				}
			}
		}
		q.mu.Unlock()
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}
