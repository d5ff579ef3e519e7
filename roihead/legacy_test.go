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

// Detections of a Caffe model are those of py-faster-rcnn's im_detect and
// test_net by their definition: regions brought to original pixels, decoded
// with +1 and without weights, clipped to the last pixel, suppressed with +1;
// what comes out are the same corners as continuous boxes.
func TestDetectLegacy(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	const classes = 3
	view := det.View{Width: 100, Height: 80, ScaledWidth: 200, ScaledHeight: 160}
	cfg := roihead.DefaultConfig()
	cfg.BoxWeights, cfg.Boxes, cfg.MinSize, cfg.NMS = [4]float32{1, 1, 1, 1}, box.Caffe, 0, 0.3
	o := random(r, 40, classes, 200, 160)
	for i := range o.deltas {
		o.deltas[i] /= 5
	}
	var all []det.Detection
	for i, p := range o.proposals {
		row := o.logits[i*(1+classes):][:1+classes]
		var sum float64
		for _, v := range row {
			sum += math.Exp(float64(v))
		}
		for k := range classes {
			d := o.deltas[4*(i*(1+classes)+1+k):]
			x0, y0, x1, y1 := float64(p.Box.X0)/2, float64(p.Box.Y0)/2, float64(p.Box.X1)/2, float64(p.Box.Y1)/2
			w, h := x1-x0+1, y1-y0+1
			cx, cy := x0+0.5*w+float64(d[0])*w, y0+0.5*h+float64(d[1])*h
			w, h = w*math.Exp(float64(d[2])), h*math.Exp(float64(d[3]))
			clip := func(v, limit float64) float32 { return float32(min(max(v, 0), limit-1)) }
			all = append(all, det.Detection{Class: k, Score: float32(math.Exp(float64(row[1+k])) / sum),
				Box: box.Box{X0: clip(cx-w/2, 100), Y0: clip(cy-h/2, 80), X1: clip(cx+w/2, 100), Y1: clip(cy+h/2, 80)}})
		}
	}
	slices.SortStableFunc(all, func(a, b det.Detection) int {
		if a.Score > b.Score {
			return -1
		}
		return 1
	})
	var want []det.Detection
	for _, d := range all {
		if d.Score > 0.05 && !slices.ContainsFunc(want, func(k det.Detection) bool { return k.Class == d.Class && box.Caffe.IoU(k.Box, d.Box) > 0.3 }) {
			want = append(want, d)
		}
	}
	got := roihead.NewDetector(cfg, classes).Detect(nil, view, o.proposals, o.logits, o.deltas, cfg.Settings())
	if len(got) != len(want) || len(got) < 10 {
		t.Fatalf("%d detections, want %d", len(got), len(want))
	}
	for i, w := range want {
		g := got[i]
		b := view.Undo(g.Box)
		for _, d := range []float32{b.X0 - w.Box.X0, b.Y0 - w.Box.Y0, b.X1 - (w.Box.X1 + 1), b.Y1 - (w.Box.Y1 + 1), g.Score - w.Score} {
			if math.Abs(float64(d)) > 1e-3 || g.Class != w.Class {
				t.Fatalf("detection %d is %v, want %v", i, g, w)
			}
		}
	}
}
