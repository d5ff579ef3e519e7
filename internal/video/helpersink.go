package video

import (
	"context"
	"errors"
	"fmt"
	"image"
	"time"

	"resdet/internal/video/wire"
)

// Times allowed to the helper when it writes: a frame of 8K takes a second,
// and closing a file encodes what the encoder holds and may rewrite an index.
const (
	writeTimeout = 30 * time.Second
	closeTimeout = 2 * time.Minute
)

// helperSink sends pictures to a helper process that encodes or shows them.
type helperSink struct {
	p       *process
	name    string
	answers chan answer // from the helper; one at most after the opening
	ended   *answer     // what came on answers
	abandon <-chan struct{}
}

type answer struct {
	end wire.End
	err error
}

// newHelperSink starts a helper and waits until it is ready.
func newHelperSink(name string, order wire.Open, program string) (*helperSink, error) {
	if program == "" {
		var err error
		if program, err = FindHelper(); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	p, err := start(program, order)
	if err != nil {
		return nil, fmt.Errorf("video: %s: starting the helper process: %w", name, err)
	}
	s := &helperSink{p: p, name: name, answers: make(chan answer, 1)}
	stop := p.guard(writeTimeout, fmt.Errorf("%w (%v); the helper process was ended", errNoAnswer, writeTimeout))
	h, err := p.next()
	if err == nil && h.Kind != wire.KindInfo {
		err = fmt.Errorf("the helper process answered %q", byte(h.Kind))
	}
	if err == nil {
		var info wire.Info
		err = p.reader.Text(&info)
	}
	stop()
	if err != nil {
		p.close()
		return nil, s.fault(err)
	}
	go s.listen()
	return s, nil
}

var (
	errNoAnswer  = errors.New("no answer in time")
	errAbandoned = errors.New("nobody wants it any more; the helper process was ended")
)

func (s *helperSink) fault(err error) error { return fmt.Errorf("video: %s: %w", s.name, err) }

// listen waits for the helper's last word, which may come at any time.
func (s *helperSink) listen() {
	var a answer
	h, err := s.p.next()
	switch {
	case err != nil:
		a.err = err
	case h.Kind != wire.KindEnd:
		a.err = fmt.Errorf("the helper process sent %q", byte(h.Kind))
	default:
		a.err = s.p.reader.Text(&a.end)
	}
	s.answers <- a
}

// write sends a picture to be used repeat times. What the helper said meanwhile
// comes as an error: its failure, or [ErrStop] when a window was closed.
func (s *helperSink) write(f *Frame, m *image.RGBA, repeat int) error {
	if s.ended == nil {
		select {
		case a := <-s.answers:
			s.ended = &a
		default:
		}
	}
	if s.ended != nil {
		if s.ended.err != nil {
			return s.fault(s.ended.err)
		}
		return ErrStop
	}
	stop := s.p.guard(writeTimeout, fmt.Errorf("%w (%v); the helper process was ended", errNoAnswer, writeTimeout))
	defer stop()
	h := wire.Header{Width: m.Rect.Dx(), Height: m.Rect.Dy(), Repeat: repeat, Index: f.Index, Time: max(0, f.Time)}
	if err := s.p.writer.Frame(h, m.Pix); err != nil {
		a := <-s.answers // the pipe broke: its reason is on the way
		s.ended = &a
		if a.err == nil {
			return ErrStop
		}
		return s.fault(a.err)
	}
	return nil
}

// finish tells the helper that it was all and waits until it is done.
func (s *helperSink) finish() (wire.End, error) {
	defer s.p.close()
	if s.ended == nil {
		stop := s.p.guard(closeTimeout, fmt.Errorf("%w (%v) to the end of the file; the helper process was ended", errNoAnswer, closeTimeout))
		defer stop()
		s.p.writer.Text(wire.KindEnd, wire.End{}) // a failure shows in the answer
		var a answer
		select {
		case a = <-s.answers:
		case <-s.abandon:
			s.p.kill(errAbandoned)
			a = <-s.answers
		}
		s.ended = &a
		if a.err != nil {
			return a.end, s.fault(a.err)
		}
	}
	return s.ended.end, nil
}

// window is a sink that shows pictures on the screen.
type window struct{ s *helperSink }

// NewWindow opens a window. Closing it, or q or Escape, ends the run in good
// order. helper is the helper program; empty: [FindHelper].
func NewWindow(title, helper string) (Sink, error) {
	s, err := newHelperSink("window", wire.Open{Mode: wire.Show, Name: title}, helper)
	if err != nil {
		return nil, err
	}
	return &window{s}, nil
}

func (w *window) Draws() bool { return true }

func (w *window) Write(_ context.Context, r *Result) error { return w.s.write(r.Frame, r.Picture, 1) }

func (w *window) Close() error {
	_, err := w.s.finish()
	return err
}
