// Package calibrate chooses the scales of int8 layers, and measures what a
// network of lower precision does to detections.
//
//	values that a layer reads ─Add▶ Histogram ─Numbers(method)▶ nn.Numbers
//	detections in f32, and in lower precision ─Add▶ Agreement ─▶ matched, loss
package calibrate

import (
	"fmt"
	"math"

	"resdet/internal/nn"
)

// Method says which values of a layer's input int8 keeps apart: those beyond
// the limit that it chooses become the limit.
type Method string

const (
	// AbsMax keeps the largest value that was seen: nothing is cut off, and a
	// single stray makes all steps wide.
	AbsMax Method = "absmax"
	// Percentile cuts off the largest hundredth of a per cent of the values that
	// are not zero.
	Percentile Method = "percentile"
	// MSE takes the limit with the least mean squared error, of what is rounded
	// and what is cut off together.
	MSE Method = "mse"
)

// percentile is the part of the values below the limit: 99.99 % is what the
// literature settled on for post-training quantisation of convolutions (Wu et
// al., Integer Quantization for Deep Learning Inference, 2020, table 4).
const percentile = 0.9999

// ParseMethod returns the method of that name.
func ParseMethod(name string) (Method, error) {
	switch m := Method(name); m {
	case AbsMax, Percentile, MSE:
		return m, nil
	}
	return "", fmt.Errorf("calibrate: method %q is none of %s, %s, %s", name, Percentile, MSE, AbsMax)
}

// bins of a histogram. When the values outgrow it, pairs of bins become one, so
// at least half of them lie below the largest value: steps of int8 are eight
// bins wide or more.
const bins = 4096

// Histogram counts the magnitudes of the values that a layer reads. The zero
// value is empty.
type Histogram struct {
	counts   [bins]uint64
	width    float64 // of a bin
	zeros    uint64
	largest  float32
	negative bool
}

// Add counts values; one that is not finite is an error and leaves the
// histogram as it may be.
func (h *Histogram) Add(values []float32) error {
	for _, v := range values {
		if v < 0 {
			h.negative = true
			v = -v
		}
		if v == 0 {
			h.zeros++
			continue
		}
		if !(v <= math.MaxFloat32) {
			return fmt.Errorf("calibrate: a value is %v", v)
		}
		h.largest = max(h.largest, v)
		if h.width == 0 {
			h.width = float64(v) * 2 / bins
		}
		at := float64(v) / h.width
		for at >= bins {
			h.double()
			at /= 2
		}
		h.counts[int(at)]++
	}
	return nil
}

// double makes room for values twice as large.
func (h *Histogram) double() {
	for i := range bins / 2 {
		h.counts[i] = h.counts[2*i] + h.counts[2*i+1]
	}
	clear(h.counts[bins/2:])
	h.width *= 2
}

// Numbers returns how a layer that reads such values computes in int8: with 255
// steps up to the limit, or 127 on each side of zero if some were negative. ok
// is false if nothing but zeros was seen.
func (h *Histogram) Numbers(m Method) (n nn.Numbers, ok bool) {
	n = nn.Numbers{Precision: nn.Int8, Signed: h.negative}
	steps := 255.0
	if n.Signed {
		steps = 127
	}
	limit := float64(h.largest)
	switch m {
	case Percentile:
		limit = min(limit, h.below(percentile))
	case MSE:
		limit = min(limit, h.leastError(steps))
	}
	n.Scale = float32(limit / steps)
	return n, n.Validate() == nil
}

// Largest is the greatest magnitude that was seen.
func (h *Histogram) Largest() float32 { return h.largest }

// below returns the limit under which that part of the values lies that are not
// zero: zeros are exact whatever the scale.
func (h *Histogram) below(part float64) float64 {
	total := uint64(0)
	for _, c := range h.counts {
		total += c
	}
	seen := uint64(0)
	for i, c := range h.counts {
		if seen += c; float64(seen) >= part*float64(total) {
			return float64(i+1) * h.width
		}
	}
	return bins * h.width
}

// leastError tries a hundred limits, from a hundredth of the largest value up.
func (h *Histogram) leastError(steps float64) float64 {
	const tries = 100
	best, least := float64(h.largest), math.Inf(1)
	for t := tries; t > 0; t-- {
		limit := float64(h.largest) * float64(t) / tries
		if e := h.squaredError(limit, steps); e < least {
			best, least = limit, e
		}
	}
	return best
}

// squaredError is the sum over the values of what int8 changes, squared. Values
// lie in the middle of their bins.
func (h *Histogram) squaredError(limit, steps float64) float64 {
	scale := limit / steps
	sum := 0.0
	for i, c := range h.counts {
		if c == 0 {
			continue
		}
		v := (float64(i) + 0.5) * h.width
		d := v - scale*min(math.RoundToEven(v/scale), steps)
		sum += float64(c) * d * d
	}
	return sum
}
