// Package step is one step of training: it turns the network of packages
// backbone, rpn and roihead into losses and gradients, end to end as py-faster-rcnn does it
// (approximate joint training): the region head is trained on proposals of the
// same pass, through whose coordinates nothing is differentiated.
//
//	pixels ─▶ features ─▶ RPN logits, deltas ──▶ loss ×2   (anchors matched, sampled)
//	              │                │
//	              │            proposals ─▶ regions matched, sampled    the seam: host, no gradient
//	              └──────────────────▶ region head ─▶ loss ×2
//
// The step is one gorgonia graph (package lower), which gorgonia
// differentiates; a machine of ours compiles it for a device, and a
// gorgonia.Solver steps on the parameters, whose values and gradients are
// arrays of that device.
//
//	keys, err := model.Trainable(2)                // stages frozen
//	net, err := step.New(dev, model, cfg, params, keys)
//	losses, err := net.Step(ctx, batch)       // adds to the gradients
//	err = solver.Step(net.ValueGrads())       // []gorgonia.ValueGrad of net.Params()
//	net.Close()
package step

import (
	"errors"
	"fmt"
	"math"

	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"resdet/backbone"
	"resdet/internal/device"
	"resdet/internal/nd"
	"resdet/internal/nn"
	"resdet/roihead"
	"resdet/rpn"
)

// Model is the network: the part of a detector's configuration that a step
// needs.
type Model struct {
	Backbone backbone.Config
	RPN      rpn.Config
	ROI      roihead.Config
	Classes  int
	// Numerics says which layers are computed below float32, forward and
	// backward; values, gradients and what is learned are float32 all the same.
	Numerics nn.Numerics
}

// Validate reports what is wrong with the model.
func (m Model) Validate() error {
	if m.Classes < 1 {
		return fmt.Errorf("step: %d classes", m.Classes)
	}
	if err := m.Backbone.Validate(); err != nil {
		return err // the rest depends on it
	}
	return errors.Join(m.RPN.Validate(len(m.Backbone.Strides())), m.ROI.Validate(m.Backbone))
}

// Config says how one step computes its losses: what papers and code
// bases differ on. The zero value is not valid; see [DefaultConfig].
type Config struct {
	// Anchors says which anchors the RPN is trained on.
	Anchors rpn.TargetConfig `json:"anchors"`
	// Regions says which regions the head is trained on.
	Regions roihead.SampleConfig `json:"regions"`
	// PreNMS and PostNMS are, in training, how many anchors of a level are
	// decoded and how many proposals of an image remain: 2000 and 2000, or 12000
	// and 2000 on a single level. They stand for the model's own, which are
	// those of inference.
	PreNMS  int `json:"pre_nms"`
	PostNMS int `json:"post_nms"`
	// RPNBeta and BoxBeta are where the smooth L1 distance of the RPN's and the
	// head's deltas turns from a square to a line: 1/9 and 1/9 in torchvision,
	// 1/9 and 1 in py-faster-rcnn (sigma 3 and 1); 0, a plain L1 distance, in
	// detectron2.
	RPNBeta float64 `json:"rpn_beta"`
	BoxBeta float64 `json:"box_beta"`
	// FullBatch divides every loss by the size of a full batch, of anchors or
	// regions, instead of by how many there were (torchvision, py-faster-rcnn).
	// With small images or few proposals that weakens the loss.
	FullBatch bool `json:"full_batch,omitempty"`
	// Weights multiply the losses; all 1. The paper's λ = 10 on the RPN's boxes
	// goes with a divisor of 2,400 anchor positions and comes to the same.
	Weights LossWeights `json:"weights"`
	// Dropout is the part of fc6's and fc7's results that is dropped: 0.5 for
	// VGG-16 in py-faster-rcnn, 0 everywhere else.
	Dropout float64 `json:"dropout,omitempty"`
}

// LossWeights multiply the four losses.
type LossWeights struct {
	Classifier float64 `json:"classifier"`
	Box        float64 `json:"box"`
	Objectness float64 `json:"objectness"`
	RPNBox     float64 `json:"rpn_box"`
}

