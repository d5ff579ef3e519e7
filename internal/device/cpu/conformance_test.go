package cpu_test

import (
	"errors"
	"testing"

	"resdet/internal/device"
	"resdet/internal/device/cpu"
	"resdet/internal/device/devicetest"
)

// open returns a device of two threads; a build without oneDNN skips the test.
func open(t testing.TB) device.Device {
	t.Helper()
	d, err := cpu.Open(cpu.Options{Threads: 2})
	if errors.Is(err, device.ErrUnsupported) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// bf16 is tested wherever oneDNN can emulate it: its operands are rounded as
// those of the instructions are.
func TestConformance(t *testing.T) {
	t.Setenv("RESDET_EMULATE_BF16", "1")
	devicetest.Run(t, open)
}
