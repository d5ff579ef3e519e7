package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"io"
	"runtime"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"resdet"
	"resdet/internal/device/cpu"
	"resdet/internal/formula"
)

type benchOptions struct {
	model   modelFlags
	arch    string
	size    string
	regions int
	classes int
	runs    int
	batch   int
	layers  bool
	every   bool
	train   bool
	tune    bool
	choices resdet.Choices // of a trial
	compare string
	json    bool
}

func newBenchCommand(s streams) *cobra.Command {
	var o benchOptions
	cmd := &cobra.Command{
		Use:   "bench [--model FILE | --arch NAME] [--size HxW]",
		Short: "Measure a detector on this machine, stage by stage",
		Long: `Measure a detector on this machine: the median of several detections of one synthetic
image, stage by stage, and the machine's own matrix product beside it. With --workers several detections run at a
time, on shares of the threads and with one copy of the weights: each takes longer, more are done in a second.

With --arch the weights follow from a formula: the work is the real one, what is found is not.
GFLOP/s count the multiply-adds of the network's definition, whatever an algorithm saves; limit is their share of what
the machine's largest matrix products reach in the same run.

With --tune every algorithm that a convolution can be computed by is tried where it stands, and the faster ones are kept
for this CPU, library, vector width and number of threads, in "trials" of the cache folder (RESDET_CACHE). Later
commands compute those layers so; deleting the file brings the rule back.

With --train a step of training is measured instead: one image with eight objects, 512 regions, three stages of the
backbone learned and norms fixed, forward, backward and SGD.`,
		Example: `  resdet bench
  resdet bench --layers --json > before.json; …; resdet bench --compare before.json
  resdet bench --arch vgg16 --size 600x1000 --regions 300
  resdet bench --arch resnet101-c4 --size 600x1000 --layers
  resdet bench --threads 16 --workers 4 --batch 2
  resdet bench --tune --arch resnet101-c4 --size 600x1000 --runs 10
  resdet bench --train --arch resnet101-fpn --size 600x1000`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return runBench(cmd.Context(), s, o) },
	}
	f := cmd.Flags()
	o.model.add(f, s)
	f.StringVar(&o.arch, "arch", "", "measure this architecture: "+strings.Join(resdet.Archs(), " "))
	f.StringVar(&o.size, "size", "", "height x width of the image, which --arch takes unscaled and a model scales by its own rule (default 600x1000; a model's short side, 3:2)")
	f.IntVar(&o.regions, "regions", 0, "regions of the second stage, with --arch (default: the architecture's)")
	f.IntVar(&o.classes, "num-classes", 0, "classes, with --arch (default 80; 20 for vgg16, 90 for a pyramid)")
	f.IntVar(&o.runs, "runs", 5, "measured detections of each worker, after one to warm up")
	f.IntVar(&o.batch, "batch", 1, "images of a detection")
	o.model.addWorkers(f)
	f.BoolVar(&o.layers, "layers", false, "print every kernel")
	f.BoolVar(&o.every, "every-layer", false, "all layers in the precision that may be, also those that are faster in f32 or would lose too much")
	f.BoolVar(&o.train, "train", false, "measure a step of training, with --arch")
	f.BoolVar(&o.tune, "tune", false, "try the algorithms of every layer and keep what is faster than the rule's")
	f.StringVar(&o.compare, "compare", "", "report of an earlier bench --json: print what changed since")
	f.BoolVar(&o.json, "json", false, "machine-readable output")
	return cmd
}

// benchReport is what bench measured.
type benchReport struct {
	Arch      string       `json:"arch"`
	Device    string       `json:"device"`
	Precision string       `json:"precision"`
	Input     []int        `json:"input"` // [N 3 H W], padded
	Workers   int          `json:"workers"`
	Regions   int          `json:"regions"` // that went into stage 2
	Runs      int          `json:"runs"`
	Seconds   float64      `json:"seconds"` // median of a detection of all the input's images
	Min       float64      `json:"min_seconds"`
	Max       float64      `json:"max_seconds"`
	Images    float64      `json:"images_per_second"` // of all workers together
	GFLOPs    float64      `json:"gflops"`            // per second, of all workers together
	Limits    cpu.Limits   `json:"limits,omitzero"`   // of this machine
	PeakMB    float64      `json:"peak_mb,omitempty"`
	Stages    []benchStage `json:"stages"` // of a detection; "other" is what they leave of it
	Around    []benchStage `json:"around"` // what a command does before and after, for one image
	Reorders  benchCopies  `json:"reorders"`
	Layers    []benchLayer `json:"layers,omitempty"`
}

