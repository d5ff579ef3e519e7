package roihead

import (
	"math"

	"resdet/internal/box"
)

// Detector turns the head's outputs into detections. It keeps its scratch
// memory, so that the steady state allocates nothing; use it from one
// goroutine at a time.
type Detector struct {
	cfg     Config
	classes int

	probs  []float32
	boxes  []box.Box
	scores []float32
	groups []int
	keep   []int
	nms    box.Suppressor
}

// NewDetector returns a Detector for a valid configuration and K classes.
func NewDetector(cfg Config, classes int) *Detector {
	return &Detector{cfg: cfg, classes: classes, probs: make([]float32, 1+classes), nms: box.Suppressor{Convention: cfg.Boxes}}
}

// coder returns how the head's deltas are encoded.
func (c Config) coder() box.Coder { return box.Coder{Weights: c.BoxWeights, Convention: c.Boxes} }

// Settings are what may change from one image to the next.
type Settings struct {
	Score float32 // least score
	NMS   float32 // overlap above which the lesser of two of one class is dropped
	Max   int     // most detections of an image
	// Only lists the classes that are wanted; nil: all.
	Only []int
}

// Settings returns the configuration's own settings.
func (c Config) Settings() Settings { return Settings{Score: c.Score, NMS: c.NMS, Max: c.Max} }

// Detect appends to dst the detections of one image, best first: those of its
// proposals, whose logits [R 1+K] and deltas [R 4(1+K)], or [R 4], are given
// row by row.
// Boxes are network pixels, clipped to the view. It follows torchvision's
// RoIHeads.postprocess_detections; only boxes whose score passes are decoded.
func (d *Detector) Detect(dst []Detection, view View, proposals []Proposal, logits, deltas []float32, s Settings) []Detection {
	d.boxes, d.scores, d.groups = d.boxes[:0], d.scores[:0], d.groups[:0]
	coder := d.cfg.coder()
	w, h := float32(view.ScaledWidth), float32(view.ScaledHeight)
	original := d.cfg.Boxes != box.Continuous
	if original {
		w, h = float32(view.Width), float32(view.Height)
	}
	extra := d.cfg.Boxes.Extra()
	rows, columns := 1+d.classes, d.cfg.Columns(d.classes)
	first := d.cfg.Row(0, d.classes)
	for i, p := range proposals {
		d.softmax(logits[i*rows:][:rows])
		row := deltas[i*columns:][:columns]
		ref := p.Box
		if original {
			ref = view.Undo(ref)
		}
		for class := range d.classes {
			score := d.probs[first+class]
			if !(score > s.Score) || !s.wants(class) {
				continue
			}
			t := row[d.cfg.Column(class, d.classes):][:4]
			b := d.cfg.Boxes.Clip(coder.Decode(ref, box.Delta{DX: t[0], DY: t[1], DW: t[2], DH: t[3]}), w, h)
			if !(b.Width()+extra >= d.cfg.MinSize && b.Height()+extra >= d.cfg.MinSize) || !b.Finite() {
				continue
			}
			d.boxes = append(d.boxes, b)
			d.scores = append(d.scores, score)
			d.groups = append(d.groups, class)
		}
	}
	d.keep = d.nms.Batched(d.keep[:0], d.boxes, d.scores, d.groups, s.NMS, s.Max)
	for _, k := range d.keep {
		b := d.boxes[k]
		if original {
			b = view.Do(box.Box{X0: b.X0, Y0: b.Y0, X1: b.X1 + extra, Y1: b.Y1 + extra})
		}
		dst = append(dst, Detection{Class: d.groups[k], Score: d.scores[k], Box: b})
	}
	return dst
}

func (s Settings) wants(class int) bool {
	if s.Only == nil {
		return true
	}
	for _, c := range s.Only {
		if c == class {
			return true
		}
	}
	return false
}

// softmax puts exp(v−max)/Σ into d.probs.
func (d *Detector) softmax(logits []float32) {
	top := logits[0]
	for _, v := range logits {
		top = max(top, v)
	}
	var sum float32
	for i, v := range logits {
		e := float32(math.Exp(float64(v - top)))
		d.probs[i] = e
		sum += e
	}
	for i := range d.probs {
		d.probs[i] /= sum
	}
}
