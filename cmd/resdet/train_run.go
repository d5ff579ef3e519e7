package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"resdet"
	"resdet/eval"
	pages "resdet/eval/report"
	"resdet/internal/device"
	"resdet/internal/device/cpu"
	"resdet/internal/device/ref"
	"resdet/internal/nn"
	"resdet/internal/train"
	"resdet/internal/train/checkpoint"
	"resdet/internal/train/data"
	"resdet/internal/train/step"
	"resdet/internal/weights"
)

// Names of what a run leaves in its folder, besides package train's.
const (
	modelFile  = "model.safetensors"
	bestFile   = "best.safetensors" // while it runs
	recipeFile = "recipe.yaml"
	reportFile = "report.html"
	curvesFile = "curves.svg"
)

// training is a run with everything that it holds open.
type training struct {
	s    streams
	o    trainOptions
	d    *trainData
	plan *trainPlan
	set  *data.Set
	val  *evalSet // nil: none

	specs   []nn.ParamSpec
	dev     device.Trainer
	layers  nn.Numerics // below f32
	net     *step.Network
	loop    *train.Run
	machine checkpoint.Machine
	line    *trainLine
	peak    float64 // of memory, before evaluations reset the kernel's count
}

func newTraining(s streams, o trainOptions, d *trainData, plan *trainPlan) (*training, error) {
	t := &training{s: s, o: o, d: d, plan: plan, line: newTrainLine(s.err, o.quiet)}
	var err error
	t.specs, err = plan.cfg.Params()
	return t, err
}

// load makes the sets of what the data hold now.
func (t *training) load() (err error) {
	if t.d.val != nil {
		t.val = newEvalSet(t.d.val, t.d.valArg)
	}
	t.set, err = data.NewSet(t.d.train, t.plan.recipe.Data)
	return err
}

// note tells the user something, unless all is to be quiet.
func (t *training) note(format string, args ...any) {
	if !t.o.quiet {
		t.line.clear()
		fmt.Fprintf(t.s.err, "resdet: "+format+"\n", args...)
	}
}

// openDevice opens what the network is trained on, in the recipe's precision.
func (t *training) openDevice() (err error) {
	if t.dev, err = openTrainer(t.o.device, t.o.threads); err != nil {
		return err
	}
	t.layers, err = trainNumerics(t.plan.cfg, t.dev, t.plan.recipe.Precision)
	return err
}

// trainNumerics returns the layers of a network that a device trains below f32:
// the same ones that a detector computes so.
func trainNumerics(cfg resdet.Config, dev device.Trainer, p resdet.Precision) (nn.Numerics, error) {
	has := slices.DeleteFunc(slices.Clone(dev.Precisions()), func(p resdet.Precision) bool { return p == resdet.Int8 })
	if !slices.Contains(has, p) {
		return nil, usageError{&resdet.PrecisionError{Wanted: p, Has: has}}
	}
	if p == resdet.F32 {
		return nil, nil
	}
	names, err := cfg.Layers()
	layers := nn.Numerics{}
	for _, name := range names {
		layers[name] = nn.Numbers{Precision: p}
	}
	return layers, err
}

