package video

import (
	"context"
	"errors"
	"fmt"
	"image"
	"io"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"resdet/internal/box"
	"resdet/internal/det"
	"resdet/internal/track"
)

// Pipeline runs a detector over one source.
type Pipeline struct {
	cfg      Config
	source   Source
	info     Info
	detector Detector
	sinks    []Sink
	newest   bool
	draws    bool

	count     counters
	elapsed   atomic.Int64
	sourceErr error // why the source ended; nil: it was over
	firstBad  error // the first damaged frame
	stop      context.CancelFunc
}

// New puts a pipeline together. The source and the sinks are the pipeline's:
// Run closes them, and so does New when it fails.
func New(source Source, d Detector, sinks []Sink, cfg Config) (*Pipeline, error) {
	p := &Pipeline{cfg: cfg, source: source, info: source.Info(), detector: d, sinks: sinks}
	p.newest = cfg.Order == Newest || cfg.Order == Auto && p.info.Live
	p.draws = slices.ContainsFunc(sinks, Sink.Draws)
	if err := errors.Join(cfg.Validate(), cfg.fits(p.info)); err != nil {
		return nil, errors.Join(err, p.close())
	}
	return p, nil
}

func (p *Pipeline) close() error {
	errs := []error{p.source.Close()}
	for _, s := range p.sinks {
		errs = append(errs, s.Close())
	}
	return errors.Join(errs...)
}

// item is a frame on its way.
type item struct {
	Result
	key        bool // for the detector
	detections []det.Detection
}

// queue is how many frames wait between two stages: with one the faster stage
// idles whenever the times of single frames vary. Around the detector it is as
// many as go through it in one go.
const queue = 2

// inFlight is how many frames of a live source are between the newest-frame
// stage and the sinks: one in the detector and one behind it.
const inFlight = 2

// Run processes the source to its end, or until ctx ends or something fails.
// What was decoded before the source failed is still processed. The sinks are
// closed in any case, so that what they wrote can be used. It returns ctx's
// cause, or what failed.
func (p *Pipeline) Run(ctx context.Context) error {
	started := time.Now()
	p.count.begun.Store(started.UnixNano())
	group, ctx2 := errgroup.WithContext(ctx)
	begin := func(stage func() error) { group.Go(func() error { return guarded(stage) }) }
	sourceCtx, stop := context.WithCancel(ctx2)
	p.stop = stop

	burst, size := p.cfg.burst(), queue
	if p.newest {
		burst, size = 0, 0
	}
	decoded, selected, batches := make(chan *item), make(chan *item, burst), make(chan []*item)
	detected, tracked, drawn := make(chan *item, burst), make(chan *item, size), make(chan *item, size)
	var tokens chan struct{}
	if p.newest {
		tokens = make(chan struct{}, inFlight)
		for range inFlight {
			tokens <- struct{}{}
		}
	}

	begin(func() error { defer close(decoded); return p.decode(sourceCtx, ctx2, decoded) })
	begin(func() error { defer close(selected); return p.choose(ctx2, decoded, selected) })
	switch {
	case p.newest && p.cfg.between():
		begin(func() error { defer close(tracked); return p.follow(ctx2, selected, tracked, tokens) })
	default:
		if p.newest {
			begin(func() error { defer close(batches); return p.takeNewest(ctx2, selected, batches, tokens) })
		} else {
			begin(func() error { defer close(batches); return p.batch(ctx2, selected, batches) })
		}
		begin(func() error { defer close(detected); return p.detect(ctx2, batches, detected) })
		begin(func() error { defer close(tracked); return p.track(ctx2, detected, tracked) })
	}
	begin(func() error { defer close(drawn); return p.draw(ctx2, tracked, drawn) })
	begin(func() error { return p.encode(ctx2, drawn, tokens) })

	err := group.Wait()
	stop()
	p.elapsed.Store(int64(time.Since(started)))
	closed := p.close()
	switch {
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	case errors.Is(err, ErrStop):
		err = nil
	case err == nil:
		err = p.verdict()
	}
	return errors.Join(err, closed)
}

// verdict says whether the source was read as it should be.
func (p *Pipeline) verdict() error {
	switch bad := p.count.damaged.Load(); {
	case p.sourceErr != nil:
		return p.sourceErr
	case p.count.decoded.Load() == 0:
		return fmt.Errorf("video: %s: %w", p.info.Name, ErrEmpty)
	case p.count.done.Load() == 0:
		return fmt.Errorf("video: %s: it ends before %v", p.info.Name, p.cfg.Start)
	case bad > 0:
		return fmt.Errorf("video: %s: %d of %d frames could not be decoded, the first: %w", p.info.Name, bad, bad+p.count.decoded.Load(), p.firstBad)
	}
	return nil
}

// send hands an item on, or releases it when the run is over.
func send(ctx context.Context, out chan<- *item, it *item) error {
	select {
	case out <- it:
		return nil
	case <-ctx.Done():
		it.Frame.Release()
		return ctx.Err()
	}
}

