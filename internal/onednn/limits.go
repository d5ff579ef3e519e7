//go:build cgo && linux && amd64 && !noonednn

package onednn

// #include "shim.h"
import "C"

// MatmulRates measures oneDNN's products of n×n matrices and returns 10⁹
// operations a second, the best of runs: of float32, of bfloat16 with float32
// sums, 0 where the CPU has none and the library would emulate it at a fifth of
// float32's rate, and of 8-bit integers with 32-bit sums.
func (e *Engine) MatmulRates(n, runs int) (f32, bf16, int8 float64) {
	rate := func(precision C.int) float64 {
		return float64(C.rd_matmul_rate(e.c, precision, C.int(n), C.int(runs)))
	}
	if BF16() {
		bf16 = rate(C.RD_BF16)
	}
	return rate(C.RD_F32), bf16, rate(C.RD_INT8)
}

// Bandwidth measures the memory that copies read and write, in 10⁹ bytes a
// second, the best of runs.
func (e *Engine) Bandwidth(runs int) float64 { return float64(C.rd_bandwidth(C.int(runs))) }
