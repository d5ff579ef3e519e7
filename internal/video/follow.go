package video

import (
	"context"
	"image"
	"image/draw"
	"time"

	"golang.org/x/sync/errgroup"

	"resdet/internal/box"
	"resdet/internal/det"
	"resdet/internal/track"
)

// follow shows every frame of a live source at once, with its objects where
// the tracks of the last frames looked at would have them by now, while the
// detector works on a copy of one frame after another at its own pace: a CPU
// keeps up with a camera.
func (p *Pipeline) follow(ctx context.Context, in <-chan *item, out chan<- *item, tokens <-chan struct{}) error {
	type sighting struct {
		time       time.Duration
		detections []det.Detection
	}
	group, ctx := errgroup.WithContext(ctx)
	begin := func(stage func() error) { group.Go(func() error { return guarded(stage) }) }
	work, seen := make(chan *Frame, 1), make(chan sighting, 1)
	begin(func() error {
		for f := range work {
			found, err := p.look(ctx, []image.Image{p.region(f.Image)})
			if err != nil {
				return err
			}
			seen <- sighting{f.Time, found[0]} // there is room: one frame is under way at a time
		}
		return nil
	})
	begin(func() error {
		defer close(work)
		var tracker *track.Classes
		var course course
		var newest *item
		token, idle := false, true
		for in != nil || newest != nil {
			var ask <-chan struct{}
			var offer chan<- *item
			switch {
			case newest == nil:
			case token:
				offer = out
			default:
				ask = tokens
			}
			select {
			case it, ok := <-in:
				if !ok {
					in = nil
					continue
				}
				if it.key && idle {
					work <- copyFrame(it.Frame)
					idle = false
				}
				begin := time.Now()
				it.Objects = course.at(it.Frame.Time)
				p.count.meters[stageTrack].add(1, begin)
				if newest != nil {
					p.count.dropped.Add(1)
					newest.Frame.Release()
				}
				newest = it
			case s := <-seen:
				idle = true
				if tracker == nil {
					tracker = p.tracker(p.keyRate())
				}
				course.add(s.time, onto(s.detections, tracker.Update(s.detections)))
			case <-ask:
				token = true
			case offer <- newest:
				newest, token = nil, false
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	})
	return group.Wait()
}

// copyFrame is for the detector: the original is drawn on meanwhile.
func copyFrame(f *Frame) *Frame {
	b := f.Image.Bounds()
	m := image.NewRGBA(image.Rect(0, 0, b.Dx(), b.Dy()))
	draw.Draw(m, m.Rect, f.Image, b.Min, draw.Src)
	return &Frame{Index: f.Index, Time: f.Time, Arrived: f.Arrived, Image: m}
}

// course continues tracks beyond the last frame that was looked at.
type course struct {
	prevTime, lastTime time.Duration
	prev               map[int]box.Box
	last               []track.Object
}

// horizon is how long objects are carried on without a new look: beyond it a
// straight line is a guess.
const horizon = time.Second

func (c *course) add(t time.Duration, objects []track.Object) {
	c.prevTime, c.lastTime = c.lastTime, t
	c.prev = make(map[int]box.Box, len(c.last))
	for _, o := range c.last {
		c.prev[o.ID] = o.Box
	}
	c.last = objects
}

// at returns the objects at time t: those seen twice move on in a straight
// line, the others stay.
func (c *course) at(t time.Duration) []track.Object {
	ahead := t - c.lastTime
	if ahead > 2*horizon {
		return nil
	}
	ahead = min(ahead, horizon)
	objects := make([]track.Object, len(c.last))
	for i, o := range c.last {
		if was, ok := c.prev[o.ID]; ok && c.lastTime > c.prevTime {
			k := float32(ahead) / float32(c.lastTime-c.prevTime)
			o.Box.X0 += (o.Box.X0 - was.X0) * k
			o.Box.Y0 += (o.Box.Y0 - was.Y0) * k
			o.Box.X1 += (o.Box.X1 - was.X1) * k
			o.Box.Y1 += (o.Box.Y1 - was.Y1) * k
		}
		objects[i] = o
	}
	return objects
}
