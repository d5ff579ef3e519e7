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

// level returns a level with random outputs for n images; logits repeat, so
// that ties occur.
func level(r *rand.Rand, a rpn.Anchors, index, n, h, w, stride int) rpn.Level {
	l := rpn.Level{Grid: a.Grid(index, h, w, h*stride, w*stride, stride)}
	for range n * l.Grid.Len() {
		l.Logits = append(l.Logits, float32(r.IntN(4000)-2000)/500)
	}
	for range 4 * n * l.Grid.Len() {
		l.Deltas = append(l.Deltas, float32(r.NormFloat64())/4)
	}
	return l
}

// naive is the same by the definition: decode every anchor, sort all.
func naive(cfg rpn.Config, levels []rpn.Level, image int, view det.View) []rpn.Proposal {
	type scored struct {
		box   box.Box
		score float32
	}
	var all []scored
	for _, l := range levels {
		g := l.Grid
		per, area := len(g.Cell), g.H*g.W
		order := make([]int, g.Len())
		logit := func(i int) float32 { return l.Logits[image*per*area+(i%per)*area+i/per] }
		for i := range order {
			order[i] = i
		}
		slices.SortStableFunc(order, func(a, b int) int {
			if logit(a) > logit(b) {
				return -1
			} else if logit(a) < logit(b) {
				return 1
			}
			return 0
		})
		var kept []scored
		for _, i := range order[:min(cfg.PreNMS, len(order))] {
			d := func(k int) float32 { return l.Deltas[image*4*per*area+(4*(i%per)+k)*area+i/per] }
			b := box.Coder{Weights: [4]float32{1, 1, 1, 1}}.Decode(g.At(i), box.Delta{DX: d(0), DY: d(1), DW: d(2), DH: d(3)})
			b = b.Clip(float32(view.ScaledWidth), float32(view.ScaledHeight))
			if b.Width() < cfg.MinSize || b.Height() < cfg.MinSize {
				continue
			}
			s := float32(1 / (1 + math.Exp(-float64(logit(i)))))
			if !slices.ContainsFunc(kept, func(k scored) bool { return box.IoU(k.box, b) > cfg.NMS }) {
				kept = append(kept, scored{b, s})
			}
		}
		all = append(all, kept...)
	}
	slices.SortStableFunc(all, func(a, b scored) int {
		if a.score > b.score {
			return -1
		} else if a.score < b.score {
			return 1
		}
		return 0
	})
	var out []rpn.Proposal
	for _, s := range all[:min(cfg.PostNMS, len(all))] {
		out = append(out, rpn.Proposal{Image: image, Box: s.box, Score: s.score})
	}
	return out
}

func TestProposeEqualsDefinition(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	a := rpn.Anchors{Sizes: [][]float32{{16, 24}, {32, 48}}, Ratios: []float32{0.5, 1, 2}, Round: true}
	cfg := rpn.DefaultConfig(a)
	views := []det.View{{Width: 160, Height: 96, ScaledWidth: 160, ScaledHeight: 96}, {Width: 300, Height: 200, ScaledWidth: 150, ScaledHeight: 100}}
	for _, n := range []struct{ pre, post int }{{1000, 1000}, {300, 50}, {7, 3}} {
		cfg.PreNMS, cfg.PostNMS = n.pre, n.post
		p := rpn.NewProposer(cfg)
		for range 3 {
			levels := []rpn.Level{level(r, a, 0, 2, 13, 20, 8), level(r, a, 1, 2, 7, 10, 16)}
			got := p.Propose(nil, levels, views)
			want := append(naive(cfg, levels, 0, views[0]), naive(cfg, levels, 1, views[1])...)
			if !slices.Equal(got, want) {
				t.Fatalf("pre %d, post %d: %d proposals differ from the %d of the definition", n.pre, n.post, len(got), len(want))
			}
		}
	}
}

// A broken model's NaN and infinities make no proposals and no panic.
func TestProposeNaN(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	a := rpn.Anchors{Sizes: [][]float32{{32}}, Ratios: []float32{1}}
	cfg := rpn.DefaultConfig(a)
	cfg.PreNMS = 20
	l := level(r, a, 0, 1, 6, 6, 16)
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	for i := range l.Logits {
		switch i % 4 {
		case 0:
			l.Logits[i] = nan
		case 1:
			l.Deltas[i] = inf
		case 2:
			l.Deltas[i] = nan
		}
	}
	for _, p := range rpn.NewProposer(cfg).Propose(nil, []rpn.Level{l}, []det.View{{Width: 96, Height: 96, ScaledWidth: 96, ScaledHeight: 96}}) {
		if !p.Box.Finite() || p.Score != p.Score {
			t.Errorf("proposal %+v", p)
		}
	}
}

func TestProposeAllocatesNothing(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	a := rpn.Anchors{Sizes: [][]float32{{32}}, Ratios: []float32{0.5, 1, 2}}
	cfg := rpn.DefaultConfig(a)
	cfg.PreNMS, cfg.PostNMS = 500, 100
	levels := []rpn.Level{level(r, a, 0, 1, 30, 40, 16)}
	views := []det.View{{Width: 640, Height: 480, ScaledWidth: 640, ScaledHeight: 480}}
	p := rpn.NewProposer(cfg)
	dst := p.Propose(nil, levels, views)
	if n := testing.AllocsPerRun(10, func() { dst = p.Propose(dst[:0], levels, views) }); n > 0 {
		t.Errorf("%v allocations a call", n)
	}
}

// BenchmarkPropose is the pyramid of an 800×1344 image and C4 at 600×1000.
func BenchmarkPropose(b *testing.B) {
	r := rand.New(rand.NewPCG(7, 8))
	views := []det.View{{Width: 1333, Height: 800, ScaledWidth: 1333, ScaledHeight: 800}}
	b.Run("fpn", func(b *testing.B) {
		a := rpn.Anchors{Sizes: [][]float32{{32}, {64}, {128}, {256}, {512}}, Ratios: []float32{0.5, 1, 2}, Round: true}
		var levels []rpn.Level
		for i, s := range []int{4, 8, 16, 32, 64} {
			levels = append(levels, level(r, a, i, 1, 800/s, 1344/s, s))
		}
		bench(b, rpn.DefaultConfig(a), levels, views)
	})
	b.Run("c4", func(b *testing.B) {
		a := rpn.Anchors{Sizes: [][]float32{{32, 64, 128, 256, 512}}, Ratios: []float32{0.5, 1, 2}, Round: true}
		cfg := rpn.DefaultConfig(a)
		cfg.PreNMS, cfg.PostNMS = 6000, 300
		bench(b, cfg, []rpn.Level{level(r, a, 0, 1, 38, 64, 16)}, views)
	})
}

func bench(b *testing.B, cfg rpn.Config, levels []rpn.Level, views []det.View) {
	p := rpn.NewProposer(cfg)
	var dst []rpn.Proposal
	b.ReportAllocs()
	for b.Loop() {
		dst = p.Propose(dst[:0], levels, views)
	}
}
