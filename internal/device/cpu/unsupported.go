//go:build !(cgo && linux && amd64 && !noonednn)

package cpu

import (
	"fmt"

	"resdet/internal/device"
)

// Open returns an error: this build has no oneDNN.
func Open(opt Options) (device.Device, error) {
	if _, err := opt.threads(); err != nil {
		return nil, err
	}
	return nil, fmt.Errorf("cpu: built without oneDNN (it needs cgo, Linux on x86-64 and no tag noonednn): %w", device.ErrUnsupported)
}

// Sgemm returns 0: this build has no oneDNN.
func Sgemm(threads int) float64 { return 0 }
