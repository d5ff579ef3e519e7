package ref

import (
	"context"
	"fmt"
	"time"

	"resdet/internal/device"
	"resdet/internal/nd"
	"resdet/internal/nn"
)

// engine is what the programs of one device share: threads, their scratch,
// packed parameters, and slabs of memory. The one for intermediate values
// is dirty after every run; the one for kept outputs is only written by
// programs that have some. Nothing here is safe for concurrent use.
type engine[T nd.Float] struct {
	team    *team
	scratch []scratch[T] // of each thread
	weights map[weightKey]*weight[T]
	work    []T
	kept    []T
	left    []T         // factor of the product that is being computed
	current *program[T] // whose values work holds
}

// scratch is the memory of one thread, for the task that it does.
type scratch[T nd.Float] struct {
	right   []T // packed windows of a block
	sums    [][tileRows * tileCols]float64
	columns []column
	xs, ys  axis[T]
}

// weightKey names a parameter: where it comes from and its key there.
type weightKey struct {
	source    int
	key       string
	precision nn.Precision
}

// weight is a parameter as its kernels want it: plain or packed, or both.
type weight[T nd.Float] struct {
	shape  nd.Shape
	plain  []T
	packed *packed[T]
}

func newEngine[T nd.Float](threads int) *engine[T] {
	e := &engine[T]{team: newTeam(threads), scratch: make([]scratch[T], threads), weights: map[weightKey]*weight[T]{}}
	for i := range e.scratch {
		e.scratch[i] = scratch[T]{
			right:   make([]T, blockInner*blockCols),
			sums:    make([][tileRows * tileCols]float64, blockRows/tileRows*blockCols/tileCols),
			columns: make([]column, blockCols),
		}
	}
	return e
}

// reserve makes the slabs at least this large. What is in the slab of kept
// outputs stays.
func (e *engine[T]) reserve(work, kept, left int) {
	e.current = nil
	if left > len(e.left) {
		e.left = nil
		e.left = make([]T, left)
	}
	if work > len(e.work) {
		e.work = nil // let go of the old one first
		e.work = make([]T, work)
	}
	if kept > len(e.kept) {
		grown := make([]T, kept)
		copy(grown, e.kept)
		e.kept = grown
	}
}

// asker gives the elements of a parameter, to be read at once.
type asker[T nd.Float] func(key string, shape nd.Shape) ([]T, error)

// plain returns a copy of a parameter, made when it is first asked for.
func (e *engine[T]) plain(source int, p nn.Param, ask asker[T]) ([]T, error) {
	w := e.weight(source, p, "")
	if w.plain == nil {
		data, err := checked(p, ask)
		if err != nil {
			return nil, err
		}
		w.plain = append([]T(nil), data...)
	}
	return w.plain, nil
}

// matrix returns a parameter as the left factor of products: its first extent
// is the rows.
func (e *engine[T]) matrix(source int, p nn.Param, precision nn.Precision, ask asker[T]) (*packed[T], error) {
	w := e.weight(source, p, precision)
	if w.packed == nil {
		data, err := checked(p, ask)
		if err != nil {
			return nil, err
		}
		rows, cols := p.Shape[0], p.Shape[1:].Len()
		data, steps := rounded(data, rows, precision)
		w.packed = pack(data, rows, cols)
		w.packed.steps = steps
	}
	return w.packed, nil
}

// weight returns the entry of a parameter, an empty one if there is none of
// its shape yet.
func (e *engine[T]) weight(source int, p nn.Param, precision nn.Precision) *weight[T] {
	id := weightKey{source, p.Key, precision}
	w := e.weights[id]
	if w == nil || !w.shape.Equal(p.Shape) {
		w = &weight[T]{shape: p.Shape}
		e.weights[id] = w
	}
	return w
}

func checked[T nd.Float](p nn.Param, ask asker[T]) ([]T, error) {
	data, err := ask(p.Key, p.Shape)
	if err != nil {
		return nil, err
	}
	if len(data) != p.Shape.Len() {
		return nil, fmt.Errorf("parameter %q: %d elements given for shape %v", p.Key, len(data), p.Shape)
	}
	return data, nil
}

// kernel computes one node.
type kernel[T nd.Float] interface {
	// tasks returns into how many independent tasks the kernel falls: by its
	// shapes alone, so that the results are the same for any number of threads.
	tasks() int
	// do computes one task. values holds the memory of every node.
	do(values [][]T, task int, s *scratch[T])
}

// step is a kernel of a program.
type step[T nd.Float] struct {
	kernel kernel[T]
	part   int
	info   device.Step // with the time of the last run
}

// program is a compiled graph.
type program[T nd.Float] struct {
	engine  *engine[T]
	graph   *nn.Graph
	steps   []step[T]
	values  [][]T   // by node; then copies for outputs that need one
	places  []place // of the values that lie in a slab
	inputs  [][]T   // in order of the graph's; nil: bound, set before each run
	outputs [][]T   // nil: kept, or added to an array
	lefts   []*packed[T]
	parts   int
	next    int     // part to run
	kept    []place // of the outputs that are kept
	current kernel[T]
}

// place is where a value lies in a slab.
type place struct {
	value        nn.Value
	kept         bool
	offset, size int
}

// do implements job.
func (p *program[T]) do(worker, task int) {
	p.current.do(p.values, task, &p.engine.scratch[worker])
}

// run executes the program; inputs must be filled and bound ones set.
func (p *program[T]) run(ctx context.Context) error {
	for part := range p.parts {
		if err := p.runPart(ctx, part); err != nil {
			return err
		}
	}
	return nil
}

// runPart executes one part of the program.
func (p *program[T]) runPart(ctx context.Context, part int) error {
	if part == 0 {
		p.place()
	} else if p.engine.current != p || p.next != part {
		return fmt.Errorf("ref: part %d of a program does not follow part %d of the same one", part, part-1)
	}
	p.engine.current, p.next = p, -1 // until this part has run
	p.engine.team.start()
	defer p.engine.team.stop()
	for i := range p.steps {
		s := &p.steps[i]
		if s.part != part {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		start := time.Now()
		p.current = s.kernel
		p.engine.team.each(s.kernel.tasks(), p)
		s.info.Time = time.Since(start)
	}
	p.next = part + 1
	return ctx.Err()
}

// place sets where the values lie that share the engine's memory.
func (p *program[T]) place() {
	for _, at := range p.places {
		slab := p.engine.work
		if at.kept {
			slab = p.engine.kept
		}
		p.values[at.value] = slab[at.offset : at.offset+at.size]
	}
	for _, f := range p.lefts {
		f.data = p.engine.left[:f.size()]
	}
}
