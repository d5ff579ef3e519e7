package cpu_test

import (
	"testing"

	"resdet/internal/device"
	"resdet/internal/device/cpu"
	"resdet/internal/device/devicetest"
)

func TestConformance(t *testing.T) {
	devicetest.Run(t, func(t testing.TB) device.Device {
		d, err := cpu.Open(cpu.Options{Threads: 2})
		if err != nil {
			t.Fatal(err)
		}
		return d
	})
}
