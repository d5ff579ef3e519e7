// Package device is what runs a network: it compiles graphs (package nn) into
// programs. Model code never sees which device it is.
//
//	nn.Graph ──Compile──▶ Program ──Run──▶ outputs
//	                plan: fusion, rewrites, memory (device-independent)
//	ref: plain Go, the oracle and the fallback      cpu: oneDNN
package device

import (
	"context"
	"errors"
	"fmt"
	"time"

	"resdet/internal/nd"
	"resdet/internal/nn"
)

// ErrUnsupported is returned (wrapped) by a device that this build or this
// machine does not have.
var ErrUnsupported = errors.New("not supported")

// Device compiles and runs graphs. Programs of one device share one arena and
// the packed weights, so at most one of them runs at a time: Run calls of the
// same device wait for each other. A device may be used from any goroutine.
type Device interface {
	// Name says what it is, for reports: "cpu (oneDNN 2.6.3, avx512_core, 2 threads)".
	Name() string
	// Precisions lists the kinds of numbers that layers can be computed in, f32
	// first; [nn.Graph.With] chooses among them. Compile of a graph that wants
	// another returns an *[nn.PrecisionError].
	Precisions() []nn.Precision
	// Auto is the precision that is faster than float32 at no loss to speak of:
	// bf16 where the CPU has matrix units for it, else f32.
	Auto() nn.Precision
	// Pays reports whether layer v of g (see [nn.Graph.Layer]) is faster in p than in float32.
	Pays(p nn.Precision, g *nn.Graph, v nn.Value) bool
	// LargestWeight is what the largest weight of each channel becomes in layer v
	// of g, computed in the numbers n of int8: 127, or 64.
	LargestWeight(g *nn.Graph, v nn.Value, n nn.Numbers) float32
	// Compile prepares g. Parameters come from params, which is asked only for
	// what this device has not packed yet. from gives, for every input of g
	// that is another program's Kept output, that buffer (by input name); the
	// device takes its layout from it and a buffer of a program compiled
	// likewise is passed to Run. The other inputs are dense host arrays.
	Compile(g *nn.Graph, params Params, from map[string]Buffer) (Program, error)
	// Close releases all memory; programs of the device must not be used after.
	// It is idempotent.
	Close() error
}

// Params gives parameters by key. Param returns the elements in row-major
// order; they are only read during the call of Compile (a device that needs
// them longer copies them). Implementations are used from one goroutine at a time.
type Params interface {
	Param(key string, shape nd.Shape) ([]float32, error)
}

// ParamsInto is a Params that can put a parameter where the device wants it:
// large ones then need no memory of their own.
type ParamsInto interface {
	Params
	// ParamInto is Param into dst, which has the shape's number of elements.
	ParamInto(dst []float32, key string, shape nd.Shape) error
}

// ParamsHalf is a ParamsInto whose parameters may be stored as IEEE
// half-precision numbers: a device can widen them while it packs them.
type ParamsHalf interface {
	ParamsInto
	// ParamHalf returns the parameter's bytes, little-endian, nil if it is
	// stored otherwise. They are the model's own memory, to be read only, or lie
	// in what room gives for so many bytes.
	ParamHalf(key string, shape nd.Shape, room func(bytes int) ([]byte, error)) ([]byte, error)
}

// Program is a compiled graph. It owns its input and output buffers: fill
// Input(i).Data(), call Run, read Output(i).Data(). Outputs are good until the
// next Run of any program of the device. A program is used by one goroutine
// at a time; Run itself serialises with the device's other programs.
type Program interface {
	// Input returns the i-th input's buffer; nil where the input is bound to
	// another program's output.
	Input(i int) Buffer
	// Output returns the i-th output's buffer.
	Output(i int) Buffer
	// Run executes the program. bound gives the inputs that are other programs'
	// kept outputs, by name. It returns ctx.Err() when cancelled between steps.
	Run(ctx context.Context, bound map[string]Buffer) error
	// Steps describes what is executed, with the times of the last Run.
	Steps() []Step
	// Close releases what the program alone holds. It is idempotent.
	Close()
}

// Buffer is an array of a device.
type Buffer interface {
	Shape() nd.Shape
	// Data is the array as dense row-major float32 in host memory: a view
	// where the device's memory is the host's, else a staging copy that Run
	// brings in and out. nil for Kept outputs.
	Data() []float32
}

// Step is one kernel of a compiled program.
type Step struct {
	Name      string       // of the node it computes last
	Op        string       // "conv+norm+add+relu"
	Algorithm string       // "winograd", "direct", "gemm", "go"
	Layout    string       // of the result: "nhwc", "nChw16c", "nchw"; with "u8" or "s8" where it is stored in 8 bits
	Precision nn.Precision // of the products; "" without
	Shape     nd.Shape
	Part      int   // of a training step
	FLOPs     int64 // as nn.Graph.FLOPs counts, whatever the algorithm saves
	Time      time.Duration
	Trial     Trial // where the device had a choice
}

// Trial names the work of a step that a device can do in several ways, and how
// it was done. Steps of one layer are the same work.
type Trial struct{ Layer, Algorithm string }

// MapParams serves parameters from memory.
type MapParams map[string]*nd.Tensor[float32]

// Param returns the array under key, or an error if it is missing or has
// another shape.
func (m MapParams) Param(key string, shape nd.Shape) ([]float32, error) {
	t, ok := m[key]
	if !ok {
		return nil, fmt.Errorf("device: parameter %q is missing", key)
	}
	if !t.Shape.Equal(shape) {
		return nil, fmt.Errorf("device: parameter %q has shape %v, the network wants %v", key, t.Shape, shape)
	}
	return t.Data, nil
}
