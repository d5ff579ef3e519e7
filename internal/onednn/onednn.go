//go:build cgo && linux && amd64 && !noonednn

package onednn

// #cgo CFLAGS: -O3 -std=gnu11 -Wall -fopenmp
// #cgo LDFLAGS: -ldnnl -lgomp -lm
// #include "shim.h"
import "C"

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"unsafe"

	"resdet/internal/nd"
)

// Layout is the order of an array's elements in memory.
type Layout int

const (
	NCHW    Layout = C.RD_NCHW    // [N C H W]
	NHWC    Layout = C.RD_NHWC    // [N H W C]
	NChw16c Layout = C.RD_NCHW16C // [N C/16 H W 16], channels padded with zeros to 16
	Rows    Layout = C.RD_ROWS    // [R C]
	// CHWn16c is [C/16 H W N 16], or [C/16 R 16]: what [Gemm] reads and writes
	// as rows. Channels are padded with zeros to 16, of two dimensions to 32.
	CHWn16c Layout = C.RD_CHWN16C
)

// Type is the type of an array's elements. Integers stand for themselves times
// a step.
type Type int

const (
	Float32  Type = C.RD_FLOAT32
	BFloat16 Type = C.RD_BFLOAT16
	Uint8    Type = C.RD_UINT8
	Sint8    Type = C.RD_SINT8
)

func (t Type) String() string { return [...]string{"f32", "bf16", "u8", "s8"}[t] }

// Size returns the bytes of an element.
func (t Type) Size() int64 { return [...]int64{4, 2, 1, 1}[t] }

// Integer reports whether elements have a step.
func (t Type) Integer() bool { return t >= Uint8 }

func (l Layout) String() string { return [...]string{"nchw", "nhwc", "nChw16c", "nc", "CHWn16c"}[l] }

// Bytes returns the memory that floats of the given shape take.
func (l Layout) Bytes(s nd.Shape) int64 {
	n := int64(4)
	for i, d := range s {
		if i == 1 && (l == NChw16c || l == CHWn16c) {
			pad := 16
			if len(s) == 2 {
				pad = 32
			}
			d = (d + pad - 1) / pad * pad
		}
		n *= int64(d)
	}
	return n
}

// Version returns oneDNN's version.
func Version() string {
	v := C.dnnl_version()
	return fmt.Sprintf("%d.%d.%d", v.major, v.minor, v.patch)
}

// ISA names the widest vectors that oneDNN and our kernels use: what the CPU
// has, less what ONEDNN_MAX_CPU_ISA forbids.
func ISA() string {
	switch isa := C.dnnl_get_effective_cpu_isa(); isa {
	case C.dnnl_cpu_isa_sse41:
		return "sse41"
	case C.dnnl_cpu_isa_avx:
		return "avx"
	case C.dnnl_cpu_isa_avx2, C.dnnl_cpu_isa_avx2_vnni:
		return "avx2"
	case C.dnnl_cpu_isa_avx512_core:
		return "avx512_core"
	case C.dnnl_cpu_isa_avx512_core_vnni:
		return "avx512_core_vnni"
	case C.dnnl_cpu_isa_avx512_core_bf16:
		return "avx512_core_bf16"
	case C.dnnl_cpu_isa_avx512_core_amx:
		return "avx512_core_amx"
	default:
		return fmt.Sprintf("isa %#x", uint(isa))
	}
}

// BF16 reports whether products of bfloat16 are the CPU's own, AMX whether it has
// matrix units for them.
func BF16() bool { return has(C.dnnl_cpu_isa_avx512_core_bf16) }
func AMX() bool  { return has(C.dnnl_cpu_isa_avx512_core_amx) }

// VNNI reports whether sums of products of 8-bit integers are exact. Without it
// two of them go through 16 bits, which those of 8 bits with 8 may exceed.
func VNNI() bool { return has(C.dnnl_cpu_isa_avx512_core_vnni) || has(C.dnnl_cpu_isa_avx2_vnni) }

// AVX2 reports whether 256-bit vectors are used.
func AVX2() bool { return has(C.dnnl_cpu_isa_avx2) }

func has(isa C.dnnl_cpu_isa_t) bool { return C.dnnl_get_effective_cpu_isa()&isa == isa }

// AVX512 reports whether 512-bit vectors are used.
func AVX512() bool { return has(C.dnnl_cpu_isa_avx512_core) }

// Sgemm measures oneDNN's product of n×n float32 matrices and returns
// GFLOP/s, the best of runs. Call it on a locked thread: it sets its team.
func Sgemm(threads, n, runs int) float64 {
	return float64(C.rd_sgemm(C.int(threads), C.int(n), C.int(runs)))
}

// Error is a refusal of oneDNN.
type Error struct {
	What   string // operation and shapes
	Status int    // dnnl_status_t
}

var statusText = [...]string{"success", "out of memory", "invalid arguments", "unimplemented", "iterator ends", "runtime error", "not required"}

func (e *Error) Error() string {
	text := fmt.Sprintf("status %d", e.Status)
	if e.Status >= 0 && e.Status < len(statusText) {
		text = statusText[e.Status]
	}
	return "onednn: " + e.What + ": " + text
}

