package track

import (
	"maps"
	"slices"

	"resdet/internal/box"
	"resdet/internal/det"
)

// Object is a detection that is part of a track: the track's id, the class,
// the score of the detection matched and the filtered box, in the frame of
// the detections (original pixels, after the detector).
type Object struct {
	ID int
	det.Detection
}

// Classes tracks what a detector of many classes finds: each class by itself,
// for a car does not become a person, with ids that are unique among all. It
// is not safe for use by several goroutines at once.
type Classes struct {
	cfg    Config
	frame  int
	lastID int
	each   map[int]*Tracker // by class
}

// NewClasses returns a tracker of all classes before its first frame. cfg must
// be valid.
func NewClasses(cfg Config) *Classes {
	return &Classes{cfg: cfg, each: map[int]*Tracker{}}
}

// Update takes the detections of the next frame, of any class, and returns the
// objects found in it, ordered by id. It must be called for each frame that
// is looked at, also without detections. dets is not kept.
func (c *Classes) Update(dets []det.Detection) []Object {
	byClass := map[int][]Detection{}
	for _, d := range dets {
		byClass[d.Class] = append(byClass[d.Class], Detection{
			Box:   Box{float64(d.Box.X0), float64(d.Box.Y0), float64(d.Box.X1), float64(d.Box.Y1)},
			Score: float64(d.Score),
		})
	}
	for class := range byClass {
		if c.each[class] == nil {
			t := New(c.cfg)
			t.frame, t.lastID = c.frame, &c.lastID // as if it had seen the empty frames before
			c.each[class] = t
		}
	}
	c.frame++
	var out []Object
	for _, class := range slices.Sorted(maps.Keys(c.each)) { // in order, so that ids repeat from run to run
		t := c.each[class]
		for _, k := range t.Update(byClass[class]) {
			b := box.Box{X0: float32(k.Box.X0), Y0: float32(k.Box.Y0), X1: float32(k.Box.X1), Y1: float32(k.Box.Y1)}
			out = append(out, Object{k.ID, det.Detection{Class: class, Score: float32(k.Score), Box: b}})
		}
		if len(t.tracked)+len(t.lost) == 0 {
			delete(c.each, class)
		}
	}
	slices.SortFunc(out, func(a, b Object) int { return a.ID - b.ID })
	return out
}

// Interpolate returns the objects at a moment between two frames that were
// looked at, in the order of ids: at is in (0, 1), the share of the way from
// before to after. An object of both frames moves in a straight line; one of
// a single frame is shown where it was there, up to half-way. With N frames
// from one key frame to the next, the k-th between them is at k/N, and the
// tracker's FrameRate is the video's divided by N.
func Interpolate(before, after []Object, at float32) []Object {
	later := make(map[int]Object, len(after))
	for _, o := range after {
		later[o.ID] = o
	}
	var out []Object
	for _, o := range before {
		n, both := later[o.ID]
		delete(later, o.ID)
		switch {
		case both:
			o.Score = mix(o.Score, n.Score, at)
			o.Box = box.Box{
				X0: mix(o.Box.X0, n.Box.X0, at), Y0: mix(o.Box.Y0, n.Box.Y0, at),
				X1: mix(o.Box.X1, n.Box.X1, at), Y1: mix(o.Box.Y1, n.Box.Y1, at),
			}
		case at > 0.5:
			continue
		}
		out = append(out, o)
	}
	if at > 0.5 {
		for _, o := range after {
			if _, alone := later[o.ID]; alone {
				out = append(out, o)
			}
		}
	}
	slices.SortFunc(out, func(a, b Object) int { return a.ID - b.ID })
	return out
}

func mix(a, b, at float32) float32 { return a + (b-a)*at }