// decode reads the source until it ends or fails: neither stops the stages
// behind, which finish what they have.
func (p *Pipeline) decode(sourceCtx, ctx context.Context, out chan<- *item) error {
	for sourceCtx.Err() == nil {
		begin := time.Now()
		f, err := p.source.Next(sourceCtx)
		if damaged, ok := errors.AsType[*DamagedError](err); ok {
			if p.count.damaged.Add(1) == 1 {
				p.firstBad = damaged
			}
			p.cfg.Log.Warn("frame left out", "source", p.info.Name, "error", damaged)
			continue
		}
		switch {
		case err == io.EOF, err != nil && sourceCtx.Err() != nil:
			return nil
		case err != nil:
			p.sourceErr = err
			return nil
		}
		p.count.decoded.Add(1)
		p.count.meters[stageDecode].add(1, begin)
		if err := send(ctx, out, &item{Result: Result{Frame: f}}); err != nil {
			return err
		}
	}
	return nil
}

// choose lets pass what the configuration wants.
func (p *Pipeline) choose(ctx context.Context, in <-chan *item, out chan<- *item) error {
	var due time.Duration // of the next frame at the rate wanted
	n := 0                // frames so far at that rate
	for it := range in {
		t := it.Frame.Time
		if p.cfg.End > 0 && t >= p.cfg.End {
			it.Frame.Release()
			break
		}
		pass := t >= p.cfg.Start
		if pass && p.cfg.FPS > 0 {
			period := time.Duration(float64(time.Second) / p.cfg.FPS)
			// A thousandth early is on time: stamps are rounded to milliseconds
			// or to the container's clock.
			if n > 0 && t+period/1000+time.Millisecond/2 < due {
				pass = false
			} else if due += period; n == 0 || due < t {
				due = t + period
			}
		}
		if pass {
			it.key = n%p.cfg.Every == 0
			n++
			pass = it.key || p.cfg.between()
		}
		if !pass {
			p.count.skipped.Add(1)
			it.Frame.Release()
			continue
		}
		if err := send(ctx, out, it); err != nil {
			return err
		}
	}
	p.stop()
	for it := range in {
		it.Frame.Release()
	}
	return nil
}

