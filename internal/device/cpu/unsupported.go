//go:build !(cgo && linux && amd64 && !noonednn)

package cpu

import (
	"fmt"

	"resdet/internal/device"
)

// Weights are nothing without a device.
type Weights struct{}

// NewWeights returns what no device shares.
func NewWeights() *Weights { return &Weights{} }

// Open returns an error: this build has no oneDNN.
func Open(opt Options) (device.Device, error) {
	if _, err := opt.threads(); err != nil {
		return nil, err
	}
	return nil, fmt.Errorf("cpu: built without oneDNN (it needs cgo, Linux on x86-64 and no tag noonednn): %w", device.ErrUnsupported)
}

// Sgemm returns 0: this build has no oneDNN.
func Sgemm(threads int) float64 { return 0 }

// ThisMachine returns nothing: this build has no algorithms to choose from.
func ThisMachine(threads int) Machine { return Machine{} }

// Measure returns zeros: this build has no oneDNN.
func Measure(threads int) (Limits, error) { return Limits{}, nil }
