//go:build cgo && linux && amd64 && !noonednn

package cpu

import (
	"context"
	"fmt"

	"resdet/internal/device"
	"resdet/internal/nd"
	"resdet/internal/onednn"
)

// Program is a [device.Program].
type Program struct {
	d       *Device
	inputs  []device.Buffer
	outputs []device.Buffer
	bound   []boundInput
	depth   int // of kept outputs: 1 + the deepest of what it reads

	code       []*onednn.Program // of every part
	steps      []device.Step
	need       [onednn.Regions]int64    // bytes of every region
	bases      *[onednn.Regions]uintptr // an allocation of its own: C may be shown memory without Go pointers only
	primitives []*onednn.Primitive
	weights    []packedKey
	hosts      []*onednn.Block
	closed     bool

	part    int    // that execute runs
	execute func() // made once: a run allocates nothing
	err     error  // of the last execute
}

type boundInput struct {
	name   string
	shape  nd.Shape
	layout onednn.Layout
	number number
}

// host is a dense array in memory that the host reads and writes.
type host struct {
	shape nd.Shape
	data  []float32
	block *onednn.Block
}

func (h *host) Shape() nd.Shape { return h.shape }
func (h *host) Data() []float32 { return h.data }

// kept is an output that stays on the device.
type kept struct {
	program *Program
	shape   nd.Shape
	layout  onednn.Layout
	number  number
	buf     *buf
}

func (k *kept) Shape() nd.Shape { return k.shape }
func (k *kept) Data() []float32 { return nil }

// Input returns the i-th input's buffer, nil for one bound to a kept output.
func (p *Program) Input(i int) device.Buffer { return p.inputs[i] }

// Output returns the i-th output's buffer.
func (p *Program) Output(i int) device.Buffer { return p.outputs[i] }

// Run executes the program; see [device.Program].
func (p *Program) Run(ctx context.Context, bound map[string]device.Buffer) error {
	p.d.mu.Lock()
	defer p.d.mu.Unlock()
	if p.closed || p.d.closed {
		return fmt.Errorf("cpu: the program is closed")
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	for i, b := range p.bound {
		k, ok := bound[b.name].(*kept)
		if !ok || k.program.d != p.d {
			return fmt.Errorf("cpu: input %q wants a kept output of this device", b.name)
		}
		if !k.shape.Equal(b.shape) || k.layout != b.layout || k.number != b.number {
			return fmt.Errorf("cpu: input %q is %v in %v %+v, the program was compiled for %v in %v %+v", b.name, k.shape, k.layout, k.number, b.shape, b.layout, b.number)
		}
		r := &p.d.regions[k.buf.region]
		if r.owner != k.program {
			return fmt.Errorf("cpu: input %q was overwritten by a later run of another program", b.name)
		}
		p.bases[firstBound+i] = r.block.Address() + uintptr(k.buf.offset)
	}
	p.d.step = nil // what the arena held
	return p.d.run(ctx, p)
}

// exec runs on the device's thread.
func (p *Program) exec() {
	d := p.d
	for i := range p.need {
		if p.need[i] == 0 {
			continue
		}
		if p.err = d.regions[i].grow(p.need[i]); p.err != nil {
			return
		}
		p.bases[i] = d.regions[i].block.Address()
	}
	keeps := &d.regions[firstKept+p.depth]
	if p.need[firstKept+p.depth] > 0 {
		keeps.owner = nil
	}
	if p.err = p.code[p.part].Run(p.bases, d.cancel); p.err == nil && p.need[firstKept+p.depth] > 0 {
		keeps.owner = p
	}
}

// Steps describes what is executed, with the times of the last Run.
func (p *Program) Steps() []device.Step {
	steps := append([]device.Step(nil), p.steps...)
	i := 0
	for _, code := range p.code {
		for j := range code.Steps() {
			steps[i].Time = code.Time(j)
			i++
		}
	}
	return steps
}

// Close releases what the program alone holds. It is idempotent.
func (p *Program) Close() {
	d := p.d
	d.mu.Lock()
	defer d.mu.Unlock()
	if p.closed || d.closed {
		return
	}
	d.weights.mu.Lock()
	defer d.weights.mu.Unlock()
	d.do(func() {
		p.release()
		delete(d.programs, p)
		d.trim()
	})
}

// release frees the program's native memory. d.weights.mu is held.
func (p *Program) release() {
	p.closed = true
	for _, code := range p.code {
		code.Close()
	}
	for _, c := range p.primitives {
		c.Close()
	}
	for _, key := range p.weights {
		p.d.weights.drop(key)
	}
	for _, b := range p.hosts {
		b.Free()
	}
}
