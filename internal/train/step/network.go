package step

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"gorgonia.org/gorgonia"

	"resdet/internal/device"
	"resdet/internal/nd"
	"resdet/internal/nn"
	"resdet/internal/train/data"
	"resdet/internal/train/lower"
	"resdet/rpn"
)

// maxShapes bounds how many input shapes have programs at a time: a data set
// resized to one short side has about twenty.
const maxShapes = 24

// Network is a detector that learns. Use it from one goroutine at a time.
type Network struct {
	dev    device.Trainer
	model  Model
	cfg    Config
	params device.Params
	learn  []*Param
	arrays map[string]device.Array
	host   *host
	cache  []*program // most recently used last
}

// New prepares the network. Its initial values come from params, which is
// used, for what is frozen, until the network is closed; trainable lists the
// keys of what is learned, see [Model.Trainable]. The device is the caller's.
func New(dev device.Trainer, model Model, cfg Config, params device.Params, trainable []string) (*Network, error) {
	if err := errors.Join(cfg.Validate(), model.Validate()); err != nil {
		return nil, err
	}
	g, err := model.build(1, 64, 64, 1, false)
	if err != nil {
		return nil, err
	}
	n := &Network{dev: dev, model: model, cfg: cfg, params: params, arrays: map[string]device.Array{}, host: newHost(model, cfg)}
	for _, spec := range g.Params() {
		if !slices.Contains(trainable, spec.Key) {
			continue
		}
		if err := n.add(spec); err != nil {
			n.Close()
			return nil, err
		}
	}
	if len(n.learn) != len(trainable) {
		n.Close()
		return nil, fmt.Errorf("step: %d of the %d trainable parameters are not the network's, or stand twice", len(trainable)-len(n.learn), len(trainable))
	}
	return n, nil
}

func (n *Network) add(spec nn.ParamSpec) error {
	initial, err := n.params.Param(spec.Key, spec.Shape)
	if err != nil {
		return err
	}
	p, err := newParam(n.dev, spec.Key, spec.Shape)
	if err != nil {
		return err
	}
	copy(p.Data(), initial)
	n.learn = append(n.learn, p)
	n.arrays[spec.Key], n.arrays[lower.GradOf(spec.Key)] = p.value, p.grad
	return nil
}

// Params returns what is learned, in the order of the network.
func (n *Network) Params() []*Param { return n.learn }

// ValueGrads returns the same for a gorgonia.Solver.
func (n *Network) ValueGrads() []gorgonia.ValueGrad {
	list := make([]gorgonia.ValueGrad, len(n.learn))
	for i, p := range n.learn {
		list[i] = p
	}
	return list
}

// Step computes the losses of a batch and adds their gradients to those of the
// parameters. All that is random follows from the batch's seed. After an error
// the gradients are zero.
func (n *Network) Step(ctx context.Context, batch *data.Batch) (Losses, error) {
	if err := n.check(batch); err != nil {
		return Losses{}, err
	}
	p, err := n.program(batch.Pixels.Shape)
	if err != nil {
		return Losses{}, err
	}
	n.host.begin(batch, p.grids)
	copy(p.machine.Given(pixelsInput), batch.Pixels.Data)
	for _, mask := range p.masks {
		n.host.drop(mask)
	}
	if err := p.machine.Run(ctx); err != nil {
		for _, l := range n.learn {
			clear(l.Gradient())
		}
		return Losses{}, err
	}
	value := func(v *gorgonia.Node) float64 { return float64(p.machine.Value(v)[0]) }
	return Losses{value(p.losses[0]), value(p.losses[1]), value(p.losses[2]), value(p.losses[3])}, nil
}

func (n *Network) check(b *data.Batch) error {
	s := b.Pixels.Shape
	if len(s) != 4 || s[1] != 3 || s[0] != len(b.Views) || s[0] != len(b.Truths) {
		return fmt.Errorf("step: pixels %v, %d views and the objects of %d images are not one batch", s, len(b.Views), len(b.Truths))
	}
	for i, truths := range b.Truths {
		for _, t := range truths {
			if t.Class < 0 || t.Class >= n.model.Classes {
				return fmt.Errorf("step: image %d of the batch has an object of class %d; there are %d", i, t.Class, n.model.Classes)
			}
			if !(t.Box.Width() > 0 && t.Box.Height() > 0) || !t.Box.Finite() {
				return fmt.Errorf("step: image %d of the batch has an object whose box %v is empty", i, t.Box)
			}
		}
	}
	return nil
}

// Steps describes the kernels of the last step, with their times; nil before
// the first.
func (n *Network) Steps() []device.Step {
	if len(n.cache) == 0 {
		return nil
	}
	return n.cache[len(n.cache)-1].machine.Steps()
}

// Rest gives back, where the device can, the memory that is needed within a
// step only; the next one takes it again. For when something large comes
// between two steps.
func (n *Network) Rest() {
	if r, ok := n.dev.(device.Rester); ok {
		r.Rest()
	}
}

// Close releases programs and parameters; the device stays open. It is
// idempotent.
func (n *Network) Close() {
	for _, p := range n.cache {
		p.machine.Close()
	}
	for _, p := range n.learn {
		p.close()
	}
	n.cache, n.learn = nil, nil
}

