package roihead_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"resdet/internal/box"
	"resdet/internal/det"
	"resdet/roihead"
)

type outputs struct {
	proposals      []det.Proposal
	logits, deltas []float32
}

func random(r *rand.Rand, regions, classes int, w, h float32) (o outputs) {
	for range regions {
		x, y := r.Float32()*w*0.8, r.Float32()*h*0.8
		o.proposals = append(o.proposals, det.Proposal{Box: box.Box{X0: x, Y0: y, X1: x + 5 + r.Float32()*w/3, Y1: y + 5 + r.Float32()*h/3}})
		for range 1 + classes {
			o.logits = append(o.logits, float32(r.NormFloat64())*2)
			for range 4 {
				o.deltas = append(o.deltas, float32(r.NormFloat64()))
			}
		}
	}
	return o
}

// naive is the same by the definition.
func naive(cfg roihead.Config, classes int, view det.View, o outputs, s roihead.Settings) []det.Detection {
	var all []det.Detection
	for i, p := range o.proposals {
		row := o.logits[i*(1+classes):][:1+classes]
		var sum float64
		for _, v := range row {
			sum += math.Exp(float64(v))
		}
		for k := range classes {
			score := float32(math.Exp(float64(row[1+k])) / sum)
			if score <= s.Score || s.Only != nil && !slices.Contains(s.Only, k) {
				continue
			}
			d := o.deltas[4*(i*(1+classes)+1+k):]
			b := box.Coder{Weights: cfg.BoxWeights}.Decode(p.Box, box.Delta{DX: d[0], DY: d[1], DW: d[2], DH: d[3]})
			all = append(all, det.Detection{Class: k, Score: score, Box: b.Clip(float32(view.ScaledWidth), float32(view.ScaledHeight))})
		}
	}
	slices.SortStableFunc(all, func(a, b det.Detection) int {
		if a.Score > b.Score {
			return -1
		}
		return 1
	})
	var kept []det.Detection
	for _, d := range all {
		if !slices.ContainsFunc(kept, func(k det.Detection) bool { return k.Class == d.Class && box.IoU(k.Box, d.Box) > s.NMS }) {
			kept = append(kept, d)
		}
	}
	return kept[:min(len(kept), s.Max)]
}

func TestDetectEqualsDefinition(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	cfg := roihead.DefaultConfig()
	view := det.View{Width: 200, Height: 120, ScaledWidth: 200, ScaledHeight: 120}
	d := roihead.NewDetector(cfg, 5)
	for _, s := range []roihead.Settings{cfg.Settings(), {Score: 0.3, NMS: 0.2, Max: 7}, {Score: 0.1, NMS: 0.9, Max: 100, Only: []int{3, 1}}, {Score: 0, NMS: 0.5, Max: 1, Only: []int{}}} {
		o := random(r, 80, 5, 200, 120)
		got := d.Detect(nil, view, o.proposals, o.logits, o.deltas, s)
		want := naive(cfg, 5, view, o, s)
		if len(got) != len(want) {
			t.Fatalf("%+v: %d detections, want %d", s, len(got), len(want))
		}
		for i := range got {
			// The definition's softmax is in float64.
			if got[i].Class != want[i].Class || math.Abs(float64(got[i].Score-want[i].Score)) > 1e-6 || got[i].Box != want[i].Box {
				t.Errorf("%+v: detection %d is %+v, want %+v", s, i, got[i], want[i])
			}
		}
	}
}

// With the background in the last row, class 0 is row 0.
func TestBackgroundLast(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	view := det.View{Width: 200, Height: 120, ScaledWidth: 200, ScaledHeight: 120}
	const classes, rows = 3, 4
	o := random(r, 20, classes, 200, 120)
	moved := outputs{proposals: o.proposals}
	for i := range o.proposals {
		l, d := o.logits[i*rows:][:rows], o.deltas[4*i*rows:][:4*rows]
		moved.logits = append(append(moved.logits, l[1:]...), l[0])
		moved.deltas = append(append(moved.deltas, d[4:]...), d[:4]...)
	}
	cfg := roihead.DefaultConfig()
	want := roihead.NewDetector(cfg, classes).Detect(nil, view, o.proposals, o.logits, o.deltas, cfg.Settings())
	cfg.BackgroundLast = true
	got := roihead.NewDetector(cfg, classes).Detect(nil, view, o.proposals, moved.logits, moved.deltas, cfg.Settings())
	if len(want) == 0 || len(got) != len(want) {
		t.Fatalf("%d detections, want %d, which must not be none", len(got), len(want))
	}
	for i := range want {
		if got[i].Class != want[i].Class || got[i].Box != want[i].Box || math.Abs(float64(got[i].Score-want[i].Score)) > 1e-6 {
			t.Errorf("detection %d is %+v, want %+v", i, got[i], want[i])
		}
	}
}

func TestDetectNaN(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	cfg := roihead.DefaultConfig()
	view := det.View{Width: 200, Height: 120, ScaledWidth: 200, ScaledHeight: 120}
	o := random(r, 9, 2, 200, 120)
	for i := range o.deltas {
		if i%5 == 0 {
			o.deltas[i] = float32(math.NaN())
		}
	}
	o.logits[0], o.logits[4] = float32(math.Inf(1)), float32(math.NaN())
	for _, d := range roihead.NewDetector(cfg, 2).Detect(nil, view, o.proposals, o.logits, o.deltas, cfg.Settings()) {
		if !d.Box.Finite() || !(d.Score >= 0 && d.Score <= 1) {
			t.Errorf("detection %+v", d)
		}
	}
}

// BenchmarkDetect is COCO's 90 rows on 1000 regions.
func BenchmarkDetect(b *testing.B) {
	r := rand.New(rand.NewPCG(7, 8))
	cfg := roihead.DefaultConfig()
	view := det.View{Width: 1333, Height: 800, ScaledWidth: 1333, ScaledHeight: 800}
	o := random(r, 1000, 90, 1333, 800)
	d := roihead.NewDetector(cfg, 90)
	var dst []det.Detection
	b.ReportAllocs()
	for b.Loop() {
		dst = d.Detect(dst[:0], view, o.proposals, o.logits, o.deltas, cfg.Settings())
	}
}
