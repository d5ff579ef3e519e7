// Package video runs a detector over videos: files, cameras, streams, folders
// of pictures. It is a pipeline of stages, each on its own goroutine:
//
//	Source ─ decode ─▶ select ─▶ batch ──▶ detect ─▶ track ─▶ draw ─▶ encode ─ Sinks
//	                   --every   (files)                              file, JSON,
//	                   --fps     newest                               folder, HTTP,
//	                   --start   (live)                               window
//
// Files are processed whole and in order through short queues, so that each
// stage works while the others do and the slowest one sets the rate. Of a live
// source the newest frame is taken whenever the detector is ready; the others
// are dropped and counted, so that what is shown never lags further behind.
//
// OpenCV lives in the helper process resdet-video, which this package starts
// for what it cannot read or write itself (see package wire): whatever happens
// there (a crash, a stall) is an error of that source or sink. Folders of
// pictures, MJPEG and Y4M need no helper.
package video

import (
	"context"
	"errors"
	"fmt"
	"image"
	"image/draw"
	"time"

	"resdet/internal/det"
	"resdet/internal/track"
)

// Frame is one picture of a video. Whoever receives it owns it, until
// Release.
type Frame struct {
	// Index counts the source's frames from 0, also those that are skipped.
	Index int
	// Time since the source's beginning: a file's time stamp, or when a live
	// frame came.
	Time time.Duration
	// Arrived is when the frame was there to be processed.
	Arrived time.Time
	// Image is upright; frames of one source may differ in size.
	Image image.Image

	home *buffers // of Image; may be nil
}

// Release gives the frame's memory back for the next ones. Image must not be
// used after it.
func (f *Frame) Release() {
	if f.home != nil {
		f.home.put(f.Image.(*image.RGBA))
		f.home = nil
	}
}

// Info describes a source.
type Info struct {
	Name string // what was opened
	// Width and Height of the first frame in pixels, upright.
	Width, Height int
	// FPS is the nominal rate, always a sensible number; true rates vary.
	FPS float64
	// Frames is how many there will be; 0: unknown.
	Frames int
	// Live sources go on at their own pace, whether anybody looks or not.
	Live  bool
	Codec string
	// Sound is the file or address whose sound may be copied, if it has any;
	// empty: there is none to copy.
	Sound string
}

// Source gives the frames of a video in order. One goroutine calls Next.
type Source interface {
	Info() Info
	// Next waits for the next frame. It returns io.EOF after the last one, a
	// *[DamagedError] for a frame that could not be decoded (the next one may
	// be whole), ctx's error when ctx ends first, and any other error when the
	// source failed for good.
	Next(ctx context.Context) (*Frame, error)
	// Close ends the source; it may be called during Next, and twice.
	Close() error
}

// Sink takes what the pipeline made of each frame, in order. One goroutine
// calls Write and then Close.
type Sink interface {
	// Draws reports whether the sink wants Result.Picture.
	Draws() bool
	// Write may keep nothing of r. An error ends the run; [ErrStop] does so in
	// good order.
	Write(ctx context.Context, r *Result) error
	// Close finishes the output, also after an error or a cancelled run, so
	// that what was written can be used.
	Close() error
}

// Result is a processed frame.
type Result struct {
	Frame *Frame
	// Objects in pixels of the frame. Their ID is 0 without a tracker.
	Objects []track.Object
	// Detected: the detector looked at this very frame; otherwise the objects
	// were carried over from its neighbours.
	Detected bool
	// Picture is the frame with its objects drawn; nil unless a sink draws.
	Picture *image.RGBA
}

// Detector finds objects. It is called from one goroutine at a time, with
// images of one source; boxes are in pixels of each image, its corner (0, 0).
type Detector interface {
	Detect(ctx context.Context, images []image.Image) ([][]det.Detection, error)
}

// Errors that callers tell apart.
var (
	// ErrStop is returned by a sink when its user wants no more: the window was
	// closed.
	ErrStop = errors.New("video: stopped by the viewer")
	// ErrStalled: a source gave no frame for the time allowed.
	ErrStalled = errors.New("no frame came in time")
	// ErrCut: a file ends before its end.
	ErrCut = errors.New("the file is cut or damaged")
	// ErrNoHelper: what was asked for needs OpenCV.
	ErrNoHelper = errors.New("the helper program resdet-video is not installed")
	// ErrEmpty: there is no frame in the source.
	ErrEmpty = errors.New("there is no frame in it")
)

// DamagedError says that one frame of a source could not be decoded.
type DamagedError struct {
	Index int
	Err   error
}

func (e *DamagedError) Error() string { return fmt.Sprintf("frame %d: %v", e.Index, e.Err) }

func (e *DamagedError) Unwrap() error { return e.Err }

// HintError is an error that knows what the user can do.
type HintError struct {
	Err  error
	Text string
}

func (e *HintError) Error() string { return e.Err.Error() }

func (e *HintError) Unwrap() error { return e.Err }

// Hint says what to do.
func (e *HintError) Hint() string { return e.Text }

// buffers keeps the pictures of a source for reuse: at 30 frames of 8 MB a
// second the garbage collector would be the busiest stage. Its size is bounded;
// what does not fit is left to the collector.
type buffers struct{ free chan *image.RGBA }

// keptBuffers is as many as are under way in a pipeline with its queues.
const keptBuffers = 24

func newBuffers() *buffers { return &buffers{make(chan *image.RGBA, keptBuffers)} }

// get returns a picture of that size with any content.
func (b *buffers) get(width, height int) *image.RGBA {
	for {
		select {
		case m := <-b.free:
			if cap(m.Pix) >= 4*width*height {
				return &image.RGBA{Pix: m.Pix[:4*width*height], Stride: 4 * width, Rect: image.Rect(0, 0, width, height)}
			}
		default:
			return image.NewRGBA(image.Rect(0, 0, width, height))
		}
	}
}

func (b *buffers) put(m *image.RGBA) {
	select {
	case b.free <- m:
	default:
	}
}

// canvas returns the frame's picture to draw on: its own pixels where they are
// of the right kind, for the pipeline owns them, otherwise a copy.
func canvas(f *Frame) *image.RGBA {
	if m, ok := f.Image.(*image.RGBA); ok && m.Rect.Min == (image.Point{}) {
		return m
	}
	b := f.Image.Bounds()
	m := image.NewRGBA(image.Rect(0, 0, b.Dx(), b.Dy()))
	draw.Draw(m, m.Rect, f.Image, b.Min, draw.Src)
	return m
}

// sensibleRate keeps nonsense from files out of the arithmetic: some containers
// report their clock (90000) as the rate.
func sensibleRate(fps float64) (float64, bool) {
	if fps >= 0.01 && fps <= 480 {
		return fps, true
	}
	return defaultRate, false
}

// defaultRate is for sources that do not say theirs.
const defaultRate = 25
