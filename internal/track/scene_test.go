package track_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"resdet/eval"
	"resdet/internal/track"
)

// actor is an object of a generated scene: it moves in a straight line at an
// even speed and is hidden in some frames.
type actor struct {
	x, y, w, h  float64 // centre and size in frame 1
	vx, vy      float64 // pixels per frame
	first, last int
	hidden      [][2]int // frames from, to
}

// faults are what a detector does to a scene.
type faults struct {
	noise  float64 // deviation of each corner, as a share of the size
	missed float64 // share of the boxes not found at all
	faint  float64 // share of the boxes that score low
	ghosts float64 // boxes per frame where nothing is
}

// scene returns the ground truth and the detections of each frame. Hidden
// boxes are neither: nothing of them can be seen.
func scene(rng *rand.Rand, actors []actor, frames int, f faults) (gt []eval.MOTRow, dets [][]track.Detection) {
	dets = make([][]track.Detection, frames)
	for n := 1; n <= frames; n++ {
		for id, a := range actors {
			seen := a.first <= n && n <= a.last
			for _, h := range a.hidden {
				seen = seen && (n < h[0] || n > h[1])
			}
			if !seen {
				continue
			}
			x, y := a.x+a.vx*float64(n-1), a.y+a.vy*float64(n-1)
			gt = append(gt, eval.MOTRow{Frame: n, ID: id + 1, Box: eval.Box{X: x - a.w/2, Y: y - a.h/2, W: a.w, H: a.h}, Confidence: 1, Class: 1})
			if rng.Float64() < f.missed {
				continue
			}
			score := 0.8 + 0.2*rng.Float64()
			if rng.Float64() < f.faint {
				score = 0.15 + 0.3*rng.Float64()
			}
			j := func(size float64) float64 { return size * f.noise * rng.NormFloat64() }
			dets[n-1] = append(dets[n-1], track.Detection{Score: score, Box: track.Box{
				X0: x - a.w/2 + j(a.w), Y0: y - a.h/2 + j(a.h), X1: x + a.w/2 + j(a.w), Y1: y + a.h/2 + j(a.h),
			}})
		}
		for rng.Float64() < f.ghosts {
			x, y := 1280*rng.Float64(), 720*rng.Float64()
			dets[n-1] = append(dets[n-1], track.Detection{Score: 0.3 + 0.4*rng.Float64(), Box: track.Box{X0: x, Y0: y, X1: x + 50, Y1: y + 110}})
		}
		rng.Shuffle(len(dets[n-1]), func(i, j int) { dets[n-1][i], dets[n-1][j] = dets[n-1][j], dets[n-1][i] })
	}
	return gt, dets
}

func follow(dets [][]track.Detection) (pred []eval.MOTRow) {
	tr := track.New(track.DefaultConfig())
	for n, d := range dets {
		for _, k := range tr.Update(d) {
			pred = append(pred, eval.MOTRow{Frame: n + 1, ID: k.ID, Box: eval.Box{X: k.Box.X0, Y: k.Box.Y0, W: k.Box.X1 - k.Box.X0, H: k.Box.Y1 - k.Box.Y0}, Confidence: k.Score})
		}
	}
	return pred
}