// DefaultConfig returns torchvision's choices.
func DefaultConfig() Config {
	return Config{
		Anchors: rpn.DefaultTargetConfig(),
		Regions: roihead.DefaultSampleConfig(),
		PreNMS:  2000,
		PostNMS: 2000,
		RPNBeta: 1. / 9,
		BoxBeta: 1. / 9,
		Weights: LossWeights{1, 1, 1, 1},
	}
}

// Validate reports everything that is wrong with the configuration.
func (c Config) Validate() error {
	errs := []error{c.Anchors.Validate(), c.Regions.Validate()}
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf("step: "+format, args...)) }
	if c.PreNMS < 1 || c.PreNMS > maxProposals || c.PostNMS < 1 || c.PostNMS > maxProposals {
		bad("pre_nms %d or post_nms %d is not in 1…%d", c.PreNMS, c.PostNMS, maxProposals)
	}
	if !(c.RPNBeta >= 0 && c.RPNBeta <= 10 && c.BoxBeta >= 0 && c.BoxBeta <= 10) {
		bad("rpn_beta %g or box_beta %g is not in [0, 10]", c.RPNBeta, c.BoxBeta)
	}
	for _, w := range []float64{c.Weights.Classifier, c.Weights.Box, c.Weights.Objectness, c.Weights.RPNBox} {
		if !(w >= 0 && w <= 1e6) {
			bad("the losses' weights %+v are not all in [0, 1000000]", c.Weights)
			break
		}
	}
	if !(c.Dropout >= 0 && c.Dropout < 1) {
		bad("dropout %g is not in [0, 1)", c.Dropout)
	}
	return errors.Join(errs...)
}

// maxProposals bounds what a configuration can ask for, as in package rpn.
const maxProposals = 100_000

// Losses are the four of Faster R-CNN, each divided by its count and
// multiplied by its weight.
type Losses struct {
	Classifier float64 `json:"loss_classifier"`
	Box        float64 `json:"loss_box_reg"`
	Objectness float64 `json:"loss_objectness"`
	RPNBox     float64 `json:"loss_rpn_box_reg"`
}

// Total is what is minimised.
func (l Losses) Total() float64 { return l.Classifier + l.Box + l.Objectness + l.RPNBox }

// NotFinite returns the name of the first loss that is NaN or infinite, or "".
func (l Losses) NotFinite() string {
	for _, part := range []struct {
		name  string
		value float64
	}{
		{"loss_objectness", l.Objectness},
		{"loss_rpn_box_reg", l.RPNBox},
		{"loss_classifier", l.Classifier},
		{"loss_box_reg", l.Box},
	} {
		if math.IsNaN(part.value) || math.IsInf(part.value, 0) {
			return part.name
		}
	}
	return ""
}

// Param is a trainable array with its gradient, both in memory of the device.
// It implements gorgonia.ValueGrad: a solver changes the value in place and
// zeroes the gradient, which the next steps add to.
type Param struct {
	name        string
	value, grad device.Array
	valueTensor *tensor.Dense
	gradTensor  *tensor.Dense
}

func newParam(dev device.Trainer, name string, shape nd.Shape) (*Param, error) {
	value, err := dev.NewArray(shape)
	if err != nil {
		return nil, err
	}
	grad, err := dev.NewArray(shape)
	if err != nil {
		value.Close()
		return nil, err
	}
	dense := func(a device.Array) *tensor.Dense {
		return tensor.New(tensor.WithShape(shape...), tensor.WithBacking(a.Data()))
	}
	return &Param{name, value, grad, dense(value), dense(grad)}, nil
}

// Name is the parameter's key in checkpoints.
func (p *Param) Name() string { return p.name }

// Shape is that of both arrays.
func (p *Param) Shape() nd.Shape { return p.value.Shape() }

// Data returns the value's elements, row-major; they may be changed between
// steps.
func (p *Param) Data() []float32 { return p.value.Data() }

// Gradient returns the gradient's elements, row-major: the sum over the steps
// since it was zeroed.
func (p *Param) Gradient() []float32 { return p.grad.Data() }

// Value implements gorgonia.Valuer.
func (p *Param) Value() gorgonia.Value { return p.valueTensor }

// Grad implements gorgonia.ValueGrad.
func (p *Param) Grad() (gorgonia.Value, error) { return p.gradTensor, nil }

func (p *Param) close() {
	p.value.Close()
	p.grad.Close()
}

var _ gorgonia.ValueGrad = (*Param)(nil)
