package train

import (
	"context"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"time"

	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"resdet/internal/device"
	"resdet/internal/nn"
	"resdet/internal/train/checkpoint"
	"resdet/internal/train/data"
	"resdet/internal/train/solver"
	"resdet/internal/train/step"
	"resdet/internal/transform"
)

// Run is a training run: what is trained, on what and how. Its fields are set
// before the first call; its methods are used from one goroutine.
type Run struct {
	Dir       string // of its files
	Recipe    Recipe
	Set       *data.Set
	Transform transform.Config
	Network   Network
	// Params are the parameters that the network was made with; the frozen ones
	// are taken from there. Specs lists all.
	Params device.Params
	Specs  []nn.ParamSpec
	// From is where the run begins; see [Begin] and [Resume].
	From Start
	// Evaluate scores the network as it is on the validation set; nil: there is
	// none.
	Evaluate func(ctx context.Context, step int) (Score, error)
	// Best is called after an evaluation that was the best so far, and must
	// store the network; nil is fine.
	Best func(step int, s Score) error
	// Report is called after every step, and Note with what somebody should
	// know; nil is fine.
	Report func(Progress)
	Note   func(format string, args ...any)
	// Memory returns the process's peak of memory in MB, for logs; nil is fine.
	Memory func() float64

	solver  *solver.Solver
	state   checkpoint.State
	logs    *logs
	loader  *data.Loader
	frozen  []checkpoint.Array
	window  window
	started time.Time
	told    map[string]bool // photos that were reported
}

// Score is what an evaluation gives.
type Score struct {
	Value   float64 // that decides which weights are the best
	Figures []Figure
}

// Progress is where a run stands after a step.
type Progress struct {
	Step, Steps     int
	Epoch           float64
	Losses          step.Losses // means over the last steps
	Rate            float64
	ImagesPerSecond float64
	MemoryMB        float64
	Left            time.Duration // evaluations left out
	Best            checkpoint.Best
}

// Outcome is how a run ended.
type Outcome struct {
	Steps   int
	Best    checkpoint.Best // Step 0: never evaluated
	Stopped bool            // early, because evaluations were no longer better
	Seconds float64
}

// Run trains until the last step, or until evaluations are no longer better,
// or ctx ends: then it saves and returns ctx's error. All files are in Dir.
func (r *Run) Run(ctx context.Context) (Outcome, error) {
	if err := r.open(); err != nil {
		return Outcome{}, err
	}
	defer r.close()
	err := r.train(ctx)
	return Outcome{Steps: r.state.Step, Best: r.state.Best, Stopped: r.stopped(), Seconds: r.seconds()}, err
}

func (r *Run) train(ctx context.Context) error {
	for {
		// Asked before every step, not after it: a run that was killed while it
		// evaluated begins here.
		if r.due() {
			if err := r.evaluate(ctx); err != nil {
				return err
			}
		}
		if r.state.Step >= r.Recipe.Schedule.Steps || r.stopped() {
			return nil
		}
		if err := r.step(ctx); err != nil {
			if ctx.Err() != nil { // the weights are those before the step
				return errors.Join(ctx.Err(), r.save())
			}
			return err
		}
		if r.state.Step%r.Recipe.Save == 0 || r.state.Step == r.Recipe.Schedule.Steps {
			if err := r.save(); err != nil {
				return err
			}
		}
	}
}

// due reports whether the network is to be evaluated now.
func (r *Run) due() bool {
	step, every := r.state.Step, r.Recipe.Evaluate.Every
	return r.Evaluate != nil && step > 0 && r.state.Evaluated != step && (step == r.Recipe.Schedule.Steps || every > 0 && step%every == 0)
}

// stopped reports whether evaluations are no longer better.
func (r *Run) stopped() bool {
	patience := r.Recipe.Evaluate.Patience
	return patience > 0 && r.state.Best.Waited >= patience
}