type benchStage struct {
	Name    string  `json:"stage"`
	Seconds float64 `json:"seconds"` // median
	GFLOPs  float64 `json:"gflops,omitempty"`
}

// benchCopies are the kernels that only bring a value to another layout.
type benchCopies struct {
	Count   int     `json:"count"`
	Seconds float64 `json:"seconds"`
}

type benchLayer struct {
	Stage     int     `json:"stage"`
	Name      string  `json:"name"`
	Op        string  `json:"op"`
	Algorithm string  `json:"algorithm"`
	Layout    string  `json:"layout"`
	Shape     []int   `json:"shape"`
	Seconds   float64 `json:"seconds"`
	GFLOPs    float64 `json:"gflops,omitempty"`
	Precision string  `json:"precision,omitempty"` // of what is multiplied
}

func runBench(ctx context.Context, s streams, o benchOptions) error {
	if o.arch != "" && o.model.path != "" {
		return usagef("--model and --arch exclude each other")
	}
	if o.arch == "" && (o.regions != 0 || o.classes != 0) {
		return usagef("--regions and --num-classes go with --arch")
	}
	if o.json && o.compare != "" {
		return usagef("--compare is for people, --json for programs: give one of them")
	}
	if o.runs < 1 {
		return usagef("--runs %d is not positive", o.runs)
	}
	if o.batch < 1 || o.batch > 64 {
		return usagef("--batch %d: give 1 to 64", o.batch)
	}
	if o.tune && (o.train || o.compare != "") {
		return usagef("--tune goes with neither --train nor --compare")
	}
	if o.tune {
		return runTune(ctx, s, o)
	}
	if o.train {
		return runTrainBench(ctx, s, o)
	}
	var before *benchReport
	if o.compare != "" {
		var err error
		if before, err = readBench(o.compare); err != nil {
			return err
		}
	}
	d, img, err := o.open(ctx)
	if err != nil {
		return err
	}
	defer d.Close()
	r, err := measure(ctx, d, img, o)
	if err != nil {
		return err
	}
	// A second team of threads would disturb the runs, so this comes last.
	if r.Limits, err = cpu.Measure(o.model.threadCount()); err != nil {
		return err
	}
	if o.json {
		return json.NewEncoder(s.out).Encode(r)
	}
	if err := r.print(s.out, o.layers); err != nil || before == nil {
		return err
	}
	return r.printChanges(s.out, *before)
}

// open prepares the detector and an image of the wanted size. What is not
// quantised and is to run in int8 is calibrated on that image, and its layers are
// chosen as the built-in model's are: the time is that of a quantised model, what
// is found is not.
func (o benchOptions) open(ctx context.Context) (*resdet.Detector, image.Image, error) {
	options := o.options()
	if options.Precision != resdet.Int8 {
		return o.openWith(options)
	}
	options.Precision = resdet.F32
	d, img, err := o.openWith(options)
	if err != nil {
		return nil, nil, err
	}
	if options.Quantization = d.Config().Quantization; options.Quantization == nil {
		if options.Quantization, err = d.Calibrate(ctx, img); err == nil && !o.every {
			err = likeBuiltIn(d.Config(), options.Quantization)
		}
	}
	if err := errors.Join(err, d.Close()); err != nil {
		return nil, nil, err
	}
	resetPeak()
	options.Precision = resdet.Int8
	return o.openWith(options)
}

// likeBuiltIn takes those layers out of int8 that resdet quantize does of the
// built-in model with 97 % of its strong detections to be found: layers of regions
// stay, those of maps of 8 pixels and more go to bf16, and to f32 on CPUs without,
// those of finer maps to f32.
func likeBuiltIn(cfg resdet.Config, q *resdet.Quantization) error {
	strides, err := cfg.LayerStrides()
	for name, stride := range strides {
		switch {
		case stride >= 8:
			q.Layers[name] = resdet.Numbers{Precision: resdet.BF16}
		case stride > 0:
			delete(q.Layers, name)
		}
	}
	return err
}