// open makes the network and the loop, at the beginning or where the run in
// the folder stopped.
func (t *training) open(resume bool) error {
	dev := t.dev
	t.machine = checkpoint.ThisMachine(dev.Name(), modelFlags{threads: t.o.threads}.threadCount())
	id := train.Identity{Recipe: t.plan.recipe, Model: t.plan.cfg, Data: t.d.fingerprint()}
	var start train.Start
	var params device.Params
	var err error
	if resume {
		var changed []string
		if start, params, changed, err = train.Resume(t.o.out, id, t.machine); err != nil {
			return hintError{err, "choose another --out for another run; --resume wants the flags and files that the run was started with"}
		}
		t.note("going on with %s at step %d", t.o.out, start.State.Step)
		for _, c := range changed {
			t.note("this is another machine than before: %s", c)
		}
		if len(changed) > 0 {
			t.note("the weights will not be those of an uninterrupted run to the last bit; the model's provenance will say so")
		}
	} else {
		if start, err = train.Begin(id, t.machine); err != nil {
			return err
		}
		params = &initialParams{plan: t.plan, fanIn: fanIns(t.specs)}
		if err := t.describe(); err != nil {
			return err
		}
	}
	m := step.Model{Backbone: t.plan.cfg.Backbone, RPN: t.plan.cfg.RPN, ROI: t.plan.cfg.ROI, Classes: len(t.plan.cfg.Classes), Numerics: t.layers}
	trainable, err := m.Trainable(t.plan.recipe.FrozenStages)
	if err != nil {
		return err
	}
	if t.net, err = step.New(dev, m, t.plan.recipe.Losses, params, trainable); err != nil {
		return err
	}
	t.loop = &train.Run{
		Dir: t.o.out, Recipe: t.plan.recipe, Set: t.set, Transform: t.plan.cfg.Transform, Network: t.net, Params: params, Specs: t.specs,
		From: start, Best: t.storeBest, Report: t.report, Note: t.note, Memory: t.memory,
	}
	if t.val != nil {
		t.loop.Evaluate = t.evaluate
	}
	return nil
}

func (t *training) close() {
	t.line.clear()
	if t.net != nil {
		t.net.Close()
	}
	if t.dev != nil {
		t.dev.Close()
	}
}

// openTrainer opens the device that a network is trained on.
func openTrainer(name string, threads int) (device.Trainer, error) {
	n := modelFlags{threads: threads}.threadCount()
	var dev device.Device
	var err error
	switch name {
	case "ref":
		dev = ref.Open(n)
	case "", "cpu":
		dev, err = cpu.Open(cpu.Options{Threads: n})
		if name == "" && errors.Is(err, device.ErrUnsupported) {
			dev, err = ref.Open(n), nil
		}
	default:
		return nil, usagef("--device %q is neither cpu nor ref", name)
	}
	if err != nil {
		return nil, err
	}
	tr, ok := dev.(device.Trainer)
	if !ok {
		dev.Close()
		return nil, fmt.Errorf("%s does not train", dev.Name())
	}
	return tr, nil
}

// describe says what the run starts from.
func (t *training) describe() error {
	p := t.plan
	t.note("%s: %s, %s, %s; scored on %s", t.d.trainArg, plural(t.set.Len(), "image"), plural(t.d.train.Objects(), "object"), classCount(len(p.cfg.Classes)), first(t.d.valArg, "nothing"))
	t.note("%s, short side %d, at most %d, %s", p.cfg.Arch, p.cfg.Transform.ShortSide, p.cfg.Transform.LongSide, p.recipe.Precision)
	if p.report == nil {
		t.note("starting from nothing: every layer is new")
	} else {
		fresh := map[string]bool{}
		for _, row := range p.report.Rows {
			if row.Key == "" || row.Status == weights.Matched || row.Status == weights.ByClass {
				continue
			}
			if stage := step.Stage(row.Key); stage > 0 && stage <= p.recipe.FrozenStages {
				return hintError{
					fmt.Errorf("%s lacks %s, which frozen_stages: %d would leave as it begins", p.source.Name, row.Key, p.recipe.FrozenStages),
					"is it a checkpoint of " + p.cfg.Arch + "? Otherwise set frozen_stages: 0",
				}
			}
			fresh[partOf(row.Key)] = true
		}
		parts := slices.Sorted(maps.Keys(fresh))
		t.note("starting from %s; new: %s", p.source.Name, first(strings.Join(parts, ", "), "nothing"))
		if p.classes != nil {
			if names := p.classes.fresh(); len(names) > 0 {
				t.note("new rows in the head: %s", listClasses(resdet.IndexedClasses(names...)))
			}
		}
	}
	text, err := p.resolved()
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(t.o.out, recipeFile), text, 0o666)
}

