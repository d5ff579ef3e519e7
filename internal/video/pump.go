package video

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"
)

// pump turns blocking reads into a Source with time-outs: it reads one frame
// ahead on a goroutine of its own, which ends when the reads do. Closing the
// pump closes what is read, which ends a read of a file or a connection; one
// of a terminal or a pipe may go on until the process ends.
type pump struct {
	info    Info
	timeout time.Duration
	read    func() (*Frame, error)
	close   func() error

	frames chan pumped
	quit   chan struct{}
	once   sync.Once
	begun  bool
	peeked []pumped // read before the first Next
	err    error    // the last one, for ever
}

type pumped struct {
	frame *Frame
	err   error
}

func newPump(info Info, timeout time.Duration, read func() (*Frame, error), close func() error) *pump {
	return &pump{info: info, timeout: timeout, read: read, close: close, frames: make(chan pumped), quit: make(chan struct{})}
}

func (p *pump) Info() Info { return p.info }

func (p *pump) Next(ctx context.Context) (*Frame, error) {
	if len(p.peeked) > 0 {
		f := p.peeked[0]
		p.peeked = p.peeked[1:]
		return f.frame, f.err
	}
	if p.err != nil {
		return nil, p.err
	}
	if !p.begun {
		p.begun = true
		go p.run()
	}
	timer := time.NewTimer(p.timeout)
	defer timer.Stop()
	select {
	case f := <-p.frames:
		if f.err != nil {
			if _, damaged := f.err.(*DamagedError); !damaged {
				p.err = f.err
			}
		}
		return f.frame, f.err
	case <-timer.C:
		p.err = fmt.Errorf("video: %s: %w (%v)", p.info.Name, ErrStalled, p.timeout)
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-p.quit:
		p.err = io.ErrClosedPipe
	}
	return nil, p.err
}

func (p *pump) run() {
	for {
		var f *Frame
		err := guarded(func() (err error) { f, err = p.read(); return err })
		select {
		case p.frames <- pumped{f, err}:
		case <-p.quit:
			return
		}
		if _, damaged := err.(*DamagedError); err != nil && !damaged {
			return
		}
	}
}

func (p *pump) Close() error {
	var err error
	p.once.Do(func() {
		close(p.quit)
		err = p.close()
	})
	return err
}
