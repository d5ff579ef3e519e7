//go:build cgo && linux && amd64 && !noonednn

package cpu

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"

	"resdet/internal/device"
	"resdet/internal/device/plan"
	"resdet/internal/nn"
	"resdet/internal/onednn"
)

// Device is a [device.Device]; see the package comment.
type Device struct {
	threads int
	choices Choices
	jobs    chan func() // run on the device's thread
	done    chan struct{}
	watch   chan (<-chan struct{}) // a context's Done to watch during a run
	unwatch chan struct{}

	mu       sync.Mutex // held by Compile, Run and Close: one at a time
	engine   *onednn.Engine
	cancel   *onednn.Flag
	regions  [onednn.Regions]region
	weights  *Weights
	programs map[*Program]struct{}
	shared   map[*shared]struct{}
	hosts    *onednn.Block // host arrays of all training steps, see hostRoom
	step     *StepProgram  // that is between two of its parts
	closed   bool
}

// Regions of memory whose addresses a run is given. Kept outputs of programs
// that read kept inputs lie one region further, so that a program never
// overwrites what it reads.
const (
	arena      = 1
	scratch    = 2
	firstKept  = 3
	firstBound = 8 // bound inputs, wherever they lie
)

// region is memory that programs share.
type region struct {
	block *onednn.Block // nil when nobody needs it
	owner *Program      // whose kept outputs are in it
}

var errClosed = errors.New("the device is closed")

// Open starts a device.
func Open(opt Options) (device.Device, error) {
	threads, err := opt.threads()
	if err != nil {
		return nil, err
	}
	if opt.Weights == nil {
		opt.Weights = NewWeights()
	}
	d := &Device{
		threads: threads, choices: opt.Choices, jobs: make(chan func()), done: make(chan struct{}),
		watch: make(chan (<-chan struct{})), unwatch: make(chan struct{}),
		weights: opt.Weights, programs: map[*Program]struct{}{}, shared: map[*shared]struct{}{},
	}
	go d.work()
	d.do(func() {
		if d.engine, err = onednn.NewEngine(threads); err != nil {
			return
		}
		if d.cancel, err = onednn.NewFlag(); err != nil {
			d.engine.Close()
		}
	})
	if err != nil {
		close(d.jobs)
		return nil, err
	}
	go d.watchContexts()
	return d, nil
}

// work is the device's thread. It is never unlocked, so that the thread and
// OpenMP's team of it end with the device.
func (d *Device) work() {
	runtime.LockOSThread()
	for job := range d.jobs {
		job()
		d.done <- struct{}{}
	}
}

// do runs job on the device's thread and waits for it.
func (d *Device) do(job func()) {
	d.jobs <- job
	<-d.done
}

// watchContexts raises the flag of the running program when its context ends.
// One goroutine for all runs, so that a run allocates nothing.
func (d *Device) watchContexts() {
	for done := range d.watch {
		select {
		case <-done:
			d.cancel.Set(true)
			<-d.unwatch
		case <-d.unwatch:
		}
	}
}

// Name says what the device is.
func (d *Device) Name() string {
	return fmt.Sprintf("cpu (oneDNN %s, %s, %d threads)", onednn.Version(), onednn.ISA(), d.threads)
}

// Precisions lists what the CPU computes in.
func (d *Device) Precisions() []nn.Precision { return precisions() }

// WeightBits is how many bits the weights of int8 layers have.
func (d *Device) WeightBits() int {
	if onednn.VNNI() {
		return 8
	}
	return 7
}

// Auto is bf16 where the CPU has matrix units: vectors of it are slower than
// float32's, with AVX-512 by half.
func (d *Device) Auto() nn.Precision {
	if onednn.AMX() {
		return nn.BF16
	}
	return nn.F32
}

// Compile prepares g; see [device.Device]. While a program of the result is
// open the device keeps params, to tell models apart by them.
func (d *Device) Compile(g *nn.Graph, params device.Params, from map[string]device.Buffer) (device.Program, error) {
	if err := g.CheckNumbers(d.Precisions()); err != nil {
		return nil, fmt.Errorf("cpu: %w", err)
	}
	pl, err := plan.New(g)
	if err != nil {
		return nil, fmt.Errorf("cpu: %w", err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	p, err := d.compile(g, pl, params, from, nil)
	if err != nil {
		return nil, fmt.Errorf("cpu: %w", err)
	}
	return p, nil
}

// compile lowers a plan on the device's thread. d.mu is held.
func (d *Device) compile(g *nn.Graph, pl *plan.Plan, params device.Params, from map[string]device.Buffer, arrays map[string]*shared) (p *Program, err error) {
	if d.closed {
		return nil, errClosed
	}
	d.step = nil // the arena may go
	d.weights.mu.Lock()
	defer d.weights.mu.Unlock()
	d.do(func() { p, err = d.lower(g, pl, params, from, arrays) })
	if err != nil {
		return nil, err
	}
	d.programs[p] = struct{}{}
	return p, nil
}

// Close releases all memory. It is idempotent.
func (d *Device) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil
	}
	d.closed = true
	d.weights.mu.Lock()
	defer d.weights.mu.Unlock()
	d.do(func() {
		for p := range d.programs {
			p.release()
		}
		for a := range d.shared {
			a.block.Free()
		}
		if d.hosts != nil {
			d.hosts.Free()
		}
		for i := range d.regions {
			d.regions[i].free()
		}
		d.cancel.Free()
		d.engine.Close()
	})
	close(d.jobs)
	close(d.watch)
	return nil
}

// trim gives back the shared memory that no open program needs.
func (d *Device) trim() {
	for i := range d.regions {
		r := &d.regions[i]
		var need int64
		for p := range d.programs {
			need = max(need, p.need[i])
		}
		if r.block != nil && r.block.Size() > need && (r.owner == nil || r.owner.closed) {
			r.free()
		}
	}
}

// makeRoom gives back what is empty between runs; the next run takes it again.
func (d *Device) makeRoom() {
	d.regions[arena].free()
	d.regions[scratch].free()
}

// grow makes the region at least as large as given. What was in it is lost.
func (r *region) grow(size int64) error {
	if r.block != nil && r.block.Size() >= size || size == 0 {
		return nil
	}
	r.free()
	var err error
	r.block, err = onednn.Alloc(size)
	return err
}

func (r *region) free() {
	if r.block != nil {
		r.block.Free()
	}
	*r = region{}
}

// Sgemm measures the machine's rate of float32 matrix products in GFLOP/s, as
// a limit to hold a network's time against.
func Sgemm(threads int) float64 {
	rate := make(chan float64)
	go func() {
		runtime.LockOSThread() // ends with the goroutine: its team must not outlive it
		rate <- onednn.Sgemm(threads, 2048, 4)
	}()
	return <-rate
}

// run executes p on the device's thread. d.mu is held.
func (d *Device) run(ctx context.Context, p *Program) error {
	d.cancel.Set(false)
	if done := ctx.Done(); done != nil {
		d.watch <- done
		d.do(p.execute)
		d.unwatch <- struct{}{}
	} else {
		d.do(p.execute)
	}
	if errors.Is(p.err, onednn.ErrCancelled) {
		return ctx.Err()
	}
	return p.err
}
