package rpn

import (
	"errors"
	"fmt"
	"math"

	"resdet/internal/box"
)

// Names of package box's types that stand in this one's signatures: a Box is in
// network pixels.
type (
	Box        = box.Box
	Convention = box.Convention
)

// Anchors describes the reference boxes of every cell of every level. The
// order within a cell is ratio-major: all sizes of the first ratio, then of
// the second (torchvision).
type Anchors struct {
	// Sizes lists for every level the square roots of the areas, in network
	// pixels: [[32] [64] …] for a pyramid, [[128 256 512]] for one level. All
	// levels share the head, so they have equally many.
	Sizes [][]float32 `json:"sizes"`
	// Ratios are heights over widths.
	Ratios []float32 `json:"ratios"`
	// Round rounds the corners to whole pixels, half to even (torchvision);
	// detectron2 does not.
	Round bool `json:"round"`
	// Bases, one for each level, are the sides of the squares that the anchors
	// are rounded multiples of: [16] in Caffe's generate_anchors, the strides of
	// a pyramid in Detectron's. A square's sides for a ratio are rounded to whole
	// pixels, then scaled by size/base; corners are pixels that belong to the
	// anchor, and the centre is the square's instead of (0, 0). Empty elsewhere.
	Bases []float32 `json:"bases,omitempty"`
	// GridStride places cells ⌊image/grid⌋ pixels apart, both after padding
	// (torchvision: 61 instead of 64 for 13 rows of 800 pixels). Otherwise the
	// level's stride is taken (detectron2).
	GridStride bool `json:"grid_stride"`
}

// Validate reports what is wrong with the anchors for that many levels.
func (a Anchors) Validate(levels int) error {
	if len(a.Sizes) != levels {
		return fmt.Errorf("rpn: anchors have sizes for %d levels, the backbone has %d", len(a.Sizes), levels)
	}
	if len(a.Ratios) == 0 {
		return errors.New("rpn: anchors have no ratios")
	}
	if n := len(a.Ratios) * len(a.Sizes[0]); n > 1000 {
		return fmt.Errorf("rpn: %d anchors per cell; 1000 is the limit", n)
	}
	for i, sizes := range a.Sizes {
		if len(sizes) == 0 || len(sizes) != len(a.Sizes[0]) {
			return fmt.Errorf("rpn: anchors have %d sizes at level %d and %d at level 0; all levels need equally many, at least one", len(sizes), i, len(a.Sizes[0]))
		}
		for _, s := range sizes {
			if !(s > 0 && s < 1e5) {
				return fmt.Errorf("rpn: anchor size %g at level %d is not in (0, 100000)", s, i)
			}
		}
	}
	if len(a.Bases) != 0 && len(a.Bases) != levels {
		return fmt.Errorf("rpn: anchors have %d bases for %d levels", len(a.Bases), levels)
	}
	for _, b := range a.Bases {
		if !(b >= 1 && b < 1e5) {
			return fmt.Errorf("rpn: anchor base %g is not in [1, 100000)", b)
		}
	}
	for _, r := range a.Ratios {
		if !(r > 0 && r < 1e3) {
			return fmt.Errorf("rpn: anchor ratio %g is not in (0, 1000)", r)
		}
	}
	return nil
}

// PerCell returns the number of anchors of a cell of the level.
func (a Anchors) PerCell(level int) int { return len(a.Sizes[level]) * len(a.Ratios) }

// Cell returns the anchors of the level around (0, 0), in the float32
// arithmetic of torchvision's AnchorGenerator; with Bases in the float64
// arithmetic of py-faster-rcnn's generate_anchors.
func (a Anchors) Cell(level int) []Box {
	if len(a.Bases) > 0 {
		return a.multiples(level)
	}
	boxes := make([]Box, 0, a.PerCell(level))
	for _, ratio := range a.Ratios {
		hr := float32(math.Sqrt(float64(ratio)))
		wr := 1 / hr
		for _, size := range a.Sizes[level] {
			w, h := wr*size, hr*size
			b := Box{X0: -w / 2, Y0: -h / 2, X1: w / 2, Y1: h / 2}
			if a.Round {
				b = Box{X0: roundEven(b.X0), Y0: roundEven(b.Y0), X1: roundEven(b.X1), Y1: roundEven(b.Y1)}
			}
			boxes = append(boxes, b)
		}
	}
	return boxes
}

// multiples returns the level's anchors as multiples of its base.
func (a Anchors) multiples(level int) []Box {
	boxes := make([]Box, 0, a.PerCell(level))
	base := float64(a.Bases[level])
	centre := 0.5 * (base - 1)
	for _, ratio := range a.Ratios {
		w := math.RoundToEven(math.Sqrt(base * base / float64(ratio)))
		h := math.RoundToEven(w * float64(ratio))
		for _, size := range a.Sizes[level] {
			scale := float64(size) / base
			dx, dy := 0.5*(w*scale-1), 0.5*(h*scale-1)
			boxes = append(boxes, Box{X0: float32(centre - dx), Y0: float32(centre - dy), X1: float32(centre + dx), Y1: float32(centre + dy)})
		}
	}
	return boxes
}

func roundEven(v float32) float32 { return float32(math.RoundToEven(float64(v))) }

// Grid is the anchors of one level for one batch: cell (y, x) has Cell shifted
// by (x·StrideX, y·StrideY).
type Grid struct {
	Cell             []Box
	H, W             int
	StrideX, StrideY float32
}

// Grid lays the anchors of the level over a feature map of height × width
// cells for a padded image of imageHeight × imageWidth; stride is the level's
// nominal one.
func (a Anchors) Grid(level, height, width, imageHeight, imageWidth, stride int) Grid {
	g := Grid{Cell: a.Cell(level), H: height, W: width, StrideX: float32(stride), StrideY: float32(stride)}
	if a.GridStride {
		g.StrideX, g.StrideY = float32(imageWidth/width), float32(imageHeight/height)
	}
	return g
}

// Len returns the number of anchors.
func (g Grid) Len() int { return g.H * g.W * len(g.Cell) }

// At returns anchor i in the order (y, x, anchor of the cell).
func (g Grid) At(i int) Box {
	n := len(g.Cell)
	c, cell := g.Cell[i%n], i/n
	dx, dy := float32(cell%g.W)*g.StrideX, float32(cell/g.W)*g.StrideY
	return Box{X0: c.X0 + dx, Y0: c.Y0 + dy, X1: c.X1 + dx, Y1: c.Y1 + dy}
}
