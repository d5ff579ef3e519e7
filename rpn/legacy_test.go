package rpn_test

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"resdet/internal/box"
	"resdet/internal/det"
	"resdet/rpn"
)

// Proposals of a Caffe model are those of py-faster-rcnn's ProposalLayer by
// its definition: every anchor decoded with +1, clipped to the last pixel, the
// small ones (16 original pixels) dropped, then the best 6000, then suppression
// with +1, then the best 300.
func TestProposeLegacy(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	cfg := rpn.DefaultConfig(rpn.Anchors{Sizes: [][]float32{{32, 64}}, Ratios: []float32{0.5, 1, 2}, Bases: []float32{16}})
	cfg.PreNMS, cfg.PostNMS, cfg.MinSize, cfg.Boxes = 150, 40, 16, box.Caffe
	l := level(r, cfg.Anchors, 0, 1, 10, 13, 16)
	view := det.View{Width: 104, Height: 80, ScaledWidth: 208, ScaledHeight: 160} // scaled by 2
	order := make([]int, l.Grid.Len())
	per, area := 6, 130
	logit := func(i int) float32 { return l.Logits[(i%per)*area+i/per] }
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(logit(b), logit(a)) })
	var best []rpn.Proposal
	small := 0
	for _, i := range order {
		d := func(k int) float64 { return float64(l.Deltas[(4*(i%per)+k)*area+i/per]) }
		a := l.Grid.At(i)
		w, h := float64(a.X1-a.X0)+1, float64(a.Y1-a.Y0)+1
		cx, cy := float64(a.X0)+0.5*w+d(0)*w, float64(a.Y0)+0.5*h+d(1)*h
		w, h = w*math.Exp(d(2)), h*math.Exp(d(3))
		clip := func(v, limit float64) float32 { return float32(min(max(v, 0), limit-1)) }
		b := box.Box{X0: clip(cx-w/2, 208), Y0: clip(cy-h/2, 160), X1: clip(cx+w/2, 208), Y1: clip(cy+h/2, 160)}
		if b.X1-b.X0+1 < 32 || b.Y1-b.Y0+1 < 32 {
			small++
			continue
		}
		if len(best) < cfg.PreNMS {
			best = append(best, rpn.Proposal{Box: b, Score: float32(1 / (1 + math.Exp(-float64(logit(i)))))})
		}
	}
	if small < 50 {
		t.Fatalf("only %d of %d anchors are small", small, len(order))
	}
	var want []rpn.Proposal
	for _, b := range best {
		if len(want) < cfg.PostNMS && !slices.ContainsFunc(want, func(k rpn.Proposal) bool { return box.Caffe.IoU(k.Box, b.Box) > cfg.NMS }) {
			want = append(want, b)
		}
	}
	got := rpn.NewProposer(cfg).Propose(nil, []rpn.Level{l}, []rpn.View{view})
	if len(got) != len(want) {
		t.Fatalf("%d proposals, want %d", len(got), len(want))
	}
	for i := range want {
		g, w := got[i], want[i]
		for _, d := range []float32{g.Box.X0 - w.Box.X0, g.Box.Y0 - w.Box.Y0, g.Box.X1 - w.Box.X1, g.Box.Y1 - w.Box.Y1, g.Score - w.Score} {
			if math.Abs(float64(d)) > 1e-3 {
				t.Fatalf("proposal %d is %v, want %v", i, g, w)
			}
		}
	}
}
