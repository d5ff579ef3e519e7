//go:build cgo && linux && amd64 && !noonednn

package cpu

import (
	"fmt"
	"runtime"

	"github.com/klauspost/cpuid/v2"

	"resdet/internal/onednn"
)

// ThisMachine is the machine that trials with so many threads hold for.
func ThisMachine(threads int) Machine {
	c := cpuid.CPU
	return Machine{
		CPU:     fmt.Sprintf("%s, family %d, model %d, stepping %d, L2 %d", c.BrandName, c.Family, c.Model, c.Stepping, c.Cache.L2),
		Library: onednn.Version(), ISA: onednn.ISA(), Threads: threads,
	}
}

// Measure takes the machine's limits with the given number of threads, which
// takes about a second: large matrix products by oneDNN, to hold a network's
// time against.
func Measure(threads int) (Limits, error) {
	var l Limits
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // ends with the goroutine: its team must not outlive it
		engine, err := onednn.NewEngine(threads)
		if err == nil {
			const side, runs = 2048, 4
			l.F32, l.BF16, l.Int8 = engine.MatmulRates(side, runs)
			l.Bandwidth = engine.Bandwidth(runs)
			engine.Close()
		}
		done <- err
	}()
	err := <-done
	return l, err
}
