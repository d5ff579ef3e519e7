package cpu_test

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"testing"
	"time"

	"resdet/internal/device"
	"resdet/internal/device/cpu"
	"resdet/internal/device/devicetest"
	"resdet/internal/formula"
)

func BenchmarkLayers(b *testing.B) { devicetest.Bench(b, open) }

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
	c := n.compile(b, d, formula.Params{})
	ctx := b.Context()
	c.run(b, ctx)                                                           // touches all memory
	steps := [2][]device.Step{c.programs[0].Steps(), c.programs[1].Steps()} // with their least times
	var stages [2]time.Duration
	best := [2]time.Duration{1 << 62, 1 << 62}
	for b.Loop() {
		for i, t := range c.run(b, ctx) {
			stages[i] += t
			best[i] = min(best[i], t)
			for j, s := range c.programs[i].Steps() {
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

// BenchmarkCompile measures how long a known model takes to be ready for
// another size of image: 50 ms is the limit.
func BenchmarkCompile(b *testing.B) {
	for _, n := range networks {
		b.Run(n.name, func(b *testing.B) {
			d := open(b)
			defer d.Close()
			n.compile(b, d, formula.Params{})
			for i := 0; b.Loop(); i++ {
				n.width += 32
				one, two := n.graphs(b)
				first, kept := n.compileFirst(b, d, one, formula.Params{})
				second, err := d.Compile(two, formula.Params{}, kept)
				if err != nil {
					b.Fatal(err)
				}
				second.Close()
				first.Close()
			}
		})
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
