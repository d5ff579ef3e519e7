//go:build cgo && linux && amd64 && !noonednn

package onednn

// #include "shim.h"
import "C"

import (
	"fmt"
	"unsafe"
)

// Source is a weight as a model has it, row-major with the output channels
// outermost.
type Source struct {
	// Floats, or Half with the bytes of IEEE half-precision numbers.
	Floats []float32
	Half   []byte
	Scale  []float64 // what each output channel is multiplied by; nil for 1
}

func (s Source) c() (floats *C.float, half *C.uint16_t, scale *C.double) {
	return (*C.float)(unsafe.SliceData(s.Floats)), (*C.uint16_t)(unsafe.Pointer(unsafe.SliceData(s.Half))), (*C.double)(unsafe.SliceData(s.Scale))
}

// Pack lays weights out as p wants them, in packed, of p.WeightsSize() bytes.
// stage has room for them as floats; it is used where the source is not ready
// to be read as it is.
func (e *Engine) Pack(p *Primitive, s Source, stage func(floats int) ([]float32, error), packed *Block) error {
	if s.Floats == nil || s.Scale != nil {
		rows, n := p.weightsRows()
		dst, err := stage(rows * n)
		if err != nil {
			return err
		}
		floats, half, scale := s.c()
		C.rd_widen(floats, half, scale, C.int(rows), C.int64_t(n), (*C.float)(&dst[0]))
		s.Floats = dst
	}
	return check(C.rd_pack(e.c, p.c, unsafe.Pointer(&s.Floats[0]), packed.p), "packing of %d weights", len(s.Floats))
}

// Pack8 is Pack for weights of integers: each row is rounded to at most largest,
// in a step of its own; see [Steps]. stage has room for as many bytes.
func (e *Engine) Pack8(p *Primitive, s Source, largest float32, stage func(bytes int) ([]byte, error), packed *Block) error {
	rows, n := p.weightsRows()
	integers, err := stage(rows * n)
	if err != nil {
		return err
	}
	steps := make([]float32, rows)
	if err := s.pack8(rows, n, largest, steps, (*C.int8_t)(unsafe.Pointer(&integers[0]))); err != nil {
		return err
	}
	return check(C.rd_pack(e.c, p.c, unsafe.Pointer(&integers[0]), packed.p), "packing of %d weights", len(integers))
}

// Steps returns what one stands for in each row of weights [rows perRow] that
// are rounded to integers of at most largest: max|w|/largest, and 1 in rows of
// zeros.
func (s Source) Steps(rows, perRow int, largest float32) ([]float32, error) {
	steps := make([]float32, rows)
	return steps, s.pack8(rows, perRow, largest, steps, nil)
}

func (s Source) pack8(rows, perRow int, largest float32, steps []float32, integers *C.int8_t) error {
	floats, half, scale := s.c()
	if C.rd_pack8(floats, half, scale, C.int(rows), C.int64_t(perRow), C.float(largest), (*C.float)(&steps[0]), integers) != 0 {
		return fmt.Errorf("onednn: rounding of weights [%d %d]: out of memory", rows, perRow)
	}
	return nil
}

// weightsRows returns the output channels and the elements of each.
func (p *Primitive) weightsRows() (rows, perRow int) {
	d := &p.c.weights
	perRow = 1
	for _, n := range d.dims[1:d.ndims] {
		perRow *= int(n)
	}
	return int(d.dims[0]), perRow
}

// GemmSize returns the bytes of weights [oc c pixels] for [Gemm], PackGemm lays
// them out. With more than one pixel they are for rows of CHWn16c arrays of so
// many pixels.
func GemmSize(oc, c, pixels int) int64 {
	return int64(C.rd_gemm_weights(C.int(oc), C.int((c+15)/16*16*pixels)))
}

// PackGemm fills packed, of [GemmSize] bytes.
func PackGemm(s Source, oc, c, pixels int, packed *Block) error {
	floats, half, scale := s.c()
	if C.rd_gemm_pack(floats, half, scale, C.int(oc), C.int(c), C.int(pixels), (*C.float)(packed.p)) != 0 {
		return fmt.Errorf("onednn: packing of weights [%d %d %d]: out of memory", oc, c, pixels)
	}
	return nil
}

// WinogradSize returns the bytes of weights [oc c 3 3] for [Winograd].
func WinogradSize(oc, c int) int64 { return int64(C.rd_winograd_weights(C.int(oc), C.int(c))) }

// PackWinograd fills packed, of [WinogradSize] bytes, with transformed weights.
func PackWinograd(s Source, oc, c int, packed *Block) {
	floats, half, scale := s.c()
	C.rd_winograd_pack(floats, half, scale, C.int(oc), C.int(c), (*C.float)(packed.p))
}

// StridedSize returns the bytes of weights [oc c kernel kernel] for [Strided].
func StridedSize(oc, c, kernel int) int64 {
	return int64(C.rd_strided_weights(C.int(oc), C.int(c), C.int(kernel)))
}

// PackStrided fills packed, of [StridedSize] bytes.
func PackStrided(s Source, oc, c, kernel int, packed *Block) error {
	floats, half, scale := s.c()
	if C.rd_strided_pack(floats, half, scale, C.int(oc), C.int(c), C.int(kernel), (*C.float)(packed.p)) != 0 {
		return fmt.Errorf("onednn: packing of weights [%d %d %d %d]: out of memory", oc, c, kernel, kernel)
	}
	return nil
}
