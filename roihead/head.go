package roihead

import (
	"resdet/backbone"
	"resdet/internal/nn"
)

// Head adds the network over the levels that regions are pooled from and
// returns logits [R 1+K] and deltas [R 4(1+K)], or [R 4] where boxes are
// class-agnostic, of rois [R 5] (image, x0, y0, x1, y1). body is the backbone's configuration: it gives the strides, and
// stage 5 for "res5".
func (c Config) Head(b *Builder, body backbone.Config, levels []Value, rois Value, classes int) (logits, deltas Value) {
	return c.HeadWithDropout(b, body, levels, rois, classes, func(name string, x Value) Value { return x })
}

// HeadWithDropout is Head with drop applied to what the layers fc6 and fc7 of
// "mlp" give, for training; "res5" has no such layers.
func (c Config) HeadWithDropout(b *Builder, body backbone.Config, levels []Value, rois Value, classes int, drop func(layer string, x Value) Value) (logits, deltas Value) {
	x := c.pool(b, body, levels, rois)
	b.Scope("roi_heads", func() {
		b.Scope("box_head", func() {
			if c.Kind == "res5" {
				x = b.Mean(body.Stage(b, x, 5))
				return
			}
			x = drop("fc6", b.ReLU(b.Linear("fc6", b.Flatten(x), c.Hidden)))
			x = drop("fc7", b.ReLU(b.Linear("fc7", x, c.Hidden)))
		})
		b.Scope("box_predictor", func() {
			logits = b.Linear("cls_score", x, 1+classes)
			deltas = b.Linear("bbox_pred", x, c.Columns(classes))
		})
	})
	return logits, deltas
}

func (c Config) pool(b *Builder, body backbone.Config, levels []Value, rois Value) Value {
	pyramid := nn.Pyramid{CanonicalLevel: c.Pool.CanonicalLevel, CanonicalSize: c.Pool.CanonicalSize, Extra: int(c.Boxes.Extra())}
	for _, s := range body.Strides()[:len(levels)] {
		pyramid.Scales = append(pyramid.Scales, 1/float64(s))
	}
	if c.Pool.Kind == "max" {
		return b.RoIPool(nn.RoIPool{Pyramid: pyramid, H: c.Pool.Size, W: c.Pool.Size}, levels, rois)
	}
	return b.RoIAlign(nn.RoIAlign{Pyramid: pyramid, H: c.Pool.Size, W: c.Pool.Size,
		Sampling: c.Pool.Sampling, Aligned: c.Pool.Aligned}, levels, rois)
}

// Row returns which column of the logits [R 1+K] is a class's; the
// background's is that of −1.
func (c Config) Row(class, classes int) int {
	switch {
	case !c.BackgroundLast:
		return 1 + class
	case class < 0:
		return classes
	}
	return class
}

// Column returns where a class's four deltas start in the row of a region.
func (c Config) Column(class, classes int) int {
	if c.ClassAgnostic {
		return 0
	}
	return 4 * c.Row(class, classes)
}

// Columns returns how many deltas a region has.
func (c Config) Columns(classes int) int {
	if c.ClassAgnostic {
		return 4
	}
	return 4 * (1 + classes)
}
