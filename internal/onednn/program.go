//go:build cgo && linux && amd64 && !noonednn

package onednn

// #include "shim.h"
import "C"

import (
	"errors"
	"math"
	"sync/atomic"
	"time"
	"unsafe"

	"resdet/internal/nd"
	"resdet/internal/nn"
)

// ErrCancelled is returned by a run that its flag stopped.
var ErrCancelled = errors.New("onednn: cancelled")

// Flag is looked at between the steps of a run.
type Flag struct{ block *Block }

// NewFlag returns a flag that is not set.
func NewFlag() (*Flag, error) {
	b, err := Alloc(64)
	if err != nil {
		return nil, err
	}
	f := &Flag{b}
	f.Set(false)
	return f, nil
}

// Set raises or lowers the flag; it may be called from any goroutine.
func (f *Flag) Set(on bool) {
	var v int32
	if on {
		v = 1
	}
	atomic.StoreInt32((*int32)(f.block.p), v)
}

// Free gives the flag back.
func (f *Flag) Free() { f.block.Free() }

// Program is an array of steps that one call of C executes.
type Program struct {
	c     *C.rd_program
	at    C.int
	nanos []int64
}

// NewProgram returns a program with room for the given number of steps.
func (e *Engine) NewProgram(steps int) (*Program, error) {
	c := C.rd_program_new(e.c, C.int(steps))
	if c == nil {
		return nil, check(C.dnnl_out_of_memory, "program of %d steps", steps)
	}
	p := &Program{c: c, nanos: make([]int64, steps)}
	opened(p)
	return p, nil
}

// Close releases the program.
func (p *Program) Close() {
	C.rd_program_free(p.c)
	closed(p)
}

// Run executes the steps. bases are the regions' addresses; bases[0] is 0. It
// returns [ErrCancelled] when the flag was raised and does not allocate.
func (p *Program) Run(bases *[Regions]uintptr, cancel *Flag) error {
	s := C.rd_run(p.c, (**C.char)(unsafe.Pointer(bases)), (*C.int)(cancel.block.p), (*C.int64_t)(unsafe.Pointer(unsafe.SliceData(p.nanos))), &p.at)
	if s == C.RD_CANCELLED {
		return ErrCancelled
	}
	return check(s, "step %d", p.at)
}

// Steps returns the number of steps that the program was made for.
func (p *Program) Steps() int { return len(p.nanos) }

// Time returns how long a step took in the last run.
func (p *Program) Time(step int) time.Duration { return time.Duration(p.nanos[step]) }

// AddConv appends a convolution or linear primitive.
func (p *Program) AddConv(c *Primitive, src, weights, bias, dst, scratch Ref) error {
	return check(C.rd_add_conv(p.c, c.c, src.c(), weights.c(), bias.c(), dst.c(), scratch.c()), "step")
}

// AddReorder appends a copy between layouts.
func (p *Program) AddReorder(r *Primitive, src, dst, scratch Ref) error {
	return check(C.rd_add_reorder(p.c, r.c, src.c(), dst.c(), scratch.c()), "step")
}

// Array describes an operand of a kernel of ours: [N C H W], or [R C] as rows,
// in any layout but NCHW; other types than float32 in NHWC and Rows.
type Array struct {
	Shape  nd.Shape
	Layout Layout
	Type   Type
	Step   float32 // of integers
}

// Bytes returns the memory that the array takes.
func (a Array) Bytes() int64 { return a.Layout.Bytes(a.Shape) / Float32.Size() * a.Type.Size() }

func (a Array) c() C.rd_map {
	m := a.strides()
	m._type = C.int(a.Type)
	if a.Type.Integer() {
		m.step, m.inverse = C.float(a.Step), C.float(1/a.Step)
	}
	return m
}

