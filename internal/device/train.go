package device

import (
	"context"

	"resdet/internal/nd"
	"resdet/internal/nn"
)

// Trainer is a Device that runs training steps: graphs with gradients, in
// parts between which the host computes, on weights that change.
//
//	arrays: weights ─▶ ┌ part 0: pixels → RPN outputs        ┐ ─▶ arrays: gradients
//	params: frozen  ─▶ │   host: proposals, sampling, losses │
//	                   │ part 1: regions → logits, deltas    │
//	                   │   host: losses and their gradients  │
//	                   └ part 2: backward                    ┘
//
// Results depend on the inputs, the number of threads and the CPU's features,
// and on nothing else: the order of every sum is fixed.
type Trainer interface {
	Device
	// NewArray makes an array of zeros.
	NewArray(shape nd.Shape) (Array, error)
	// CompileStep prepares g, which may hold every operation of package nn and
	// whose nodes stand in the order of [nn.Graph.Parts]. arrays gives, by name,
	// the arrays of those inputs and outputs of g that are arrays: trainable
	// weights and biases (of any operation, in the place of a parameter), read
	// anew in every run; and their gradients. The other inputs and outputs are
	// dense host arrays. Parameters come from params and are packed once, as
	// Compile does. The device holds neither g nor params after the call but to
	// tell models apart.
	CompileStep(g *nn.Graph, params Params, arrays map[string]Array) (StepProgram, error)
}

// Rester is a Trainer that gives memory back while no step is run: what an
// evaluation during training needs lies there then.
type Rester interface {
	// Rest gives back what is empty between runs, until the next run. Outputs of
	// earlier ones cannot be read any more.
	Rest()
}

// Array is memory of a device that outlives programs and is shared by them.
type Array interface {
	Shape() nd.Shape
	// Data is the array as dense row-major float32 in host memory, which the
	// host may change between runs. It is valid until Close.
	Data() []float32
	// Close releases it; no program may use it after. It is idempotent.
	Close()
}

// StepProgram is a compiled training step, used by one goroutine at a time.
// The programs of a device share its arena.
type StepProgram interface {
	// Input returns the i-th input's buffer; nil where it is an array. It is
	// filled, anew for every run, before the part that it is given before:
	// programs may share the memory.
	Input(i int) Buffer
	// Output returns the i-th output's buffer; nil where it is an array. It can
	// be read after the part that it belongs to, until part 0 of any program of
	// the device runs.
	Output(i int) Buffer
	// Parts returns the number of parts, at least one.
	Parts() int
	// RunPart executes one part; parts run in order from 0, and it is an error
	// to leave one out or to compile or run another program of the device in
	// between.
	// Outputs that are arrays are added to, so that gradients accumulate over
	// runs until whoever uses them zeroes them. It returns ctx.Err() when
	// cancelled between steps; the run cannot be resumed then, and its arrays
	// hold anything.
	RunPart(ctx context.Context, part int) error
	// Steps describes what is executed, part by part, with the times of the last
	// run.
	Steps() []Step
	// Close releases what the program alone holds. It is idempotent.
	Close()
}
