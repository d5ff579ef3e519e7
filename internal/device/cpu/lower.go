//go:build cgo && linux && amd64 && !noonednn

package cpu

import (
	"fmt"
	"runtime/debug"

	"resdet/internal/device"
	"resdet/internal/device/plan"
	"resdet/internal/nd"
	"resdet/internal/nn"
	"resdet/internal/onednn"
)

// lowering turns a plan's steps into native ones: it chooses algorithms and
// layouts, inserts reorders where a value is wanted in another layout than it
// has, and places every buffer.
type lowering struct {
	d       *Device
	given   device.Params
	params  device.Params // given, remembered
	id      any           // of given
	plan    *plan.Plan
	program *Program
	arrays  [][]*array // of every value, one for each layout that it exists in
	homes   []home
	ops     []op
	scratch int64
	staging *onednn.Block // see stage
	bufs    []*buf        // in the arena
	fused   []*plan.Step  // that an earlier step computes too

	regional map[plan.Value]bool // values of pooled regions

	packedBytes int64 // of weights packed for this program
}

// array is a value in one layout.
type array struct {
	onednn.Array
	buf *buf
}

// buf is a piece of memory; several arrays may lie in it, one after the other.
type buf struct {
	region      int
	offset      int64
	size        int64
	first, last int // ops that use it
}

func (b *buf) ref() onednn.Ref { return onednn.Ref{Region: b.region, Offset: b.offset} }

// home says where a value must lie: nowhere in particular (the arena), in the
// memory of kept outputs, or in a host output.
type home struct {
	kept bool
	host *host
}

// op is a native step. One of conv, reorder and kernel is set.
type op struct {
	conv, reorder *onednn.Primitive
	kernel        *onednn.Kernel
	src           []*buf
	dst           *buf
	weights, bias *onednn.Block
	step          device.Step
}

func (d *Device) lower(g *nn.Graph, pl *plan.Plan, params device.Params, from map[string]device.Buffer) (_ *Program, err error) {
	p := &Program{d: d, bases: new([onednn.Regions]uintptr)}
	p.execute = p.exec
	l := &lowering{d: d, given: params, plan: pl, program: p, arrays: make([][]*array, len(pl.Values)), homes: make([]home, len(pl.Values)), regional: map[plan.Value]bool{}}
	if params != nil {
		l.params, l.id = remembered{params, map[string][]float32{}}, identity(params)
	}
	defer func() {
		// params is anybody's code, on a thread where nobody could recover.
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v", r)
		}
		if err != nil {
			p.release()
		}
		if l.staging != nil {
			l.staging.Free()
		} else if l.packedBytes >= largeWeights {
			debug.FreeOSMemory() // what params made for us is garbage now
		}
	}()
	if err := l.inputs(g, from); err != nil {
		return nil, err
	}
	if err := l.outputs(); err != nil {
		return nil, err
	}
	for i := range pl.Steps {
		s := &pl.Steps[i]
		if err := l.step(s); err != nil {
			return nil, fmt.Errorf("%s: %s: %w", s.Name, s.Op, err)
		}
	}
	if err := l.export(); err != nil {
		return nil, err
	}
	l.place()
	return p, l.emit()
}

