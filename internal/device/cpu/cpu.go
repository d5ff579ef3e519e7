// Package cpu is the fast device: oneDNN's convolutions and matrix products,
// and vector kernels of our own, on one machine's cores.
//
//	nn.Graph ─plan.New▶ fused steps ─lower▶ primitives, kernels, reorders, placed buffers
//	                                            │ one call of C per Run
//	           packed weights ─┐                ▼
//	           arena, scratch ─┴─ shared by all programs of a device
//
// A device is one operating-system thread that owns OpenMP's team; everything
// native happens on it. Programs share one arena and one scratch area, as
// large as the largest of them needs, and the weights, packed once for every
// layout in use. Kept outputs lie in memory that the programs share too: the
// next run of a program with kept outputs of the same kind overwrites them,
// and using them after that is an error.
//
// Built without cgo, elsewhere than on Linux on x86-64 or with the tag
// noonednn, [Open] returns an error that wraps device.ErrUnsupported.
package cpu

import (
	"fmt"
	"runtime"
)

// Options says how a device is opened.
type Options struct {
	// Threads is the size of the team; 0 is GOMAXPROCS, which honours a
	// container's quota.
	Threads int
	// Weights are shared with the other devices that are given the same; nil:
	// the device has its own.
	Weights *Weights
	// Choices are those of trials; programs of training steps do not look at them.
	Choices Choices
}

func (o Options) threads() (int, error) {
	if o.Threads < 0 || o.Threads > 1024 {
		return 0, fmt.Errorf("cpu: %d threads: give 1 to 1024, or 0 for all", o.Threads)
	}
	if o.Threads == 0 {
		return runtime.GOMAXPROCS(0), nil
	}
	return o.Threads, nil
}
