package video

import (
	"context"
	"errors"
	"fmt"
	"image"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"strings"
	"time"

	xdraw "golang.org/x/image/draw"

	"resdet/internal/video/wire"
)

// FileOptions say how a video file is written.
type FileOptions struct {
	// Codec is avc1 or mp4v (mp4), MJPG (avi); empty: the file's first.
	Codec string
	// Width, Height and FPS of the file: those of the source as processed.
	Width, Height int
	FPS           float64
	// Sound is a file or address whose audio is copied into the file, from the
	// first frame's time on; empty: none.
	Sound string
	// Helper is the helper program; empty: [FindHelper].
	Helper string
	// Abandon, when it is closed, ends the helper at once: nobody wants the file
	// any more. nil: what was written is finished in any case.
	Abandon <-chan struct{}
	// Log is told what became of the sound.
	Log *slog.Logger
}

// maxRepeat is the longest gap in time stamps that a file's duration honours:
// a damaged stamp may claim years.
const maxRepeat = time.Minute

// file is a sink that writes a video file at a constant rate. Frames are
// repeated or left out so that each is shown at its own time and the duration
// is the source's; of a source with a constant rate each is written once.
type file struct {
	s     encoder
	name  string
	o     FileOptions
	start time.Duration // the first frame's time
	begin time.Duration // the time of slot 0; moves where a gap is closed
	slots int           // written so far
	// The last picture may have to be repeated once the next one's time is
	// known.
	last  *image.RGBA
	frame Frame
	slot  int // where the last picture begins
	err   error
}

// encoder is a [helperSink], or what a test puts in its place.
type encoder interface {
	write(f *Frame, m *image.RGBA, repeat int) error
	finish() (wire.End, error)
}

// NewFile creates a video file, .mp4 or .avi. A codec that is not there is an
// error whose hint names those that are.
func NewFile(name string, o FileOptions) (Sink, error) {
	codec, ok := map[string]string{".mp4": "avc1", ".avi": "MJPG"}[strings.ToLower(filepath.Ext(name))]
	if !ok {
		return nil, fmt.Errorf("video: %s: video files are written as .mp4 or .avi", name)
	}
	if o.Codec == "" {
		o.Codec = codec
	}
	if o.Width < 1 || o.Height < 1 {
		return nil, fmt.Errorf("video: %s: %dx%d pixels cannot be encoded", name, o.Width, o.Height)
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	o.FPS, _ = sensibleRate(o.FPS)
	if o.Sound != "" && sameFile(name, o.Sound) {
		return nil, fmt.Errorf("video: %s is the source itself", name)
	}
	path, err := filepath.Abs(name)
	if err != nil {
		return nil, fmt.Errorf("video: %w", err)
	}
	// OpenCV does not say why a file cannot be written.
	_, existed := os.Stat(path)
	probe, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o666)
	if err != nil {
		return nil, fmt.Errorf("video: %w", err)
	}
	probe.Close()
	s, err := newHelperSink(name, wire.Open{Mode: wire.Write, Name: path, Codec: o.Codec, Width: o.Width, Height: o.Height, FPS: o.FPS}, o.Helper)
	if err != nil {
		if existed != nil {
			os.Remove(path)
		}
		return nil, err
	}
	s.abandon = o.Abandon
	return &file{s: s, name: name, o: o}, nil
}

func sameFile(a, b string) bool {
	x, err := os.Stat(a)
	if err != nil {
		return false
	}
	y, err := os.Stat(b)
	return err == nil && os.SameFile(x, y)
}

func (f *file) Draws() bool { return true }

func (f *file) Write(_ context.Context, r *Result) error {
	if f.err != nil {
		return f.err
	}
	t := r.Frame.Time
	if f.slots == 0 && f.last == nil {
		f.start, f.begin = t, t
	}
	slot := int(math.Round((t - f.begin).Seconds() * f.o.FPS))
	if f.last == nil {
		f.keep(r, slot)
		return nil
	}
	if slot <= f.slot { // too close to the last one, or back in time: it takes its place
		if slot < f.slot {
			return nil
		}
		f.keep(r, f.slot)
		return nil
	}
	if most := max(1, int(maxRepeat.Seconds()*f.o.FPS)); slot-f.slot > most {
		f.begin += time.Duration(float64(slot-f.slot-1) / f.o.FPS * float64(time.Second))
		slot = f.slot + 1
	}
	if err := f.flush(slot - f.slot); err != nil {
		return err
	}
	f.keep(r, slot)
	return nil
}

// keep copies a picture until its duration is known, in the file's size.
func (f *file) keep(r *Result, slot int) {
	size := image.Rect(0, 0, f.o.Width, f.o.Height)
	if f.last == nil {
		f.last = image.NewRGBA(size)
	}
	f.slot = slot
	f.frame = Frame{Index: r.Frame.Index, Time: r.Frame.Time}
	m := r.Picture
	if m.Rect.Size() == size.Size() {
		copy(f.last.Pix, m.Pix)
		return
	}
	// Another size, as streams and folders may have: it is fitted between black bars.
	clear(f.last.Pix)
	for i := 3; i < len(f.last.Pix); i += 4 {
		f.last.Pix[i] = 255
	}
	k := min(float64(f.o.Width)/float64(m.Rect.Dx()), float64(f.o.Height)/float64(m.Rect.Dy()))
	w, h := max(1, int(float64(m.Rect.Dx())*k+0.5)), max(1, int(float64(m.Rect.Dy())*k+0.5))
	at := image.Pt((f.o.Width-w)/2, (f.o.Height-h)/2)
	xdraw.ApproxBiLinear.Scale(f.last, image.Rectangle{at, at.Add(image.Pt(w, h))}, m, m.Rect, xdraw.Src, nil)
}

// flush writes the kept picture.
func (f *file) flush(repeat int) error {
	f.slots += repeat
	f.err = f.s.write(&f.frame, f.last, repeat)
	return f.err
}

// Close writes the last picture, finishes the file and adds the sound.
func (f *file) Close() error {
	if f.s == nil {
		return nil
	}
	var err error
	if f.err == nil && f.last != nil {
		err = f.flush(1)
	}
	_, closed := f.s.finish()
	f.s = nil
	if err := errors.Join(err, closed); err != nil {
		return err
	}
	if f.slots == 0 {
		os.Remove(f.name) // a video of no frames is not one
		return nil
	}
	if f.o.Sound != "" && f.err == nil {
		length := time.Duration(float64(f.slots) / f.o.FPS * float64(time.Second))
		addSound(f.name, f.o.Sound, f.start, length, f.o.Log)
	}
	return nil
}
