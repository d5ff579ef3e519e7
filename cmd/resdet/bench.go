package main

import (
	"context"
	"encoding/json"
	"fmt"
	"image"
	"io"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

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
	layers  bool
	json    bool
}

func newBenchCommand(s streams) *cobra.Command {
	var o benchOptions
	cmd := &cobra.Command{
		Use:   "bench [--model FILE | --arch NAME] [--size HxW]",
		Short: "Measure a detector on this machine, stage by stage",
		Long: `Measure a detector on this machine: the median of several detections of one synthetic
image, stage by stage, and the machine's own matrix product beside it.

With --arch the weights follow from a formula: the work is the real one, what is found is not.
GFLOP/s count the multiply-adds of the network's definition, whatever an algorithm saves.`,
		Example: `  resdet bench
  resdet bench --arch vgg16 --size 600x1000 --regions 300
  resdet bench --arch resnet101-c4 --size 600x1000 --layers`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return runBench(cmd.Context(), s, o) },
	}
	f := cmd.Flags()
	o.model.add(f)
	f.StringVar(&o.arch, "arch", "", "measure this architecture: "+strings.Join(resdet.Archs(), " "))
	f.StringVar(&o.size, "size", "", "height x width of the image, which --arch takes unscaled and a model scales by its own rule (default 600x1000; a model's short side, 3:2)")
	f.IntVar(&o.regions, "regions", 0, "regions of the second stage, with --arch (default: the architecture's)")
	f.IntVar(&o.classes, "num-classes", 0, "classes, with --arch (default 80; 20 for vgg16, 90 for a pyramid)")
	f.IntVar(&o.runs, "runs", 5, "measured detections, after one to warm up")
	f.BoolVar(&o.layers, "layers", false, "print every kernel")
	f.BoolVar(&o.json, "json", false, "machine-readable output")
	return cmd
}

// benchReport is what bench measured.
type benchReport struct {
	Arch      string       `json:"arch"`
	Device    string       `json:"device"`
	Precision string       `json:"precision"`
	Input     []int        `json:"input"`   // [N 3 H W], padded
	Regions   int          `json:"regions"` // that went into stage 2
	Runs      int          `json:"runs"`
	Seconds   float64      `json:"seconds"` // median of a detection
	Min       float64      `json:"min_seconds"`
	Max       float64      `json:"max_seconds"`
	GFLOPs    float64      `json:"gflops"` // per second, over the whole detection
	Sgemm     float64      `json:"sgemm_gflops,omitempty"`
	PeakMB    float64      `json:"peak_mb,omitempty"`
	Stages    []benchStage `json:"stages"`
	Layers    []benchLayer `json:"layers,omitempty"`
}

type benchStage struct {
	Name    string  `json:"stage"`
	Seconds float64 `json:"seconds"` // median
	GFLOPs  float64 `json:"gflops,omitempty"`
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
}

func runBench(ctx context.Context, s streams, o benchOptions) error {
	if o.arch != "" && o.model.path != "" {
		return usagef("--model and --arch exclude each other")
	}
	if o.arch == "" && (o.regions != 0 || o.classes != 0) {
		return usagef("--regions and --num-classes go with --arch")
	}
	if o.runs < 1 {
		return usagef("--runs %d is not positive", o.runs)
	}
	d, img, err := o.open()
	if err != nil {
		return err
	}
	defer d.Close()
	r, err := measure(ctx, d, img, o)
	if err != nil {
		return err
	}
	// A second library's threads would disturb the runs, so this comes last.
	r.Sgemm = cpu.Sgemm(o.model.threadCount())
	if o.json {
		return json.NewEncoder(s.out).Encode(r)
	}
	return r.print(s.out)
}

