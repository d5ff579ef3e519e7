package video

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// Waits between attempts to reconnect.
const (
	firstWait = 250 * time.Millisecond
	lastWait  = 5 * time.Second
)

// reconnecting is a live source that is opened again when it breaks off or
// ends: cameras restart and networks fail.
type reconnecting struct {
	open    func(context.Context) (Source, error)
	timeout time.Duration // without a frame, after which it is given up
	info    Info
	begin   time.Time
	frames  int
	again   atomic.Int64 // how often it was opened again

	mu     sync.Mutex
	source Source // nil while there is none
	closed bool
}

// live opens a source that is opened again whenever it breaks off, for as long
// as o says. One that cannot be opened the first time is an error at once.
func live(ctx context.Context, o Options, open func(context.Context) (Source, error)) (Source, error) {
	s, err := open(ctx)
	if err != nil || o.Reconnect == 0 {
		return s, err
	}
	return &reconnecting{open: open, timeout: o.Reconnect, source: s, info: s.Info()}, nil
}

func (r *reconnecting) Info() Info { return r.info }

func (r *reconnecting) Next(ctx context.Context) (*Frame, error) {
	var lost time.Time // since when there was no frame
	wait := firstWait
	for {
		r.mu.Lock()
		s, closed := r.source, r.closed
		r.mu.Unlock()
		if closed {
			return nil, io.ErrClosedPipe
		}
		var err error
		if s == nil {
			if s, err = r.open(ctx); err == nil && !r.set(s) {
				return nil, io.ErrClosedPipe
			}
			if err == nil {
				r.again.Add(1)
			}
		}
		if err == nil {
			var f *Frame
			if f, err = s.Next(ctx); err == nil {
				return r.count(f), nil
			}
			var damaged *DamagedError
			if errors.As(err, &damaged) {
				damaged.Index = r.frames
				r.frames++
				return nil, err
			}
			s.Close()
			r.set(nil)
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if lost.IsZero() {
			lost = time.Now()
		}
		if time.Since(lost) >= r.timeout {
			if err == io.EOF {
				return nil, err
			}
			return nil, fmt.Errorf("%w; it could not be reached again for %v", err, r.timeout)
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		wait = min(2*wait, lastWait)
	}
}

// set makes s the source, unless the whole was closed meanwhile.
func (r *reconnecting) set(s Source) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed && s != nil {
		s.Close()
		return false
	}
	r.source = s
	return true
}

// count numbers the frames through all connections.
func (r *reconnecting) count(f *Frame) *Frame {
	if r.begin.IsZero() {
		r.begin = f.Arrived
	}
	f.Index, f.Time = r.frames, f.Arrived.Sub(r.begin)
	r.frames++
	return f
}

// reconnects is for the statistics.
func (r *reconnecting) reconnects() int { return int(r.again.Load()) }

func (r *reconnecting) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	if r.source != nil {
		return r.source.Close()
	}
	return nil
}