func (r *Run) open() error {
	var err error
	if r.solver, err = solver.New(r.Recipe.Solver); err != nil {
		return err
	}
	r.state = r.From.State
	if err := r.solver.Restore(r.state.SolverSteps, r.From.solver); err != nil {
		return err
	}
	r.solver.Batches = r.Recipe.Accumulate
	if err := r.freeze(); err != nil {
		return err
	}
	if r.logs, err = openLogs(r.Dir, r.state.Logs); err != nil {
		return err
	}
	r.loader = data.NewLoader(r.Set, r.Recipe.Data, r.Transform, r.Recipe.Seed, r.state.Next)
	r.started = time.Now()
	r.told = map[string]bool{}
	return nil
}

func (r *Run) close() {
	r.loader.Close()
	r.logs.close()
}

// freeze reads the parameters that are not trained, which checkpoints hold,
// too.
func (r *Run) freeze() error {
	trained := map[string]bool{}
	for _, v := range r.Network.ValueGrads() {
		trained[nameOf(v)] = true
	}
	for _, s := range r.Specs {
		if trained[s.Key] {
			continue
		}
		values, err := r.Params.Param(s.Key, s.Shape)
		if err != nil {
			return fmt.Errorf("train: %w", err)
		}
		r.frozen = append(r.frozen, checkpoint.Array{Name: modelPrefix + s.Key, Shape: s.Shape, Data: values})
	}
	return nil
}

// step makes one step. If it returns an error, the weights and the state are
// those before it.
func (r *Run) step(ctx context.Context) error {
	began := time.Now()
	var sum step.Losses
	var names []string
	for range r.Recipe.Accumulate {
		b, err := r.loader.Next(ctx)
		if err != nil {
			return err
		}
		r.report(b.Skipped)
		names = append(names, b.Names...)
		losses, err := r.Network.Step(ctx, b)
		if err != nil {
			return err
		}
		r.loader.Recycle(b)
		if term := losses.NotFinite(); term != "" {
			return r.diverged(b.Names, term, math.NaN())
		}
		if total := losses.Total(); total > maxLoss {
			return r.diverged(b.Names, "the sum of the losses", total)
		}
		sum = add(sum, losses, 1/float64(r.Recipe.Accumulate))
	}
	r.solver.Rate = r.Recipe.Schedule.At(r.state.Step)
	if err := r.solver.Step(r.Network.ValueGrads()); err != nil {
		var bad *solver.NonFiniteError
		if errors.As(err, &bad) {
			return r.diverged(names, "the gradient of "+bad.Param, math.NaN())
		}
		return err
	}
	r.state.Step++
	r.state.Next = r.loader.Position()
	r.state.SolverSteps = r.solver.Steps()
	r.window.add(sum, r.solver.Norm(), len(names), time.Since(began))
	p := r.progress()
	if r.Report != nil {
		r.Report(p)
	}
	if r.state.Step%r.Recipe.Log == 0 || r.state.Step == r.Recipe.Schedule.Steps {
		err := r.logs.write(Record{
			Step: r.state.Step, Epoch: p.Epoch, Loss: p.Losses.Total(), Rate: p.Rate, GradientNorm: r.window.norm(),
			Losses: map[string]float64{
				"classifier": p.Losses.Classifier, "box": p.Losses.Box, "objectness": p.Losses.Objectness, "rpn_box": p.Losses.RPNBox,
			},
			ImagesPerSecond: p.ImagesPerSecond, MemoryMB: p.MemoryMB, Seconds: r.seconds(),
		})
		r.window = window{}
		return err
	}
	return nil
}

// report tells of photos that were skipped, each once.
func (r *Run) report(skipped []error) {
	for _, err := range skipped {
		if text := err.Error(); r.Note != nil && !r.told[text] {
			r.told[text] = true
			r.Note("%s: skipped", text)
		}
	}
}

func (r *Run) diverged(images []string, term string, value float64) error {
	e := &DivergedError{Step: r.state.Step, Images: images, Term: term, Value: value}
	path := filepath.Join(r.Dir, CheckpointFile)
	if s, err := checkpoint.LoadState(path); err == nil {
		e.Checkpoint, e.Saved = path, s.Step
	}
	return e
}