// TestScenes holds identities on generated scenes to an IDF1 of 0.95, over
// several seeds each.
func TestScenes(t *testing.T) {
	const frames = 150
	walk := func(y, vx float64) actor { // across the picture, at one height
		x := 40.0
		if vx < 0 {
			x = 1240
		}
		return actor{x: x, y: y, w: 50, h: 120, vx: vx, first: 1, last: frames}
	}
	scenes := map[string]struct {
		actors func(rng *rand.Rand) []actor
		faults faults
	}{
		"straight": {func(*rand.Rand) []actor { return []actor{walk(100, 4), walk(300, 6), walk(500, -5)} }, faults{noise: 0.02}},
		"crossing": {func(*rand.Rand) []actor { // pairs that walk through one another
			return []actor{walk(200, 7), walk(215, -7), walk(480, 6), walk(470, -8)}
		}, faults{noise: 0.02}},
		"occlusion": {func(rng *rand.Rand) []actor { // each hidden up to 15 frames, twice
			var as []actor
			for i := range 6 {
				a := walk(70+110*float64(i), 3+rng.Float64()*3)
				for _, from := range []int{30 + rng.IntN(20), 90 + rng.IntN(20)} {
					a.hidden = append(a.hidden, [2]int{from, from + rng.IntN(15)})
				}
				as = append(as, a)
			}
			return as
		}, faults{noise: 0.02}},
		"entering and leaving": {func(rng *rand.Rand) []actor {
			var as []actor
			for i := range 12 {
				a := walk(60+55*float64(i), 5)
				a.first = 1 + rng.IntN(80)
				a.last = a.first + 40 + rng.IntN(30)
				a.x -= a.vx * float64(a.first-1) // at the edge when it enters
				as = append(as, a)
			}
			return as
		}, faults{noise: 0.02}},
		"a poor detector": {func(*rand.Rand) []actor {
			return []actor{walk(100, 4), walk(260, -5), walk(420, 6), walk(600, -4)}
		}, faults{noise: 0.03, missed: 0.05, faint: 0.15, ghosts: 0.2}},
		"all together": {func(rng *rand.Rand) []actor {
			a, b, c := walk(150, 6), walk(165, -6), walk(450, 5)
			c.hidden = [][2]int{{60, 74}}
			d := walk(600, -7)
			d.first, d.last = 20, 120
			return []actor{a, b, c, d}
		}, faults{noise: 0.02, missed: 0.02, faint: 0.1, ghosts: 0.1}},
	}
	for name, s := range scenes {
		for seed := range uint64(5) {
			t.Run(fmt.Sprintf("%s/%d", name, seed), func(t *testing.T) {
				rng := rand.New(rand.NewPCG(seed, 8))
				gt, dets := scene(rng, s.actors(rng), frames, s.faults)
				res, err := eval.MOT(gt, follow(dets), eval.MOTOptions{})
				if err != nil {
					t.Fatal(err)
				}
				if !(res.IDF1 >= 0.95) {
					t.Errorf("IDF1 %.3f, want 0.95 (MOTA %.3f, HOTA %.3f, %d switches, %d misses, %d false)", res.IDF1, res.MOTA, res.HOTA.HOTA, res.Switches, res.Misses, res.FalsePositives)
				}
			})
		}
	}
}

// TestSecondAssociation proves that faint boxes keep a track alive that high
// scores alone would lose, and that they start none.
func TestSecondAssociation(t *testing.T) {
	tr := track.New(track.DefaultConfig())
	at := func(n int, score float64) []track.Detection {
		x := float64(10 * n)
		return []track.Detection{{Box: track.Box{X0: x, Y0: 50, X1: x + 60, Y1: 200}, Score: score}}
	}
	for n := range 60 {
		score := 0.9
		if n >= 5 && n < 50 { // longer than the buffer of 30 frames
			score = 0.3
		}
		got := tr.Update(at(n, score))
		if len(got) != 1 || got[0].ID != 1 || got[0].Score != score {
			t.Fatalf("frame %d: %+v", n+1, got)
		}
	}
	tr = track.New(track.DefaultConfig())
	for n := range 10 {
		if got := tr.Update(at(n, 0.45)); len(got) != 0 {
			t.Fatalf("frame %d: a faint box started a track: %+v", n+1, got)
		}
	}
}

// TestBuffer walks the end of a lost track's time: the last frame that it can
// be found in is maxLost + 2 after its last, and found there it is dropped the
// next time that it is lost.
func TestBuffer(t *testing.T) {
	still := []track.Detection{{Box: track.Box{X0: 100, Y0: 100, X1: 160, Y1: 220}, Score: 0.9}}
	for _, c := range []struct {
		cfg     track.Config
		maxLost int
	}{
		{track.DefaultConfig(), 30},
		{track.Config{TrackThreshold: 0.5, MatchThreshold: 0.8, Buffer: 25, FrameRate: 10}, 8},
		{track.Config{TrackThreshold: 0.5, MatchThreshold: 0.8, Buffer: 1, FrameRate: 30}, 1},
	} {
		for gap := c.maxLost; gap <= c.maxLost+2; gap++ { // empty frames between
			tr := track.New(c.cfg)
			tr.Update(still)
			tr.Update(still)
			for range gap {
				tr.Update(nil)
			}
			tr.Update(still)
			got := tr.Update(still)
			if len(got) != 1 {
				t.Fatalf("buffer %d, gap %d: %+v", c.maxLost, gap, got)
			}
			if same := got[0].ID == 1; same != (gap <= c.maxLost+1) {
				t.Errorf("buffer %d, %d empty frames: found again: %v", c.maxLost, gap, same)
			}
			tr.Update(nil)
			if kept := len(tr.Lost()) == 1; kept != (gap != c.maxLost+1) {
				t.Errorf("buffer %d, %d empty frames, lost again: on the list: %v", c.maxLost, gap, kept)
			}
		}
	}
}

