//go:build cgo && linux && amd64 && !noonednn

package cpu

import "resdet/internal/device"

// WeightBytes returns the bytes of a device's packed weights.
func WeightBytes(d device.Device) int64 {
	var n int64
	for _, a := range d.(*Device).weights.arrays {
		n += a.block.Size()
	}
	return n
}