// program is the step compiled for one shape of the pixels.
type program struct {
	shape   nd.Shape
	grids   []rpn.Grid
	machine *lower.Machine
	losses  [4]*gorgonia.Node // in the order of Losses' fields
	masks   [][]float32
}

// program returns the one for pixels of the given shape.
func (n *Network) program(shape nd.Shape) (*program, error) {
	for i, p := range n.cache {
		if p.shape.Equal(shape) {
			n.cache = append(slices.Delete(n.cache, i, i+1), p)
			return p, nil
		}
	}
	if len(n.cache) >= maxShapes {
		n.cache[0].machine.Close()
		n.cache = slices.Delete(n.cache, 0, 1)
	}
	p, err := n.compile(shape)
	if err != nil {
		return nil, fmt.Errorf("step: %w", err)
	}
	n.cache = append(n.cache, p)
	return p, nil
}

func (n *Network) compile(shape nd.Shape) (*program, error) {
	p := &program{shape: shape.Clone()}
	g, err := n.model.build(shape[0], shape[2], shape[3], shape[0]*n.cfg.Regions.Batch, n.cfg.Dropout > 0)
	if err != nil {
		return nil, err
	}
	strides := n.model.Backbone.Strides()
	for i, o := range g.Outputs[:2*len(strides)] {
		if i%2 == 0 { // logits; deltas follow
			at, l := g.Nodes[o.Value].Shape, i/2
			p.grids = append(p.grids, n.model.RPN.Anchors.Grid(l, at[2], at[3], shape[2], shape[3], strides[l]))
		}
	}
	net, err := lower.New(g, func(key string) bool { return n.arrays[key] != nil }, n.seam(shape[0]))
	if err != nil {
		return nil, err
	}
	cost, err := n.cost(p, net)
	if err != nil {
		return nil, err
	}
	if p.machine, err = net.Compile(n.dev, n.params, n.arrays, cost); err != nil {
		return nil, err
	}
	for i := range g.Inputs {
		if name := g.InputName(i); strings.HasSuffix(name, maskInput) {
			p.masks = append(p.masks, p.machine.Given(name))
		}
	}
	return p, nil
}

// seam puts the host's sampling where the network wants regions.
func (n *Network) seam(images int) lower.Given {
	return func(net *lower.Net, input string) (*gorgonia.Node, error) {
		if input != roisInput {
			return nil, nil
		}
		var in []*gorgonia.Node
		for i := range n.model.Backbone.Strides() {
			for _, name := range []string{logitsOutput(i), deltasOutput(i)} {
				v, err := net.Output(name)
				if err != nil {
					return nil, err
				}
				in = append(in, v)
			}
		}
		return net.Host(lower.Host{Name: "sample", Shape: nd.Shape{images * n.cfg.Regions.Batch, 5}, Do: n.host.sample}, in...)
	}
}

// cost adds the losses to the graph and returns their sum.
func (n *Network) cost(p *program, net *lower.Net) (*gorgonia.Node, error) {
	var logits, deltas []string
	for i := range p.grids {
		logits, deltas = append(logits, logitsOutput(i)), append(deltas, deltasOutput(i))
	}
	for i, l := range []struct {
		name    string
		compute term
		in      []string
	}{
		{"loss_classifier", n.host.classifier, []string{scoresOutput}},
		{"loss_box_reg", n.host.box, []string{boxesOutput}},
		{"loss_objectness", n.host.objectness, logits},
		{"loss_rpn_box_reg", n.host.rpnBox, deltas},
	} {
		in := make([]*gorgonia.Node, len(l.in))
		for j, name := range l.in {
			var err error
			if in[j], err = net.Output(name); err != nil {
				return nil, err
			}
		}
		var err error
		if p.losses[i], err = net.Host(lossOf(l.name, l.compute, in), in...); err != nil {
			return nil, err
		}
	}
	return net.Host(total(), p.losses[:]...)
}

// lossOf makes a host operation of a loss.
func lossOf(name string, compute term, in []*gorgonia.Node) lower.Host {
	return lower.Host{
		Name: name,
		Do: func(out []float32, in [][]float32) error {
			out[0] = float32(compute(in, nil, 0))
			return nil
		},
		Grad: func(input int) lower.Host {
			return lower.Host{
				Name:  fmt.Sprint(name, ".d", input),
				Shape: nd.Shape(in[input].Shape()),
				Do: func(out []float32, args [][]float32) error {
					clear(out)
					grads := make([][]float32, len(in))
					grads[input] = out
					compute(args[:len(in)], grads, float64(args[len(in)][0]))
					return nil
				},
			}
		},
	}
}

// total is the sum of the losses.
func total() lower.Host {
	return lower.Host{
		Name: "loss",
		Do: func(out []float32, in [][]float32) error {
			out[0] = 0
			for _, l := range in {
				out[0] += l[0]
			}
			return nil
		},
		Grad: func(int) lower.Host {
			return lower.Host{Name: "loss.d", Do: func(out []float32, args [][]float32) error {
				out[0] = args[len(args)-1][0]
				return nil
			}}
		},
	}
}