// TestUnsoundDetections proves that what is no box neither panics nor changes
// what happens to the boxes beside it.
func TestUnsoundDetections(t *testing.T) {
	nan, inf := math.NaN(), math.Inf(1)
	bad := []track.Detection{
		{Box: track.Box{X0: nan, Y0: 0, X1: 1, Y1: 1}, Score: 0.9},
		{Box: track.Box{X0: 0, Y0: -inf, X1: 1, Y1: inf}, Score: 0.9},
		{Box: track.Box{X0: 0, Y0: 0, X1: 1e300, Y1: 1e300}, Score: 0.9},
		{Box: track.Box{X0: 5, Y0: 5, X1: 9, Y1: 5}, Score: 0.9},
		{Box: track.Box{X0: 9, Y0: 9, X1: 5, Y1: 5}, Score: 0.9},
		{Box: track.Box{X0: 0, Y0: 0, X1: 9, Y1: 9}, Score: nan},
		{Box: track.Box{X0: 0, Y0: 0, X1: 9, Y1: 9}, Score: inf},
	}
	tr := track.New(track.DefaultConfig())
	for n := range 5 {
		x := float64(100 + n)
		got := tr.Update(append(bad, track.Detection{Box: track.Box{X0: x, Y0: 100, X1: x + 50, Y1: 200}, Score: 0.9}))
		if len(got) != 1 || got[0].ID != 1 || got[0].Detection != len(bad) {
			t.Fatalf("frame %d: %+v", n+1, got)
		}
	}
	if got := tr.Update(nil); len(got) != 0 {
		t.Errorf("empty frame: %+v", got)
	}
	// A box without width is one pixel wide for ByteTrack.
	thin := []track.Detection{{Box: track.Box{X0: 5, Y0: 5, X1: 5, Y1: 90}, Score: 0.9}}
	tr = track.New(track.DefaultConfig())
	tr.Update(thin)
	if got := tr.Update(thin); len(got) != 1 {
		t.Errorf("a thin box: %+v", got)
	}
}

func TestValidate(t *testing.T) {
	if err := track.DefaultConfig().Validate(); err != nil {
		t.Error(err)
	}
	for _, change := range []func(*track.Config){
		func(c *track.Config) { c.TrackThreshold = 1.5 },
		func(c *track.Config) { c.TrackThreshold = math.NaN() },
		func(c *track.Config) { c.MatchThreshold = 0 },
		func(c *track.Config) { c.Buffer = -1 },
		func(c *track.Config) { c.Buffer = 1 << 40 },
		func(c *track.Config) { c.FrameRate = 0 },
		func(c *track.Config) { c.FrameRate = math.Inf(1) },
	} {
		c := track.DefaultConfig()
		change(&c)
		if c.Validate() == nil {
			t.Errorf("%+v passes", c)
		}
	}
}

func BenchmarkUpdate(b *testing.B) {
	rng := rand.New(rand.NewPCG(3, 4))
	var actors []actor
	for i := range 100 {
		actors = append(actors, actor{
			x: 100 + 120*float64(i%10) + 20*rng.Float64(), y: 80 + 60*float64(i/10), w: 40, h: 90,
			vx: rng.NormFloat64() / 5, vy: rng.NormFloat64() / 5, first: 1, last: 1000,
		})
	}
	_, dets := scene(rng, actors, 1000, faults{noise: 0.03, missed: 0.05, faint: 0.1, ghosts: 0.3})
	b.ReportAllocs()
	for b.Loop() {
		tr := track.New(track.DefaultConfig())
		for _, d := range dets {
			tr.Update(d)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1000, "ns/frame")
}
