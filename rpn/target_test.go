package rpn_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"resdet/internal/box"
	"resdet/internal/det"
	"resdet/rpn"
)

// A map of 10×15 cells, 16 pixels apart, with anchors of 32 and 64 pixels.
func targetGrid(t *testing.T) []rpn.Grid {
	t.Helper()
	a := rpn.Anchors{Sizes: [][]float32{{32, 64}}, Ratios: []float32{0.5, 1, 2}, Round: true}
	return []rpn.Grid{a.Grid(0, 10, 15, 160, 240, 16)}
}

var (
	targetView = det.View{Width: 240, Height: 160, ScaledWidth: 240, ScaledHeight: 160}
	objects    = []det.Truth{
		{Class: 1, Box: box.Box{X0: 30, Y0: 40, X1: 95, Y1: 100}},
		{Class: 0, Box: box.Box{X0: 120, Y0: 20, X1: 150, Y1: 60}},
	}
)

func target(t *testing.T, cfg rpn.TargetConfig, truths []det.Truth) []rpn.Target {
	t.Helper()
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 2))
	return rpn.NewTargeter(cfg, rpn.Config{}).Targets(nil, targetGrid(t), []det.View{targetView}, [][]det.Truth{truths}, r)
}

// anchorOf finds a target's anchor by its place in the logits [1 A H W].
func anchorOf(g rpn.Grid, x rpn.Target) rpn.Box {
	area := g.H * g.W
	return g.At(x.Logit%area*len(g.Cell) + x.Logit/area)
}

// Batches are full, at most half positive, without repetition; positives lead
// to the object that they overlap most, and negatives overlap none.
func TestTargets(t *testing.T) {
	g := targetGrid(t)[0]
	cfg := rpn.DefaultTargetConfig()
	cfg.Batch, cfg.Low = 40, 0.3
	seen := map[int]bool{}
	positives := 0
	for _, x := range target(t, cfg, objects) {
		if seen[x.Logit] {
			t.Errorf("logit %d stands twice", x.Logit)
		}
		seen[x.Logit] = true
		area := g.H * g.W
		if a := x.Logit / area; x.Delta != 4*a*area+x.Logit%area || x.Step != area {
			t.Errorf("logit %d has deltas at %d, %d apart", x.Logit, x.Delta, x.Step)
		}
		anchor := anchorOf(g, x)
		best, which := float32(0), 0
		for i, o := range objects {
			if v := box.IoU(anchor, o.Box); v > best {
				best, which = v, i
			}
		}
		switch {
		case !x.Positive && best >= cfg.Low:
			t.Errorf("%v is negative at an overlap of %v", anchor, best)
		case x.Positive:
			positives++
			coder := box.Coder{Weights: [4]float32{1, 1, 1, 1}}
			got, want := coder.Decode(anchor, x.Want), objects[which].Box
			if d := max(math.Abs(float64(got.X0-want.X0)), math.Abs(float64(got.Y1-want.Y1))); d > 1e-3 {
				t.Errorf("%v leads to %v, want %v", anchor, got, want)
			}
		}
	}
	if len(seen) != cfg.Batch || positives == 0 || positives > cfg.Batch/2 {
		t.Errorf("%d of %d targets are positive, want %d in all and at most half", positives, len(seen), cfg.Batch)
	}
}

// Every object has a positive anchor, however small its overlap.
func TestEveryObjectHasAnAnchor(t *testing.T) {
	small := []det.Truth{{Box: box.Box{X0: 100, Y0: 100, X1: 104, Y1: 103}}}
	if !slices.ContainsFunc(target(t, rpn.DefaultTargetConfig(), small), func(x rpn.Target) bool { return x.Positive }) {
		t.Error("a small object has no positive anchor")
	}
}

func TestImageWithoutObjects(t *testing.T) {
	got := target(t, rpn.DefaultTargetConfig(), nil)
	if len(got) != 256 || slices.ContainsFunc(got, func(x rpn.Target) bool { return x.Positive }) {
		t.Errorf("%d targets, some positive?", len(got))
	}
}

func TestDropCrossing(t *testing.T) {
	g := targetGrid(t)[0]
	cfg := rpn.DefaultTargetConfig()
	cfg.Batch = 100_000
	all := target(t, cfg, objects)
	cfg.DropCrossing = true
	inside := target(t, cfg, objects)
	if len(inside) == 0 || len(inside) >= len(all) {
		t.Fatalf("%d anchors of %d are left", len(inside), len(all))
	}
	for _, x := range inside {
		if a := anchorOf(g, x); a.X0 < 0 || a.Y0 < 0 || a.X1 > 240 || a.Y1 > 160 {
			t.Errorf("%v crosses the border", a)
		}
	}
}

// Anchors in an ignored region are no negatives, and it has no positives.
func TestIgnoredObjects(t *testing.T) {
	g := targetGrid(t)[0]
	crowd := det.Truth{Box: box.Box{X0: 0, Y0: 0, X1: 120, Y1: 160}, Ignore: true}
	cfg := rpn.DefaultTargetConfig()
	cfg.Batch = 100_000
	got := target(t, cfg, []det.Truth{crowd, objects[1]})
	if len(got) == 0 {
		t.Fatal("no targets")
	}
	for _, x := range got {
		if a := anchorOf(g, x); !x.Positive && a.CoveredBy([]box.Box{crowd.Box}) {
			t.Errorf("%v is a negative", a)
		} else if x.Positive && box.IoU(a, objects[1].Box) == 0 {
			t.Errorf("%v is a positive", a)
		}
	}
}

// The same generator draws the same targets, another one others.
func TestTargetsAreSeeded(t *testing.T) {
	draw := func(seed uint64) []rpn.Target {
		return rpn.NewTargeter(rpn.DefaultTargetConfig(), rpn.Config{}).Targets(nil, targetGrid(t), []det.View{targetView}, [][]det.Truth{objects}, rand.New(rand.NewPCG(seed, 0)))
	}
	if !slices.Equal(draw(1), draw(1)) {
		t.Error("one seed draws different targets")
	}
	if slices.Equal(draw(1), draw(2)) {
		t.Error("two seeds draw the same targets")
	}
}

func TestTargetConfigValidate(t *testing.T) {
	for name, change := range map[string]func(*rpn.TargetConfig){
		"batch":    func(c *rpn.TargetConfig) { c.Batch = 0 },
		"fraction": func(c *rpn.TargetConfig) { c.Fraction = 1.5 },
		"low":      func(c *rpn.TargetConfig) { c.Low = 0.8 },
		"high":     func(c *rpn.TargetConfig) { c.High = 1.1 },
	} {
		c := rpn.DefaultTargetConfig()
		change(&c)
		if c.Validate() == nil {
			t.Errorf("%s: %+v is valid", name, c)
		}
	}
}
