package box

import "fmt"

// Convention says which pixels a box covers, in the words of the code base
// that a model comes from. It changes what a detector computes: widths in the
// coder, overlaps in the suppression and the image's edge.
type Convention string

const (
	// Continuous boxes are [X0,X1)×[Y0,Y1): torchvision, detectron2, mmdetection.
	Continuous Convention = ""
	// Caffe's corners are pixels that belong to the box: widths are X1−X0+1.
	// Decoding puts X1 at the centre plus half the width, without −1, which is
	// asymmetric, and what the published models were trained and scored with
	// (py-faster-rcnn, jwyang's PyTorch version).
	Caffe Convention = "caffe"
	// Detectron is the same, but X1 is at the centre plus half the width less 1.
	Detectron Convention = "detectron"
)

// Validate reports whether the convention is a known one.
func (c Convention) Validate() error {
	switch c {
	case Continuous, Caffe, Detectron:
		return nil
	}
	return fmt.Errorf("box convention %q is none of \"\", %q, %q", string(c), string(Caffe), string(Detectron))
}

// Extra is what X1−X0 lacks of a width: 1 where the corners belong to the box.
func (c Convention) Extra() float32 {
	if c == Continuous {
		return 0
	}
	return 1
}

// Of returns the box in this convention that covers what a continuous one does.
func (c Convention) Of(b Box) Box {
	return Box{b.X0, b.Y0, b.X1 - c.Extra(), b.Y1 - c.Extra()}
}

// Clip returns b cut to an image of the given size, whose last pixel is where
// corners that belong to a box end.
func (c Convention) Clip(b Box, width, height float32) Box {
	return b.Clip(width-c.Extra(), height-c.Extra())
}

// IoU returns the intersection over the union as the convention counts.
func (c Convention) IoU(a, b Box) float32 {
	if c == Continuous {
		return IoU(a, b)
	}
	return inclusiveIoU(a, b, inclusiveArea(a), inclusiveArea(b))
}

func inclusiveArea(b Box) float32 { return float32((b.X1 - b.X0 + 1) * (b.Y1 - b.Y0 + 1)) }

func inclusiveIoU(a, b Box, areaA, areaB float32) float32 {
	w := max(0, min(a.X1, b.X1)-max(a.X0, b.X0)+1)
	h := max(0, min(a.Y1, b.Y1)-max(a.Y0, b.Y0)+1)
	inter := float32(w * h)
	return inter / (areaA + areaB - inter)
}