func (r *Run) progress() Progress {
	steps := r.Recipe.Schedule.Steps
	p := Progress{
		Step: r.state.Step, Steps: steps, Losses: r.window.losses(), Rate: r.solver.Rate, Best: r.state.Best,
		Epoch:           float64(r.state.Step) * float64(r.Recipe.Accumulate*r.Recipe.Data.Batch) / float64(r.Set.Len()),
		ImagesPerSecond: float64(r.window.images) / max(r.window.time.Seconds(), 1e-9),
		Left:            time.Duration(steps-r.state.Step) * (r.window.time / time.Duration(max(r.window.steps, 1))),
	}
	if r.Memory != nil {
		p.MemoryMB = r.Memory()
	}
	return p
}

func (r *Run) seconds() float64 { return r.From.State.Seconds + time.Since(r.started).Seconds() }

// evaluate scores the network, after a checkpoint: an evaluation takes long
// enough to be interrupted.
func (r *Run) evaluate(ctx context.Context) error {
	if err := r.save(); err != nil {
		return err
	}
	s, err := r.Evaluate(ctx, r.state.Step)
	if err != nil {
		return err
	}
	if math.IsNaN(s.Value) { // no object of any class: nothing can be measured
		s.Value = 0
	}
	r.state.Evaluated = r.state.Step
	b := &r.state.Best
	if b.Step == 0 || s.Value > b.Score {
		if r.Best != nil {
			if err := r.Best(r.state.Step, s); err != nil {
				return err
			}
		}
		*b = checkpoint.Best{Score: s.Value, Step: r.state.Step}
	} else {
		b.Waited++
	}
	figures := map[string]float64{}
	for _, f := range s.Figures {
		if !math.IsNaN(f.Value) {
			figures[f.Name] = f.Value
		}
	}
	if err := r.logs.write(Record{Step: r.state.Step, Epoch: r.progress().Epoch, Seconds: r.seconds(), Score: &s.Value, Figures: figures}); err != nil {
		return err
	}
	return r.save()
}

// modelPrefix is that of the network's arrays in a checkpoint.
const modelPrefix = "model."

// save writes the checkpoint.
func (r *Run) save() error {
	var err error
	if r.state.Logs, err = r.logs.sizes(); err != nil {
		return err
	}
	s := r.state
	s.Seconds = r.seconds()
	arrays := r.frozen[:len(r.frozen):len(r.frozen)]
	for _, v := range r.Network.ValueGrads() {
		values, err := elements(v)
		if err != nil {
			return err
		}
		arrays = append(arrays, checkpoint.Array{Name: modelPrefix + nameOf(v), Shape: []int(v.Value().Shape()), Data: values})
	}
	for _, a := range r.solver.State() {
		arrays = append(arrays, checkpoint.Array{Name: a.Name, Shape: []int{len(a.Data)}, Data: a.Data})
	}
	return checkpoint.Save(filepath.Join(r.Dir, CheckpointFile), s, arrays)
}

// nameOf returns a parameter's name; solvers refuse one without.
func nameOf(v gorgonia.ValueGrad) string {
	if n, ok := v.(gorgonia.Namer); ok {
		return n.Name()
	}
	return ""
}

// elements returns the weights of a parameter.
func elements(v gorgonia.ValueGrad) ([]float32, error) { return floats(v.Value()) }

// gradient returns the gradient of a parameter.
func gradient(v gorgonia.ValueGrad) ([]float32, error) {
	g, err := v.Grad()
	if err != nil {
		return nil, fmt.Errorf("train: %s: %w", nameOf(v), err)
	}
	return floats(g)
}

func floats(v gorgonia.Value) ([]float32, error) {
	t, ok := v.(*tensor.Dense)
	if !ok || t.Dtype() != tensor.Float32 {
		return nil, fmt.Errorf("train: %T is no dense tensor of float32", v)
	}
	return t.Float32s(), nil
}