// inputs makes a host array of every input, or binds it.
func (l *lowering) inputs(g *nn.Graph, from map[string]device.Buffer) error {
	p := l.program
	for _, v := range l.plan.Inputs {
		info := l.plan.Values[v]
		b, ok := from[info.Name]
		if !ok {
			h, err := l.newHost(info.Shape)
			if err != nil {
				return err
			}
			clear(h.data)
			p.inputs = append(p.inputs, h)
			l.define(v, denseLayout(info.Shape), &buf{offset: h.block.Ref(0).Offset})
			continue
		}
		k, ok := b.(*kept)
		if !ok || k.program.d != l.d {
			return fmt.Errorf("input %q: bound to what is not a kept output of this device", info.Name)
		}
		if !k.shape.Equal(info.Shape) {
			return fmt.Errorf("input %q is %v, it is bound to %v", info.Name, info.Shape, k.shape)
		}
		at := firstBound + len(p.bound)
		if at >= onednn.Regions {
			return fmt.Errorf("input %q: more than %d bound inputs", info.Name, onednn.Regions-firstBound)
		}
		p.inputs = append(p.inputs, nil)
		p.bound = append(p.bound, boundInput{info.Name, k.shape, k.layout})
		p.depth = max(p.depth, k.program.depth+1)
		l.define(v, k.layout, &buf{region: at})
	}
	if firstKept+p.depth >= firstBound {
		return fmt.Errorf("programs are bound to each other %d deep: at most %d", p.depth, firstBound-firstKept-1)
	}
	for name := range from {
		found := false
		for i := range g.Inputs {
			found = found || g.InputName(i) == name
		}
		if !found {
			return fmt.Errorf("the graph has no input %q to bind", name)
		}
	}
	return nil
}

// outputs settles where values that leave the program lie. A value that a
// convolution accumulates onto lies where the sum does.
func (l *lowering) outputs() error {
	p := l.program
	for _, o := range l.plan.Outputs {
		shape, at := l.plan.Values[o.Value].Shape, &l.homes[o.Value]
		if o.Kept {
			at.kept = true
			p.outputs = append(p.outputs, &kept{program: p, shape: shape})
			continue
		}
		if at.host == nil {
			h, err := l.newHost(shape)
			if err != nil {
				return err
			}
			at.host = h
		}
		p.outputs = append(p.outputs, at.host)
	}
	for i := len(l.plan.Steps) - 1; i >= 0; i-- {
		if s := &l.plan.Steps[i]; s.Sum != plan.None && l.homes[s.Out].kept {
			l.homes[s.Sum].kept = true
		}
	}
	return nil
}

func (l *lowering) newHost(shape nd.Shape) (*host, error) {
	block, err := onednn.Alloc(4 * int64(shape.Len()))
	if err != nil {
		return nil, err
	}
	l.program.hosts = append(l.program.hosts, block)
	return &host{shape, block.Floats()[:shape.Len():shape.Len()], block}, nil
}

// denseLayout is the layout of host arrays.
func denseLayout(s nd.Shape) onednn.Layout {
	if len(s) == 4 {
		return onednn.NCHW
	}
	return onednn.Rows
}

func (l *lowering) shape(v plan.Value) nd.Shape { return l.plan.Values[v].Shape }

// define records that v lies in b in the given layout.
func (l *lowering) define(v plan.Value, layout onednn.Layout, b *buf) *array {
	a := &array{onednn.Array{Shape: l.shape(v), Layout: layout}, b}
	l.arrays[v] = append(l.arrays[v], a)
	return a
}

// create makes room for v, where it must lie if the layout fits.
func (l *lowering) create(v plan.Value, layout onednn.Layout) *array {
	at := l.homes[v]
	size := layout.Bytes(l.shape(v))
	switch {
	case at.kept && len(l.arrays[v]) == 0:
		region := firstKept + l.program.depth
		b := &buf{region: region, offset: l.program.need[region], size: size}
		l.program.need[region] += (size + 63) / 64 * 64
		return l.define(v, layout, b)
	case at.host != nil && layout == denseLayout(l.shape(v)):
		return l.define(v, layout, &buf{offset: at.host.block.Ref(0).Offset})
	}
	b := &buf{region: arena, size: size, first: len(l.ops)}
	l.bufs = append(l.bufs, b)
	return l.define(v, layout, b)
}

// get returns v in the given layout, reordering it if it is in another.
func (l *lowering) get(v plan.Value, layout onednn.Layout) (*array, error) {
	for _, a := range l.arrays[v] {
		if a.Layout == layout {
			return a, nil
		}
	}
	src := l.arrays[v][0]
	if src.Layout == onednn.NCHW && layout == onednn.CHWn16c || src.Layout == onednn.CHWn16c && layout == onednn.NCHW {
		var err error
		if src, err = l.get(v, workLayout()); err != nil { // by way of a layout that both copies know
			return nil, err
		}
	}
	dst := l.create(v, layout)
	return dst, l.copy(dst, src, device.Step{Name: l.plan.Values[v].Name, Op: "reorder"})
}

