package roihead

import (
	"resdet/backbone"
	"resdet/internal/nn"
)

// Head adds the network over the levels that regions are pooled from and
// returns logits [R 1+K] and deltas [R 4(1+K)] of rois [R 5] (image, x0, y0,
// x1, y1). body is the backbone's configuration: it gives the strides, and
// stage 5 for "res5".
func (c Config) Head(b *Builder, body backbone.Config, levels []Value, rois Value, classes int) (logits, deltas Value) {
	x := c.pool(b, body, levels, rois)
	b.Scope("roi_heads", func() {
		b.Scope("box_head", func() {
			if c.Kind == "res5" {
				x = b.Mean(body.Stage(b, x, 5))
				return
			}
			x = b.ReLU(b.Linear("fc6", b.Flatten(x), c.Hidden))
			x = b.ReLU(b.Linear("fc7", x, c.Hidden))
		})
		b.Scope("box_predictor", func() {
			logits = b.Linear("cls_score", x, 1+classes)
			deltas = b.Linear("bbox_pred", x, 4*(1+classes))
		})
	})
	return logits, deltas
}

func (c Config) pool(b *Builder, body backbone.Config, levels []Value, rois Value) Value {
	pyramid := nn.Pyramid{CanonicalLevel: c.Pool.CanonicalLevel, CanonicalSize: c.Pool.CanonicalSize}
	for _, s := range body.Strides()[:len(levels)] {
		pyramid.Scales = append(pyramid.Scales, 1/float64(s))
	}
	if c.Pool.Kind == "max" {
		return b.RoIPool(nn.RoIPool{Pyramid: pyramid, H: c.Pool.Size, W: c.Pool.Size}, levels, rois)
	}
	return b.RoIAlign(nn.RoIAlign{Pyramid: pyramid, H: c.Pool.Size, W: c.Pool.Size,
		Sampling: c.Pool.Sampling, Aligned: c.Pool.Aligned}, levels, rois)
}
