package rpn

import (
	"math"
	"slices"

	"resdet/internal/box"
)

// coder decodes the head's deltas; the RPN has no weights (Ren et al. 2015,
// equation 2).
var coder = box.Coder{Weights: [4]float32{1, 1, 1, 1}}

// Level is what the head says about one feature level, for N images: dense
// rows of logits [N A H W] and deltas [N 4A H W].
type Level struct {
	Grid           Grid
	Logits, Deltas []float32
}

// Proposer turns the head's outputs into proposals. It keeps its scratch
// memory, so that the steady state allocates nothing; use it from one
// goroutine at a time.
type Proposer struct {
	cfg Config

	best   []uint64 // anchors to decode: ^ordered(logit), then the index in Grid order (y, x, a)
	counts []uint32
	boxes  []Box
	scores []float32
	groups []int
	keep   []int
	nms    box.Suppressor
}

// NewProposer returns a Proposer for a valid configuration.
func NewProposer(cfg Config) *Proposer {
	return &Proposer{cfg: cfg, nms: box.Suppressor{Convention: cfg.Boxes}}
}

// Propose appends the proposals of every image of the batch to dst, image by
// image, best first: at most cfg.PostNMS each, clipped to the image's scaled
// size. It follows torchvision's RegionProposalNetwork.filter_proposals; the
// sigmoid and the decoding are done for the chosen anchors only.
func (p *Proposer) Propose(dst []Proposal, levels []Level, views []View) []Proposal {
	for image, view := range views {
		p.boxes, p.scores, p.groups = p.boxes[:0], p.scores[:0], p.groups[:0]
		for i, level := range levels {
			p.decode(level, i, image, view)
		}
		p.keep = p.nms.Batched(p.keep[:0], p.boxes, p.scores, p.groups, p.cfg.NMS, p.cfg.PostNMS)
		for _, k := range p.keep {
			dst = append(dst, Proposal{Image: image, Box: p.boxes[k], Score: p.scores[k]})
		}
	}
	return dst
}

// decode adds the level's best anchors of one image, decoded and clipped, if
// they are large enough.
func (p *Proposer) decode(level Level, index, image int, view View) {
	g := level.Grid
	anchors, area := len(g.Cell), g.H*g.W
	logits := level.Logits[image*anchors*area:][:anchors*area]
	deltas := level.Deltas[image*4*anchors*area:][:4*anchors*area]
	w, h := float32(view.ScaledWidth), float32(view.ScaledHeight)
	coder := box.Coder{Weights: coder.Weights, Convention: p.cfg.Boxes}
	extra, least := p.cfg.Boxes.Extra(), p.cfg.MinSize
	if p.cfg.Boxes != box.Continuous {
		least *= h / float32(view.Height)
	}
	candidates := p.cfg.PreNMS
	if p.cfg.Boxes == box.Caffe { // small ones take no place among the best
		candidates = len(logits)
	}
	p.selectBest(logits, anchors, area, candidates)
	first := len(p.boxes)
	for _, key := range p.best {
		if len(p.boxes)-first == p.cfg.PreNMS {
			break
		}
		anchor := int(uint32(key))
		a, cell := anchor%anchors, anchor/anchors
		at := 4*a*area + cell // [4A H W]
		d := box.Delta{DX: deltas[at], DY: deltas[at+area], DW: deltas[at+2*area], DH: deltas[at+3*area]}
		b := p.cfg.Boxes.Clip(coder.Decode(g.At(anchor), d), w, h)
		// The negation drops NaN too: a broken model proposes nothing.
		if !(b.Width()+extra >= least && b.Height()+extra >= least) || !b.Finite() {
			continue
		}
		p.boxes = append(p.boxes, b)
		p.scores = append(p.scores, sigmoid(logits[a*area+cell]))
		p.groups = append(p.groups, index)
	}
}

func sigmoid(v float32) float32 { return float32(1 / (1 + math.Exp(-float64(v)))) }

// buckets of selectBest: the upper 16 bits of a float's ordered pattern, a
// granularity of 1/128 of the value.
const buckets = 1 << 16

// selectBest puts the n largest logits ([A H W]) into p.best, in descending
// order, ties by Grid order. Counting the logits' upper bits finds the
// threshold in one pass over the map, so that only about n of up to 270,000
// values (800×1344) are ever compared.
func (p *Proposer) selectBest(logits []float32, anchors, area, n int) {
	p.best = p.best[:0]
	var threshold uint32
	if n < len(logits) {
		if p.counts == nil {
			p.counts = make([]uint32, buckets)
		}
		clear(p.counts)
		for _, v := range logits {
			p.counts[ordered(v+0)>>16]++ // −0 + 0 = +0: the two are equal
		}
		b := buckets - 1
		for sum := int(p.counts[b]); sum < n; sum += int(p.counts[b]) {
			b--
		}
		threshold = uint32(b) << 16
	}
	for a := range anchors {
		for cell, v := range logits[a*area:][:area] {
			if o := ordered(v + 0); o >= threshold && v == v { // not NaN
				p.best = append(p.best, uint64(^o)<<32|uint64(cell*anchors+a))
			}
		}
	}
	slices.Sort(p.best)
	p.best = p.best[:min(len(p.best), n)]
}

// ordered maps a float to an unsigned integer of the same order.
func ordered(v float32) uint32 {
	b := math.Float32bits(v)
	return b ^ (uint32(int32(b)>>31) | 1<<31) // all bits of what is negative
}

// Rois writes the proposals as the rows [image x0 y0 x1 y1] that region
// pooling wants, and zeros the rest of dst ([R 5]): rows of zeros are regions
// without extent that cost little and are not read.
func Rois(dst []float32, proposals []Proposal) {
	for i, p := range proposals {
		copy(dst[5*i:], []float32{float32(p.Image), p.Box.X0, p.Box.Y0, p.Box.X1, p.Box.Y1})
	}
	clear(dst[5*len(proposals):])
}