func (a Array) strides() C.rd_map {
	if a.Layout == Rows { // as an image of one pixel a row
		r, c := a.Shape[0], a.Shape[1]
		return C.rd_map{n: 1, c: C.int(c), h: C.int(r), w: 1, blk: 16, pix: C.int64_t(c)}
	}
	if a.Layout == CHWn16c && len(a.Shape) == 2 {
		r, c := a.Shape[0], a.Shape[1]
		return C.rd_map{n: 1, c: C.int(c), h: C.int(r), w: 1, blk: C.int64_t(r * 16), pix: 16, padded: 1}
	}
	n, c, h, w := a.Shape[0], a.Shape[1], a.Shape[2], a.Shape[3]
	if a.Layout == CHWn16c {
		return C.rd_map{n: C.int(n), c: C.int(c), h: C.int(h), w: C.int(w), img: 16, blk: C.int64_t(h * w * n * 16), pix: C.int64_t(n * 16), padded: 1}
	}
	m := C.rd_map{n: C.int(n), c: C.int(c), h: C.int(h), w: C.int(w), img: C.int64_t(a.Layout.Bytes(a.Shape) / 4 / int64(n))}
	if a.Layout == NChw16c {
		m.blk, m.pix, m.padded = C.int64_t(h*w*16), 16, 1
	} else {
		m.blk, m.pix = 16, C.int64_t(c)
	}
	return m
}

// Kernel is one of our own kernels, ready to be added to a program.
type Kernel struct{ c C.rd_kernel }

func newKernel(kind C.int, out Array, in ...Array) *Kernel {
	k := &Kernel{}
	k.c.kind, k.c.levels, k.c.out = kind, C.int(len(in)), out.c()
	for i, a := range in {
		k.c.in[i] = a.c()
	}
	return k
}

// Pointwise returns relu(in[0]·scale + shift + in[1]). scale and shift are
// blocks with one float a channel, zeros up to a multiple of 16, or nil; there
// is no shift without a scale.
func Pointwise(out Array, relu bool, scale, shift *Block, in ...Array) *Kernel {
	k := newKernel(C.RD_POINTWISE, out, in...)
	k.c.relu = flag(relu)
	if scale != nil {
		k.c.scale = (*C.float)(scale.p)
	}
	if shift != nil {
		k.c.shift = (*C.float)(shift.p)
	}
	return k
}

// MaxPool returns the kernel of op; out's extents say where it ends.
func MaxPool(op nn.MaxPool, out, in Array) *Kernel {
	k := newKernel(C.RD_MAXPOOL, out, in)
	k.c.kernel, k.c.stride, k.c.pad = C.int(op.Kernel), C.int(op.Stride), C.int(op.Pad)
	return k
}

// Upsample returns the kernel that repeats in's pixels to out's extents.
func Upsample(out, in Array) *Kernel { return newKernel(C.RD_UPSAMPLE, out, in) }

// Mean returns the kernel of nn.Mean; its result is rows.
func Mean(out, in Array) *Kernel { return newKernel(C.RD_MEAN, out, in) }

// MaxLevels is the most feature levels that regions can be pooled from.
const MaxLevels = C.RD_LEVELS

// RoIAlign returns relu(op + shift), of every every-th bin per axis; shift as
// in [Pointwise] or nil. The sources are the levels, then the regions.
func RoIAlign(op nn.RoIAlign, every int, shift *Block, relu bool, out Array, levels ...Array) *Kernel {
	k := newRegions(C.RD_ROIALIGN, op.Pyramid, op.H, op.W, out, levels)
	k.c.every, k.c.sampling, k.c.aligned, k.c.relu = C.int(every), C.int(max(op.Sampling, 0)), flag(op.Aligned), flag(relu)
	if shift != nil {
		k.c.shift = (*C.float)(shift.p)
	}
	return k
}

// RoIPool returns the kernel of op; sources as [RoIAlign].
func RoIPool(op nn.RoIPool, out Array, levels ...Array) *Kernel {
	return newRegions(C.RD_ROIPOOL, op.Pyramid, op.H, op.W, out, levels)
}

