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
	d        *Device
	given    device.Params
	params   device.Params // given, remembered
	id       any           // of given
	plan     *plan.Plan
	program  *Program
	arrays   [][]*array // of every value, one for each layout that it exists in
	homes    []home
	ops      []op
	scratch  int64
	staging  region       // see stage
	halves   region       // see stageBytes
	integers region       // see stageIntegers
	numbers  []number     // that values are to be stored in
	bufs     []*buf       // in the arena
	fused    []*plan.Step // that an earlier step computes too

	regional map[plan.Value]bool // values of pooled regions

	shared   map[string]*shared // arrays that a training step shares, by name; nil for other programs
	hostUsed int64              // bytes of the device's hosts
	part     int                // of the step that is being lowered
	repacked map[repackKey]*buf // weights that change, in the layouts in use
	exported []bool             // outputs that are where the host reads them

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

// fixed is memory that is not the arena's.
func fixed(b *onednn.Block) *buf { return &buf{offset: b.Ref(0).Offset} }

// home says where a value must lie: nowhere in particular (the arena), in the
// memory of kept outputs, or in a host output.
type home struct {
	kept bool
	host *host
}

// op is a native step. One of conv, reorder and kernel is set.
type op struct {
	conv, reorder *onednn.Primitive
	arg           convArgs // of conv
	kernel        *onednn.Kernel
	src           []*buf // that it reads
	dst           *buf   // that it writes
	part          int
	step          device.Step
}

// convArgs are the places of a primitive's arrays, or of their gradients; bias
// is nil without one.
type convArgs struct{ src, weights, bias, dst *buf }

func (d *Device) lower(g *nn.Graph, pl *plan.Plan, params device.Params, from map[string]device.Buffer, arrays map[string]*shared) (_ *Program, err error) {
	p := &Program{d: d, bases: new([onednn.Regions]uintptr)}
	p.execute = p.exec
	l := &lowering{d: d, given: params, plan: pl, program: p, arrays: make([][]*array, len(pl.Values)), homes: make([]home, len(pl.Values)), regional: map[plan.Value]bool{},
		shared: arrays, repacked: map[repackKey]*buf{}, exported: make([]bool, len(pl.Outputs))}
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
		l.staging.free()
		l.halves.free()
		l.integers.free()
		if _, ok := l.given.(device.ParamsInto); !ok && l.packedBytes >= largeWeights {
			debug.FreeOSMemory() // what params made for us is garbage now
		}
	}()
	if err := l.inputs(g, from); err != nil {
		return nil, err
	}
	if err := l.outputs(); err != nil {
		return nil, err
	}
	l.chooseNumbers()
	for i := range pl.Steps {
		s := &pl.Steps[i]
		l.part = s.Part
		if err := l.step(s); err != nil {
			return nil, fmt.Errorf("%s: %s: %w", s.Name, s.Op, err)
		}
		if err := l.export(); err != nil {
			return nil, err
		}
	}
	l.place()
	return p, l.emit()
}

