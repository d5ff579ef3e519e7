package roihead_test

import (
	"math/rand/v2"
	"slices"
	"testing"

	"resdet/internal/box"
	"resdet/internal/det"
	"resdet/roihead"
)

func at(x, y, w, h float32) box.Box { return box.Box{X0: x, Y0: y, X1: x + w, Y1: y + h} }

// sampled draws from 200 regions around two objects of the second image.
func sampled(t *testing.T, cfg roihead.SampleConfig, head roihead.Config, seed uint64, truths ...det.Truth) []roihead.Sample {
	t.Helper()
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(7, 7))
	var proposals []det.Proposal
	for image := range 2 {
		for range 200 {
			x, y := 200*r.Float32(), 200*r.Float32()
			proposals = append(proposals, det.Proposal{Image: image, Box: at(x, y, 20+40*r.Float32(), 20+40*r.Float32())})
		}
	}
	return roihead.NewSampler(cfg, head).Sample(nil, proposals, [][]det.Truth{nil, truths}, rand.New(rand.NewPCG(seed, 0)))
}

var truths = []det.Truth{{Class: 3, Box: at(40, 50, 50, 40)}, {Class: 0, Box: at(120, 130, 45, 50)}}

func TestSample(t *testing.T) {
	cfg, head := roihead.DefaultSampleConfig(), roihead.DefaultConfig()
	cfg.Batch = 64
	count := map[int]int{}
	objects, seen := 0, 0
	for _, s := range sampled(t, cfg, head, 1, truths...) {
		count[s.Image]++
		overlap, which := float32(0), -1
		for i, o := range truths {
			if v := box.IoU(s.Box, o.Box); s.Image == 1 && v > overlap {
				overlap, which = v, i
			}
		}
		if s.Class < 0 {
			if overlap >= 0.5 {
				t.Errorf("%v overlaps an object by %v and is background", s.Box, overlap)
			}
			continue
		}
		objects++
		if overlap < 0.5 || truths[which].Class != s.Class {
			t.Errorf("%v has class %d at an overlap of %v with object %d", s.Box, s.Class, overlap, which)
		}
		coder := box.Coder{Weights: head.BoxWeights}
		if got := coder.Decode(s.Box, s.Want); box.IoU(got, truths[which].Box) < 0.999 {
			t.Errorf("%v leads to %v, want %v", s.Box, got, truths[which].Box)
		}
		if s.Box == truths[which].Box {
			seen++ // the object itself
		}
	}
	if count[0] != 64 || count[1] != 64 || objects == 0 || objects > 16 {
		t.Errorf("%v regions, %d of them objects; want 64 of each image and at most 16", count, objects)
	}
	if seen != 2 {
		t.Errorf("%d objects are regions themselves, want 2", seen)
	}
}

func TestSampleLimits(t *testing.T) {
	cfg := roihead.DefaultSampleConfig()
	cfg.BackgroundLow, cfg.Foreground = 0.1, 0.6
	for _, s := range sampled(t, cfg, roihead.DefaultConfig(), 1, truths...) {
		best := max(box.IoU(s.Box, truths[0].Box), box.IoU(s.Box, truths[1].Box))
		if s.Class < 0 && (s.Image == 0 || best < 0.1 || best >= 0.5) || s.Class >= 0 && best < 0.6 {
			t.Errorf("%v of image %d with an overlap of %v has class %d", s.Box, s.Image, best, s.Class)
		}
	}
}

func TestSampleIgnored(t *testing.T) {
	crowd := det.Truth{Class: 2, Box: at(0, 0, 130, 260), Ignore: true}
	got := sampled(t, roihead.DefaultSampleConfig(), roihead.DefaultConfig(), 1, crowd, truths[1])
	objects := 0
	for _, s := range got {
		if s.Class < 0 && s.Image == 1 && s.Box.CoveredBy([]box.Box{crowd.Box}) {
			t.Errorf("%v is background", s.Box)
		}
		if s.Class == 2 {
			t.Errorf("%v is an object that is to be ignored", s.Box)
		}
		if s.Class == truths[1].Class {
			objects++
		}
	}
	if objects == 0 {
		t.Error("the other object is lost")
	}
}

func TestSampleIsSeeded(t *testing.T) {
	cfg := roihead.DefaultSampleConfig()
	cfg.Batch = 32
	draw := func(seed uint64) []roihead.Sample { return sampled(t, cfg, roihead.DefaultConfig(), seed, truths...) }
	if !slices.Equal(draw(1), draw(1)) {
		t.Error("one seed draws different regions")
	}
	if slices.Equal(draw(1), draw(2)) {
		t.Error("two seeds draw the same regions")
	}
}

// Where corners belong to the box, an object's own region needs no change.
func TestSampleConventions(t *testing.T) {
	for _, c := range []box.Convention{box.Continuous, box.Caffe, box.Detectron} {
		head := roihead.DefaultConfig()
		head.Boxes = c
		for _, s := range sampled(t, roihead.DefaultSampleConfig(), head, 1, truths...) {
			if s.Class == 3 && s.Box == c.Of(truths[0].Box) && (s.Want.DW != 0 || s.Want.DH != 0) {
				t.Errorf("%q: an object's own box is to change by %v", c, s.Want)
			}
		}
	}
}

func TestSampleConfigValidate(t *testing.T) {
	for name, change := range map[string]func(*roihead.SampleConfig){
		"batch":      func(c *roihead.SampleConfig) { c.Batch = 0 },
		"fraction":   func(c *roihead.SampleConfig) { c.Fraction = 0 },
		"low":        func(c *roihead.SampleConfig) { c.BackgroundLow = 0.5 },
		"high":       func(c *roihead.SampleConfig) { c.BackgroundHigh = 0.7 },
		"foreground": func(c *roihead.SampleConfig) { c.Foreground = 1.2 },
	} {
		c := roihead.DefaultSampleConfig()
		change(&c)
		if c.Validate() == nil {
			t.Errorf("%s: %+v is valid", name, c)
		}
	}
}

// Rows and columns of the head's outputs in every convention.
func TestRows(t *testing.T) {
	for _, tt := range []struct {
		last, agnostic                   bool
		background, class, column, width int
	}{
		{false, false, 0, 3, 12, 24},
		{true, false, 5, 2, 8, 24},
		{false, true, 0, 3, 0, 4},
		{true, true, 5, 2, 0, 4},
	} {
		c := roihead.Config{BackgroundLast: tt.last, ClassAgnostic: tt.agnostic}
		if got := [4]int{c.Row(-1, 5), c.Row(2, 5), c.Column(2, 5), c.Columns(5)}; got != [4]int{tt.background, tt.class, tt.column, tt.width} {
			t.Errorf("%+v: background, class, column and width are %v", tt, got)
		}
	}
}