// copy brings src, in its layout, to dst.
func (l *lowering) copy(dst, src *array, step device.Step) error {
	step.Algorithm, step.Layout, step.Shape = "reorder", dst.Layout.String(), src.Shape
	if src.Layout == onednn.CHWn16c || dst.Layout == onednn.CHWn16c { // unknown to oneDNN
		k := onednn.Pointwise(dst.Array, false, nil, nil, src.Array)
		l.add(op{kernel: k, src: []*buf{src.buf}, dst: dst.buf, step: step}, k.ScratchSize())
		return nil
	}
	r, err := l.d.engine.NewReorder(src.Shape, src.Layout, dst.Layout)
	if err != nil {
		return err
	}
	l.program.primitives = append(l.program.primitives, r)
	l.add(op{reorder: r, src: []*buf{src.buf}, dst: dst.buf, step: step}, r.ScratchSize())
	return nil
}

// add appends o, whose scratch memory is as given, and extends the lives of what it uses.
func (l *lowering) add(o op, scratch int64) {
	at := len(l.ops)
	for _, b := range o.src {
		b.last = max(b.last, at)
	}
	o.dst.last = max(o.dst.last, at)
	l.scratch = max(l.scratch, scratch)
	l.ops = append(l.ops, o)
}

// export brings host outputs that lie elsewhere to where the host reads them,
// and names the place of kept ones.
func (l *lowering) export() error {
	for i, o := range l.plan.Outputs {
		if k, ok := l.program.outputs[i].(*kept); ok {
			a := l.arrays[o.Value][0]
			k.layout, k.buf = a.Layout, a.buf
			continue
		}
		h := l.homes[o.Value].host
		at, dense := h.block.Ref(0).Offset, denseLayout(h.shape)
		var there, other *array
		for _, a := range l.arrays[o.Value] {
			if a.Layout == dense && a.buf.region == 0 && a.buf.offset == at {
				there = a
			} else {
				other = a
			}
		}
		if there != nil {
			continue
		}
		dst := l.define(o.Value, dense, &buf{offset: at})
		if err := l.copy(dst, other, device.Step{Name: o.Name, Op: "output"}); err != nil {
			return err
		}
	}
	return nil
}

// place lays the arena out.
func (l *lowering) place() {
	spans := make([]plan.Span, len(l.bufs))
	for i, b := range l.bufs {
		spans[i] = plan.Span{Size: b.size, First: b.first, Last: b.last}
	}
	offsets, size := plan.Pack(spans, 64)
	for i, b := range l.bufs {
		b.offset = offsets[i]
	}
	l.program.need[arena], l.program.need[scratch] = size, l.scratch
}

// emit writes the native program.
func (l *lowering) emit() error {
	p := l.program
	var err error
	if p.code, err = l.d.engine.NewProgram(len(l.ops)); err != nil {
		return err
	}
	pad := onednn.Ref{Region: scratch}
	for _, o := range l.ops {
		switch {
		case o.conv != nil:
			var bias onednn.Ref
			if o.bias != nil {
				bias = o.bias.Ref(0)
			}
			err = p.code.AddConv(o.conv, o.src[0].ref(), o.weights.Ref(0), bias, o.dst.ref(), pad)
		case o.reorder != nil:
			err = p.code.AddReorder(o.reorder, o.src[0].ref(), o.dst.ref(), pad)
		default:
			refs := make([]onednn.Ref, len(o.src))
			for i, b := range o.src {
				refs[i] = b.ref()
			}
			err = p.code.AddKernel(o.kernel, o.dst.ref(), pad, refs...)
		}
		if err != nil {
			return err
		}
		p.steps = append(p.steps, o.step)
	}
	return nil
}