func check(status C.int, what string, args ...any) error {
	if status == 0 {
		return nil
	}
	return &Error{fmt.Sprintf(what, args...), int(status)}
}

// live counts what C holds for us, so that tests can show that all is given back.
var live struct{ handles, bytes atomic.Int64 }

// Live returns the number of native objects and bytes that have not been
// closed or freed.
func Live() (handles, bytes int64) { return live.handles.Load(), live.bytes.Load() }

func opened(h any) {
	live.handles.Add(1)
	track(h)
}

func closed(h any) {
	live.handles.Add(-1)
	untrack(h)
}

// Engine is oneDNN on the calling thread and its team.
type Engine struct{ c *C.rd_engine }

// NewEngine sets the thread's team to the given number of threads.
func NewEngine(threads int) (*Engine, error) {
	e := &Engine{}
	if err := check(C.rd_engine_new(&e.c, C.int(threads)), "engine of %d threads", threads); err != nil {
		return nil, err
	}
	opened(e)
	return e, nil
}

// Close releases the engine; primitives and programs must be closed before.
func (e *Engine) Close() {
	C.rd_engine_free(e.c)
	closed(e)
}

// Block is memory of C, 64-byte aligned.
type Block struct {
	p        unsafe.Pointer
	size     int64
	reserved bool
}

// Alloc returns a block of zero or more bytes with undefined contents.
func Alloc(size int64) (*Block, error) {
	p := C.rd_alloc(C.size_t(size))
	if p == nil {
		return nil, fmt.Errorf("onednn: %d bytes: out of memory", size)
	}
	b := &Block{p: p, size: size}
	live.bytes.Add(size)
	opened(b)
	return b, nil
}

// Reserve returns a block of addresses, many megabytes, whose memory the kernel
// gives, zeroed, as it is touched; [Live] counts its handle alone.
func Reserve(size int64) (*Block, error) {
	p := C.rd_reserve(C.size_t(size))
	if p == nil {
		return nil, fmt.Errorf("onednn: %d bytes of addresses: out of memory", size)
	}
	b := &Block{p: p, size: size, reserved: true}
	opened(b)
	return b, nil
}

// Free gives the block back.
func (b *Block) Free() {
	C.rd_free(b.p, C.size_t(b.size))
	if !b.reserved {
		live.bytes.Add(-b.size)
	}
	closed(b)
}

// Size returns the block's bytes, Address where it lies.
func (b *Block) Size() int64      { return b.size }
func (b *Block) Address() uintptr { return uintptr(b.p) }

// Floats returns the block as float32. The slice is good until Free.
func (b *Block) Floats() []float32 { return unsafe.Slice((*float32)(b.p), b.size/4) }

// Bytes returns the block as bytes. The slice is good until Free.
func (b *Block) Bytes() []byte { return unsafe.Slice((*byte)(b.p), b.size) }

// Slice returns a part of the block, which is not freed by itself.
func (b *Block) Slice(offset, size int64) *Block {
	return &Block{p: unsafe.Add(b.p, offset), size: size}
}

// Ref returns the block's place, bytes from its start.
func (b *Block) Ref(offset int64) Ref { return Ref{0, int64(uintptr(b.p)) + offset} }

// Ref is a place in one of the [Regions] that a run is given; region 0 is
// absolute, see [Block.Ref].
type Ref struct {
	Region int
	Offset int64
}

func (r Ref) c() C.rd_ref { return C.rd_ref{offset: C.int64_t(r.Offset), region: C.int(r.Region)} }

// Regions is the number of places that a run is given; 0 is address 0.
const Regions = C.RD_REGIONS

// Types are those of what an operation reads, writes and adds, with which
// dst = relu(Scales[c]·(op + bias) + SumScale·dst), rounded to the type. The zero
// value is float32 without scales. Weights of bfloat16 are bfloat16, those of
// integers Sint8. Of a gradient, Src and Dst are those arrays' or their gradients'
// in its place; that of the weights is float32.
type Types struct {
	Src, Dst, Sum Type
	SumScale      float32
	Scales        []float32 // one for each output channel; nil: 1
}

func (t Types) c() C.rd_types {
	return C.rd_types{src: C.int(t.Src), dst: C.int(t.Dst), sum: C.int(t.Sum), sum_scale: C.float(t.SumScale), scales: (*C.float)(unsafe.SliceData(t.Scales))}
}

// Conv describes a convolution: [N C H W] → [N OC OH OW].
type Conv struct {
	N, C, H, W, OC, OH, OW, KH, KW, Stride, Pad int
	Src, Dst                                    Layout
	Types                                       Types
	Winograd                                    bool
	Bias, Sum, ReLU                             bool // post-operations: dst = relu(conv + bias + dst)
}

// Linear describes a matrix product [R K] → [R OC] with bias. Src other than
// Rows sees each row as [C H W] in that layout; for Rows, H and W are 0 and K is C.
type Linear struct {
	R, C, H, W, OC int
	Src            Layout
	Types          Types
	ReLU           bool
	Plain          bool // weights are row-major, not to be packed
}

