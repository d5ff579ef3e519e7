// Package track follows objects through a video: ByteTrack (Zhang et al.
// 2022), equal to the authors' yolox/tracker frame by frame.
//
//	detections ─┬ high ─▶ 1. confirmed + lost tracks, predicted ─▶ found
//	            │              │ tracks left           │ detections left
//	            └ low ──▶ 2. those tracked a frame ago │
//	                                                   ▼
//	                      3. tracks one frame old ─▶ 4. new tracks
//
// Boxes with a low score only keep tracks alive that exist already; that is
// the idea of the method: what hides behind something scores low before it
// vanishes. Everything is float64, in the pixels of the detections' frame.
package track

import (
	"fmt"
	"math"
	"slices"
)

// Box is a rectangle with corners (X0, Y0) and (X1, Y1).
type Box struct{ X0, Y0, X1, Y1 float64 }

// Detection is a box found in one frame, with its score in [0, 1].
type Detection struct {
	Box   Box
	Score float64
}

// State says where a track stands.
type State int

const (
	Newborn State = iota // not yet found a second time: neither returned nor lost
	Tracked              // found in the last frame
	Lost                 // not found in the last frame, but it may be again
	Removed              // past its time; found at the very last, or gone
)

// String returns the state's name in lower case.
func (s State) String() string {
	switch s {
	case Newborn:
		return "newborn"
	case Tracked:
		return "tracked"
	case Lost:
		return "lost"
	case Removed:
		return "removed"
	}
	return fmt.Sprintf("State(%d)", int(s))
}

// Track is an object as it was after a frame.
type Track struct {
	ID    int   // from 1 in order of birth; births that are not confirmed leave holes
	State State // Tracked from Update, Lost or Removed from Lost
	Box   Box   // the filter's state, not the detection's box
	Score float64
	// Detection is the index of the detection last matched, in that frame's
	// slice; First and Last are the frames of birth and of the last match.
	Detection, First, Last int
}

// Config sets the tracker. Frames are counted from 1.
type Config struct {
	// TrackThreshold separates high scores (above it) from low ones (below it,
	// above 0.1). New tracks need 0.1 more than it.
	TrackThreshold float64
	// MatchThreshold is the dearest cost, 1 − IoU·score, of the first
	// association.
	MatchThreshold float64
	// Buffer is how many frames a lost track is kept at 30 frames per second;
	// at another FrameRate it is as long in time.
	Buffer    int
	FrameRate float64
	// MOT20 leaves the score out of the cost (1 − IoU), for dense crowds.
	MOT20 bool
}

// DefaultConfig returns the settings of ByteTrack's demonstration.
func DefaultConfig() Config {
	return Config{TrackThreshold: 0.5, MatchThreshold: 0.8, Buffer: 30, FrameRate: 30}
}

// maxLostLimit bounds how long tracks are kept, and with it memory: 10⁶ frames
// are nine hours at 30 per second.
const maxLostLimit = 1e6

// Validate returns an error that names the first setting out of its range.
func (c Config) Validate() error {
	switch {
	case !(c.TrackThreshold >= 0 && c.TrackThreshold <= 1):
		return fmt.Errorf("track: TrackThreshold %v: must be in [0, 1]", c.TrackThreshold)
	case !(c.MatchThreshold > 0 && c.MatchThreshold <= 1):
		return fmt.Errorf("track: MatchThreshold %v: must be in (0, 1]", c.MatchThreshold)
	case c.Buffer < 0:
		return fmt.Errorf("track: Buffer %d: must not be negative", c.Buffer)
	case !(c.FrameRate > 0) || math.IsInf(c.FrameRate, 1):
		return fmt.Errorf("track: FrameRate %v: must be positive", c.FrameRate)
	case c.FrameRate/30*float64(c.Buffer) > maxLostLimit:
		return fmt.Errorf("track: Buffer %d at FrameRate %v: lost tracks would be kept longer than %d frames", c.Buffer, c.FrameRate, int(maxLostLimit))
	}
	return nil
}

const (
	lowScore      = 0.1 // detections at or below it are ignored
	birthMargin   = 0.1 // what a new track's score needs above TrackThreshold
	lowLimit      = 0.5 // dearest cost of the second association
	newbornLimit  = 0.7 // dearest cost of the third
	buffersPerSec = 30  // the frame rate that Config.Buffer is meant for
)

// track is a track's inner state.
type track struct {
	id          int
	filter      filter
	score       float64
	detection   int
	first, last int
	state       State
	// expired: it ran out of time once. The original keeps such a track on its
	// removed list even if it was found in the last frame that it could be, and
	// then drops it the moment it is lost again.
	expired bool
}

func (t *track) found(d candidate, frame int) {
	t.filter.update(d.box)
	t.score, t.detection, t.last = d.score, d.index, frame
	t.state = Tracked
}

func (t *track) view() Track {
	return Track{ID: t.id, State: t.state, Box: t.filter.box(), Score: t.score, Detection: t.detection, First: t.first, Last: t.last}
}

// candidate is a detection that takes part.
type candidate struct {
	box   Box
	score float64
	index int // in the frame's slice
}

// Tracker follows the objects of one video. It is not safe for use by several
// goroutines at once.
type Tracker struct {
	cfg     Config
	maxLost int
	frame   int
	lastID  *int
	tracked []*track
	lost    []*track
}

