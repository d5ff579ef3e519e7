package train

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"resdet/internal/train/data"
	"resdet/internal/train/solver"
)

// Estimate is what a run will take, as measured.
type Estimate struct {
	Steps    int           // that are left
	Step     time.Duration // of one
	Total    time.Duration // of all that are left, evaluations left out
	MemoryMB float64       // the peak so far, and the solver's state, which the first step makes
}

// measured is how many batches Measure runs: the first one compiles.
const measured = 3

// Measure runs a few batches of the data without changing the weights, and
// says what the run will take. It is an error if the learning rate is one that
// would destroy the weights.
func (r *Run) Measure(ctx context.Context) (Estimate, error) {
	l := data.NewLoader(r.Set, r.Recipe.Data, r.Transform, r.Recipe.Seed, r.From.State.Next)
	defer l.Close()
	defer r.clearGradients()
	var times []time.Duration
	for range measured {
		b, err := l.Next(ctx)
		if err != nil {
			return Estimate{}, err
		}
		began := time.Now()
		losses, err := r.Network.Step(ctx, b)
		if err != nil {
			return Estimate{}, err
		}
		times = append(times, time.Since(began))
		if term := losses.NotFinite(); term != "" {
			return Estimate{}, &DivergedError{Step: r.From.State.Step, Images: b.Names, Term: term, Value: math.NaN()}
		}
		l.Recycle(b)
	}
	if err := r.checkRate(); err != nil {
		return Estimate{}, err
	}
	e := Estimate{Steps: r.Recipe.Schedule.Steps - r.From.State.Step, Step: slices.Min(times) * time.Duration(r.Recipe.Accumulate)}
	e.Total = time.Duration(e.Steps) * e.Step
	if r.Memory != nil {
		e.MemoryMB = r.Memory()
		if r.From.State.Step == 0 {
			e.MemoryMB += float64(r.stateBytes()) / (1 << 20)
		}
	}
	return e, nil
}

// stateBytes is the size of the solver's state.
func (r *Run) stateBytes() int {
	n := 0
	for _, v := range r.Network.ValueGrads() {
		n += v.Value().Shape().TotalSize()
	}
	return 4 * n * r.Recipe.Solver.Moments()
}

// clearGradients sets all gradients to 0, as a solver's step does.
func (r *Run) clearGradients() {
	for _, v := range r.Network.ValueGrads() {
		if g, err := gradient(v); err == nil {
			clear(g)
		}
	}
}

// maxShare is how much of the weights' norm the steady state of one gradient
// may move them by. Healthy training moves them by 0.1 to 1 % a step at first.
const maxShare = 0.1

// checkRate holds the schedule's highest rate against the gradients that were
// just measured.
func (r *Run) checkRate() error {
	if r.From.State.Step > 0 {
		return nil
	}
	var weights, gradients float64
	n := 0
	for _, v := range r.Network.ValueGrads() {
		w, err := elements(v)
		if err != nil {
			return err
		}
		g, err := gradient(v)
		if err != nil {
			return err
		}
		weights, gradients, n = weights+squares(w), gradients+squares(g), n+len(w)
	}
	norm := math.Sqrt(gradients) / measured
	c := r.Recipe.Solver
	if c.Clip > 0 {
		norm = min(norm, c.Clip)
	}
	rate := r.Recipe.Schedule.Rate
	moved := rate * norm / (1 - c.Momentum)
	if c.Kind == solver.AdamW {
		moved = rate * math.Sqrt(float64(n)) // each weight by about the rate
	}
	if share := moved / max(math.Sqrt(weights), 1e-12); share > maxShare {
		return &RateError{Rate: rate, Share: share}
	}
	return nil
}

// RateError says that a learning rate explodes.
type RateError struct {
	Rate, Share float64
}

func (e *RateError) Error() string {
	return fmt.Sprintf("train: a learning rate of %g explodes: on the first batches it moves the weights by %.0f %% of their norm", e.Rate, 100*e.Share)
}

// Hint says what to do.
func (e *RateError) Hint() string {
	return fmt.Sprintf("set schedule.rate to %.1g or less", e.Rate*maxShare/e.Share/4)
}

func squares(v []float32) float64 {
	var sum float64
	for _, x := range v {
		sum += float64(x) * float64(x)
	}
	return sum
}
