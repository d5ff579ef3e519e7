//go:build cgo && linux && amd64 && !noonednn

package cpu

import (
	"context"
	"fmt"

	"resdet/internal/device"
	"resdet/internal/device/plan"
	"resdet/internal/nd"
	"resdet/internal/nn"
	"resdet/internal/onednn"
)

// shared is a [device.Array]. Its memory is padded with zeros to 32 floats, as
// kernels read what they add to channels.
type shared struct {
	d      *Device
	shape  nd.Shape
	block  *onednn.Block
	closed bool
}

func (a *shared) Shape() nd.Shape { return a.shape }
func (a *shared) Data() []float32 { return a.block.Floats()[:a.shape.Len():a.shape.Len()] }

// Close releases the array. It is idempotent.
func (a *shared) Close() {
	a.d.mu.Lock()
	defer a.d.mu.Unlock()
	if a.closed || a.d.closed {
		return
	}
	a.closed = true
	delete(a.d.shared, a)
	a.block.Free()
}

// NewArray makes an array of zeros that programs share.
func (d *Device) NewArray(shape nd.Shape) (device.Array, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil, fmt.Errorf("cpu: %w", errClosed)
	}
	block, err := onednn.Alloc(int64(shape.Len()+31) / 32 * 32 * 4)
	if err != nil {
		return nil, fmt.Errorf("cpu: %w", err)
	}
	clear(block.Floats())
	a := &shared{d: d, shape: shape.Clone(), block: block}
	d.shared[a] = struct{}{}
	return a, nil
}

// CompileStep prepares a training step; see [device.Trainer].
func (d *Device) CompileStep(g *nn.Graph, params device.Params, arrays map[string]device.Array) (device.StepProgram, error) {
	if err := g.CheckNumbers(d.Precisions()); err != nil {
		return nil, fmt.Errorf("cpu: %w", err)
	}
	own, names, err := d.arraysOf(g, arrays)
	if err != nil {
		return nil, fmt.Errorf("cpu: %w", err)
	}
	pl, err := plan.NewStep(g, names)
	if err != nil {
		return nil, fmt.Errorf("cpu: %w", err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	p, err := d.compile(g, pl, params, nil, own)
	if err != nil {
		return nil, fmt.Errorf("cpu: %w", err)
	}
	return &StepProgram{p}, nil
}

// Rest gives back the arena, which is most of a step's memory, and the scratch;
// see [device.Rester].
func (d *Device) Rest() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return
	}
	d.step = nil
	d.do(d.makeRoom)
}

// arraysOf holds the given arrays against the graph's inputs and outputs.
func (d *Device) arraysOf(g *nn.Graph, arrays map[string]device.Array) (own map[string]*shared, names map[string]bool, err error) {
	own, names = map[string]*shared{}, map[string]bool{}
	shapes := map[string][]nd.Shape{}
	for _, v := range g.Inputs {
		shapes[g.Nodes[v].Name] = append(shapes[g.Nodes[v].Name], g.Nodes[v].Shape)
	}
	for _, o := range g.Outputs {
		shapes[o.Name] = append(shapes[o.Name], g.Nodes[o.Value].Shape)
	}
	for name, a := range arrays {
		s, ok := a.(*shared)
		if !ok || s.d != d || s.closed {
			return nil, nil, fmt.Errorf("%q is no open array of this device", name)
		}
		if len(shapes[name]) == 0 {
			return nil, nil, fmt.Errorf("the graph has no input or output %q that is an array", name)
		}
		for _, shape := range shapes[name] {
			if !shape.Equal(s.shape) {
				return nil, nil, fmt.Errorf("array %q is %v, in the graph it is %v", name, s.shape, shape)
			}
		}
		own[name], names[name] = s, true
	}
	return own, names, nil
}

// StepProgram is a [device.StepProgram].
type StepProgram struct{ p *Program }

// Input returns the i-th input's buffer, nil for an array.
func (s *StepProgram) Input(i int) device.Buffer { return s.p.inputs[i] }

// Output returns the i-th output's buffer, nil for an array.
func (s *StepProgram) Output(i int) device.Buffer { return s.p.outputs[i] }

// Parts returns the number of parts.
func (s *StepProgram) Parts() int { return len(s.p.code) }

// Steps describes what is executed, with the times of the last run.
func (s *StepProgram) Steps() []device.Step { return s.p.Steps() }

// Close releases what the program alone holds. It is idempotent.
func (s *StepProgram) Close() { s.p.Close() }

// RunPart executes one part; see [device.StepProgram].
func (s *StepProgram) RunPart(ctx context.Context, part int) error {
	p, d := s.p, s.p.d
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case p.closed || d.closed:
		return fmt.Errorf("cpu: the program is closed")
	case part < 0 || part >= len(p.code):
		return fmt.Errorf("cpu: part %d of %d", part, len(p.code))
	case part > 0 && (d.step != s || p.part != part-1):
		return fmt.Errorf("cpu: part %d does not follow part %d of this program", part, part-1)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	d.step, p.part = s, part
	err := d.run(ctx, p)
	if err != nil {
		d.step = nil
	}
	return err
}
