package cpu_test

import (
	"fmt"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"testing"
	"time"

	"resdet/backbone"
	"resdet/internal/device"
	"resdet/internal/device/cpu"
	"resdet/internal/device/devicetest"
	"resdet/internal/formula"
	"resdet/internal/nn"
	"resdet/roihead"
	"resdet/rpn"
)

func BenchmarkLayers(b *testing.B) { devicetest.Bench(b, open) }

// network is a detector's two graphs at the size that the peers are measured
// at, with their anchors per cell and classes.
type network struct {
	name          string
	backbone      backbone.Config
	height, width int // padded to 32
	anchors       int // per cell
	regions       int
	classes       int
	head          func(c *roihead.Config)
}

var networks = []network{
	{"vgg16", backbone.VGG16(), 608, 1024, 9, 300, 20, func(c *roihead.Config) { c.Hidden = 4096 }},
	{"resnet101-c4", backbone.ResNet(101), 608, 1024, 12, 300, 80, func(c *roihead.Config) { c.Kind, c.Hidden, c.Pool.Size = "res5", 0, 14 }},
	{"resnet101-fpn", backbone.ResNetFPN(101), 800, 1344, 3, 1000, 90, func(c *roihead.Config) {}},
	{"voc", vocBackbone(), 320, 480, 6, 300, 20, func(c *roihead.Config) {}},
}

// vocBackbone is that of the shipped model.
func vocBackbone() backbone.Config {
	c := backbone.ResNetFPN(50)
	c.FPN.Stages, c.StrideIn1x1 = []int{2, 3, 4}, true
	return c
}