func (o benchOptions) openWith(options resdet.Options) (*resdet.Detector, image.Image, error) {
	if o.arch == "" {
		height, width, err := o.extents()
		if err != nil {
			return nil, nil, err
		}
		d, err := o.model.openWith(options)
		if err != nil {
			return nil, nil, err
		}
		if height == 0 {
			t := d.Config().Transform
			height, width = t.ShortSide, t.ShortSide*3/2
		}
		return d, noise(height, width), nil
	}
	cfg, img, err := o.untrained()
	if err != nil {
		return nil, nil, err
	}
	if o.regions > 0 {
		cfg.RPN.PostNMS = o.regions
	}
	d, err := resdet.New(cfg, formulaFor(cfg), options)
	return d, img, err
}

// options are the flags', with the choices of a trial.
func (o benchOptions) options() resdet.Options {
	options := o.model.options()
	options.EveryLayer = o.every
	if o.tune {
		options.Choices = o.choices
	}
	return options
}

// extents returns the wanted height and width, zeros if none are given.
func (o benchOptions) extents() (height, width int, err error) {
	if o.size == "" {
		return 0, 0, nil
	}
	h, w, _ := strings.Cut(o.size, "x")
	height, err1 := strconv.Atoi(h)
	width, err2 := strconv.Atoi(w)
	if err1 != nil || err2 != nil || min(height, width) < 32 || max(height, width) > 8192 {
		return 0, 0, usagef("--size %q is not HEIGHTxWIDTH, each 32…8192", o.size)
	}
	return height, width, nil
}

// untrained returns the configuration of --arch, and an image of its size.
func (o benchOptions) untrained() (resdet.Config, image.Image, error) {
	height, width, err := o.extents()
	if err != nil {
		return resdet.Config{}, nil, err
	}
	if height == 0 {
		height, width = 600, 1000
	}
	classes := o.classes
	switch {
	case classes > 0:
	case o.arch == "vgg16":
		classes = 20
	case strings.HasSuffix(o.arch, "-fpn"):
		classes = 90
	default:
		classes = 80
	}
	names := make([]string, classes)
	for i := range names {
		names[i] = fmt.Sprint("class ", i+1)
	}
	cfg, err := resdet.NewConfig(o.arch, resdet.IndexedClasses(names...))
	if err != nil {
		return cfg, nil, usageError{err}
	}
	cfg.Transform.ShortSide, cfg.Transform.LongSide = min(height, width), max(height, width)
	return cfg, noise(height, width), nil
}

// formulaFor returns the formula's weights for an architecture.
func formulaFor(cfg resdet.Config) formula.Params {
	return formula.Params{Basic: cfg.Backbone.Depth == 18 || cfg.Backbone.Depth == 34}
}

// noise is smooth colour with grain: nothing in the network's work depends on
// what the image shows, but for how many regions remain.
func noise(height, width int) image.Image {
	img := image.NewNRGBA(image.Rect(0, 0, width, height))
	seed := formula.Seed("bench")
	for i := range height * width {
		x, y := i%width, i/width
		for c := range 3 {
			wave := (x/(7+c)*17 + y/(5+c)*29) % 200
			img.Pix[4*i+c] = uint8(wave + int(27*(1+formula.Unit(seed, 3*i+c))))
		}
		img.Pix[4*i+3] = 255
	}
	return img
}

// layers adds the kernels of a stage if they are wanted and returns the sum of
// their floating-point operations.
func (r *benchReport) layers(stage int, steps []resdet.Step, keep bool) (flops int64) {
	for _, s := range steps {
		flops += s.FLOPs
		if s.Algorithm == "reorder" {
			r.Reorders.Count++
			r.Reorders.Seconds += s.Time.Seconds()
		}
		if !keep {
			continue
		}
		r.Layers = append(r.Layers, layerOf(stage, s))
	}
	return flops
}

func layerOf(stage int, s resdet.Step) benchLayer {
	l := benchLayer{Stage: stage, Name: s.Name, Op: s.Op, Algorithm: s.Algorithm, Layout: s.Layout, Shape: s.Shape, Seconds: s.Time.Seconds(), Precision: string(s.Precision)}
	if s.FLOPs > 0 && s.Time > 0 {
		l.GFLOPs = float64(s.FLOPs) / s.Time.Seconds() / 1e9
	}
	return l
}