// open prepares the detector and an image of the wanted size.
func (o benchOptions) open() (*resdet.Detector, image.Image, error) {
	height, width := 0, 0
	if o.size != "" {
		h, w, _ := strings.Cut(o.size, "x")
		var err1, err2 error
		height, err1 = strconv.Atoi(h)
		width, err2 = strconv.Atoi(w)
		if err1 != nil || err2 != nil || min(height, width) < 32 || max(height, width) > 8192 {
			return nil, nil, usagef("--size %q is not HEIGHTxWIDTH, each 32…8192", o.size)
		}
	}
	if o.arch == "" {
		d, err := o.model.open()
		if err != nil {
			return nil, nil, err
		}
		if height == 0 {
			t := d.Config().Transform
			height, width = t.ShortSide, t.ShortSide*3/2
		}
		return d, noise(height, width), nil
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
		return nil, nil, usageError{err}
	}
	cfg.Transform.ShortSide, cfg.Transform.LongSide = min(height, width), max(height, width)
	if o.regions > 0 {
		cfg.RPN.PostNMS = o.regions
	}
	basic := cfg.Backbone.Depth == 18 || cfg.Backbone.Depth == 34
	d, err := resdet.New(cfg, formula.Params{Basic: basic}, o.model.options())
	return d, noise(height, width), err
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

// measure detects once to warm up and then o.runs times.
func measure(ctx context.Context, d *resdet.Detector, img image.Image, o benchOptions) (benchReport, error) {
	r := benchReport{Arch: d.Config().Arch, Device: d.Device(), Precision: "f32", Runs: o.runs}
	type run struct{ total, transform, stage1, proposals, stage2, post time.Duration }
	var runs []run
	for i := range o.runs + 1 {
		if _, err := d.DetectBatch(ctx, []image.Image{img}, d.Settings()); err != nil {
			return r, err
		}
		if p := d.Profile(); i > 0 {
			runs = append(runs, run{p.Total, p.Transform, p.Stage1, p.Proposals, p.Stage2, p.Post})
		}
	}
	median := func(of func(run) time.Duration) float64 {
		v := make([]time.Duration, len(runs))
		for i, x := range runs {
			v[i] = of(x)
		}
		slices.Sort(v)
		return v[len(v)/2].Seconds()
	}
	slices.SortFunc(runs, func(a, b run) int { return int(a.total - b.total) })
	r.Min, r.Max = runs[0].total.Seconds(), runs[len(runs)-1].total.Seconds()
	r.Seconds = median(func(x run) time.Duration { return x.total })

	p := d.Profile()
	r.Regions, r.Input = p.Regions, p.Input
	one, two := p.Steps()
	flops1, flops2 := r.layers(1, one, o.layers), r.layers(2, two, o.layers)
	rate := func(flops int64, seconds float64) float64 { return float64(flops) / seconds / 1e9 }
	r.GFLOPs = rate(flops1+flops2, r.Seconds)
	s1, s2 := median(func(x run) time.Duration { return x.stage1 }), median(func(x run) time.Duration { return x.stage2 })
	r.Stages = []benchStage{
		{"transform", median(func(x run) time.Duration { return x.transform }), 0},
		{"stage 1", s1, rate(flops1, s1)},
		{"proposals", median(func(x run) time.Duration { return x.proposals }), 0},
		{"stage 2", s2, rate(flops2, s2)},
		{"post", median(func(x run) time.Duration { return x.post }), 0},
	}
	r.PeakMB = peakMB()
	return r, nil
}

// layers adds the kernels of a stage if they are wanted and returns the sum of
// their floating-point operations.
func (r *benchReport) layers(stage int, steps []resdet.Step, keep bool) (flops int64) {
	for _, s := range steps {
		flops += s.FLOPs
		if !keep {
			continue
		}
		l := benchLayer{Stage: stage, Name: s.Name, Op: s.Op, Algorithm: s.Algorithm, Layout: s.Layout, Shape: s.Shape, Seconds: s.Time.Seconds()}
		if s.FLOPs > 0 && s.Time > 0 {
			l.GFLOPs = float64(s.FLOPs) / s.Time.Seconds() / 1e9
		}
		r.Layers = append(r.Layers, l)
	}
	return flops
}

func (r benchReport) print(w io.Writer) error {
	fmt.Fprintf(w, "%s on %s, %s, input %v, %s, %s\n\n", r.Arch, r.Device, r.Precision, r.Input, plural(r.Regions, "region"), plural(r.Runs, "run"))
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(t, "stage\tms\tshare\tGFLOP/s\t\n")
	for _, s := range r.Stages {
		fmt.Fprintf(t, "%s\t%.1f\t%.0f %%\t%s\t\n", s.Name, 1e3*s.Seconds, 100*s.Seconds/r.Seconds, number(s.GFLOPs))
	}
	fmt.Fprintf(t, "total\t%.1f\t\t%s\t\n", 1e3*r.Seconds, number(r.GFLOPs))
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(w, "\nfastest %.1f ms, slowest %.1f ms; peak memory %.0f MB\n", 1e3*r.Min, 1e3*r.Max, r.PeakMB)
	if r.Sgemm > 0 {
		fmt.Fprintf(w, "this machine's sgemm: %.0f GFLOP/s; the detection runs at %.2f of it\n", r.Sgemm, r.GFLOPs/r.Sgemm)
	}
	if len(r.Layers) == 0 {
		return nil
	}
	t = tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "\nstage\tkernel\tops\talgorithm\tlayout\tshape\tms\tGFLOP/s\n")
	for _, l := range r.Layers {
		fmt.Fprintf(t, "%d\t%s\t%s\t%s\t%s\t%v\t%.2f\t%s\n", l.Stage, l.Name, l.Op, l.Algorithm, l.Layout, l.Shape, 1e3*l.Seconds, number(l.GFLOPs))
	}
	return t.Flush()
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
