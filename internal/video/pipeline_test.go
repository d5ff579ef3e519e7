package video

import (
	"context"
	"errors"
	"fmt"
	"image"
	"io"
	"math"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"resdet/internal/box"
	"resdet/internal/det"
	"resdet/internal/track"
)

// synthetic is a source whose frames' first pixel is their number. Times are
// virtual within synctest.
type synthetic struct {
	info    Info
	n       int           // frames; 0: endless
	cost    time.Duration // of decoding one
	times   []time.Duration
	damaged map[int]bool
	fail    error // at the end, instead of io.EOF

	index  int
	begin  time.Time
	home   *buffers
	closed bool
}

func newSynthetic(n int) *synthetic {
	return &synthetic{info: Info{Name: "synthetic", Width: 64, Height: 48, FPS: 10, Frames: n}, n: n, home: newBuffers()}
}

func (s *synthetic) Info() Info { return s.info }

func (s *synthetic) Close() error { s.closed = true; return nil }

func (s *synthetic) Next(ctx context.Context) (*Frame, error) {
	if s.begin.IsZero() {
		s.begin = time.Now()
	}
	i := s.index
	if s.n > 0 && i == s.n {
		if s.fail != nil {
			return nil, s.fail
		}
		return nil, io.EOF
	}
	s.index++
	t := time.Duration(float64(i) / s.info.FPS * float64(time.Second))
	if s.times != nil {
		t = s.times[i]
	}
	wait := s.cost
	if s.info.Live { // a camera has its own pace
		wait = time.Until(s.begin.Add(t))
	}
	if wait > 0 {
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if s.damaged[i] {
		return nil, &DamagedError{i, errors.New("mud on the lens")}
	}
	m := s.home.get(s.info.Width, s.info.Height)
	m.Pix[0], m.Pix[1] = byte(i), byte(i>>8)
	return &Frame{Index: i, Time: t, Arrived: time.Now(), Image: m, home: s.home}, nil
}

// number is the frame that a picture is of.
func number(m image.Image) int {
	r := m.(*image.RGBA)
	o := r.PixOffset(r.Rect.Min.X, r.Rect.Min.Y)
	return int(r.Pix[o]) | int(r.Pix[o+1])<<8
}

// stub is a detector of known cost. It finds one box that moves two pixels a
// frame, 100 wide.
type stub struct {
	cost   time.Duration
	calls  [][]int // the frames of each call
	sizes  []image.Point
	failAt int // call; 0: never
	mu     sync.Mutex
}

func (d *stub) Detect(ctx context.Context, images []image.Image) ([][]det.Detection, error) {
	if d.cost > 0 {
		select {
		case <-time.After(d.cost):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	var call []int
	out := make([][]det.Detection, len(images))
	for i, m := range images {
		n := 0
		if m.Bounds().Min == (image.Point{}) {
			n = number(m)
		}
		call = append(call, n)
		d.sizes = append(d.sizes, m.Bounds().Size())
		out[i] = []det.Detection{{Class: 1, Score: 0.9, Box: moving(n)}}
	}
	d.calls = append(d.calls, call)
	if d.failAt > 0 && len(d.calls) == d.failAt {
		return nil, errors.New("the network fell over")
	}
	return out, nil
}

// bug is a detector that panics.
type bug struct{}

func (bug) Detect(context.Context, []image.Image) ([][]det.Detection, error) {
	panic("a detector's bug")
}

func moving(frame int) box.Box {
	x := float32(2 * frame)
	return box.Box{X0: x, Y0: 5, X1: x + 100, Y1: 25}
}

// recorder is a sink that remembers.
type recorder struct {
	cost   time.Duration
	draws  bool
	failAt int
	panics bool // there, instead of failing
	stopAt int

	index    []int
	objects  [][]track.Object
	detected []bool
	ages     []time.Duration
	pictures int
	closed   int
}

func (r *recorder) Draws() bool { return r.draws }

func (r *recorder) Write(_ context.Context, x *Result) error {
	time.Sleep(r.cost)
	r.index = append(r.index, x.Frame.Index)
	r.objects = append(r.objects, slices.Clone(x.Objects))
	r.detected = append(r.detected, x.Detected)
	r.ages = append(r.ages, time.Since(x.Frame.Arrived))
	if x.Picture != nil {
		r.pictures++
	}
	switch len(r.index) {
	case r.failAt:
		if r.panics {
			panic("a sink's bug")
		}
		return errors.New("the disk is full")
	case r.stopAt:
		return ErrStop
	}
	return nil
}

func (r *recorder) Close() error { r.closed++; return nil }

// run runs a pipeline and checks what must hold for all.
func run(t *testing.T, s *synthetic, d Detector, r *recorder, change func(*Config)) (Stats, error) {
	t.Helper()
	cfg := DefaultConfig()
	if change != nil {
		change(&cfg)
	}
	p, err := New(s, d, []Sink{r}, cfg)
	if err != nil {
		t.Fatal(err)
	}
	err = p.Run(t.Context())
	if !s.closed || r.closed != 1 {
		t.Errorf("source closed: %v; sink closed %d times", s.closed, r.closed)
	}
	return p.Stats(), err
}

func upTo(n, step int) (out []int) {
	for i := 0; i < n; i += step {
		out = append(out, i)
	}
	return out
}

func TestWholeAndInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, d, r := newSynthetic(100), &stub{}, &recorder{draws: true}
		drawn := 0
		st, err := run(t, s, d, r, func(c *Config) { c.Draw = func(*image.RGBA, []track.Object) { drawn++ } })
		if err != nil || !slices.Equal(r.index, upTo(100, 1)) {
			t.Fatalf("%v, frames %v", err, r.index)
		}
		for i, o := range r.objects {
			if len(o) != 1 || o[0].Box != moving(i) || o[0].ID != 0 || !r.detected[i] {
				t.Fatalf("frame %d: %+v", i, o)
			}
		}
		if st.Decoded != 100 || st.Detected != 100 || st.Done != 100 || st.Dropped != 0 || st.Skipped != 0 || drawn != 100 || r.pictures != 100 {
			t.Errorf("%+v; %d drawn", st, drawn)
		}
		if st.Position != 9900*time.Millisecond {
			t.Errorf("position %v", st.Position)
		}
	})
}

