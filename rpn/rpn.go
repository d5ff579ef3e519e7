// Package rpn is the region proposal network of Faster R-CNN (Ren et al.
// 2015, section 3): a small head over every feature level that scores anchors
// and moves them, and the host's part that turns these into proposals.
//
//	features ─Head▶ logits [N A H W], deltas [N 4A H W]  per level   (graph)
//	        ─Propose▶ top-N by logit ▶ decode ▶ clip ▶ NMS ▶ top-N   (host)
//
// Coordinates are network pixels.
package rpn

import (
	"errors"
	"fmt"

	"resdet/internal/det"
	"resdet/internal/nn"
)

// Names of other packages' types that stand in this one's signatures.
type (
	Value    = nn.Value
	Builder  = nn.Builder
	View     = det.View
	Proposal = det.Proposal
)

// Config describes the network and the choice of proposals.
type Config struct {
	Anchors Anchors `json:"anchors"`
	// Convs is the number of 3×3 convolutions before the two siblings; 1.
	Convs int `json:"convs"`
	// Channels is their width; 0: that of the features.
	Channels int `json:"channels,omitempty"`
	// PreNMS is how many anchors of a level are decoded, best first; PostNMS how
	// many proposals of an image remain.
	PreNMS  int `json:"pre_nms"`
	PostNMS int `json:"post_nms"`
	// NMS is the overlap above which the lesser of two proposals of one level is
	// dropped; 0.7.
	NMS float32 `json:"nms"`
	// MinSize is the least width and height of a proposal in network pixels;
	// 1e-3 in torchvision. Under another convention of boxes than the usual it
	// counts original pixels: 16 in py-faster-rcnn.
	MinSize float32 `json:"min_size"`
	// Boxes is the convention of the anchors and proposals. Caffe's also drops
	// small proposals before the best PreNMS are taken, the others after.
	Boxes Convention `json:"boxes,omitempty"`
}

// DefaultConfig returns the settings that all published families share, for
// the given anchors: one convolution, 1000 anchors a level, 1000 proposals.
func DefaultConfig(a Anchors) Config {
	return Config{Anchors: a, Convs: 1, PreNMS: 1000, PostNMS: 1000, NMS: 0.7, MinSize: 1e-3}
}

// maxProposals bounds what a configuration can ask for: no published detector
// has more than 12,000.
const maxProposals = 100_000

// Validate reports what is wrong with the configuration for a backbone with
// the given number of levels.
func (c Config) Validate(levels int) error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf("rpn: "+format, args...)) }
	if err := c.Anchors.Validate(levels); err != nil {
		errs = append(errs, err)
	}
	if c.Convs < 1 || c.Convs > 8 {
		bad("convs %d is not in 1…8", c.Convs)
	}
	if c.Channels < 0 || c.Channels > 1<<14 {
		bad("channels %d are not in 0…%d", c.Channels, 1<<14)
	}
	if err := c.Boxes.Validate(); err != nil {
		bad("%w", err)
	}
	if c.PreNMS < 1 || c.PreNMS > maxProposals {
		bad("pre_nms %d is not in 1…%d", c.PreNMS, maxProposals)
	}
	if c.PostNMS < 1 || c.PostNMS > maxProposals {
		bad("post_nms %d is not in 1…%d", c.PostNMS, maxProposals)
	}
	if !(c.NMS > 0 && c.NMS <= 1) {
		bad("nms %g is not in (0, 1]", c.NMS)
	}
	if !(c.MinSize >= 0) {
		bad("min_size %g is negative", c.MinSize)
	}
	return errors.Join(errs...)
}

// Head adds the network over levels, whose parameters are shared between
// them, and returns logits [N A H W] and deltas [N 4A H W] of every level:
// channel a is anchor a's logit, channels 4a…4a+3 its dx, dy, dw, dh.
func (c Config) Head(b *Builder, levels []Value) (logits, deltas []Value) {
	b.Scope("rpn.head", func() {
		for i, x := range levels {
			anchors := c.Anchors.PerCell(i)
			channels := c.Channels
			if channels == 0 {
				channels = b.Shape(x)[1]
			}
			for j := range c.Convs {
				x = b.ReLU(b.ConvBias(fmt.Sprintf("conv.%d.0", j), x, channels, 3, 1, 1))
			}
			logits = append(logits, b.ConvBias("cls_logits", x, anchors, 1, 1, 0))
			deltas = append(deltas, b.ConvBias("bbox_pred", x, 4*anchors, 1, 1, 0))
		}
	})
	return logits, deltas
}
