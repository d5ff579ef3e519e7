package ref

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"runtime"

	"resdet/internal/device"
	"resdet/internal/nd"
	"resdet/internal/nn"
)

// errClosed is what a closed device and its programs answer.
var errClosed = errors.New("ref: the device is closed")

// Open returns a device in float32 on the given number of threads; below 1:
// GOMAXPROCS. Kept outputs stay good until another program that keeps some
// runs, unless it is bound to them.
func Open(threads int) device.Device {
	if threads < 1 {
		threads = runtime.GOMAXPROCS(0)
	}
	return &host{
		name:   fmt.Sprintf("ref (plain Go, %d threads)", threads),
		turn:   make(chan struct{}, 1),
		engine: newEngine[float32](threads),
	}
}

// host implements device.Device.
type host struct {
	name    string
	turn    chan struct{}    // holds a token while somebody compiles or runs
	engine  *engine[float32] // nil once closed
	sources []device.Params  // whose parameters are packed; the index is their name
}

func (d *host) Name() string { return d.name }

// precisions are those of package nn, emulated: what comes out is what a device
// that has them computes, in the time of float32.
var precisions = []nn.Precision{nn.F32, nn.BF16, nn.Int8}

func (d *host) Precisions() []nn.Precision { return precisions }

func (d *host) Auto() nn.Precision { return nn.F32 }

// Pays is always true: that the reference rounds is all that it is for.
func (d *host) Pays(nn.Precision, *nn.Graph, nn.Value) bool { return true }

func (d *host) LargestWeight(*nn.Graph, nn.Value, nn.Numbers) float32 { return 127 }

func (d *host) release() { <-d.turn }

func (d *host) Close() error {
	d.turn <- struct{}{}
	defer d.release()
	d.engine, d.sources = nil, nil
	return nil
}

func (d *host) Compile(g *nn.Graph, params device.Params, from map[string]device.Buffer) (device.Program, error) {
	d.turn <- struct{}{}
	defer d.release()
	if d.engine == nil {
		return nil, errClosed
	}
	if params == nil {
		params = device.MapParams{}
	}
	bound, err := d.places(g, from)
	if err != nil {
		return nil, err
	}
	return d.compile(g, params, binding[float32]{places: bound})
}

func (d *host) compile(g *nn.Graph, params device.Params, bound binding[float32]) (*compiled, error) {
	p, err := d.engine.compile(g, d.source(params), params.Param, bound)
	if err != nil {
		return nil, fmt.Errorf("ref: %w", err)
	}
	c := &compiled{host: d, program: p}
	for i, v := range g.Inputs {
		var b device.Buffer
		if name := g.InputName(i); !bound.has(name) {
			b = &buffer{host: d, shape: g.Nodes[v].Shape, data: p.inputs[i]}
		}
		c.inputs = append(c.inputs, b)
	}
	for i, o := range g.Outputs {
		var b device.Buffer
		if !bound.has(o.Name) {
			b = &buffer{host: d, shape: g.Nodes[o.Value].Shape, data: p.outputs[i], kept: p.kept[i]}
		}
		c.outputs = append(c.outputs, b)
	}
	return c, nil
}

// source returns the number under which the parameters of p are packed. The
// device holds p, so that no other one can take its address.
func (d *host) source(p device.Params) int {
	for i, q := range d.sources {
		if same(p, q) {
			return i
		}
	}
	d.sources = append(d.sources, p)
	return len(d.sources) - 1
}

// same reports whether p and q are one object.
func same(p, q device.Params) bool {
	a, b := reflect.ValueOf(p), reflect.ValueOf(q)
	if !a.IsValid() || !b.IsValid() || a.Type() != b.Type() {
		return false
	}
	if a.Kind() == reflect.Map {
		return a.Pointer() == b.Pointer()
	}
	return a.Comparable() && b.Comparable() && p == q
}

// places returns where the buffers that inputs of g are bound to lie.
func (d *host) places(g *nn.Graph, bound map[string]device.Buffer) (map[string]place, error) {
	at := map[string]place{}
	for i, v := range g.Inputs {
		name := g.InputName(i)
		b, ok := bound[name]
		if !ok {
			continue
		}
		place, err := d.place(name, g.Nodes[v].Shape, b)
		if err != nil {
			return nil, err
		}
		at[name] = place
	}
	if len(at) < len(bound) {
		for name := range bound {
			if _, ok := at[name]; !ok {
				return nil, fmt.Errorf("ref: the graph has no input %q to bind", name)
			}
		}
	}
	return at, nil
}

func (d *host) place(name string, shape nd.Shape, b device.Buffer) (place, error) {
	kept, ok := b.(*buffer)
	if !ok || kept.host != d || !kept.kept.kept {
		return place{}, fmt.Errorf("ref: input %q: not a kept output of this device", name)
	}
	if !kept.shape.Equal(shape) {
		return place{}, fmt.Errorf("ref: input %q: a buffer of shape %v is bound, the network wants %v", name, kept.shape, shape)
	}
	return kept.kept, nil
}

// compiled implements device.Program.
type compiled struct {
	host            *host
	program         *program[float32] // nil once closed
	inputs, outputs []device.Buffer
}

func (c *compiled) Input(i int) device.Buffer  { return c.inputs[i] }
func (c *compiled) Output(i int) device.Buffer { return c.outputs[i] }

func (c *compiled) Run(ctx context.Context, bound map[string]device.Buffer) error {
	return c.turn(ctx, func() error {
		if err := c.bind(bound); err != nil {
			return err
		}
		return c.program.run(ctx)
	})
}

// turn does run when it is this program's turn.
func (c *compiled) turn(ctx context.Context, run func() error) error {
	select {
	case c.host.turn <- struct{}{}:
		defer c.host.release()
	case <-ctx.Done():
		return ctx.Err()
	}
	if c.host.engine == nil {
		return errClosed
	}
	if c.program == nil {
		return errors.New("ref: the program is closed")
	}
	return run()
}

// bind points the bound inputs to their buffers.
func (c *compiled) bind(bound map[string]device.Buffer) error {
	p := c.program
	wanted := 0
	for i, v := range p.graph.Inputs {
		if c.inputs[i] != nil {
			continue
		}
		wanted++
		name := p.graph.InputName(i)
		b, ok := bound[name]
		if !ok {
			return fmt.Errorf("ref: input %q is not bound", name)
		}
		at, err := c.host.place(name, p.graph.Nodes[v].Shape, b)
		if err != nil {
			return err
		}
		for _, k := range p.kept {
			if k.kept && at.offset < k.offset+k.size && k.offset < at.offset+at.size {
				return fmt.Errorf("ref: input %q: bound to memory that this program writes; compile it with this buffer", name)
			}
		}
		p.values[v] = p.engine.kept[at.offset : at.offset+at.size]
	}
	if len(bound) > wanted {
		return fmt.Errorf("ref: %d buffers are bound, the program was compiled for %d", len(bound), wanted)
	}
	return nil
}

func (c *compiled) Steps() []device.Step {
	c.host.turn <- struct{}{}
	defer c.host.release()
	if c.program == nil {
		return nil
	}
	steps := make([]device.Step, len(c.program.steps))
	for i, s := range c.program.steps {
		steps[i] = s.info
	}
	return steps
}

func (c *compiled) Close() {
	c.host.turn <- struct{}{}
	defer c.host.release()
	c.program = nil
}

// buffer implements device.Buffer.
type buffer struct {
	host  *host
	shape nd.Shape
	data  []float32 // nil: kept
	kept  place
}

func (b *buffer) Shape() nd.Shape { return b.shape }
func (b *buffer) Data() []float32 { return b.data }
