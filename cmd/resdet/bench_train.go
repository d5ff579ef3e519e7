package main

import (
	"context"
	"encoding/json"
	"fmt"
	"image"
	"io"
	"slices"
	"text/tabwriter"
	"time"

	"resdet"
	"resdet/internal/box"
	"resdet/internal/det"
	"resdet/internal/device"
	"resdet/internal/device/cpu"
	"resdet/internal/formula"
	"resdet/internal/nd"
	"resdet/internal/nn"
	"resdet/internal/train/data"
	"resdet/internal/train/solver"
	"resdet/internal/train/step"
	"resdet/internal/transform"
)

// benchObjects is how many boxes the image of a training step has.
const benchObjects = 8

// trainBench measures training steps: an image prepared, the losses and
// gradients of 512 regions, a step of SGD; three stages of the backbone are
// trained, norms are fixed.
type trainBench struct {
	cfg    resdet.Config
	img    image.Image
	net    *step.Network
	solver *solver.Solver
	batch  *data.Batch
	view   det.View
}

// runTrainBench measures what bench --train asks for.
func runTrainBench(ctx context.Context, s streams, o benchOptions) error {
	if o.arch == "" || o.regions != 0 || o.compare != "" {
		return usagef("--train goes with --arch, and neither with --regions nor --compare")
	}
	cfg, img, err := o.untrained()
	if err != nil {
		return err
	}
	dev, err := cpu.Open(cpu.Options{Threads: o.model.threads})
	if err != nil {
		return err
	}
	defer dev.Close()
	trainer, ok := dev.(device.Trainer)
	if !ok {
		return fmt.Errorf("%s does not train", dev.Name())
	}
	precision := resdet.Precision(o.model.precision)
	if precision == resdet.Auto {
		precision = dev.Auto()
	}
	layers, err := trainNumerics(cfg, trainer, precision)
	if err != nil {
		return err
	}
	b, err := newTrainBench(trainer, cfg, layers, img)
	if err != nil {
		return err
	}
	defer b.net.Close()
	r, err := b.measure(ctx, o)
	if err != nil {
		return err
	}
	r.Device, r.Precision = dev.Name(), string(precision)
	if r.Limits, err = cpu.Measure(o.model.threadCount()); err != nil {
		return err
	}
	if o.json {
		return json.NewEncoder(s.out).Encode(r)
	}
	return r.print(s.out, o.layers)
}

func newTrainBench(dev device.Trainer, cfg resdet.Config, layers nn.Numerics, img image.Image) (*trainBench, error) {
	model := step.Model{Backbone: cfg.Backbone, RPN: cfg.RPN, ROI: cfg.ROI, Classes: len(cfg.Classes), Numerics: layers}
	keys, err := model.Trainable(2)
	if err != nil {
		return nil, err
	}
	b := &trainBench{cfg: cfg, img: img}
	if b.net, err = step.New(dev, model, step.DefaultConfig(), formulaFor(cfg), keys); err != nil {
		return nil, err
	}
	sgd := solver.DefaultConfig()
	sgd.Kind, sgd.Momentum, sgd.Decay = solver.SGD, 0.9, 1e-4
	if b.solver, err = solver.New(sgd); err != nil {
		return nil, err
	}
	b.solver.Rate = 1e-6
	size := img.Bounds().Size()
	view, padded := cfg.Transform.Plan(size.X, size.Y)
	b.view = view
	b.batch = &data.Batch{Pixels: nd.New[float32](padded...), Views: []det.View{view}, Seed: 1}
	b.batch.Truths = [][]det.Truth{objects(view.ScaledWidth, view.ScaledHeight, len(cfg.Classes))}
	return b, nil
}

// objects are boxes of 40 to 220 pixels, spread over an image.
func objects(width, height, classes int) []det.Truth {
	seed := formula.Seed("bench objects")
	at := func(i, n int) float32 { return float32(formula.Unit(seed, i)+1) / 2 * float32(n) }
	truths := make([]det.Truth, benchObjects)
	for i := range truths {
		w, h := 40+at(4*i, min(180, width-50)), 40+at(4*i+1, min(180, height-50))
		x, y := at(4*i+2, width-int(w)), at(4*i+3, height-int(h))
		truths[i] = det.Truth{Class: i % classes, Box: box.Box{X0: x, Y0: y, X1: x + w, Y1: y + h}}
	}
	return truths
}