func (r benchReport) print(w io.Writer, layers bool) error {
	fmt.Fprintf(w, "%s on %s, %s, input %v, %s, %s\n\n", r.Arch, r.Device, r.Precision, r.Input, plural(r.Regions, "region"), plural(r.Runs*r.Workers, "run"))
	if err := r.printStages(w); err != nil || !layers {
		return err
	}
	return r.printLayers(tabwriter.NewWriter(w, 0, 0, 2, ' ', 0))
}

// printStages prints the stages, the whole and the machine.
func (r benchReport) printStages(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(t, "stage\tms\tshare\tGFLOP/s\tlimit\t\n")
	for _, s := range r.Stages {
		fmt.Fprintf(t, "%s\t%.1f\t%.0f %%\t%s\t%s\t\n", s.Name, 1e3*s.Seconds, 100*s.Seconds/r.Seconds, number(s.GFLOPs), r.share(s.GFLOPs, r.Precision))
	}
	fmt.Fprintf(t, "total\t%.1f\t\t%s\t%s\t\n", 1e3*r.Seconds, number(r.GFLOPs), r.share(r.GFLOPs, r.Precision))
	for _, s := range r.Around {
		fmt.Fprintf(t, "(%s)\t%.1f\t%.0f %%\t\t\t\n", s.Name, 1e3*s.Seconds, 100*s.Seconds/r.Seconds)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(w)
	if r.Images > 0 { // a detection's report, not a training step's
		fmt.Fprintf(w, "%.2f images/s", r.Images)
		if r.Workers > 1 {
			fmt.Fprintf(w, " of %d workers", r.Workers)
		}
		fmt.Fprintf(w, "; %s of values to another layout, %.2f ms, %.1f %%\n", plural(r.Reorders.Count, "reorder"), 1e3*r.Reorders.Seconds, 100*r.Reorders.Seconds/r.Seconds)
	}
	fmt.Fprintf(w, "fastest %.1f ms, slowest %.1f ms; peak memory %.0f MB\n", 1e3*r.Min, 1e3*r.Max, r.PeakMB)
	if l := r.Limits; l.F32 > 0 {
		fmt.Fprintf(w, "this machine: matrix products f32 %.0f, bf16 %s GFLOP/s, int8 %s GOP/s; memory %.0f GB/s\n", l.F32, orNone(l.BF16), orNone(l.Int8), l.Bandwidth)
	}
	return nil
}

func (r benchReport) printLayers(t *tabwriter.Writer) error {
	fmt.Fprintf(t, "\nstage\tkernel\tops\tprecision\talgorithm\tlayout\tshape\tms\tshare\tGFLOP/s\tlimit\n")
	for _, l := range r.Layers {
		fmt.Fprintf(t, "%d\t%s\t%s\t%s\t%s\t%s\t%v\t%.2f\t%.1f %%\t%s\t%s\n", l.Stage, l.Name, l.Op, l.Precision, l.Algorithm, l.Layout, l.Shape,
			1e3*l.Seconds, 100*l.Seconds/r.Seconds, number(l.GFLOPs), r.share(l.GFLOPs, l.Precision))
	}
	return t.Flush()
}

// share holds a rate against the machine's limit in a precision. It may be above
// 100 %: Winograd leaves out multiplications that the rate counts.
func (r benchReport) share(gflops float64, precision string) string {
	limit := r.Limits.F32
	switch resdet.Precision(precision) {
	case resdet.BF16:
		limit = r.Limits.BF16
	case resdet.Int8:
		limit = r.Limits.Int8
	}
	if gflops == 0 || limit == 0 {
		return ""
	}
	return fmt.Sprintf("%.0f %%", 100*gflops/limit)
}

// orNone is for rates that the machine may not have.
func orNone(rate float64) string {
	if rate == 0 {
		return "none"
	}
	return number(rate)
}

func number(v float64) string {
	if v == 0 {
		return ""
	}
	return fmt.Sprintf("%.0f", v)
}

// threadCount is the number of threads that the flags ask for.
func (m modelFlags) threadCount() int {
	if m.threads > 0 {
		return m.threads
	}
	return runtime.GOMAXPROCS(0)
}
