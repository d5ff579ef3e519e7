package ref_test

import (
	"testing"

	"resdet/internal/device"
	"resdet/internal/device/devicetest"
	"resdet/internal/device/ref"
)

func open(testing.TB) device.Device { return ref.Open(2) }

func TestConformance(t *testing.T) { devicetest.Run(t, open) }

func BenchmarkDevice(b *testing.B) { devicetest.Bench(b, open) }
