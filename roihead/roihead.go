// Package roihead is the region head of Faster R-CNN (Girshick 2015; He et
// al. 2015, appendix A): features under each proposal are pooled, classified
// and given a better box.
//
//	features, rois ─Head▶ logits [R 1+K], deltas [R 4(1+K)]        (graph)
//	             ─Detect▶ softmax ▶ decode what scores ▶ NMS ▶ top   (host)
//
// The background is one row of the logits and deltas, the first unless the
// configuration says the last; it exists here and nowhere else.
// Coordinates are network pixels.
package roihead

import (
	"errors"
	"fmt"

	"resdet/backbone"
	"resdet/internal/box"
	"resdet/internal/det"
	"resdet/internal/nn"
)

// Names of other packages' types that stand in this one's signatures.
type (
	Value     = nn.Value
	Builder   = nn.Builder
	View      = det.View
	Proposal  = det.Proposal
	Detection = det.Detection
	// Convention says which pixels a box covers.
	Convention = box.Convention
)

// Config describes the head and the choice of detections.
type Config struct {
	Pool Pool `json:"pool"`
	// Kind is "res5" (stage 5 of the backbone's ResNet on every region, then
	// the mean: the paper's ResNet detector) or "mlp" (two fully connected
	// layers: VGG's fc6 and fc7, the pyramid's two-layer head).
	Kind string `json:"kind"`
	// Hidden is the width of the two layers of "mlp": 4096 for VGG, 1024 for a
	// pyramid.
	Hidden int `json:"hidden,omitempty"`
	// BackgroundLast says that the rows of logits and deltas end with the
	// background (detectron2, mmdetection) instead of beginning with it.
	BackgroundLast bool `json:"background_last,omitempty"`
	// ClassAgnostic says that a region has one box for all classes, deltas [R 4],
	// instead of one for each class and the background.
	ClassAgnostic bool `json:"class_agnostic,omitempty"`
	// BoxWeights multiply the deltas' dx, dy, dw, dh: 10 10 5 5.
	BoxWeights [4]float32 `json:"box_weights"`
	// Score is the least score of a detection; 0.05.
	Score float32 `json:"score"`
	// NMS is the overlap above which the lesser of two detections of one class
	// is dropped; 0.5.
	NMS float32 `json:"nms"`
	// Max is the most detections of an image; 100.
	Max int `json:"max"`
	// MinSize is the least width and height of a detection in network pixels;
	// 0.01 in torchvision.
	MinSize float32 `json:"min_size"`
	// Boxes is the convention of the proposals and deltas. Another than the
	// usual decodes, clips and suppresses in original pixels; detections are
	// continuous boxes in any case: a corner that belongs to its box becomes an
	// edge by adding 1.
	Boxes Convention `json:"boxes,omitempty"`
}

// Pool describes how regions are cut out of the features.
type Pool struct {
	// Kind is "align" (RoIAlign, bilinear samples) or "max" (RoIPool, whole
	// pixels, Caffe's rounding).
	Kind string `json:"kind"`
	// Size is the number of bins along each side: 7, or 14 before res5.
	Size int `json:"size"`
	// Sampling is the number of samples per bin and side; 0 adapts it to the
	// region (detectron2).
	Sampling int `json:"sampling"`
	// Aligned shifts by half a pixel (detectron2's ROIAlignV2).
	Aligned bool `json:"aligned,omitempty"`
	// CanonicalLevel and CanonicalSize: a region of that size (224) is pooled
	// from that level (4, stride 16) of a pyramid (Lin et al. 2017, equation 1).
	CanonicalLevel int     `json:"canonical_level"`
	CanonicalSize  float64 `json:"canonical_size"`
}

// DefaultConfig returns a two-layer head on a pyramid in torchvision's
// settings.
func DefaultConfig() Config {
	return Config{
		Pool:       Pool{Kind: "align", Size: 7, Sampling: 2, CanonicalLevel: 4, CanonicalSize: 224},
		Kind:       "mlp",
		Hidden:     1024,
		BoxWeights: [4]float32{10, 10, 5, 5},
		Score:      0.05,
		NMS:        0.5,
		Max:        100,
		MinSize:    0.01,
	}
}

// Validate reports what is wrong with the configuration on the backbone.
func (c Config) Validate(body backbone.Config) error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf("roihead: "+format, args...)) }
	switch c.Kind {
	case "res5":
		if body.Family != "resnet" || body.FPN != nil {
			bad("kind \"res5\" needs a resnet backbone without a pyramid")
		}
	case "mlp":
		if c.Hidden < 1 || c.Hidden > 1<<16 {
			bad("hidden %d is not in 1…65536", c.Hidden)
		}
	default:
		bad("kind %q is neither \"res5\" nor \"mlp\"", c.Kind)
	}
	switch c.Pool.Kind {
	case "align", "max":
	default:
		bad("pool kind %q is neither \"align\" nor \"max\"", c.Pool.Kind)
	}
	if c.Pool.Size < 1 || c.Pool.Size > 64 {
		bad("pool size %d is not in 1…64", c.Pool.Size)
	}
	if c.Pool.Sampling < 0 || c.Pool.Sampling > 16 {
		bad("pool sampling %d is not in 0…16", c.Pool.Sampling)
	}
	if body.Levels() > 1 && !(c.Pool.CanonicalSize > 0) {
		bad("pool canonical_size %g is not positive", c.Pool.CanonicalSize)
	}
	for _, w := range c.BoxWeights {
		if !(w > 0) {
			bad("box_weights %v are not all positive", c.BoxWeights)
			break
		}
	}
	if !(c.Score >= 0 && c.Score <= 1) {
		bad("score %g is not in [0, 1]", c.Score)
	}
	if !(c.NMS > 0 && c.NMS <= 1) {
		bad("nms %g is not in (0, 1]", c.NMS)
	}
	if c.Max < 1 || c.Max > 100_000 {
		bad("max %d is not in 1…100000", c.Max)
	}
	if !(c.MinSize >= 0) {
		bad("min_size %g is negative", c.MinSize)
	}
	if err := c.Boxes.Validate(); err != nil {
		bad("%w", err)
	}
	return errors.Join(errs...)
}