func TestNothingIsDrawnForNobody(t *testing.T) {
	r := &recorder{}
	run(t, newSynthetic(3), &stub{}, r, func(c *Config) { c.Draw = func(*image.RGBA, []track.Object) { t.Error("drawn") } })
	if r.pictures != 0 || len(r.index) != 3 {
		t.Errorf("%d pictures of %d frames", r.pictures, len(r.index))
	}
}

func TestSelection(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Config)
		want   []int
	}{
		{"every third", func(c *Config) { c.Every = 3 }, upTo(40, 3)},
		{"at 5 per second", func(c *Config) { c.FPS = 5 }, upTo(40, 2)},
		{"at 4 per second", func(c *Config) { c.FPS = 4 }, []int{0, 3, 5, 8, 10, 13, 15, 18, 20, 23, 25, 28, 30, 33, 35, 38}},
		{"faster than it is", func(c *Config) { c.FPS = 60 }, upTo(40, 1)},
		{"its own rate", func(c *Config) { c.FPS = 10 }, upTo(40, 1)},
		{"from 1 s to 2 s", func(c *Config) { c.Start, c.End = time.Second, 2*time.Second }, upTo(40, 1)[10:20]},
		{"every fourth from 1.1 s", func(c *Config) { c.Start, c.Every = 1100*time.Millisecond, 4 }, []int{11, 15, 19, 23, 27, 31, 35, 39}},
		{"to 0.35 s", func(c *Config) { c.End = 350 * time.Millisecond }, []int{0, 1, 2, 3}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, r := newSynthetic(40), &recorder{}
				st, err := run(t, s, &stub{}, r, c.change)
				if err != nil || !slices.Equal(r.index, c.want) {
					t.Errorf("%v: frames %v, want %v", err, r.index, c.want)
				}
				if c.name == "to 0.35 s" && s.index > 20 {
					t.Errorf("%d frames were decoded", s.index)
				}
				if c.name == "every third" && (st.Skipped != 26 || st.Detected != 14) {
					t.Errorf("%+v", st)
				}
			})
		})
	}
	if _, err := run(t, newSynthetic(10), &stub{}, &recorder{}, func(c *Config) { c.Start = time.Minute }); err == nil || !strings.Contains(err.Error(), "ends before 1m0s") {
		t.Errorf("a start behind the end: %v", err)
	}
}

func TestRegion(t *testing.T) {
	d, r := &stub{}, &recorder{}
	if _, err := run(t, newSynthetic(2), d, r, func(c *Config) { c.ROI = image.Rect(10, 20, 40, 100) }); err != nil {
		t.Fatal(err)
	}
	if d.sizes[0] != image.Pt(30, 28) {
		t.Errorf("the detector saw %v", d.sizes[0])
	}
	want := moving(0)
	want.X0, want.X1, want.Y0, want.Y1 = want.X0+10, want.X1+10, want.Y0+20, want.Y1+20
	if got := r.objects[0][0].Box; got != want {
		t.Errorf("box %v, want %v", got, want)
	}
	if _, err := New(newSynthetic(2), d, nil, func() Config { c := DefaultConfig(); c.ROI = image.Rect(64, 0, 70, 10); return c }()); err == nil {
		t.Error("a region outside the frame passed")
	}
}

