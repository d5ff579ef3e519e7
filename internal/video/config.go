package video

import (
	"fmt"
	"image"
	"log/slog"
	"time"

	"resdet/internal/track"
)

// Order says which frames are processed when the detector is slower than the
// source.
type Order string

// The orders.
const (
	Auto   Order = ""       // Newest of a live source, All of a file
	All    Order = "all"    // every frame, in order; the source waits
	Newest Order = "newest" // the newest frame; the others are dropped
)

// Config says what the pipeline does with the frames. Start from
// [DefaultConfig].
type Config struct {
	// Order of processing.
	Order Order
	// Every N-th frame is looked at by the detector, from the first one on.
	// Without Track the others are skipped; with it they are kept, their
	// objects interpolated between the tracks of the frames that were looked
	// at (of a live source: continued from the last ones).
	Every int
	// FPS is the most frames per second of the video that are kept; 0: all.
	FPS float64
	// Start and End bound the time stamps [Start, End); End 0: to the end.
	Start, End time.Duration
	// ROI is the part of each frame that the detector sees, in pixels; empty:
	// all of it.
	ROI image.Rectangle
	// Batch is how many frames the detector gets at once. Frames of a live
	// source do not wait for each other.
	Batch int
	// Track follows objects with these settings; nil: not. Its FrameRate is
	// set from the video's rate.
	Track *track.Config
	// Draw draws objects on a picture; nil: pictures stay bare.
	Draw func(*image.RGBA, []track.Object)
	// Log is told of what goes wrong and mends itself.
	Log *slog.Logger
}

// DefaultConfig looks at every frame.
func DefaultConfig() Config { return Config{Every: 1, Batch: 1, Log: slog.New(slog.DiscardHandler)} }

// maxHeld bounds the memory of the frames in a pipeline.
const maxHeld = 1 << 30

// Validate names the first setting that cannot work.
func (c Config) Validate() error {
	switch {
	case c.Order != Auto && c.Order != All && c.Order != Newest:
		return fmt.Errorf("video: order %q is neither %q nor %q", c.Order, All, Newest)
	case c.Every < 1:
		return fmt.Errorf("video: every %d: it must be 1 or more", c.Every)
	case c.FPS != 0 && !(c.FPS > 0 && c.FPS <= 1000):
		return fmt.Errorf("video: %v frames per second: it must be above 0 and at most 1000", c.FPS)
	case c.Start < 0 || c.End < 0 || c.End != 0 && c.End <= c.Start:
		return fmt.Errorf("video: from %v to %v: the end must come after the start", c.Start, c.End)
	case c.Batch < 1 || c.Batch > 64:
		return fmt.Errorf("video: batches of %d: 1 to 64 frames", c.Batch)
	case c.ROI.Min.X < 0 || c.ROI.Min.Y < 0:
		return fmt.Errorf("video: region %v: coordinates must not be negative", c.ROI)
	}
	if c.Track != nil {
		return c.Track.Validate()
	}
	return nil
}

// fits holds the settings against a source.
func (c Config) fits(s Info) error {
	if frame := image.Rect(0, 0, s.Width, s.Height); !c.ROI.Empty() && c.ROI.Intersect(frame).Empty() {
		return fmt.Errorf("video: the region %v lies outside %s, which has %dx%d pixels", c.ROI, s.Name, s.Width, s.Height)
	}
	// As many frames wait before the detector, behind it, and for the next key
	// frame; a dozen are in the other stages.
	frame := 4 * s.Width * s.Height
	if most := (maxHeld/max(frame, 1) - 12) / 3; c.burst() > max(most, queue) {
		return fmt.Errorf("video: batches of %d with every %d of %dx%d pixels would hold %d MB of frames; the product may be %d",
			c.Batch, c.Every, s.Width, s.Height, 3*c.burst()*frame>>20, max(most, 1))
	}
	return nil
}

// burst is how many frames go through the detector in one go, those between
// included.
func (c Config) burst() int {
	if c.between() {
		return max(queue, c.Batch*c.Every)
	}
	return max(queue, c.Batch)
}

// between reports whether frames that are not looked at are kept.
func (c Config) between() bool { return c.Track != nil && c.Every > 1 }

// OutputRate is the rate in frames per second of what comes out of a source:
// that of the file to write.
func (c Config) OutputRate(s Info) float64 {
	rate := s.FPS
	if c.FPS > 0 {
		rate = min(rate, c.FPS)
	}
	if c.Track == nil {
		rate /= float64(c.Every)
	}
	return rate
}

// Length is how much time of a source will be processed; 0: unknown.
func (c Config) Length(s Info) time.Duration {
	end := time.Duration(float64(s.Frames) / s.FPS * float64(time.Second))
	if c.End > 0 && (end == 0 || c.End < end) {
		end = c.End
	}
	return max(0, end-c.Start)
}
