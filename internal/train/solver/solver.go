// Package solver turns gradients into new weights: SGD with momentum and
// weight decay, and AdamW, as torch 1.13 has them. A [Solver] is a
// gorgonia.Solver; gorgonia's own decays the velocity instead of the weights,
// and its state cannot be stored.
//
//	gradients ─ norm over all ▶ clip ─┐
//	weights ──────────────────────────┼─▶ weights, state; gradients become 0
//	state by name ────────────────────┘
//
// Work is cut into pieces of fixed size whose partial sums are added in order,
// so that results do not depend on the number of cores.
package solver

import (
	"fmt"
	"math"
	"runtime"
	"sync"
	"sync/atomic"

	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// piece is how many weights one task takes: 256 KiB of each array.
const piece = 1 << 16

// Solver is a gorgonia.Solver. Its methods are called from one goroutine at a
// time; a Step uses all cores.
type Solver struct {
	// Rate is the learning rate of the next Step.
	Rate float64
	// Batches is how many batches the gradients were summed over since the last
	// Step; they are divided by it. 0 counts as 1.
	Batches int

	cfg   Config
	steps int64
	norm  float64
	state map[string]*moments
}

var _ gorgonia.Solver = (*Solver)(nil)

// moments is the state of one parameter.
type moments struct {
	first  []float32 // SGD's velocity, AdamW's mean
	second []float32 // AdamW's mean of squares; nil in SGD
	// What the groups make of the configuration.
	rate, decay float64
}

// param is a parameter in one Step.
type param struct {
	*moments
	name        string
	value, grad []float32
}

// New returns a solver without state: all moments are 0.
func New(cfg Config) (*Solver, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return &Solver{cfg: cfg, Batches: 1, state: map[string]*moments{}}, nil
}

// Norm returns the norm of the gradients of the last Step before they were
// clipped.
func (s *Solver) Norm() float64 { return s.norm }

// NonFiniteError says that a gradient is not a number, so that no step was
// made.
type NonFiniteError struct {
	Param string // the first one
}

func (e *NonFiniteError) Error() string {
	return fmt.Sprintf("solver: the gradient of %s is not finite", e.Param)
}

// Step changes the weights of every parameter by its gradient, and sets the
// gradients to 0. Parameters must be float32 tensors and have unique names, by
// which the state is kept. With a gradient that is not finite it returns a
// [*NonFiniteError], and weights and state are as before.
func (s *Solver) Step(model []gorgonia.ValueGrad) error {
	params := make([]param, len(model))
	for i, m := range model {
		p, err := s.param(m)
		if err != nil {
			return err
		}
		params[i] = p
	}
	batches := float64(max(s.Batches, 1))
	sum, bad := squares(params)
	if bad != "" {
		return &NonFiniteError{bad}
	}
	s.norm = math.Sqrt(sum) / batches
	scale := 1 / batches
	if s.cfg.Clip > 0 && s.norm > s.cfg.Clip {
		scale *= s.cfg.Clip / (s.norm + 1e-6) // torch.nn.utils.clip_grad_norm_
	}
	s.steps++
	each(params, func(p *param, from, to, _ int) {
		w, g, m := p.value[from:to], p.grad[from:to], p.first[from:to]
		if s.cfg.Kind == SGD {
			s.sgd(p, w, g, m, float32(scale))
		} else {
			s.adamw(p, w, g, m, p.second[from:to], float32(scale))
		}
		clear(g)
	})
	return nil
}

// sgd is torch.optim.SGD: v = momentum·v + (g + decay·w); w −= rate·v.
func (s *Solver) sgd(p *param, w, g, v []float32, scale float32) {
	momentum, decay, rate := float32(s.cfg.Momentum), float32(s.cfg.Decay*p.decay), float32(s.Rate*p.rate)
	g, v = g[:len(w)], v[:len(w)]
	for i, x := range w {
		d := momentum*v[i] + (g[i]*scale + decay*x)
		v[i] = d
		w[i] = x - rate*d
	}
}

// adamw is torch.optim.AdamW (Loshchilov and Hutter 2017): the decay does not
// pass through the moments.
func (s *Solver) adamw(p *param, w, g, m, v []float32, scale float32) {
	b1, c1 := float32(s.cfg.Beta1), float32(1-s.cfg.Beta1)
	b2, c2 := float32(s.cfg.Beta2), float32(1-s.cfg.Beta2)
	eps := float32(s.cfg.Epsilon)
	rate := s.Rate * p.rate
	keep := float32(1 - rate*s.cfg.Decay*p.decay)
	size := float32(rate / (1 - math.Pow(s.cfg.Beta1, float64(s.steps))))
	root := float32(math.Sqrt(1 - math.Pow(s.cfg.Beta2, float64(s.steps))))
	g, m, v = g[:len(w)], m[:len(w)], v[:len(w)]
	for i, x := range w {
		d := g[i] * scale
		m[i] = b1*m[i] + c1*d
		v[i] = b2*v[i] + c2*d*d
		w[i] = x*keep - size*m[i]/(float32(math.Sqrt(float64(v[i])))/root+eps)
	}
}

// param finds a parameter's arrays and its state.
func (s *Solver) param(m gorgonia.ValueGrad) (param, error) {
	named, ok := m.(gorgonia.Namer)
	if !ok || named.Name() == "" {
		return param{}, fmt.Errorf("solver: a parameter (%T) without a name", m)
	}
	p := param{name: named.Name()}
	grad, err := m.Grad()
	if err != nil {
		return p, fmt.Errorf("solver: %s: %w", p.name, err)
	}
	if p.value, err = elements(m.Value()); err == nil {
		p.grad, err = elements(grad)
	}
	if err == nil && len(p.value) != len(p.grad) {
		err = fmt.Errorf("%d weights have a gradient of %d", len(p.value), len(p.grad))
	}
	if err != nil {
		return p, fmt.Errorf("solver: %s: %w", p.name, err)
	}
	p.moments, err = s.of(p.name, len(p.value))
	return p, err
}

// elements returns the array of a value. (Data of a tensor with one element is
// that number, not the array.)
func elements(v gorgonia.Value) ([]float32, error) {
	t, ok := v.(*tensor.Dense)
	if !ok || t.Dtype() != tensor.Float32 {
		return nil, fmt.Errorf("%T is no dense tensor of float32", v)
	}
	return t.Float32s(), nil
}

// of returns a parameter's state, which begins with 0.
func (s *Solver) of(name string, size int) (*moments, error) {
	m, ok := s.state[name]
	if !ok {
		m = &moments{first: make([]float32, size)}
		if s.cfg.Kind == AdamW {
			m.second = make([]float32, size)
		}
		m.rate, m.decay = s.cfg.factors(name)
		s.state[name] = m
	}
	if len(m.first) != size {
		return nil, fmt.Errorf("solver: %s has %d weights, its state %d", name, size, len(m.first))
	}
	return m, nil
}

// squares sums the squares of all gradients, and names the first parameter
// whose gradient is not finite.
func squares(params []param) (sum float64, bad string) {
	pieces := 0
	first := make([]int, len(params)) // of each parameter's partial sums
	for i := range params {
		first[i] = pieces
		pieces += (len(params[i].value) + piece - 1) / piece
	}
	sums := make([]float64, pieces)
	each(params, func(p *param, from, to, n int) {
		var t [4]float64 // one sum alone would wait for each addition
		g := p.grad[from:to]
		for len(g) >= 4 {
			a, b, c, d := float64(g[0]), float64(g[1]), float64(g[2]), float64(g[3])
			t[0], t[1], t[2], t[3] = t[0]+a*a, t[1]+b*b, t[2]+c*c, t[3]+d*d
			g = g[4:]
		}
		for _, v := range g {
			t[0] += float64(v) * float64(v)
		}
		sums[n] = t[0] + t[1] + t[2] + t[3]
	})
	for i := range params {
		end := pieces
		if i+1 < len(params) {
			end = first[i+1]
		}
		for _, t := range sums[first[i]:end] {
			sum += t
		}
		if math.IsNaN(sum) || math.IsInf(sum, 0) {
			return sum, params[i].name
		}
	}
	return sum, ""
}

// each calls f for pieces of all parameters, on all cores; n counts the pieces.
func each(params []param, f func(p *param, from, to, n int)) {
	type task struct {
		p        *param
		from, to int
	}
	var tasks []task
	for i := range params {
		for from := 0; from < len(params[i].value); from += piece {
			tasks = append(tasks, task{&params[i], from, min(from+piece, len(params[i].value))})
		}
	}
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), len(tasks)) {
		wg.Go(func() {
			for n := int(next.Add(1)) - 1; n < len(tasks); n = int(next.Add(1)) - 1 {
				f(tasks[n].p, tasks[n].from, tasks[n].to, n)
			}
		})
	}
	wg.Wait()
}