func (n network) graphs(t testing.TB) (one, two *nn.Graph) {
	t.Helper()
	a := rpn.Anchors{Ratios: make([]float32, n.anchors)}
	for range n.backbone.Strides() {
		a.Sizes = append(a.Sizes, []float32{32})
	}
	head := roihead.DefaultConfig()
	n.head(&head)
	one, err := nn.Build(func(b *nn.Builder) {
		levels := n.backbone.Build(b, b.Input("pixels", 1, 3, n.height, n.width))
		logits, deltas := rpn.DefaultConfig(a).Head(b, levels)
		for i := range levels {
			b.Output(fmt.Sprint("logits", i), logits[i])
			b.Output(fmt.Sprint("deltas", i), deltas[i])
		}
		for i, v := range levels[:n.backbone.Levels()] {
			b.Keep(fmt.Sprint("feat", i), v)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	two, err = nn.Build(func(b *nn.Builder) {
		var levels []nn.Value
		for _, o := range one.Outputs {
			if o.Kept {
				levels = append(levels, b.Input(o.Name, one.Nodes[o.Value].Shape...))
			}
		}
		logits, deltas := head.Head(b, n.backbone, levels, b.Input("rois", n.regions, 5), n.classes)
		b.Output("class_logits", logits)
		b.Output("box_regression", deltas)
	})
	if err != nil {
		t.Fatal(err)
	}
	return one, two
}

// BenchmarkNetworks measures whole detectors without their host parts: ms of
// each stage (the best run's), GFLOP/s and their ratio to the machine's rate
// of matrix products, and the process's peak memory, which is the network's
// own where it runs alone (-bench Networks/vgg16). With PROFILE set in the
// environment the steps above 1 % are printed.
func BenchmarkNetworks(b *testing.B) {
	for _, n := range networks {
		b.Run(n.name, func(b *testing.B) { n.bench(b) })
	}
}

func (n network) bench(b *testing.B) {
	d := open(b)
	defer d.Close()
	one, two := n.graphs(b)
	params := formula.Params{}
	first, err := d.Compile(one, params, nil)
	if err != nil {
		b.Fatal(err)
	}
	kept := map[string]device.Buffer{}
	for i, o := range one.Outputs {
		if o.Kept {
			kept[o.Name] = first.Output(i)
		}
	}
	second, err := d.Compile(two, params, kept)
	if err != nil {
		b.Fatal(err)
	}
	pixels := first.Input(0).Data()
	for i := range pixels {
		pixels[i] = float32(formula.Unit(7, i))
	}
	fillRegions(second.Input(len(kept)).Data(), float32(n.width), float32(n.height))

	ctx := b.Context()
	run := func() (stages [2]time.Duration) {
		for i, stage := range []func() error{func() error { return first.Run(ctx, nil) }, func() error { return second.Run(ctx, kept) }} {
			start := time.Now()
			if err := stage(); err != nil {
				b.Fatal(err)
			}
			stages[i] = time.Since(start)
		}
		return stages
	}
	run() // touches all memory
	runtime.GC()
	programs := []device.Program{first, second}
	steps := [][]device.Step{first.Steps(), second.Steps()} // with their least times
	var stages [2]time.Duration
	best := [2]time.Duration{1 << 62, 1 << 62}
	for b.Loop() {
		for i, t := range run() {
			stages[i] += t
			best[i] = min(best[i], t)
			for j, s := range programs[i].Steps() {
				steps[i][j].Time = min(steps[i][j].Time, s.Time)
			}
		}
	}
	peak := peakMemory()
	var flops [2]int64
	for i := range steps {
		for _, s := range steps[i] {
			flops[i] += s.FLOPs
		}
	}
	sgemm := cpu.Sgemm(2)
	rate := float64(flops[0]+flops[1]) / float64(best[0]+best[1])
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(best[0].Seconds()*1e3, "ms-stage1")
	b.ReportMetric(best[1].Seconds()*1e3, "ms-stage2")
	b.ReportMetric(float64(stages[0]+stages[1])/float64(b.N)/1e6, "ms-mean")
	b.ReportMetric(rate, "GFLOP/s")
	b.ReportMetric(rate/sgemm, "of-sgemm")
	b.ReportMetric(peak, "MB-peak")
	if os.Getenv("PROFILE") != "" {
		total := best[0] + best[1]
		fmt.Printf("\n%s: %.1f ms, %.1f GFLOP, sgemm %.0f GFLOP/s\n", n.name, total.Seconds()*1e3, float64(flops[0]+flops[1])/1e9, sgemm)
		for i := range steps {
			printSteps(steps[i], total/100)
		}
	}
}

// printSteps prints the steps that take more than the given time, and the sum
// of the others by operation.
func printSteps(steps []device.Step, least time.Duration) {
	rest := map[string]time.Duration{}
	for _, s := range steps {
		if s.Time < least {
			rest[s.Op+" "+s.Algorithm] += s.Time
			continue
		}
		fmt.Printf("  %-44s %-22s %-9s %-7s %-18v %7.2f ms %6.0f GFLOP/s\n", s.Name, s.Op, s.Algorithm, s.Layout, s.Shape, s.Time.Seconds()*1e3, float64(s.FLOPs)/float64(s.Time))
	}
	ops := make([]string, 0, len(rest))
	for op := range rest {
		ops = append(ops, op)
	}
	slices.Sort(ops)
	for _, op := range ops {
		fmt.Printf("  (others) %-68s %23.2f ms\n", op, rest[op].Seconds()*1e3)
	}
}

// fillRegions writes regions of 20 to 300 pixels, all over the image.
func fillRegions(rois []float32, width, height float32) {
	unit := func(i int) float32 { return float32(formula.Unit(11, i)+1) / 2 }
	for i := 0; i < len(rois)/5; i++ {
		x, y := unit(4*i)*width, unit(4*i+1)*height
		w, h := 20+280*unit(4*i+2), 20+280*unit(4*i+3)
		copy(rois[5*i:], []float32{0, max(0, x-w/2), max(0, y-h/2), min(width, x+w/2), min(height, y+h/2)})
	}
}

// peakMemory returns the most memory that the process ever had, in MB.
func peakMemory() float64 {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	m := regexp.MustCompile(`VmHWM:\s+(\d+) kB`).FindSubmatch(status)
	if m == nil {
		return 0
	}
	kb, _ := strconv.ParseFloat(string(m[1]), 64)
	return kb / 1024
}
