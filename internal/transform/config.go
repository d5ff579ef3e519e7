package transform

import (
	"fmt"
	"math"

	"resdet/internal/det"
	"resdet/internal/nd"
)

// Order is the order of the colour channels in the network's input.
type Order string

// The two orders in use: RGB in PyTorch's models, BGR in those that come from
// Caffe or OpenCV.
const (
	RGB Order = "RGB"
	BGR Order = "BGR"
)

// Config says how pixels become the network's input. It is part of the model
// and stored in its file. The zero value is not valid; start from
// [DefaultConfig].
type Config struct {
	// Order of the channels; Mean and Std are listed in this order.
	Order Order `json:"channel_order"`
	// Scale multiplies 8-bit levels before Mean is subtracted: 1/255 for
	// models of PyTorch, 1 for models of Caffe.
	Scale float64 `json:"scale"`
	// Mean is subtracted from the scaled levels, then Std divides. Caffe's code
	// subtracts before it resizes: interpolation being linear with weights that
	// add up to 1, that is the same.
	Mean [3]float32 `json:"mean"`
	Std  [3]float32 `json:"std"`
	// ShortSide is the length in network pixels to which the image's shorter
	// side is brought, unless the longer side would exceed LongSide.
	ShortSide int `json:"min_size"`
	LongSide  int `json:"max_size"`
	// RoundSize rounds the sides of the scaled image to the nearest pixel (Caffe,
	// detectron2, mmdetection) instead of down (torchvision).
	RoundSize bool `json:"round_size,omitempty"`
	// PadMultiple: a batch's height and width are rounded up to a multiple of
	// it. More padding than that would change the network's results.
	PadMultiple int `json:"size_divisible"`
}

// DefaultConfig is torchvision's detector's: RGB in [0, 1] with ImageNet's
// mean and deviation, 800 × 1333, padded to 32.
func DefaultConfig() Config {
	return Config{
		Order:       RGB,
		Scale:       1.0 / 255,
		Mean:        [3]float32{0.485, 0.456, 0.406},
		Std:         [3]float32{0.229, 0.224, 0.225},
		ShortSide:   800,
		LongSide:    1333,
		PadMultiple: 32,
	}
}

// maxSide bounds the sides and the multiple of a configuration, which may come
// from a file: 3·16384² floats are 3 GiB, beyond what any detector is run at.
const maxSide = 16384

// Validate reports the first setting that cannot work.
func (c Config) Validate() error {
	switch {
	case c.Order != RGB && c.Order != BGR:
		return fmt.Errorf("transform: channel_order is %q, want RGB or BGR", c.Order)
	case !(c.Scale > 0) || math.IsInf(c.Scale, 0):
		return fmt.Errorf("transform: scale is %v, want a positive number (1/255 or 1)", c.Scale)
	case c.ShortSide < 1 || c.ShortSide > maxSide:
		return fmt.Errorf("transform: min_size is %d, want 1 to %d", c.ShortSide, maxSide)
	case c.LongSide < c.ShortSide || c.LongSide > maxSide:
		return fmt.Errorf("transform: max_size is %d, want min_size (%d) to %d", c.LongSide, c.ShortSide, maxSide)
	case c.PadMultiple < 1 || c.PadMultiple > maxSide:
		return fmt.Errorf("transform: size_divisible is %d, want 1 to %d", c.PadMultiple, maxSide)
	}
	for i := range 3 {
		if m := float64(c.Mean[i]); math.IsNaN(m) || math.IsInf(m, 0) {
			return fmt.Errorf("transform: mean[%d] is %v, want a finite number", i, m)
		}
		if s := float64(c.Std[i]); !(s > 0) || math.IsInf(s, 0) {
			return fmt.Errorf("transform: std[%d] is %v, want a positive number", i, s)
		}
	}
	return nil
}

// Plan returns how an image of width × height original pixels will stand in
// the batch, and the shape [1 3 H W] of a batch that holds it alone.
//
// The size is torchvision 0.14's to the pixel: the scale is
// min(ShortSide/min, LongSide/max) in float32, where the quotient is the
// reciprocal times the side (that is how torch divides a number by a tensor),
// and the sizes are floor(size·scale) in float64. A side never falls below one
// pixel, where torchvision fails.
//
// With RoundSize all is float64 and the sizes are floor(size·scale + 0.5).
func (c Config) Plan(width, height int) (det.View, nd.Shape) {
	if c.RoundSize {
		scale := min(float64(c.ShortSide)/float64(min(width, height)), float64(c.LongSide)/float64(max(width, height)))
		round := func(side int) int { return max(1, int(math.Floor(float64(side)*scale+0.5))) }
		view := det.View{Width: width, Height: height, ScaledWidth: round(width), ScaledHeight: round(height)}
		return view, c.BatchShape(view)
	}
	short := float32(1) / float32(min(width, height)) * float32(c.ShortSide)
	long := float32(1) / float32(max(width, height)) * float32(c.LongSide)
	scale := float64(min(short, long))
	view := det.View{
		Width:        width,
		Height:       height,
		ScaledWidth:  max(1, int(math.Floor(float64(width)*scale))),
		ScaledHeight: max(1, int(math.Floor(float64(height)*scale))),
	}
	return view, c.BatchShape(view)
}

// BatchShape returns the shape [N 3 H W] of the batch that holds the views: the
// largest height and the largest width, each rounded up to PadMultiple.
func (c Config) BatchShape(views ...det.View) nd.Shape {
	h, w := 0, 0
	for _, v := range views {
		h, w = max(h, v.ScaledHeight), max(w, v.ScaledWidth)
	}
	return nd.Shape{len(views), 3, c.pad(h), c.pad(w)}
}

func (c Config) pad(n int) int { return (n + c.PadMultiple - 1) / c.PadMultiple * c.PadMultiple }

// Undo brings the boxes of dets from network pixels to original pixels, in
// place, and returns dets. As in torchvision's resize_boxes each axis has its
// own ratio original/scaled in float32, and nothing is clipped.
func (c Config) Undo(view det.View, dets []det.Detection) []det.Detection {
	rx := float32(view.Width) / float32(view.ScaledWidth)
	ry := float32(view.Height) / float32(view.ScaledHeight)
	for i := range dets {
		dets[i].Box = dets[i].Box.Scale(rx, ry)
	}
	return dets
}
