package video

import (
	"sync/atomic"
	"time"
)

// Stats say how far a run has come. Counts are of frames.
type Stats struct {
	Source  Info
	Decoded int64
	Skipped int64 // by Every, FPS, Start
	Dropped int64 // of a live source, for newer ones
	Damaged int64 // that could not be decoded
	// Detected were looked at by the detector, Done have reached the sinks.
	Detected, Done int64
	Reconnects     int
	// Position is the time stamp of the frame that was done last, Age how old
	// it was by then (since it arrived), MaxAge the oldest so far.
	Position, Age, MaxAge time.Duration
	Elapsed               time.Duration
	Stages                []StageStats
}

// StageStats is one stage's work. Frames/Busy is the rate that it would have
// alone.
type StageStats struct {
	Name   string
	Frames int64
	Busy   time.Duration
}

// FPS is the stage's own rate in frames per second; 0 before its first frame.
func (s StageStats) FPS() float64 {
	if s.Busy <= 0 {
		return 0
	}
	return float64(s.Frames) / s.Busy.Seconds()
}

// Left is how long the run will go on at the pace so far, if it began at start
// and will process total of the source; false before the first frame.
func (s Stats) Left(start, total time.Duration) (time.Duration, bool) {
	done := s.Position - start
	if done <= 0 {
		return 0, false
	}
	return max(0, time.Duration(float64(s.Elapsed)/float64(done)*float64(total-done))), true
}

// Stages of the pipeline in their order.
const (
	stageDecode = iota
	stageDetect
	stageTrack
	stageDraw
	stageEncode
	stages
)

var stageNames = [stages]string{"decode", "detect", "track", "draw", "encode"}

// meter adds up a stage's work; it is read while the stage runs.
type meter struct{ frames, busy atomic.Int64 }

func (m *meter) add(frames int, since time.Time) {
	m.frames.Add(int64(frames))
	m.busy.Add(int64(time.Since(since)))
}

// counters are the run's, read while it goes on.
type counters struct {
	decoded, skipped, dropped, damaged, detected, done atomic.Int64
	position, age, maxAge, begun                       atomic.Int64
	meters                                             [stages]meter
}

// Stats may be called from any goroutine, during and after the run.
func (p *Pipeline) Stats() Stats {
	c := &p.count
	s := Stats{
		Source:  p.info,
		Decoded: c.decoded.Load(), Skipped: c.skipped.Load(), Dropped: c.dropped.Load(), Damaged: c.damaged.Load(),
		Detected: c.detected.Load(), Done: c.done.Load(),
		Position: time.Duration(c.position.Load()), Age: time.Duration(c.age.Load()), MaxAge: time.Duration(c.maxAge.Load()),
	}
	if r, ok := p.source.(interface{ reconnects() int }); ok {
		s.Reconnects = r.reconnects()
	}
	switch begun, ended := c.begun.Load(), p.elapsed.Load(); {
	case ended > 0:
		s.Elapsed = time.Duration(ended)
	case begun > 0:
		s.Elapsed = time.Since(time.Unix(0, begun))
	}
	for i := range c.meters {
		s.Stages = append(s.Stages, StageStats{stageNames[i], c.meters[i].frames.Load(), time.Duration(c.meters[i].busy.Load())})
	}
	return s
}
