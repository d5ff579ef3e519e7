package lower

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"gorgonia.org/gorgonia"

	"resdet/internal/device"
	"resdet/internal/nd"
	"resdet/internal/nn"
)

// GradOf is the name under which the gradient of a parameter leaves a step.
func GradOf(key string) string { return "grad/" + key }

// Machine runs a step: the device's parts and the host operations between
// them. It implements gorgonia.VM.
type Machine struct {
	program device.StepProgram
	before  [][]task // host operations before each part; those after the last part last
	given   map[string][]float32
	values  map[*gorgonia.Node][]float32
}

// task is a host operation with its memory.
type task struct {
	op  *hostOperation
	in  [][]float32
	out []float32
}

var _ gorgonia.VM = (*Machine)(nil)

// Compile differentiates cost, a scalar, with respect to all trainable
// parameters and prepares the step for a device. arrays holds, for each
// trainable parameter, its value by key and its gradient by [GradOf]. Nodes in
// wanted are computed even where cost does not need them.
func (n *Net) Compile(dev device.Trainer, params device.Params, arrays map[string]device.Array, cost *gorgonia.Node, wanted ...*gorgonia.Node) (*Machine, error) {
	if len(n.trainable) == 0 {
		return nil, errors.New("lower: no parameter is to be learned")
	}
	grads, err := gorgonia.Grad(cost, n.trainable...)
	if err != nil {
		return nil, fmt.Errorf("lower: %w", err)
	}
	r := newRaising(n)
	if err := r.collect(append(append(gorgonia.Nodes{cost}, wanted...), grads...)); err != nil {
		return nil, err
	}
	graph, err := r.graph(grads)
	if err != nil {
		return nil, err
	}
	graph = graph.With(n.numerics)
	program, err := dev.CompileStep(graph, params, arrays)
	if err != nil {
		return nil, err
	}
	return r.machine(graph, program), nil
}

// raising turns gorgonia's graph back into one for a device, in parts.
//
// A host operation runs after the part that its last input is computed in; what
// needs its result belongs to a later part. The host's order follows: sampling
// after the RPN's outputs, losses after the head's.
type raising struct {
	net    *Net
	nodes  []*gorgonia.Node // needed, in the order in which they were made
	part   map[*gorgonia.Node]int
	device map[*gorgonia.Node]nn.Value // of what the device knows
	read   []*gorgonia.Node            // by the host: outputs of the graph after the gradients
}

func newRaising(n *Net) *raising {
	return &raising{net: n, part: map[*gorgonia.Node]int{}, device: map[*gorgonia.Node]nn.Value{}}
}

// before is the part of host operations that need nothing of the device: they
// run after part −1.
const before = -1

func (r *raising) children(v *gorgonia.Node) []*gorgonia.Node {
	var in []*gorgonia.Node
	for it := r.net.Graph.From(v.ID()); it.Next(); {
		in = append(in, it.Node().(*gorgonia.Node))
	}
	return in
}

func isHost(v *gorgonia.Node) bool {
	_, ok := v.Op().(*hostOperation)
	return ok || constantOf(v) != nil
}

// constantOf returns the value of a constant: gorgonia's gradient of the cost
// itself is one.
func constantOf(v *gorgonia.Node) []float32 {
	c, ok := v.Op().(interface{ Value() gorgonia.Value })
	if !ok {
		return nil
	}
	if x, ok := c.Value().Data().(float32); ok {
		return []float32{x}
	}
	return nil
}

// collect finds what roots need and the parts of it.
func (r *raising) collect(roots gorgonia.Nodes) error {
	seen := map[*gorgonia.Node]bool{}
	stack := slices.Clone(roots)
	for len(stack) > 0 {
		v := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if !seen[v] {
			seen[v] = true
			r.nodes = append(r.nodes, v)
			stack = append(stack, r.children(v)...)
		}
	}
	slices.SortFunc(r.nodes, func(a, b *gorgonia.Node) int { return int(a.ID() - b.ID()) })
	for _, v := range r.nodes {
		part := 0
		if isHost(v) {
			part = before
		}
		for _, in := range r.children(v) {
			at := r.part[in]
			switch {
			case isHost(in) && !isHost(v):
				at++
			case isLeaf(in) && isHost(v):
				at = before
			}
			part = max(part, at)
		}
		r.part[v] = part
		if !isHost(v) && !isLeaf(v) {
			if _, err := deviceOp(v); err != nil {
				return err
			}
		}
	}
	return nil
}

func isLeaf(v *gorgonia.Node) bool { return v.Op() == nil }

// deviceOp returns what a node is to a device. Sums of gradients are
// gorgonia's own.
func deviceOp(v *gorgonia.Node) (nn.Op, error) {
	if o, ok := v.Op().(*operation); ok {
		return o.op, nil
	}
	if v.Op().String() == "+ false" {
		return nn.Add{}, nil
	}
	return nil, fmt.Errorf("lower: gorgonia put %v into the graph, which no device knows", v.Op())
}