// Primitive is a compiled operation of oneDNN.
type Primitive struct{ c *C.rd_primitive }

// NewConv compiles a convolution.
func (e *Engine) NewConv(o Conv) (*Primitive, error) { return e.newConv(o, Forward) }

// NewLinear compiles a matrix product.
func (e *Engine) NewLinear(o Linear) (*Primitive, error) { return e.newLinear(o, Forward) }

// Direction is what a primitive computes: the operation, or the gradient of
// one of its operands from that of its result.
type Direction int

const (
	Forward   Direction = C.RD_FORWARD
	ToInput   Direction = C.RD_TO_INPUT
	ToWeights Direction = C.RD_TO_WEIGHTS
)

// NewConvGrad compiles the gradient of a convolution, which has neither bias
// nor post-operations.
func (e *Engine) NewConvGrad(o Conv, to Direction) (*Primitive, error) { return e.newConv(o, to) }

// NewLinearGrad compiles the gradient of a matrix product, whose weights are
// row-major.
func (e *Engine) NewLinearGrad(o Linear, to Direction) (*Primitive, error) {
	o.Plain = true
	return e.newLinear(o, to)
}

func (e *Engine) newConv(o Conv, to Direction) (*Primitive, error) {
	var pins runtime.Pinner
	defer pins.Unpin()
	types := o.Types.c()
	if o.Types.Scales != nil {
		pins.Pin(types.scales)
	}
	p := &Primitive{}
	spec := C.rd_conv{n: C.int(o.N), c: C.int(o.C), h: C.int(o.H), w: C.int(o.W), oc: C.int(o.OC), oh: C.int(o.OH), ow: C.int(o.OW),
		kh: C.int(o.KH), kw: C.int(o.KW), stride: C.int(o.Stride), pad: C.int(o.Pad), src: C.int(o.Src), dst: C.int(o.Dst),
		winograd: flag(o.Winograd), bias: flag(o.Bias), sum: flag(o.Sum), relu: flag(o.ReLU)}
	if err := check(C.rd_conv_new(e.c, &spec, &types, C.int(to), &p.c), "convolution %+v", o); err != nil {
		return nil, err
	}
	opened(p)
	return p, nil
}

func (e *Engine) newLinear(o Linear, to Direction) (*Primitive, error) {
	var pins runtime.Pinner
	defer pins.Unpin()
	types := o.Types.c()
	if o.Types.Scales != nil {
		pins.Pin(types.scales)
	}
	p := &Primitive{}
	spec := C.rd_linear{rows: C.int(o.R), c: C.int(o.C), h: C.int(o.H), w: C.int(o.W), oc: C.int(o.OC), src: C.int(o.Src),
		relu: flag(o.ReLU), plain: flag(o.Plain)}
	if err := check(C.rd_linear_new(e.c, &spec, &types, C.int(to), &p.c), "linear %+v", o); err != nil {
		return nil, err
	}
	opened(p)
	return p, nil
}

// NewWeightsReorder compiles a copy of row-major weights to the layout that p
// wants, or back from it.
func (e *Engine) NewWeightsReorder(p *Primitive, back bool) (*Primitive, error) {
	r := &Primitive{}
	if err := check(C.rd_weights_reorder_new(e.c, p.c, flag(back), &r.c), "reorder of weights"); err != nil {
		return nil, err
	}
	opened(r)
	return r, nil
}

// NewReorder compiles a copy from one layout to another.
func (e *Engine) NewReorder(s nd.Shape, from, to Layout) (*Primitive, error) {
	p := &Primitive{}
	var dims [4]C.int
	for i, d := range s {
		dims[i] = C.int(d)
	}
	if err := check(C.rd_reorder_new(e.c, &dims[0], C.int(from), C.int(to), &p.c), "reorder of %v from %v to %v", s, from, to); err != nil {
		return nil, err
	}
	opened(p)
	return p, nil
}

// Close releases the primitive; programs that run it must be closed before.
func (p *Primitive) Close() {
	C.rd_primitive_free(p.c)
	closed(p)
}

// Impl is oneDNN's name of what it chose: "jit:avx512_core".
func (p *Primitive) Impl() string { return C.GoString(&p.c.impl[0]) }

// ScratchSize returns the bytes of scratch memory that a run needs.
func (p *Primitive) ScratchSize() int64 { return int64(C.dnnl_memory_desc_get_size(&p.c.scratch)) }

// WeightsSize returns the bytes of the packed weights.
func (p *Primitive) WeightsSize() int64 { return int64(C.rd_weights_size(p.c)) }

// PlainWeights reports whether the weights are row-major.
func (p *Primitive) PlainWeights() bool { return C.rd_weights_plain(p.c) != 0 }

// WeightsLayout identifies the packed weights' layout: primitives with the same one
// can share them.
func (p *Primitive) WeightsLayout() string {
	return string(C.GoBytes(unsafe.Pointer(&p.c.weights), C.sizeof_dnnl_memory_desc_t))
}

func flag(b bool) C.int {
	if b {
		return 1
	}
	return 0
}