// New returns a tracker before its first frame. cfg must be valid.
func New(cfg Config) *Tracker {
	return &Tracker{cfg: cfg, lastID: new(int), maxLost: int(cfg.FrameRate / buffersPerSec * float64(cfg.Buffer))}
}

// Update takes the detections of the next frame and returns the tracks found
// in it, ordered by id. It must be called for each frame, also without
// detections. Detections that are not finite, or have no height, or have
// corners the wrong way round, are ignored. dets is not kept.
func (t *Tracker) Update(dets []Detection) []Track {
	t.frame++
	high, low := t.split(dets)

	var pool, newborn []*track
	for _, k := range t.tracked {
		if k.state == Newborn {
			newborn = append(newborn, k)
		} else {
			pool = append(pool, k)
		}
	}
	pool = append(pool, t.lost...)
	for _, k := range pool {
		if k.state != Tracked {
			k.filter.height.vel = 0 // so that it does not grow or shrink while unseen
		}
		k.filter.predict()
	}

	// 1. Everything known with the high scores.
	of, left := pair(pool, high, t.cfg.MatchThreshold, !t.cfg.MOT20)
	var again, missed []*track
	for i, k := range pool {
		switch j := of[i]; {
		case j >= 0:
			if k.state != Tracked {
				again = append(again, k)
			}
			k.found(high[j], t.frame)
		case k.state == Tracked:
			missed = append(missed, k)
		}
	}
	// 2. What was seen a frame ago with the low scores.
	of, _ = pair(missed, low, lowLimit, false)
	var nowLost []*track
	for i, k := range missed {
		if j := of[i]; j >= 0 {
			k.found(low[j], t.frame)
		} else {
			k.state = Lost
			nowLost = append(nowLost, k)
		}
	}
	// 3. Newborn tracks, on their first box, with the high scores left.
	of, rest := pair(newborn, left, newbornLimit, !t.cfg.MOT20)
	for i, k := range newborn {
		if j := of[i]; j >= 0 {
			k.found(left[j], t.frame)
		} else {
			k.state = Removed
		}
	}
	// 4. Births.
	var born []*track
	for _, d := range rest {
		if d.score >= t.cfg.TrackThreshold+birthMargin {
			born = append(born, t.birth(d))
		}
	}

	t.settle(born, again, nowLost)
	out := make([]Track, 0, len(t.tracked))
	for _, k := range t.tracked {
		if k.state == Tracked {
			out = append(out, k.view())
		}
	}
	slices.SortFunc(out, func(a, b Track) int { return a.ID - b.ID })
	return out
}

// Lost returns the tracks that may be found again in the next frame, ordered
// by id.
func (t *Tracker) Lost() []Track {
	out := make([]Track, len(t.lost))
	for i, k := range t.lost {
		out[i] = k.view()
	}
	slices.SortFunc(out, func(a, b Track) int { return a.ID - b.ID })
	return out
}

// split sorts the detections into high and low scores. A score equal to a
// threshold is neither.
func (t *Tracker) split(dets []Detection) (high, low []candidate) {
	for i, d := range dets {
		if !d.sound() {
			continue
		}
		// The original stores width and height; x0 + (x1 − x0) is not always x1.
		b := d.Box
		b.X1, b.Y1 = b.X0+(b.X1-b.X0), b.Y0+(b.Y1-b.Y0)
		switch c := (candidate{b, d.Score, i}); {
		case d.Score > t.cfg.TrackThreshold:
			high = append(high, c)
		case d.Score > lowScore && d.Score < t.cfg.TrackThreshold:
			low = append(low, c)
		}
	}
	return high, low
}

// maxCoordinate keeps squares and products of coordinates finite.
const maxCoordinate = 1e9

func (d Detection) sound() bool {
	for _, v := range [4]float64{d.Box.X0, d.Box.Y0, d.Box.X1, d.Box.Y1} {
		if !(math.Abs(v) <= maxCoordinate) {
			return false
		}
	}
	return d.Box.X1 >= d.Box.X0 && d.Box.Y1 > d.Box.Y0 && !math.IsInf(d.Score, 0)
}

func (t *Tracker) birth(d candidate) *track {
	*t.lastID++
	state := Newborn
	if t.frame == 1 { // there was no frame before to have been found in
		state = Tracked
	}
	return &track{
		id: *t.lastID, filter: newFilter(d.box), score: d.score, detection: d.index,
		first: t.frame, last: t.frame, state: state,
	}
}

// settle ends a frame: it moves tracks between the lists, ages the lost ones
// and removes duplicates.
func (t *Tracker) settle(born, again, nowLost []*track) {
	var expired []*track
	for _, k := range t.lost {
		if t.frame-k.last > t.maxLost {
			k.state = Removed
			expired = append(expired, k)
		}
	}
	tracked := t.tracked[:0]
	for _, k := range t.tracked {
		if k.state == Tracked {
			tracked = append(tracked, k)
		}
	}
	tracked = append(append(tracked, born...), again...)

	lost := t.lost[:0]
	for _, k := range append(t.lost, nowLost...) {
		if k.state != Tracked && !k.expired {
			lost = append(lost, k)
		}
	}
	// Only now: a track that expires in this frame leaves the list in the next
	// one, so that it has one frame more.
	for _, k := range expired {
		k.expired = true
	}
	t.tracked, t.lost = dropDuplicates(tracked, lost)
}
