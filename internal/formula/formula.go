// Package formula gives networks weights that need no file: every value
// follows from the parameter's key. Parity cases at full size use them (the
// law is that of the reference cases' formula.py), and so do benchmarks of
// architectures without published weights.
package formula

import (
	"math"
	"strings"

	"resdet/internal/nd"
)

// Params serves every parameter of an architecture. It implements
// device.Params.
type Params struct {
	// Basic says that the residual blocks have two convolutions (ResNet-18, 34):
	// their last norm is bn2 instead of bn3.
	Basic bool
}

// Param returns the values of the tensor called key.
func (p Params) Param(key string, shape nd.Shape) ([]float32, error) {
	offset, scale := p.law(key, shape)
	seed := Seed(key)
	out := make([]float32, shape.Len())
	for i := range out {
		out[i] = float32(offset + scale*Unit(seed, i))
	}
	return out, nil
}

// law returns the centre and half-width of the values' range.
func (p Params) law(key string, shape nd.Shape) (offset, scale float64) {
	parts := strings.Split(key, ".")
	switch last := parts[len(parts)-1]; {
	case last == "running_var":
		return 1, 0.2
	case last == "running_mean":
		return 0, 0.1
	case last == "bias":
		return 0, 0.05
	case len(shape) == 1:
		final := "bn3"
		if p.Basic {
			final = "bn2"
		}
		if parts[len(parts)-2] == final {
			return 0.25, 0.1
		}
		return 0.75, 0.25
	}
	gain := 1.0
	switch {
	case strings.Contains(key, "cls_logits"):
		gain = 0.3
	case strings.Contains(key, "rpn.head.bbox_pred"):
		gain = 0.1
	case strings.Contains(key, "box_predictor"):
		gain = 0.4
		if shape[1] == 512 || shape[1] == 2048 {
			gain = 2
		}
	}
	return 0, gain * math.Sqrt(6/float64(shape[1:].Len()))
}

// Unit returns element i of the sequence with the given seed, in [−1, 1):
// splitmix64's finaliser, its upper 24 bits.
func Unit(seed uint64, i int) float64 {
	z := seed + uint64(i+1)*0x9E3779B97F4A7C15
	z = (z ^ z>>30) * 0xBF58476D1CE4E5B9
	z = (z ^ z>>27) * 0x94D049BB133111EB
	z ^= z >> 31
	return float64(z>>40)*0x1p-23 - 1
}

// Seed returns the sequence's seed for a name: its 64-bit FNV-1a hash.
func Seed(name string) uint64 {
	h := uint64(0xcbf29ce484222325)
	for _, b := range []byte(name) {
		h = (h ^ uint64(b)) * 0x100000001b3
	}
	return h
}
