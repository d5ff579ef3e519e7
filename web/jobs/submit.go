package jobs

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"
)

// Submit accepts a job with the input that body gives, or that spec.URL names
// (body is nil then). When it returns a job that is on disk, and no end of the
// process loses it. size is the input's if it is known, else negative.
//
// The input is checked as far as it is here: an upload that is refused leaves
// nothing behind.
func (q *Queue) Submit(ctx context.Context, spec Spec, body io.Reader, size int64) (Job, error) {
	if err := spec.validate(); err != nil {
		return Job{}, err
	}
	model, _, err := q.detector.Check(spec.Model, spec.Settings)
	if err != nil {
		return Job{}, err
	}
	spec.Model = model
	if spec.Train != nil {
		if err := q.acceptTraining(spec); err != nil {
			return Job{}, err
		}
		t := *spec.Train // the name is decided here
		spec.Train = &t
	}
	e := &entry{record: record{ID: newID(), State: Queued, Spec: spec, Created: now()}, progress: unknown, changed: make(chan struct{})}
	if spec.URL != "" {
		if err := e.fromURL(q.hosts); err != nil {
			return Job{}, err
		}
	}
	if size > q.cfg.MaxUpload {
		return Job{}, q.tooLarge()
	}
	if err := q.admit(); err != nil {
		return Job{}, err
	}
	m := &meter{q: q}
	dir := q.dir(e.ID)
	err = q.receive(ctx, e, dir, body, size, m)
	q.mu.Lock()
	defer q.mu.Unlock()
	q.incoming--
	if err == nil && q.closing {
		err = errShuttingDown
	}
	if err == nil && e.Kind == Train {
		if err = q.roomToTrain(1); err == nil {
			err = q.nameModel(&e.Spec)
		}
	}
	if err == nil {
		if err = q.commit(e, func(*record) {}); err == nil {
			m.settle(m.used)
			e.bytes = m.used
			q.entries[e.ID] = e
			q.cfg.Log.Info("job accepted", "job", e.ID, "kind", e.Kind, "model", e.Spec.Model, "bytes", e.bytes)
			select {
			case q.wake[e.lane()] <- struct{}{}:
			default: // all workers will look
			}
			return e.snapshot(), nil
		}
	}
	os.RemoveAll(dir)
	m.settle(0)
	return Job{}, err
}

var errShuttingDown = faultf(Closing, "the server is about to end; try again in a moment")

func (q *Queue) tooLarge() error {
	return faultf(TooLarge, "the input has more than %d MiB, the most that this server takes", q.cfg.MaxUpload>>20)
}

// admit takes a place for one more job.
func (q *Queue) admit() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closing {
		return errShuttingDown
	}
	for len(q.entries)+q.incoming >= q.cfg.MaxJobs {
		if !q.evict() {
			return faultf(Busy, "%d jobs are waiting, running or arriving, as many as there may be", len(q.entries)+q.incoming)
		}
	}
	q.incoming++
	return nil
}

// fromURL checks the address and says what the input seems to be.
func (e *entry) fromURL(hosts *Hosts) error {
	u, err := hosts.parse(e.Spec.URL)
	if err != nil {
		return err
	}
	e.Kind = Video
	switch name := strings.ToLower(u.Path); {
	case strings.HasSuffix(name, ".zip"), strings.HasSuffix(name, ".tar"), strings.HasSuffix(name, ".tar.gz"), strings.HasSuffix(name, ".tgz"):
		e.Kind = Images
	}
	if e.Spec.Name == unnamed {
		e.Spec.Name = nameOf(u)
	}
	return nil
}

// nameOf is a name for what an address gives, without its secrets.
func nameOf(u *url.URL) string {
	if base := path.Base(u.Path); base != "." && base != "/" {
		return cleanName(base)
	}
	return cleanName(u.Hostname())
}

// receive writes the input to disk and looks at what it is.
func (q *Queue) receive(ctx context.Context, e *entry, dir string, body io.Reader, size int64, m *meter) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return diskOr(err)
	}
	if body != nil {
		if size > 0 {
			if err := m.grow(size); err != nil { // before it comes
				return err
			}
			m.used = 0
		}
		name := filepath.Join(dir, inputFile)
		if err := q.save(ctx, name, body, m); err != nil {
			return err
		}
		if err := q.inspect(ctx, e, name); err != nil {
			return err
		}
	}
	if err := errors.Join(syncDir(dir), syncDir(filepath.Dir(dir))); err != nil {
		return diskOr(err)
	}
	return nil
}

// diskOr is the fault of a disk, a full one or a broken one.
func diskOr(err error) error {
	if f := diskFault(err); f != err {
		return f
	}
	return faultf(Internal, "jobs: %w", err)
}

// save writes an input of bounded size to a file and makes it durable.
func (q *Queue) save(ctx context.Context, name string, body io.Reader, m *meter) error {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return diskOr(err)
	}
	w := bufio.NewWriterSize(m.writer(f), 1<<18)
	from := &source{ctx: ctx, q: q, r: body}
	n, err := io.Copy(w, io.LimitReader(from, q.cfg.MaxUpload+1))
	switch {
	case err != nil && from.err != nil:
		err = from.err
	case err == nil && n > q.cfg.MaxUpload:
		err = q.tooLarge()
	case err == nil:
		err = w.Flush()
	}
	if err == nil {
		err = f.Sync()
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	var fault *Fault
	if err == nil || errors.As(err, &fault) || from.err != nil {
		return err
	}
	return diskOr(err)
}

// source is an upload that ends with its context, and with the queue.
type source struct {
	ctx context.Context
	q   *Queue
	r   io.Reader
	err error // of reading
}

func (s *source) Read(b []byte) (int, error) {
	s.q.mu.Lock()
	closing := s.q.closing
	s.q.mu.Unlock()
	switch {
	case closing:
		s.err = errShuttingDown
		return 0, s.err
	case s.ctx.Err() != nil:
		s.err = context.Cause(s.ctx)
		return 0, s.err
	}
	n, err := s.r.Read(b)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

// inspect sets the job's kind by its input, and refuses archives that must not
// be unpacked.
func (q *Queue) inspect(ctx context.Context, e *entry, name string) error {
	f, err := recogniseFile(name)
	if err != nil {
		return err
	}
	e.Kind = f.kind()
	limits, wanted := q.cfg.Archive, isPicture
	switch {
	case e.Spec.Train != nil && e.Kind == Video:
		return faultf(Unsupported, "it is a video: a data set is an archive (zip, tar, tar.gz) of pictures and annotations")
	case e.Spec.Train != nil:
		e.Kind, limits, wanted = Train, q.cfg.dataLimits(), isDataFile
	case e.Kind == Video:
		return nil
	}
	if e.Spec.Every > 1 || e.Spec.Track {
		return faultf(BadRequest, "every and track are for videos; this is an archive of pictures")
	}
	ctx, cancel := context.WithTimeoutCause(ctx, inspectTime, faultf(TooLong, "looking through the archive takes more than %v", inspectTime))
	defer cancel()
	a, file, err := openArchive(ctx, name, f, limits, wanted)
	if err != nil {
		return err
	}
	if e.Kind == Train {
		return errors.Join(q.inspectData(a), file.Close())
	}
	e.progress.Total = len(a.files)
	return file.Close()
}

// inspectTime bounds the look at an archive: eight gigabytes unpack in a
// minute.
const inspectTime = 2 * time.Minute
