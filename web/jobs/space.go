package jobs

import (
	"errors"
	"io"
	"os"
	"syscall"
)

// space counts the bytes that the files of all jobs take, those that are being
// written included.
//
// Space is given before it is used, in grants: what a file was granted and did
// not need comes back when it is whole.
type space struct {
	used, most int64
}

// grant is how much a growing file is given at a time.
const grant = 4 << 20

// take gives n bytes, removing the oldest finished jobs where that makes room.
func (q *Queue) take(n int64) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	removable := int64(0)
	for _, e := range q.entries {
		if e.removable() {
			removable += e.bytes
		}
	}
	if q.space.used+n-removable > q.space.most {
		return faultf(NoSpace, "it does not fit: the files of unfinished jobs take %d of the %d MiB that jobs may have", (q.space.used-removable)>>20, q.space.most>>20)
	}
	for q.space.used+n > q.space.most && q.evict() {
	}
	q.space.used += n
	return nil
}

// meter accounts for one job's growing files.
type meter struct {
	q       *Queue
	granted int64 // taken
	used    int64
}

// grow notes that n more bytes are about to be there.
func (m *meter) grow(n int64) error {
	if m.used+n > m.granted {
		want := max(grant, m.used+n-m.granted)
		if err := m.q.take(want); err != nil {
			want = m.used + n - m.granted // the last ones
			if err := m.q.take(want); err != nil {
				return err
			}
		}
		m.granted += want
	}
	m.used += n
	return nil
}

// settle gives back what was granted beyond left bytes, which stay. The caller
// holds the queue's lock.
func (m *meter) settle(left int64) {
	m.q.space.used -= m.granted - left
	m.granted, m.used = left, left
}

// writer counts what passes to a file.
func (m *meter) writer(w io.Writer) io.Writer { return &meteredWriter{m, w} }

type meteredWriter struct {
	m *meter
	w io.Writer
}

func (w *meteredWriter) Write(b []byte) (int, error) {
	if err := w.m.grow(int64(len(b))); err != nil {
		return 0, err
	}
	n, err := w.w.Write(b)
	return n, diskFault(err)
}

// diskFault says plainly that a disk is full.
func diskFault(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT):
		return faultf(NoSpace, "the server's disk is full")
	case errors.Is(err, os.ErrPermission), errors.Is(err, syscall.EIO), errors.Is(err, syscall.EROFS):
		return faultf(Internal, "the server's disk cannot be written: %w", err)
	}
	return err
}
