package ref

import (
	"math"

	"resdet/internal/nd"
	"resdet/internal/nn"
)

// Precisions below float32 by their definition: the operands are rounded, as
// numbers of the element type, and multiplied as ever. Sums of integers are
// exact; see multiply.

// rounded returns weights of so many rows as a layer of the precision has them,
// and what one stands for in each row, nil for 1.
func rounded[T nd.Float](w []T, rows int, p nn.Precision) ([]T, []float64) {
	if p != nn.BF16 && p != nn.Int8 {
		return w, nil
	}
	out := make([]T, len(w))
	if p == nn.BF16 {
		for i, v := range w {
			out[i] = bfloat16(v)
		}
		return out, nil
	}
	steps := make([]float64, rows)
	n := len(w) / rows
	for r := range rows {
		largest := 0.0
		for _, v := range w[r*n : (r+1)*n] {
			largest = max(largest, math.Abs(float64(v)))
		}
		if largest == 0 {
			continue
		}
		steps[r] = largest / 127
		for i, v := range w[r*n : (r+1)*n] {
			out[r*n+i] = T(math.RoundToEven(float64(v) / steps[r]))
		}
	}
	return out, steps
}

// rounding returns what is done to the input of a layer, nil for nothing.
func rounding[T nd.Float](n nn.Numbers) func([]T) {
	switch n.Precision {
	case nn.BF16:
		return func(x []T) {
			for i, v := range x {
				x[i] = bfloat16(v)
			}
		}
	case nn.Int8:
		low, high := T(0), T(255)
		if n.Signed {
			low, high = -128, 127
		}
		inverse := T(1 / n.Scale)
		return func(x []T) {
			for i, v := range x {
				x[i] = min(max(T(math.RoundToEven(float64(v*inverse))), low), high)
			}
		}
	}
	return nil
}

// bfloat16 rounds to eight bits of precision, halves to even.
func bfloat16[T nd.Float](v T) T {
	if v != v {
		return v
	}
	bits := math.Float32bits(float32(v))
	bits += 0x7fff + bits>>16&1
	return T(math.Float32frombits(bits &^ 0xffff))
}