// run trains, and writes what a run leaves.
func (t *training) run(ctx context.Context) (*trainOutcome, error) {
	if t.loop.From.State.Step < t.plan.recipe.Schedule.Steps {
		e, err := t.loop.Measure(ctx)
		if err != nil {
			return nil, err
		}
		t.note("%d steps of %s: about %s and %.0f MB, as measured on three batches (evaluations not counted)",
			e.Steps, plural(t.plan.recipe.Data.Batch*t.plan.recipe.Accumulate, "image"), forPeople(e.Total), e.MemoryMB)
	}
	o, err := t.loop.Run(ctx)
	t.line.clear()
	if err != nil {
		return nil, err
	}
	t.note("trained for %s", forPeople(time.Duration(o.Seconds*float64(time.Second))))
	return t.finish(ctx, o)
}

// report shows where the run stands.
func (t *training) report(p train.Progress) { t.line.show(p, t.plan.recipe.Log) }

// memory is the peak of the process's memory.
func (t *training) memory() float64 {
	t.peak = max(t.peak, peakMB())
	return t.peak
}

// live is the network as it is now, as parameters of a detector.
func (t *training) live() device.Params { return &liveParams{t.net, t.loop.Params} }

// evaluate scores the network as it is.
func (t *training) evaluate(ctx context.Context, n int) (train.Score, error) {
	t.memory()
	t.line.clear()
	r, err := t.score(ctx, t.live(), fmt.Sprintf("step %d", n))
	var nothing *eval.MismatchError
	if errors.As(err, &nothing) {
		t.note("step %d: nothing matches on the validation set: %v", n, err)
		return train.Score{}, nil
	}
	if err != nil {
		return train.Score{}, err
	}
	s := train.Score{Value: float64(r.Metrics[0].Value)}
	for _, m := range r.Metrics {
		s.Figures = append(s.Figures, train.Figure{Name: m.Name, Value: float64(m.Value)})
	}
	t.note("step %d: %s %s on %s", n, r.Metrics[0].Name, r.Metrics[0].Value.Percent(1), t.d.valArg)
	return s, nil
}

// score evaluates parameters on the validation set, as `resdet eval` does.
func (t *training) score(ctx context.Context, params device.Params, name string) (*eval.Result, error) {
	t.net.Rest() // a detector's weights and memory beside those of training
	d, err := resdet.New(t.plan.cfg, params, resdet.Options{Threads: t.o.threads, Device: t.o.device})
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return t.val.model(ctx, eval.Protocol(t.plan.recipe.Evaluate.Protocol), name, d, d.Settings(), modelFlags{threads: t.o.threads}.threadCount(), t.s.err, t.o.quiet)
}

// storeBest stores the network as it is, after the best evaluation so far.
func (t *training) storeBest(int, train.Score) error {
	return t.store(filepath.Join(t.o.out, bestFile), t.plan.cfg, t.live(), weights.F32)
}

func (t *training) store(path string, cfg resdet.Config, params device.Params, dtype weights.DType) error {
	text, err := json.Marshal(cfg)
	if err != nil {
		return err
	}
	return weights.Save(path, text, t.specs, params, dtype)
}

