package video

import (
	"context"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"resdet/internal/video/wire"
)

// helperSource is a video that the helper process decodes.
type helperSource struct {
	p       *process
	info    Info
	counted float64 // frames as the file says
	timeout time.Duration
	began   time.Time // of a live source
	home    *buffers
	index   int           // of the last frame, −1 before the first
	time    time.Duration // of the last frame
	step    time.Duration // from the frame before it
	end     wire.End
	done    error // after the last frame
	closed  atomic.Bool
}

// newHelperSource starts a helper that opens order and waits for what it says.
func newHelperSource(ctx context.Context, order wire.Open, info Info, o Options) (*helperSource, error) {
	program, err := o.helper()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", info.Name, err)
	}
	p, err := start(program, order)
	if err != nil {
		return nil, fmt.Errorf("video: %s: starting the helper process: %w", info.Name, err)
	}
	s := &helperSource{p: p, info: info, timeout: o.ReadTimeout, home: newBuffers(), index: -1}
	var opened wire.Info
	err = s.ask(ctx, o.OpenTimeout, func() error {
		h, err := p.next()
		if err != nil {
			return err
		}
		if h.Kind != wire.KindInfo {
			return fmt.Errorf("the helper process answered %q", byte(h.Kind))
		}
		return p.reader.Text(&opened)
	})
	if err != nil {
		s.Close()
		return nil, fmt.Errorf("video: %s: %w", info.Name, err)
	}
	s.info.Width, s.info.Height, s.info.Codec = opened.Width, opened.Height, opened.Codec
	rate, said := sensibleRate(opened.FPS)
	if !said {
		rate = o.rate()
	}
	s.info.FPS = rate
	s.step = time.Duration(float64(time.Second) / rate)
	// A count is believed where it means less than a thousand hours; live
	// streams have none, or a negative one.
	if said && !info.Live && opened.Frames >= 1 && opened.Frames < 3.6e6*rate {
		s.info.Frames, s.counted = int(opened.Frames), opened.Frames
	}
	return s, nil
}

// ask does something that waits for the helper, which is ended when it takes
// too long or ctx ends.
func (s *helperSource) ask(ctx context.Context, limit time.Duration, do func() error) error {
	stop := s.p.guard(limit, fmt.Errorf("%w (%v); the helper process was ended", ErrStalled, limit))
	defer stop()
	defer context.AfterFunc(ctx, func() { s.p.kill(context.Cause(ctx)) })()
	return do()
}

func (s *helperSource) Info() Info { return s.info }

func (s *helperSource) Next(ctx context.Context) (*Frame, error) {
	if s.done != nil {
		return nil, s.done
	}
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	var f *Frame
	err := s.ask(ctx, s.timeout, func() (err error) {
		f, err = s.read()
		return err
	})
	if err == nil {
		s.index, s.time = f.Index, f.Time
		return f, nil
	}
	switch {
	case s.closed.Load():
		err = io.ErrClosedPipe
	case err == io.EOF:
		err = s.complete()
	}
	if err != io.EOF && ctx.Err() == nil {
		err = fmt.Errorf("video: %s: %w", s.info.Name, err)
	}
	s.done = err
	return nil, err
}

// read takes one message; io.EOF is the helper's End.
func (s *helperSource) read() (*Frame, error) {
	h, err := s.p.next()
	if err != nil {
		return nil, err
	}
	switch h.Kind {
	case wire.KindEnd:
		if err := s.p.reader.Text(&s.end); err != nil {
			return nil, err
		}
		return nil, io.EOF
	case wire.KindFrame:
	default:
		return nil, fmt.Errorf("the helper process sent %q", byte(h.Kind))
	}
	m := s.home.get(h.Width, h.Height)
	if err := s.p.reader.Pixels(m.Pix); err != nil {
		return nil, s.p.failure(err)
	}
	f := &Frame{Index: h.Index, Time: h.Time, Arrived: time.Now(), Image: m, home: s.home}
	s.stamp(f)
	return f, nil
}

// stamp mends the frame's time: live frames have the time they came at, those
// without one follow the last at the nominal rate, and time never goes back.
func (s *helperSource) stamp(f *Frame) {
	if s.info.Live {
		if s.began.IsZero() {
			s.began = f.Arrived
		}
		f.Time = f.Arrived.Sub(s.began)
		return
	}
	if s.index < 0 {
		return
	}
	// OpenCV has no stamp for the last frames, those that the decoder still held
	// at the end (two, with B-frames); they follow at the pace of those before.
	if f.Time <= s.time {
		f.Time = s.time + s.step
	}
	s.step = f.Time - s.time
}

// complete tells a whole file from one that breaks off: fewer frames than
// announced, and less time. Counts alone are estimates in many containers.
func (s *helperSource) complete() error {
	if s.counted == 0 || s.index < 0 {
		return io.EOF
	}
	const share, frames = 0.02, 2
	count := float64(s.index + 1)
	whole := s.counted / s.info.FPS
	if count >= s.counted*(1-share)-frames || s.time.Seconds() >= whole*(1-share)-frames/s.info.FPS {
		return io.EOF
	}
	err := fmt.Errorf("it ends after %.0f of %.0f frames: %w", count, s.counted, ErrCut)
	if said := s.p.lastWords(); said != "" {
		err = fmt.Errorf("%w; OpenCV printed: %s", err, said)
	}
	return err
}

func (s *helperSource) Close() error {
	s.closed.Store(true)
	s.p.close()
	return nil
}