func TestBatches(t *testing.T) {
	d, r := &stub{}, &recorder{}
	run(t, newSynthetic(7), d, r, func(c *Config) { c.Batch = 3 })
	if fmt.Sprint(d.calls) != "[[0 1 2] [3 4 5] [6]]" || !slices.Equal(r.index, upTo(7, 1)) {
		t.Errorf("calls %v, frames %v", d.calls, r.index)
	}
	for i, o := range r.objects {
		if o[0].Box != moving(i) {
			t.Errorf("frame %d got the boxes of another: %v", i, o)
		}
	}
}

func TestTracksBetweenKeyFrames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := track.DefaultConfig()
		s, d, r := newSynthetic(23), &stub{}, &recorder{}
		if _, err := run(t, s, d, r, func(c *Config) { c.Every, c.Track = 5, &cfg }); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(r.index, upTo(23, 1)) || fmt.Sprint(d.calls) != "[[0] [5] [10] [15] [20]]" {
			t.Fatalf("frames %v, detected on %v", r.index, d.calls)
		}
		for i, objects := range r.objects {
			if r.detected[i] != (i%5 == 0) {
				t.Errorf("frame %d detected: %v", i, r.detected[i])
			}
			if len(objects) != 1 || objects[0].ID != 1 {
				t.Fatalf("frame %d: %+v", i, objects)
			}
			// After the last key frame nothing is known: the box stays.
			want := moving(min(i, 20))
			if got := objects[0].Box; math.Abs(float64(got.X0-want.X0)) > 0.01 || got.Y1 != want.Y1 {
				t.Errorf("frame %d: box %v, want %v", i, got, want)
			}
		}
	})
}

func TestHeldFramesAreBounded(t *testing.T) {
	s := newSynthetic(1)
	s.info.Width, s.info.Height = 3840, 2160
	c, tr := DefaultConfig(), track.DefaultConfig()
	c.Every, c.Track = 60, &tr
	if _, err := New(s, &stub{}, nil, c); err == nil || !strings.Contains(err.Error(), "may be") {
		t.Errorf("60 frames of 33 MB: %v", err)
	}
	c.Track = nil // then they are skipped
	if _, err := New(s, &stub{}, nil, c); err != nil {
		t.Error(err)
	}
}

func TestFaults(t *testing.T) {
	t.Run("source", func(t *testing.T) {
		s, r := newSynthetic(20), &recorder{}
		s.fail = fmt.Errorf("it broke off: %w", ErrCut)
		_, err := run(t, s, &stub{}, r, nil)
		if !errors.Is(err, ErrCut) || len(r.index) != 20 {
			t.Errorf("%v after %d frames; all that was decoded must come out", err, len(r.index))
		}
	})
	t.Run("damaged frames", func(t *testing.T) {
		s, r := newSynthetic(20), &recorder{}
		s.damaged = map[int]bool{3: true, 9: true}
		st, err := run(t, s, &stub{}, r, nil)
		if err == nil || !strings.Contains(err.Error(), "2 of 20 frames") || !strings.Contains(err.Error(), "frame 3: mud") || len(r.index) != 18 || st.Damaged != 2 {
			t.Errorf("%v, %d frames, %+v", err, len(r.index), st)
		}
	})
	t.Run("detector", func(t *testing.T) {
		r := &recorder{}
		_, err := run(t, newSynthetic(0), &stub{failAt: 5}, r, nil)
		if err == nil || !strings.Contains(err.Error(), "fell over") || len(r.index) > 4 {
			t.Errorf("%v after %d frames", err, len(r.index))
		}
	})
	t.Run("sink", func(t *testing.T) {
		_, err := run(t, newSynthetic(0), &stub{}, &recorder{failAt: 5}, nil)
		if err == nil || !strings.Contains(err.Error(), "disk is full") {
			t.Error(err)
		}
	})
	t.Run("bugs", func(t *testing.T) {
		buggy := newSynthetic(20)
		buggy.times = []time.Duration{0, 1} // the third has none
		for _, c := range []struct {
			source   *synthetic
			detector Detector
			sink     *recorder
		}{
			{buggy, &stub{}, &recorder{}},
			{newSynthetic(0), bug{}, &recorder{}},
			{newSynthetic(0), &stub{}, &recorder{failAt: 5, panics: true}},
		} {
			_, err := run(t, c.source, c.detector, c.sink, nil)
			if panicked := (*PanicError)(nil); !errors.As(err, &panicked) || len(panicked.Stack) == 0 {
				t.Error(err)
			}
		}
		live := newSynthetic(0)
		live.info.Live = true
		_, err := run(t, live, bug{}, &recorder{}, func(c *Config) { c.Track = new(track.DefaultConfig()) })
		if panicked := (*PanicError)(nil); !errors.As(err, &panicked) {
			t.Error(err)
		}
	})
	t.Run("viewer leaves", func(t *testing.T) {
		if _, err := run(t, newSynthetic(0), &stub{}, &recorder{stopAt: 5}, nil); err != nil {
			t.Error(err)
		}
	})
	t.Run("nothing", func(t *testing.T) {
		s := newSynthetic(1)
		s.index = 1
		if _, err := run(t, s, &stub{}, &recorder{}, nil); !errors.Is(err, ErrEmpty) {
			t.Error(err)
		}
	})
}