func newRegions(kind C.int, p nn.Pyramid, h, w int, out Array, levels []Array) *Kernel {
	k := newKernel(kind, out, levels...)
	k.c.regions, k.c.bins_h, k.c.bins_w, k.c.rois = C.int(out.Shape[0]), C.int(h), C.int(w), C.int(len(levels))
	for i, s := range p.Scales {
		k.c.spatial[i] = C.float(s)
	}
	k.c.canonical_level, k.c.first_level = C.int(p.CanonicalLevel), C.int(firstLevel(p))
	k.c.canonical_size, k.c.canonical_extra = C.float(p.CanonicalSize), C.float(p.Extra)
	return k
}

// firstLevel is the level of the finest map: its stride is 2 to that power.
func firstLevel(p nn.Pyramid) int { return int(math.Round(-math.Log2(p.Scales[0]))) }

// Winograd returns the kernel of a 3×3 convolution of stride and padding 1 by
// F(4×4, 3×3): relu(conv + shift), plus what is in out before the ReLU if sum
// is set. Both arrays are NChw16c, or both NHWC; channels are multiples of 16,
// out's of 32. It wants vectors of 256 bits or more.
// With pool, out is the 2×2 maxima of the result. The sources are the map and
// weights from [PackWinograd]; scratch memory is for the given number of threads,
// each of which works on block groups of tiles at a time (of 14 with vectors
// of 512 bits, of 6 with 256); 0: as many as suit the channels.
func Winograd(threads, block int, shift *Block, sum, relu, pool bool, out, in Array) *Kernel {
	k := newKernel(C.RD_WINOGRAD, out, in)
	k.c.sum, k.c.relu, k.c.pool, k.c.threads = flag(sum), flag(relu), flag(pool), C.int(threads)
	k.c.block = C.int(block)
	if shift != nil {
		k.c.shift = (*C.float)(shift.p)
	}
	return k
}

// Strided returns the kernel of a convolution: relu(conv + shift). It is for
// vectors of 256 bits; both arrays are NHWC, channels multiples of 16. The sources
// are the map and weights from [PackStrided]; scratch memory is for the given
// number of threads.
func Strided(threads, kernel, stride, pad int, shift *Block, relu bool, out, in Array) *Kernel {
	k := newKernel(C.RD_STRIDED, out, in)
	k.c.kernel, k.c.stride, k.c.pad, k.c.relu, k.c.threads = C.int(kernel), C.int(stride), C.int(pad), flag(relu), C.int(threads)
	if shift != nil {
		k.c.shift = (*C.float)(shift.p)
	}
	return k
}

// Gemm returns the kernel of a 1×1 convolution or a matrix product: relu(conv
// + shift), plus what is in out before the ReLU if sum is set. The arrays are
// both NChw16c, or both CHWn16c of two dimensions: one of four, as the rows of
// a matrix product, is given as [N C·H·W]. Input channels are a multiple of
// 16 in memory; the output's are padded to 32. The sources are in and weights
// from [PackGemm]; scratch memory is for the given number of threads; shift is
// padded to 32.
func Gemm(threads, stride int, shift *Block, sum, relu bool, out, in Array) *Kernel {
	k := newKernel(C.RD_GEMM, out, in)
	k.c.in[0].c = (k.c.in[0].c + 15) / 16 * 16
	k.c.sum, k.c.relu, k.c.stride, k.c.threads = flag(sum), flag(relu), C.int(stride), C.int(threads)
	if shift != nil {
		k.c.shift = (*C.float)(shift.p)
	}
	return k
}

// ScratchSize returns the bytes of scratch memory that a run needs.
func (k *Kernel) ScratchSize() int64 { return int64(C.rd_kernel_scratch(&k.c)) }

// AddKernel appends a kernel of ours.
func (p *Program) AddKernel(k *Kernel, dst, scratch Ref, src ...Ref) error {
	refs := make([]C.rd_ref, len(src))
	for i, r := range src {
		refs[i] = r.c()
	}
	return check(C.rd_add_kernel(p.c, &k.c, &refs[0], C.int(len(refs)), dst.c(), scratch.c()), "step")
}