// graph builds the device's graph: the gradients are its first outputs.
func (r *raising) graph(grads gorgonia.Nodes) (*nn.Graph, error) {
	order := slices.Clone(r.nodes) // by part, then as they were made
	slices.SortStableFunc(order, func(a, b *gorgonia.Node) int { return r.part[a] - r.part[b] })
	return nn.Build(func(b *nn.Builder) {
		for _, v := range order {
			if isHost(v) {
				continue
			}
			if l, ok := r.net.leaves[v]; ok {
				if l.param && !l.trainable {
					r.device[v] = b.Param(l.name, shapeOf(v)...)
				} else {
					r.device[v] = b.Input(l.name, shapeOf(v)...)
				}
				continue
			}
			var in []nn.Value
			for _, c := range r.children(v) {
				in = append(in, r.value(b, c))
			}
			op, _ := deviceOp(v) // collect has seen that it is known
			name := v.Name()
			if _, ok := v.Op().(*operation); !ok {
				name = r.children(v)[0].Name() + ".sum"
			}
			r.device[v] = b.Apply(name, op, in...)
		}
		for i, v := range grads {
			b.Output(GradOf(r.net.leaves[r.net.trainable[i]].name), r.value(b, v))
		}
		for _, v := range order {
			if !isHost(v) {
				continue
			}
			for _, in := range r.children(v) {
				if !isHost(in) && !isLeaf(in) && !slices.Contains(r.read, in) {
					r.read = append(r.read, in)
					b.Output(uniqueName(in), r.device[in])
				}
			}
		}
	})
}

// value returns what the device's graph has for v, an input if v is the host's.
func (r *raising) value(b *nn.Builder, v *gorgonia.Node) nn.Value {
	x, ok := r.device[v]
	if !ok {
		x = b.InputBefore(r.part[v]+1, uniqueName(v), shapeOf(v)...)
		r.device[v] = x
	}
	return x
}

// uniqueName tells nodes apart that share layers: the RPN's head of each level.
func uniqueName(v *gorgonia.Node) string { return fmt.Sprintf("%s#%d", v.Name(), v.ID()) }

// machine gives every host operation its memory.
func (r *raising) machine(g *nn.Graph, program device.StepProgram) *Machine {
	m := &Machine{program: program, before: make([][]task, program.Parts()+1), given: map[string][]float32{}, values: map[*gorgonia.Node][]float32{}}
	inputs := map[nn.Value][]float32{}
	for i, v := range g.Inputs {
		if b := program.Input(i); b != nil {
			inputs[v] = b.Data()
			m.given[g.InputName(i)] = b.Data()
		}
	}
	for v := range r.net.leaves {
		if at, ok := r.device[v]; ok {
			m.values[v] = inputs[at]
		}
	}
	for i, v := range r.read {
		m.values[v] = program.Output(len(r.net.trainable) + i).Data()
	}
	for _, v := range r.nodes {
		if !isHost(v) {
			continue
		}
		if c := constantOf(v); c != nil {
			m.values[v] = c
			continue
		}
		op := v.Op().(*hostOperation)
		t := task{op: op, out: make([]float32, nd.Shape(op.Shape).Len())}
		if at, ok := r.device[v]; ok {
			t.out = inputs[at]
		}
		for _, in := range r.children(v) {
			t.in = append(t.in, m.values[in])
		}
		m.values[v] = t.out
		m.before[r.part[v]+1] = append(m.before[r.part[v]+1], t)
	}
	return m
}

// Given returns the memory of an input of the network that no node stands for,
// to be filled before a run; nil if there is none of that name.
func (m *Machine) Given(input string) []float32 { return m.given[input] }

// Value returns the result of a host operation, or of what one reads, after a
// run.
func (m *Machine) Value(v *gorgonia.Node) []float32 { return m.values[v] }

// Run executes the step once: gradients are added to their arrays. After an
// error, a cancelled context included, they hold anything.
func (m *Machine) Run(ctx context.Context) error {
	for part, tasks := range m.before {
		for _, t := range tasks {
			if err := t.op.Host.Do(t.out, t.in); err != nil {
				return fmt.Errorf("%s: %w", t.op.Name, err)
			}
		}
		if part < m.program.Parts() {
			if err := m.program.RunPart(ctx, part); err != nil {
				return err
			}
		}
	}
	return nil
}

// RunAll implements gorgonia.VM.
func (m *Machine) RunAll() error { return m.Run(context.Background()) }

// Reset implements gorgonia.VM: a run leaves nothing to reset.
func (m *Machine) Reset() {}

// Steps describes the device's part of the step, with the times of the last run.
func (m *Machine) Steps() []device.Step { return m.program.Steps() }

// Close implements gorgonia.VM. It is idempotent.
func (m *Machine) Close() error {
	m.program.Close()
	return nil
}