// trainTimes are those of one step.
type trainTimes struct {
	total, transform, step, solver time.Duration
	kernels                        []device.Step
}

func (b *trainBench) run(ctx context.Context, scratch *transform.Scratch) (t trainTimes, err error) {
	start := time.Now()
	shape := b.batch.Pixels.Shape
	if err = b.cfg.Transform.Write(b.batch.Pixels.Data, shape[2], shape[3], b.img, b.view, scratch); err != nil {
		return t, err
	}
	t.transform = time.Since(start)
	if _, err = b.net.Step(ctx, b.batch); err != nil {
		return t, err
	}
	t.step = time.Since(start) - t.transform
	if err = b.solver.Step(b.net.ValueGrads()); err != nil {
		return t, err
	}
	t.total = time.Since(start)
	t.solver = t.total - t.step - t.transform
	t.kernels = b.net.Steps()
	return t, nil
}

// trainReport is what bench --train measured.
type trainReport struct {
	Arch      string       `json:"arch"`
	Device    string       `json:"device"`
	Precision string       `json:"precision"`
	Input     []int        `json:"input"` // [N 3 H W], padded
	Runs      int          `json:"runs"`
	Seconds   float64      `json:"seconds"` // median of a step
	Min       float64      `json:"min_seconds"`
	Max       float64      `json:"max_seconds"`
	GFLOPs    float64      `json:"gflops"`
	Limits    cpu.Limits   `json:"limits,omitzero"`
	PeakMB    float64      `json:"peak_mb,omitempty"`
	Parts     []benchStage `json:"parts"`
	Layers    []benchLayer `json:"layers,omitempty"`
}

// partNames are those of a step's device parts.
var partNames = [...]string{"stage 1 forward", "stage 2 forward", "backward"}

// measure runs one step to warm up and then o.runs.
func (b *trainBench) measure(ctx context.Context, o benchOptions) (trainReport, error) {
	r := trainReport{Arch: b.cfg.Arch, Input: b.batch.Pixels.Shape, Runs: o.runs}
	scratch := transform.NewScratch(o.model.threadCount())
	var runs []trainTimes
	for i := range o.runs + 1 {
		t, err := b.run(ctx, scratch)
		if err != nil {
			return r, err
		}
		if i > 0 {
			runs = append(runs, t)
		}
	}
	slices.SortFunc(runs, func(a, b trainTimes) int { return int(a.total - b.total) })
	r.Min, r.Max = runs[0].total.Seconds(), runs[len(runs)-1].total.Seconds()
	t := runs[len(runs)/2]
	r.Seconds = t.total.Seconds()

	var parts [len(partNames)]struct {
		time  time.Duration
		flops int64
	}
	var kernels time.Duration
	var flops int64
	for _, k := range t.kernels {
		p := &parts[min(k.Part, len(parts)-1)]
		p.time += k.Time
		p.flops += k.FLOPs
		kernels += k.Time
		flops += k.FLOPs
		if o.layers {
			r.Layers = append(r.Layers, layerOf(k.Part, k))
		}
	}
	rate := func(flops int64, t time.Duration) float64 { return float64(flops) / t.Seconds() / 1e9 }
	r.GFLOPs = rate(flops, t.total)
	r.Parts = append(r.Parts, benchStage{"transform", t.transform.Seconds(), 0})
	for i, p := range parts {
		if p.time > 0 {
			r.Parts = append(r.Parts, benchStage{partNames[i], p.time.Seconds(), rate(p.flops, p.time)})
		}
	}
	r.Parts = append(r.Parts, benchStage{"proposals, losses", (t.step - kernels).Seconds(), 0}, benchStage{"solver", t.solver.Seconds(), 0})
	r.PeakMB = peakMB()
	return r, nil
}

func (r trainReport) print(w io.Writer, layers bool) error {
	fmt.Fprintf(w, "%s, training, on %s, %s, input %v, %s\n\n", r.Arch, r.Device, r.Precision, r.Input, plural(r.Runs, "run"))
	whole := benchReport{Precision: r.Precision, Seconds: r.Seconds, Min: r.Min, Max: r.Max, GFLOPs: r.GFLOPs, Limits: r.Limits, PeakMB: r.PeakMB, Stages: r.Parts, Layers: r.Layers}
	if err := whole.printStages(w); err != nil || !layers {
		return err
	}
	return whole.printLayers(tabwriter.NewWriter(w, 0, 0, 2, ' ', 0))
}
