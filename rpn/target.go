package rpn

import (
	"errors"
	"fmt"
	"math/rand/v2"

	"resdet/internal/box"
	"resdet/internal/det"
)

// Truth is an object in an image of the batch, in network pixels.
type Truth = det.Truth

// TargetConfig says which anchors the head is trained on, and as what.
type TargetConfig struct {
	// Batch is how many anchors of an image are trained on; 256.
	Batch int `json:"batch"`
	// Fraction is the largest part of them that are positive; 0.5. Negatives
	// fill up where there are fewer.
	Fraction float64 `json:"fraction"`
	// Low and High are the overlaps below which an anchor is negative and from
	// which on it is positive: 0.3 and 0.7. The best anchors of every object are
	// positive in any case.
	Low  float32 `json:"low"`
	High float32 `json:"high"`
	// DropCrossing leaves out the anchors that cross the image's border: about
	// two thirds of them on a single level of 600×1000, without which "training
	// does not converge" (Ren et al. 2015, section 3.3; py-faster-rcnn).
	// torchvision and detectron2 keep them, with pyramids.
	DropCrossing bool `json:"drop_crossing,omitempty"`
}

// DefaultTargetConfig returns torchvision's settings, which are the paper's
// but for the anchors that cross the border.
func DefaultTargetConfig() TargetConfig {
	return TargetConfig{Batch: 256, Fraction: 0.5, Low: 0.3, High: 0.7}
}

// maxAnchors bounds what a configuration can ask for: all anchors of a pyramid
// at 2000×3000 are 1.5 million.
const maxAnchors = 1 << 21

// Validate reports what is wrong with the configuration.
func (c TargetConfig) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf("rpn: "+format, args...)) }
	if c.Batch < 1 || c.Batch > maxAnchors {
		bad("batch of %d anchors is not in 1…%d", c.Batch, maxAnchors)
	}
	if !(c.Fraction > 0 && c.Fraction <= 1) {
		bad("fraction %g of positive anchors is not in (0, 1]", c.Fraction)
	}
	if !(0 < c.Low && c.Low <= c.High && c.High <= 1) {
		bad("overlaps low %g and high %g are not 0 < low ≤ high ≤ 1", c.Low, c.High)
	}
	return errors.Join(errs...)
}

// Target is an anchor that is trained on.
type Target struct {
	Image, Level int
	// Logit is the index of its logit in the level's logits [N A H W], and Delta
	// that of the first of its deltas in [N 4A H W], which are Step apart.
	Logit, Delta, Step int
	Positive           bool
	// Want leads from a positive anchor to its object.
	Want box.Delta
}

// Targeter chooses the anchors to train on. It keeps its scratch memory; use
// it from one goroutine at a time.
type Targeter struct {
	cfg   TargetConfig
	boxes Convention

	anchors   []Box
	places    []place // of each of anchors
	objects   []Box
	ignored   []Box
	matches   []box.Match
	positives []int
	negatives []int
}

// place is where an anchor comes from: a level and its index in the grid.
type place struct{ level, index int32 }

// NewTargeter returns a Targeter for valid configurations.
func NewTargeter(cfg TargetConfig, network Config) *Targeter {
	return &Targeter{cfg: cfg, boxes: network.Boxes}
}

// Targets appends to dst the anchors of every image that are trained on,
// drawn by rng where there are more than the batch holds. grids are those of
// the levels, truths the objects of every image; anchors that lie for the
// greater part in an ignored one are not negatives. It follows torchvision's
// assign_targets_to_anchors and BalancedPositiveNegativeSampler.
func (t *Targeter) Targets(dst []Target, grids []Grid, views []View, truths [][]Truth, rng *rand.Rand) []Target {
	matcher := box.Matcher{Low: t.cfg.Low, High: t.cfg.High, LowQuality: true, Convention: t.boxes}
	coder := box.Coder{Weights: coder.Weights, Convention: t.boxes}
	for image, view := range views {
		t.collect(grids, view)
		t.objects, t.ignored = det.Boxes(t.objects[:0], t.ignored[:0], truths[image])
		t.matches = matcher.Match(t.matches[:0], t.objects, t.anchors)
		t.positives, t.negatives = t.positives[:0], t.negatives[:0]
		for i, m := range t.matches {
			switch m.Verdict {
			case box.Positive:
				t.positives = append(t.positives, i)
			case box.Negative:
				if !t.anchors[i].CoveredBy(t.ignored) {
					t.negatives = append(t.negatives, i)
				}
			}
		}
		chosen := box.Draw(t.positives, int(float64(t.cfg.Batch)*t.cfg.Fraction), rng)
		for _, i := range chosen {
			target := t.target(grids, image, i)
			target.Positive = true
			target.Want = coder.Encode(t.anchors[i], t.objects[t.matches[i].Truth])
			dst = append(dst, target)
		}
		for _, i := range box.Draw(t.negatives, t.cfg.Batch-len(chosen), rng) {
			dst = append(dst, t.target(grids, image, i))
		}
	}
	return dst
}

// collect gathers the anchors that may be trained on.
func (t *Targeter) collect(grids []Grid, view View) {
	t.anchors, t.places = t.anchors[:0], t.places[:0]
	w, h := float32(view.ScaledWidth)-t.boxes.Extra(), float32(view.ScaledHeight)-t.boxes.Extra()
	for level, g := range grids {
		for i := range g.Len() {
			a := g.At(i)
			if t.cfg.DropCrossing && (a.X0 < 0 || a.Y0 < 0 || a.X1 > w || a.Y1 > h) {
				continue
			}
			t.anchors = append(t.anchors, a)
			t.places = append(t.places, place{int32(level), int32(i)})
		}
	}
}

// target returns anchor i of the collected ones as a negative.
func (t *Targeter) target(grids []Grid, image, i int) Target {
	p := t.places[i]
	g := grids[p.level]
	anchors, area := len(g.Cell), g.H*g.W
	a, cell := int(p.index)%anchors, int(p.index)/anchors
	row := image*anchors + a
	return Target{Image: image, Level: int(p.level), Logit: row*area + cell, Delta: 4*row*area + cell, Step: area}
}
