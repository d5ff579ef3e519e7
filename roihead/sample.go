package roihead

import (
	"errors"
	"fmt"
	"math/rand/v2"

	"resdet/internal/box"
	"resdet/internal/det"
)

// Truth is an object in an image of the batch, in network pixels.
type Truth = det.Truth

// SampleConfig says which regions the head is trained on, and as what.
type SampleConfig struct {
	// Batch is how many regions of an image are trained on: 512 in torchvision
	// and detectron2, 128 in py-faster-rcnn.
	Batch int `json:"batch"`
	// Fraction is the largest part of them that are objects; 0.25. Background
	// fills up where there are fewer.
	Fraction float64 `json:"fraction"`
	// Foreground is the overlap with an object from which on a region is one;
	// 0.5.
	Foreground float32 `json:"foreground"`
	// Regions with an overlap in [BackgroundLow, BackgroundHigh) are background:
	// 0 and 0.5. Fast R-CNN's lower limit was 0.1, a heuristic for hard examples
	// that Faster R-CNN gave up on COCO. Others are not trained on.
	BackgroundLow  float32 `json:"background_low,omitempty"`
	BackgroundHigh float32 `json:"background_high"`
}

// DefaultSampleConfig returns torchvision's settings.
func DefaultSampleConfig() SampleConfig {
	return SampleConfig{Batch: 512, Fraction: 0.25, Foreground: 0.5, BackgroundHigh: 0.5}
}

// Validate reports what is wrong with the configuration.
func (c SampleConfig) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf("roihead: "+format, args...)) }
	if c.Batch < 1 || c.Batch > 1<<14 {
		bad("batch of %d regions is not in 1…%d", c.Batch, 1<<14)
	}
	if !(c.Fraction > 0 && c.Fraction <= 1) {
		bad("fraction %g of objects is not in (0, 1]", c.Fraction)
	}
	if !(0 <= c.BackgroundLow && c.BackgroundLow < c.BackgroundHigh && c.BackgroundHigh <= c.Foreground && c.Foreground <= 1) {
		bad("overlaps background_low %g, background_high %g and foreground %g are not 0 ≤ low < high ≤ foreground ≤ 1",
			c.BackgroundLow, c.BackgroundHigh, c.Foreground)
	}
	return errors.Join(errs...)
}

// Sample is a region that is trained on.
type Sample struct {
	Proposal
	// Class is the object's, or −1 for background.
	Class int
	// Want leads from an object's region to its box.
	Want box.Delta
}

// Sampler chooses the regions to train on. It keeps its scratch memory; use it
// from one goroutine at a time.
type Sampler struct {
	cfg   SampleConfig
	coder box.Coder

	regions    []Proposal
	candidates []box.Box
	boxes      []box.Box // of objects
	classes    []int
	ignored    []box.Box
	matches    []box.Match
	objects    []int
	background []int
}

// NewSampler returns a Sampler for valid configurations.
func NewSampler(cfg SampleConfig, head Config) *Sampler {
	return &Sampler{cfg: cfg, coder: head.coder()}
}

// Sample appends to dst at most Batch regions of every image, drawn by rng
// where there are more. They come from the proposals, which stand image by
// image as rpn.Proposer makes them, and the objects themselves, so that every
// object is seen. It follows torchvision's RoIHeads.select_training_samples.
func (s *Sampler) Sample(dst []Sample, proposals []Proposal, truths [][]Truth, rng *rand.Rand) []Sample {
	for image := range truths {
		s.collect(proposals, image, truths[image])
		// The head's matcher has one limit where the two overlaps are one.
		matcher := box.Matcher{Low: s.cfg.BackgroundHigh, High: s.cfg.Foreground, Convention: s.coder.Convention}
		s.matches = matcher.Match(s.matches[:0], s.boxes, s.candidates)
		s.objects, s.background = s.objects[:0], s.background[:0]
		for i, m := range s.matches {
			switch {
			case m.Verdict == box.Positive:
				s.objects = append(s.objects, i)
			case m.Verdict == box.Negative && m.Overlap >= s.cfg.BackgroundLow && !s.candidates[i].CoveredBy(s.ignored):
				s.background = append(s.background, i)
			}
		}
		chosen := box.Draw(s.objects, int(float64(s.cfg.Batch)*s.cfg.Fraction), rng)
		for _, i := range chosen {
			truth := s.matches[i].Truth
			dst = append(dst, Sample{s.regions[i], s.classes[truth], s.coder.Encode(s.candidates[i], s.boxes[truth])})
		}
		for _, i := range box.Draw(s.background, s.cfg.Batch-len(chosen), rng) {
			dst = append(dst, Sample{Proposal: s.regions[i], Class: -1})
		}
	}
	return dst
}

// collect gathers the regions of one image.
func (s *Sampler) collect(proposals []Proposal, image int, truths []Truth) {
	s.regions, s.candidates, s.classes = s.regions[:0], s.candidates[:0], s.classes[:0]
	for _, p := range proposals {
		if p.Image == image {
			s.regions = append(s.regions, p)
		}
	}
	s.boxes, s.ignored = det.Boxes(s.boxes[:0], s.ignored[:0], truths)
	for _, t := range truths {
		if !t.Ignore {
			s.classes = append(s.classes, t.Class)
			s.regions = append(s.regions, Proposal{Image: image, Box: s.coder.Convention.Of(t.Box), Score: 1})
		}
	}
	for _, r := range s.regions {
		s.candidates = append(s.candidates, r.Box)
	}
}