func TestCancel(t *testing.T) {
	for _, live := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) { // fails if a goroutine is left
			cause := errors.New("interrupted")
			ctx, cancel := context.WithCancelCause(t.Context())
			s, r := newSynthetic(0), &recorder{}
			s.info.Live = live
			s.cost = time.Millisecond
			p, err := New(s, &stub{cost: 300 * time.Millisecond}, []Sink{r}, DefaultConfig())
			if err != nil {
				t.Fatal(err)
			}
			time.AfterFunc(time.Second, func() { cancel(cause) })
			if err := p.Run(ctx); !errors.Is(err, cause) || r.closed != 1 || len(r.index) == 0 {
				t.Errorf("%v, closed %d, %d frames", err, r.closed, len(r.index))
			}
		})
	}
}

// TestLive: 30 frames per second into a detector that takes 400 ms, for a
// minute of virtual time.
func TestLive(t *testing.T) {
	for _, c := range []struct {
		name           string
		detect, encode time.Duration
		every          int // with tracks
		least          int // frames shown
	}{
		{"slow detector", 400 * time.Millisecond, 0, 1, 145},
		{"slow sink", 0, 400 * time.Millisecond, 1, 145},
		{"both", 400 * time.Millisecond, 400 * time.Millisecond, 1, 140},
		{"tracks continued", 400 * time.Millisecond, 10 * time.Millisecond, 4, 1750},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, r := newSynthetic(1800), &recorder{cost: c.encode}
				s.info.Live, s.info.FPS = true, 30
				st, err := run(t, s, &stub{cost: c.detect}, r, func(cfg *Config) {
					if c.every > 1 {
						tr := track.DefaultConfig()
						cfg.Every, cfg.Track = c.every, &tr
					}
				})
				if err != nil {
					t.Fatal(err)
				}
				oldest := slices.Max(r.ages)
				t.Logf("%d frames shown, %d dropped, %d looked at, the oldest %v", st.Done, st.Dropped, st.Detected, oldest)
				if oldest > time.Second || st.MaxAge != oldest {
					t.Errorf("the oldest frame shown was %v old (%v in the statistics)", oldest, st.MaxAge)
				}
				if len(r.index) < c.least || st.Done+st.Dropped != 1800 || !slices.IsSorted(r.index) {
					t.Errorf("%d frames shown, %d dropped", st.Done, st.Dropped)
				}
				if c.every > 1 {
					// The box moves on with what it follows although each look comes late.
					last := r.objects[len(r.objects)-1]
					want := moving(r.index[len(r.index)-1])
					if len(last) != 1 || math.Abs(float64(last[0].Box.X0-want.X0)) > 12 { // six frames; a look is 12 to 16 late
						t.Errorf("the last frame shows %+v, want about %v", last, want)
					}
				}
			})
		})
	}
}

func TestEveryFrameOfALiveSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, r := newSynthetic(60), &recorder{}
		s.info.Live, s.info.FPS = true, 30
		run(t, s, &stub{cost: 100 * time.Millisecond}, r, func(c *Config) { c.Order = All })
		if len(r.index) != 60 {
			t.Errorf("%d frames", len(r.index))
		}
	})
}