// finish writes the model, its score, the report, the curves and pictures.
func (t *training) finish(ctx context.Context, o train.Outcome) (*trainOutcome, error) {
	path, best := filepath.Join(t.o.out, modelFile), filepath.Join(t.o.out, bestFile)
	out := &trainOutcome{Model: path, Steps: o.Steps, Stopped: o.Stopped, BestStep: o.Steps, Seconds: math.Round(o.Seconds), Data: t.d.trainArg}
	params := t.live()
	if o.Best.Step > 0 && !t.plan.recipe.Evaluate.Last && o.Best.Step != o.Steps {
		c, err := weights.Open(best)
		if errors.Is(err, os.ErrNotExist) { // the run was finished before
			c, err = weights.Open(path)
		}
		if err != nil {
			return nil, err
		}
		defer c.Close()
		params, out.BestStep = c, o.Best.Step
	}
	dtype := weights.F32
	if t.plan.recipe.Output == "f16" {
		dtype = weights.F16
	}
	cfg := t.plan.cfg
	var err error
	if cfg.Provenance, err = t.provenance(out); err != nil {
		return nil, err
	}
	if err := t.store(path, cfg, params, dtype); err != nil {
		return nil, err
	}
	if t.val != nil {
		if err := t.present(ctx, cfg, path, out); err != nil {
			return nil, err
		}
		cfg.Provenance.Scores = map[string]float64{}
		for name, v := range out.Scores {
			cfg.Provenance.Scores[fmt.Sprintf("%s (%s, %s)", name, out.Protocol, out.ValData)] = v
		}
		if err := t.store(path, cfg, params, dtype); err != nil {
			return nil, err
		}
	}
	records, err := train.ReadMetrics(t.o.out)
	if err != nil {
		return nil, err
	}
	if err := train.WriteCurves(filepath.Join(t.o.out, curvesFile), records); err != nil {
		return nil, err
	}
	if err := os.Remove(best); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	return out, nil
}

// present opens the model as anybody would, scores it, and writes the report
// and the pictures.
func (t *training) present(ctx context.Context, cfg resdet.Config, path string, out *trainOutcome) error {
	t.net.Rest()
	d, err := resdet.Open(path, resdet.Options{Threads: t.o.threads, Device: t.o.device})
	if err != nil {
		return err
	}
	defer d.Close()
	protocol := eval.Protocol(t.plan.recipe.Evaluate.Protocol)
	r, err := t.val.model(ctx, protocol, path, d, d.Settings(), modelFlags{threads: t.o.threads}.threadCount(), t.s.err, t.o.quiet)
	var nothing *eval.MismatchError
	if errors.As(err, &nothing) {
		t.note("the model finds nothing on the validation set: %v", err)
		return nil
	}
	if err != nil {
		return err
	}
	out.Protocol, out.ValData, out.Scores = string(protocol), t.d.valArg, map[string]float64{}
	for _, m := range r.Metrics[:min(2, len(r.Metrics))] {
		if m.Value.Present() {
			out.Scores[m.Name] = math.Round(1e4*float64(m.Value)) / 1e4
		}
	}
	if err := pages.WriteEval(filepath.Join(t.o.out, reportFile), r, t.val.open); err != nil {
		return err
	}
	return t.pictures(r)
}

// provenance says where the model comes from.
func (t *training) provenance(out *trainOutcome) (resdet.Provenance, error) {
	p := t.plan.cfg.Provenance
	from := "nothing"
	if t.plan.source != nil {
		from = filepath.Base(t.plan.source.Name)
	}
	r := t.plan.recipe
	p.Source = fmt.Sprintf("trained by resdet from %s in %s: step %d of %d of %s", from, r.Precision, out.BestStep, r.Schedule.Steps, plural(r.Data.Batch*r.Accumulate, "image"))
	p.Data = fmt.Sprintf("%s (%s)", t.d.trainArg, plural(t.set.Len(), "image"))
	var err error
	if p.Recipe, err = t.plan.recipeJSON(); err != nil {
		return p, err
	}
	state, err := checkpoint.LoadState(filepath.Join(t.o.out, train.CheckpointFile))
	if err != nil {
		return p, err
	}
	for i, m := range state.Machines {
		note := fmt.Sprintf("trained on %s", m.Device)
		if i > 0 {
			note = fmt.Sprintf("resumed at step %d on another machine: %s", m.FromStep, m.Device)
		}
		p.Notes = append(p.Notes, note)
	}
	return p, nil
}
