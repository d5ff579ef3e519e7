package ref

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"resdet/internal/device"
	"resdet/internal/nd"
	"resdet/internal/nn"
)

var _ device.Trainer = (*host)(nil)

// array implements device.Array.
type array struct {
	host  *host
	shape nd.Shape
	data  []float32 // nil once closed
}

func (a *array) Shape() nd.Shape { return a.shape }
func (a *array) Data() []float32 { return a.data }
func (a *array) Close()          { a.data = nil }

// NewArray implements device.Trainer.
func (d *host) NewArray(shape nd.Shape) (device.Array, error) {
	for _, n := range shape {
		if n < 1 {
			return nil, fmt.Errorf("ref: an array of shape %v is empty", shape)
		}
	}
	d.turn <- struct{}{}
	defer d.release()
	if d.engine == nil {
		return nil, errClosed
	}
	return &array{d, shape.Clone(), make([]float32, shape.Len())}, nil
}

// CompileStep implements device.Trainer.
func (d *host) CompileStep(g *nn.Graph, params device.Params, arrays map[string]device.Array) (device.StepProgram, error) {
	d.turn <- struct{}{}
	defer d.release()
	if d.engine == nil {
		return nil, errClosed
	}
	if params == nil {
		params = device.MapParams{}
	}
	bound := map[string][]float32{}
	check := func(name string, v nn.Value) error {
		a, ok := arrays[name]
		if !ok {
			return nil
		}
		mine, ok := a.(*array)
		if !ok || mine.host != d || mine.data == nil {
			return fmt.Errorf("ref: %q is bound to no open array of this device", name)
		}
		if shape := g.Nodes[v].Shape; !mine.shape.Equal(shape) {
			return fmt.Errorf("ref: %q is bound to an array of shape %v, the network has %v", name, mine.shape, shape)
		}
		bound[name] = mine.data
		return nil
	}
	for i, v := range g.Inputs {
		if err := check(g.InputName(i), v); err != nil {
			return nil, err
		}
	}
	for _, o := range g.Outputs {
		if err := check(o.Name, o.Value); err != nil {
			return nil, err
		}
	}
	for name := range arrays {
		if bound[name] == nil {
			return nil, fmt.Errorf("ref: the graph has no input or output %q to bind", name)
		}
	}
	if slices.ContainsFunc(g.Outputs, func(o nn.Output) bool { return o.Kept }) {
		return nil, errors.New("ref: a training step keeps no outputs")
	}
	c, err := d.compile(g, params, binding[float32]{arrays: bound})
	if err != nil {
		return nil, err
	}
	return &stepProgram{c, c.program.parts}, nil
}

// stepProgram implements device.StepProgram.
type stepProgram struct {
	*compiled
	parts int
}

func (s *stepProgram) Parts() int { return s.parts }

func (s *stepProgram) RunPart(ctx context.Context, part int) error {
	return s.turn(ctx, func() error { return s.program.runPart(ctx, part) })
}