// TestOverlap: the pipeline runs at 95 % of the rate of its slowest stage, in
// virtual time, which has no noise; BenchmarkOverlap measures it in real time.
func TestOverlap(t *testing.T) {
	const n = 2000 // filling and draining the pipeline takes the time of some forty frames
	for _, c := range []struct{ decode, detect, encode time.Duration }{
		{10, 40, 10}, {40, 10, 10}, {10, 10, 40}, {40, 40, 40},
	} {
		for _, batch := range []int{1, 4} {
			for _, every := range []int{1, 5} {
				synctest.Test(t, func(t *testing.T) {
					s, r := newSynthetic(n), &recorder{cost: c.encode * time.Millisecond, draws: true}
					s.cost = c.decode * time.Millisecond
					d := &perImage{c.detect * time.Millisecond}
					st, err := run(t, s, d, r, func(cfg *Config) {
						cfg.Batch = batch
						if every > 1 {
							tr := track.DefaultConfig()
							cfg.Every, cfg.Track = every, &tr
						}
					})
					if err != nil {
						t.Fatal(err)
					}
					detect := c.detect / time.Duration(every) // of each frame, on average
					slowest := time.Duration(n) * max(c.decode, detect, c.encode) * time.Millisecond
					if share := float64(slowest) / float64(st.Elapsed); share < 0.95 {
						t.Errorf("costs %v, batches of %d, every %d: %.1f %% of the slowest stage's rate", c, batch, every, 100*share)
					}
				})
			}
		}
	}
}

// perImage is a detector whose cost grows with the batch.
type perImage struct{ cost time.Duration }

func (d *perImage) Detect(_ context.Context, images []image.Image) ([][]det.Detection, error) {
	time.Sleep(d.cost * time.Duration(len(images)))
	return make([][]det.Detection, len(images)), nil
}

// BenchmarkOverlap reports the pipeline's rate over that of its slowest stage
// alone, in real time, with stages of known cost.
func BenchmarkOverlap(b *testing.B) {
	for _, c := range []struct{ decode, detect, encode time.Duration }{{4, 10, 4}, {10, 4, 4}, {4, 4, 10}, {8, 10, 8}} {
		b.Run(fmt.Sprintf("decode=%dms,detect=%dms,encode=%dms", c.decode, c.detect, c.encode), func(b *testing.B) {
			s, r := newSynthetic(b.N), &recorder{cost: c.encode * time.Millisecond}
			s.cost = c.decode * time.Millisecond
			p, _ := New(s, &perImage{c.detect * time.Millisecond}, []Sink{r}, DefaultConfig())
			if err := p.Run(b.Context()); err != nil {
				b.Fatal(err)
			}
			st := p.Stats()
			rate := float64(st.Done) / st.Elapsed.Seconds()
			slowest := math.Inf(1)
			for _, stage := range st.Stages {
				if stage.Frames > 0 && stage.Busy > 0 {
					slowest = min(slowest, stage.FPS())
				}
			}
			b.ReportMetric(100*rate/slowest, "%of-slowest")
		})
	}
}

// TestMemory: 10,000 frames of 0.9 MB take the memory of a few.
func TestMemory(t *testing.T) {
	const n = 10_000
	s, r := newSynthetic(n), &counter{}
	s.info.Width, s.info.Height = 640, 360
	p, err := New(s, &stub{}, []Sink{r}, DefaultConfig())
	if err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	if err := p.Run(t.Context()); err != nil || r.n != n {
		t.Fatal(err, r.n)
	}
	runtime.ReadMemStats(&after)
	// All that was ever allocated: the queues' pictures (twenty at most) and a
	// kilobyte of small things per frame.
	if total := after.TotalAlloc - before.TotalAlloc; total > 20*4*640*360+n*2048 {
		t.Errorf("%d MB were allocated for %d frames", total>>20, n)
	}
}

type counter struct{ n int }

func (c *counter) Draws() bool { return true }

func (c *counter) Write(context.Context, *Result) error { c.n++; return nil }

func (c *counter) Close() error { return nil }

func TestConfigIsChecked(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"every 0":        func(c *Config) { c.Every = 0 },
		"rate":           func(c *Config) { c.FPS = math.NaN() },
		"end":            func(c *Config) { c.Start, c.End = 2, 1 },
		"order":          func(c *Config) { c.Order = "oldest" },
		"batch":          func(c *Config) { c.Batch = 0 },
		"negative start": func(c *Config) { c.Start = -1 },
		"region":         func(c *Config) { c.ROI = image.Rect(-1, 0, 3, 3) },
		"tracker":        func(c *Config) { c.Track = &track.Config{} },
	} {
		c := DefaultConfig()
		change(&c)
		if c.Validate() == nil {
			t.Errorf("%s passed", name)
		}
	}
	if err := DefaultConfig().Validate(); err != nil {
		t.Error(err)
	}
}
