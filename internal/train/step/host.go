package step

import (
	"math/rand/v2"

	"resdet/internal/box"
	"resdet/internal/det"
	"resdet/internal/train/data"
	"resdet/internal/train/loss"
	"resdet/roihead"
	"resdet/rpn"
)

// host is what the host computes in a step: the seam between the stages and
// the losses. The truth reaches it beside the graph, whose shapes do not
// change, for the number of objects does.
type host struct {
	cfg      Config
	model    Model
	proposer *rpn.Proposer
	targeter *rpn.Targeter
	sampler  *roihead.Sampler

	// Of the step that is running.
	batch   *data.Batch
	rng     *rand.Rand
	grids   []rpn.Grid
	targets []rpn.Target
	samples []roihead.Sample

	levels    []rpn.Level
	proposals []det.Proposal
	labels    []int
}

func newHost(model Model, cfg Config) *host {
	proposals := model.RPN
	proposals.PreNMS, proposals.PostNMS = cfg.PreNMS, cfg.PostNMS
	return &host{
		cfg: cfg, model: model,
		proposer: rpn.NewProposer(proposals),
		targeter: rpn.NewTargeter(cfg.Anchors, model.RPN),
		sampler:  roihead.NewSampler(cfg.Regions, model.ROI),
	}
}

// begin chooses the anchors of a step.
func (h *host) begin(batch *data.Batch, grids []rpn.Grid) {
	h.batch, h.grids = batch, grids
	h.rng = rand.New(rand.NewPCG(batch.Seed, 0))
	h.targets = h.targeter.Targets(h.targets[:0], grids, batch.Views, batch.Truths, h.rng)
}

// sample chooses the regions of a step from the RPN's logits and deltas, level
// by level, and writes them to rois [R 5]; rows that are left over are regions
// of zeros, which no loss counts.
func (h *host) sample(rois []float32, in [][]float32) error {
	h.levels, h.proposals = h.levels[:0], h.proposals[:0]
	for i, g := range h.grids {
		h.levels = append(h.levels, rpn.Level{Grid: g, Logits: in[2*i], Deltas: in[2*i+1]})
	}
	h.proposals = h.proposer.Propose(h.proposals, h.levels, h.batch.Views)
	h.samples = h.sampler.Sample(h.samples[:0], h.proposals, h.batch.Truths, h.rng)
	h.proposals, h.labels = h.proposals[:0], h.labels[:0]
	for _, s := range h.samples {
		h.proposals = append(h.proposals, s.Proposal)
		h.labels = append(h.labels, h.model.ROI.Row(s.Class, h.model.Classes))
	}
	rpn.Rois(rois, h.proposals)
	return nil
}

// anchorScale is what the RPN's losses are multiplied by.
func (h *host) anchorScale(weight float64) float64 {
	return h.scale(weight, len(h.targets), h.cfg.Anchors.Batch)
}

// regionScale is what the region head's losses are multiplied by.
func (h *host) regionScale(weight float64) float64 {
	return h.scale(weight, len(h.samples), h.cfg.Regions.Batch)
}

func (h *host) scale(weight float64, count, batch int) float64 {
	if h.cfg.FullBatch {
		count = batch * len(h.batch.Views)
	}
	return weight / float64(max(count, 1))
}

// A term computes one of the losses from its inputs, times scale. Where grads
// has an array, it adds times·∂loss/∂input to it.
type term func(in, grads [][]float32, times float64) float64

// objectness is the binary cross entropy of the chosen anchors' logits.
func (h *host) objectness(in, grads [][]float32, times float64) float64 {
	scale := h.anchorScale(h.cfg.Weights.Objectness)
	var sum float64
	for _, t := range h.targets {
		var y [1]float32
		if t.Positive {
			y[0] = 1
		}
		sum += loss.BinaryCrossEntropy(in[t.Level][t.Logit:][:1], y[:], part(grads, t.Level, t.Logit, 1), scale*times)
	}
	return scale * sum
}

// rpnBox is the smooth L1 distance of the positive anchors' deltas.
func (h *host) rpnBox(in, grads [][]float32, times float64) float64 {
	scale := h.anchorScale(h.cfg.Weights.RPNBox)
	var sum float64
	for _, t := range h.targets {
		if !t.Positive {
			continue
		}
		for i, want := range numbers(t.Want) {
			at := t.Delta + i*t.Step
			sum += loss.SmoothL1(in[t.Level][at:][:1], []float32{want}, h.cfg.RPNBeta, part(grads, t.Level, at, 1), scale*times)
		}
	}
	return scale * sum
}

// classifier is the cross entropy of the chosen regions' logits [R 1+K].
func (h *host) classifier(in, grads [][]float32, times float64) float64 {
	scale := h.regionScale(h.cfg.Weights.Classifier)
	n := len(h.samples) * (1 + h.model.Classes)
	return scale * loss.CrossEntropy(in[0][:n], h.labels, part(grads, 0, 0, n), scale*times)
}

// box is the smooth L1 distance of the deltas of those regions that are
// objects, each for its own class.
func (h *host) box(in, grads [][]float32, times float64) float64 {
	scale := h.regionScale(h.cfg.Weights.Box)
	width := h.model.ROI.Columns(h.model.Classes)
	var sum float64
	for r, s := range h.samples {
		if s.Class < 0 {
			continue
		}
		at := r*width + h.model.ROI.Column(s.Class, h.model.Classes)
		want := numbers(s.Want)
		sum += loss.SmoothL1(in[0][at:][:4], want[:], h.cfg.BoxBeta, part(grads, 0, at, 4), scale*times)
	}
	return scale * sum
}

// part returns n elements of an input's gradient, nil where none is wanted.
func part(grads [][]float32, input, at, n int) []float32 {
	if grads == nil || grads[input] == nil {
		return nil
	}
	return grads[input][at:][:n]
}

func numbers(d box.Delta) [4]float32 { return [4]float32{d.DX, d.DY, d.DW, d.DH} }

// drop fills a dropout's mask: 0 for the part that is dropped, and what keeps
// the mean for the rest.
func (h *host) drop(mask []float32) {
	keep := float32(1 / (1 - h.cfg.Dropout))
	limit := uint32(h.cfg.Dropout * (1 << 32))
	for i := range mask {
		mask[i] = keep
		if h.rng.Uint32() < limit {
			mask[i] = 0
		}
	}
}