// takeNewest hands on the newest frame whenever the detector is free and not
// too much is on its way behind it.
func (p *Pipeline) takeNewest(ctx context.Context, in <-chan *item, out chan<- []*item, tokens <-chan struct{}) error {
	var newest *item
	token := false
	for in != nil || newest != nil {
		var ask <-chan struct{}
		var offer chan<- []*item
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
			if newest != nil {
				p.count.dropped.Add(1)
				newest.Frame.Release()
			}
			newest = it
		case <-ask:
			token = true
		case offer <- []*item{newest}:
			newest, token = nil, false
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// batch gathers frames for the detector. Those that it does not look at wait
// for nothing.
func (p *Pipeline) batch(ctx context.Context, in <-chan *item, out chan<- []*item) error {
	var batch []*item
	keys := 0
	flush := func() error {
		if len(batch) == 0 {
			return nil
		}
		select {
		case out <- batch:
			batch, keys = nil, 0
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	for it := range in {
		batch = append(batch, it)
		if it.key {
			keys++
		}
		if keys == p.cfg.Batch || keys == 0 {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return flush()
}

// detect runs the detector on the key frames of each batch.
func (p *Pipeline) detect(ctx context.Context, in <-chan []*item, out chan<- *item) error {
	var images []image.Image
	for batch := range in {
		images = images[:0]
		for _, it := range batch {
			if it.key {
				images = append(images, p.region(it.Frame.Image))
			}
		}
		if len(images) > 0 {
			found, err := p.look(ctx, images)
			if err != nil {
				return err
			}
			for _, it := range batch {
				if it.key {
					it.detections, it.Detected = found[0], true
					found = found[1:]
				}
			}
		}
		for _, it := range batch {
			if err := send(ctx, out, it); err != nil {
				return err
			}
		}
	}
	return nil
}

// look detects on images and returns boxes in pixels of the whole frames.
func (p *Pipeline) look(ctx context.Context, images []image.Image) ([][]det.Detection, error) {
	begin := time.Now()
	found, err := p.detector.Detect(ctx, images)
	if err != nil {
		return nil, err
	}
	if len(found) != len(images) {
		return nil, fmt.Errorf("video: the detector returned %d results for %d images", len(found), len(images))
	}
	p.count.meters[stageDetect].add(len(images), begin)
	p.count.detected.Add(int64(len(images)))
	dx, dy := float32(p.cfg.ROI.Min.X), float32(p.cfg.ROI.Min.Y)
	for _, dets := range found {
		for i := range dets {
			b := &dets[i].Box
			b.X0, b.X1 = b.X0+dx, b.X1+dx
			b.Y0, b.Y1 = b.Y0+dy, b.Y1+dy
		}
	}
	return found, nil
}

// region is the part of a frame that the detector sees; a frame that the
// region misses is seen whole.
func (p *Pipeline) region(m image.Image) image.Image {
	r := p.cfg.ROI.Add(m.Bounds().Min).Intersect(m.Bounds())
	part, ok := m.(interface {
		SubImage(image.Rectangle) image.Image
	})
	if p.cfg.ROI.Empty() || r.Empty() || !ok {
		return m
	}
	return part.SubImage(r)
}

// tracker returns a new one for updates at the given rate.
func (p *Pipeline) tracker(rate float64) *track.Classes {
	cfg := *p.cfg.Track
	cfg.FrameRate = rate
	return track.NewClasses(cfg)
}

// keyRate is how many frames a second of the video are looked at.
func (p *Pipeline) keyRate() float64 {
	rate := p.info.FPS
	if p.cfg.FPS > 0 {
		rate = min(rate, p.cfg.FPS)
	}
	rate /= float64(p.cfg.Every)
	if p.newest { // as often as the detector can
		m := &p.count.meters[stageDetect]
		own := StageStats{Frames: m.frames.Load(), Busy: time.Duration(m.busy.Load())}.FPS()
		if own > 0 {
			rate = min(rate, own)
		}
	}
	return rate
}

// track turns detections into objects with an identity and gives those frames
// that were not looked at what lies between their neighbours.
func (p *Pipeline) track(ctx context.Context, in <-chan *item, out chan<- *item) error {
	if p.cfg.Track == nil {
		for it := range in {
			it.Objects = untracked(it.detections)
			if err := send(ctx, out, it); err != nil {
				return err
			}
		}
		return nil
	}
	var tracker *track.Classes
	var beforeTime time.Duration // of the last key frame
	var beforeObjects []track.Object
	var held []*item
	release := func(after *item) error {
		for _, h := range held {
			if h.Objects = beforeObjects; after != nil {
				share := float32(h.Frame.Time-beforeTime) / float32(after.Frame.Time-beforeTime)
				h.Objects = track.Interpolate(beforeObjects, after.Objects, min(max(share, 0), 1))
			}
			if err := send(ctx, out, h); err != nil {
				return err
			}
		}
		held = held[:0]
		return nil
	}
	for it := range in {
		if !it.key {
			held = append(held, it)
			continue
		}
		begin := time.Now()
		if tracker == nil {
			tracker = p.tracker(p.keyRate())
		}
		it.Objects = onto(it.detections, tracker.Update(it.detections))
		p.count.meters[stageTrack].add(1+len(held), begin)
		if err := release(it); err != nil {
			return err
		}
		beforeTime, beforeObjects = it.Frame.Time, it.Objects
		if err := send(ctx, out, it); err != nil {
			return err
		}
	}
	return release(nil) // the last ones keep what the last key frame had
}

// onto puts tracked objects on the boxes of their detections. The tracker's own
// are its filter's, which bridges gaps but lags and overshoots where an object
// enters the picture and its shape changes. A track has its detection's score.
func onto(dets []det.Detection, objects []track.Object) []track.Object {
	for i := range objects {
		o := &objects[i]
		own, best := o.Box, float32(-1)
		for _, d := range dets {
			if overlap := box.IoU(own, d.Box); d.Class == o.Class && d.Score == o.Score && overlap > best {
				o.Box, best = d.Box, overlap
			}
		}
	}
	return objects
}

func untracked(dets []det.Detection) []track.Object {
	objects := make([]track.Object, len(dets))
	for i, d := range dets {
		objects[i].Detection = d
	}
	return objects
}

// draw makes the picture that sinks show.
func (p *Pipeline) draw(ctx context.Context, in <-chan *item, out chan<- *item) error {
	for it := range in {
		if p.draws {
			begin := time.Now()
			it.Picture = canvas(it.Frame)
			if p.cfg.Draw != nil {
				p.cfg.Draw(it.Picture, it.Objects)
			}
			p.count.meters[stageDraw].add(1, begin)
		}
		if err := send(ctx, out, it); err != nil {
			return err
		}
	}
	return nil
}

// encode gives the results to the sinks.
func (p *Pipeline) encode(ctx context.Context, in <-chan *item, tokens chan<- struct{}) error {
	for it := range in {
		begin := time.Now()
		for _, s := range p.sinks {
			if err := s.Write(ctx, &it.Result); err != nil {
				return err
			}
		}
		c := &p.count
		c.meters[stageEncode].add(1, begin)
		age := int64(time.Since(it.Frame.Arrived))
		c.age.Store(age)
		c.maxAge.Store(max(age, c.maxAge.Load()))
		c.position.Store(int64(it.Frame.Time))
		c.done.Add(1)
		it.Frame.Release()
		if tokens != nil {
			tokens <- struct{}{}
		}
	}
	return nil
}