// inputs makes a host array of every input, or binds it.
func (l *lowering) inputs(g *nn.Graph, from map[string]device.Buffer) error {
	p := l.program
	for _, v := range l.plan.Inputs {
		info := l.plan.Values[v]
		if a := l.shared[info.Name]; a != nil {
			p.inputs = append(p.inputs, nil)
			l.define(v, denseLayout(info.Shape), fixed(a.block))
			continue
		}
		b, ok := from[info.Name]
		if !ok {
			h, err := l.newHost(info.Shape)
			if err != nil {
				return err
			}
			clear(h.data)
			p.inputs = append(p.inputs, h)
			l.define(v, denseLayout(info.Shape), fixed(h.block))
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
		p.bound = append(p.bound, boundInput{info.Name, k.shape, k.layout, k.number})
		p.depth = max(p.depth, k.program.depth+1)
		l.defineAs(v, k.layout, k.number, &buf{region: at})
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
		if o.Value == plan.None { // an array
			p.outputs = append(p.outputs, nil)
			continue
		}
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
	block, err := l.hostRoom(4 * int64(shape.Len()))
	if err != nil {
		return nil, err
	}
	return &host{shape, block.Floats()[:shape.Len():shape.Len()], block}, nil
}

// hostAddresses is how many bytes the host arrays of a training step may take
// in memory that all steps share; few of them are ever touched.
const hostAddresses = 1 << 30

// hostRoom returns memory for a host array. That of training steps is shared:
// a data set of mixed sizes has many programs, of which one runs at a time, and
// 12 MB of pixels and RPN outputs for each would be a quarter of a detector's
// memory. Its addresses never change, for the host keeps them.
func (l *lowering) hostRoom(size int64) (*onednn.Block, error) {
	from := (l.hostUsed + 63) / 64 * 64
	if l.shared == nil || from+size > hostAddresses {
		block, err := onednn.Alloc(size)
		if err == nil {
			l.program.hosts = append(l.program.hosts, block)
		}
		return block, err
	}
	if l.d.hosts == nil {
		var err error
		if l.d.hosts, err = onednn.Reserve(hostAddresses); err != nil {
			return nil, err
		}
	}
	l.hostUsed = from + size
	return l.d.hosts.Slice(from, size), nil
}

// denseLayout is the layout of host arrays.
func denseLayout(s nd.Shape) onednn.Layout {
	if len(s) == 4 {
		return onednn.NCHW
	}
	return onednn.Rows
}

func (l *lowering) shape(v plan.Value) nd.Shape { return l.plan.Values[v].Shape }

// define records that v lies in b in the given layout, as floats.
func (l *lowering) define(v plan.Value, layout onednn.Layout, b *buf) *array {
	return l.defineAs(v, layout, number{}, b)
}

func (l *lowering) defineAs(v plan.Value, layout onednn.Layout, n number, b *buf) *array {
	a := &array{onednn.Array{Shape: l.shape(v), Layout: layout, Type: n.typ, Step: n.step}, b}
	l.arrays[v] = append(l.arrays[v], a)
	return a
}

// create makes room for v as floats, where it must lie if the layout fits.
func (l *lowering) create(v plan.Value, layout onednn.Layout) *array {
	return l.createAs(v, layout, number{})
}

func (l *lowering) createAs(v plan.Value, layout onednn.Layout, n number) *array {
	at := l.homes[v]
	size := onednn.Array{Shape: l.shape(v), Layout: layout, Type: n.typ}.Bytes()
	switch {
	case at.kept && len(l.arrays[v]) == 0:
		region := firstKept + l.program.depth
		b := &buf{region: region, offset: l.program.need[region], size: size}
		l.program.need[region] += (size + 63) / 64 * 64
		return l.defineAs(v, layout, n, b)
	case at.host != nil && !n.low() && layout == denseLayout(l.shape(v)):
		return l.define(v, layout, fixed(at.host.block))
	}
	return l.defineAs(v, layout, n, l.room(size))
}

// room returns a piece of the arena for the next op to write.
func (l *lowering) room(size int64) *buf {
	b := &buf{region: arena, size: size, first: len(l.ops)}
	l.bufs = append(l.bufs, b)
	return b
}

// get returns v as floats in the given layout, reordering it if it is in another.
func (l *lowering) get(v plan.Value, layout onednn.Layout) (*array, error) {
	for _, a := range l.arrays[v] {
		if a.Layout == layout && !a.number().low() {
			return a, nil
		}
	}
	src := l.stored(v, func(n number) bool { return !n.low() })
	if src == nil {
		src = l.arrays[v][0]
	}
	if src.Layout == onednn.NCHW && layout == onednn.CHWn16c || (src.Layout == onednn.CHWn16c || src.number().low()) && layout == onednn.NCHW {
		var err error
		if src, err = l.get(v, workLayout()); err != nil { // by way of a layout that both copies know
			return nil, err
		}
	}
	dst := l.create(v, layout)
	return dst, l.copy(dst, src, l.moving(v, "reorder"))
}

func (l *lowering) moving(v plan.Value, op string) device.Step {
	return device.Step{Name: l.plan.Values[v].Name, Op: op}
}

// copy brings src, in its layout, to dst.
func (l *lowering) copy(dst, src *array, step device.Step) error {
	step.Algorithm, step.Layout, step.Shape = "reorder", dst.storage(), src.Shape
	if src.Layout == onednn.CHWn16c || dst.Layout == onednn.CHWn16c || src.number() != dst.number() { // unknown to oneDNN
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
	o.part, o.step.Part = l.part, l.part
	for _, b := range o.src {
		b.last = max(b.last, at)
	}
	o.dst.last = max(o.dst.last, at)
	l.scratch = max(l.scratch, scratch)
	l.ops = append(l.ops, o)
}

// export brings host outputs that were made and lie elsewhere to where the host
// reads them, and names the place of kept ones.
func (l *lowering) export() error {
	for i, o := range l.plan.Outputs {
		if l.exported[i] || o.Value == plan.None || len(l.arrays[o.Value]) == 0 {
			continue
		}
		l.exported[i] = true
		if k, ok := l.program.outputs[i].(*kept); ok {
			a := l.arrays[o.Value][0]
			k.layout, k.number, k.buf = a.Layout, a.number(), a.buf
			continue
		}
		h := l.homes[o.Value].host
		at, dense := h.block.Ref(0).Offset, denseLayout(h.shape)
		var there, other *array
		for _, a := range l.arrays[o.Value] {
			if a.Layout == dense && !a.number().low() && a.buf.region == 0 && a.buf.offset == at {
				there = a
			} else {
				other = a
			}
		}
		if there != nil {
			continue
		}
		if other.number().low() && dense == onednn.NCHW {
			var err error
			if other, err = l.get(o.Value, workLayout()); err != nil {
				return err
			}
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

// emit writes the native programs, one for each part.
func (l *lowering) emit() error {
	p := l.program
	pad := onednn.Ref{Region: scratch}
	for part, first := 0, 0; part < l.plan.Parts; part++ {
		end := first
		for end < len(l.ops) && l.ops[end].part == part {
			end++
		}
		code, err := l.d.engine.NewProgram(end - first)
		if err != nil {
			return err
		}
		p.code = append(p.code, code)
		for _, o := range l.ops[first:end] {
			if err := o.emit(code, pad); err != nil {
				return err
			}
			p.steps = append(p.steps, o.step)
		}
		first = end
	}
	return nil
}

func (o *op) emit(code *onednn.Program, pad onednn.Ref) error {
	switch {
	case o.conv != nil:
		var bias onednn.Ref
		if o.arg.bias != nil {
			bias = o.arg.bias.ref()
		}
		return code.AddConv(o.conv, o.arg.src.ref(), o.arg.weights.ref(), bias, o.arg.dst.ref(), pad)
	case o.reorder != nil:
		return code.AddReorder(o.reorder, o.src[0].ref(), o.dst.ref(), pad)
	}
	refs := make([]onednn.Ref, len(o.src))
	for i, b := range o.src {
		refs[i] = b.ref()
	}
	return code.AddKernel(o.kernel, o.dst.ref(), pad, refs...)
}
