//go:build cgo && linux && amd64 && !noonednn

package cpu_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime/pprof"
	"slices"
	"strings"
	"sync"
	"testing"

	"resdet/backbone"
	"resdet/internal/device"
	"resdet/internal/device/cpu"
	"resdet/internal/device/devicetest"
	"resdet/internal/formula"
	"resdet/internal/nd"
	"resdet/internal/nn"
	"resdet/internal/onednn"
	"resdet/roihead"
)

// TestMain fails if the tests leave native memory behind.
func TestMain(m *testing.M) {
	code := m.Run()
	if handles, bytes := onednn.Live(); handles != 0 || bytes != 0 {
		fmt.Fprintf(os.Stderr, "%d native objects and %d bytes are left: build with -tags leakcheck to see whose\n", handles, bytes)
		code = 1
	}
	os.Exit(code)
}

// The device passes its suite with narrower vectors too, by the library's code and
// our own: of 256 bits and of 128.
func TestConformanceNarrower(t *testing.T) {
	const child = "RESDET_TEST_ISA_CHILD"
	if isa := os.Getenv(child); isa != "" {
		d := open(t)
		name := d.Name()
		d.Close()
		if !strings.Contains(name, " "+isa+",") {
			t.Fatalf("%s is not held to %s", name, isa)
		}
		devicetest.Run(t, open)
		return
	}
	if testing.Short() {
		t.Skip("the whole suite again")
	}
	for limit, isa := range map[string]string{"AVX2": "avx2", "SSE41": "sse41"} {
		t.Run(limit, func(t *testing.T) {
			cmd := exec.Command(os.Args[0], "-test.run=^TestConformanceNarrower$", "-test.timeout=5m")
			cmd.Env = append(os.Environ(), child+"="+isa, "ONEDNN_MAX_CPU_ISA="+limit)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

// small is a detector of the shape of a real one, with little work in it.
func small(height, width, regions int) network {
	b := backbone.ResNetFPN(18)
	b.FPN.Channels = 64
	return network{"small", b, height, width, 3, regions, 5, func(c *roihead.Config) { c.Hidden = 128 }}
}

// asked counts how often it is asked for a parameter.
type asked struct {
	formula.Params
	times int
}

func (a *asked) Param(key string, shape nd.Shape) ([]float32, error) {
	a.times++
	return a.Params.Param(key, shape)
}

// A known model compiles for other shapes without touching its weights.
func TestWeightsArePackedOnce(t *testing.T) {
	for _, n := range []network{small(64, 96, 20), {"c4", backbone.ResNet(18), 64, 96, 3, 20, 5, func(c *roihead.Config) {
		c.Kind, c.Hidden, c.Pool.Size = "res5", 0, 14
	}}} {
		d := open(t)
		params := &asked{Params: formula.Params{Basic: true}}
		n.compile(t, d, params)
		first, before := params.times, cpu.WeightBytes(d)
		if first == 0 {
			t.Fatal("compiled without asking for parameters")
		}
		for _, s := range [][3]int{{96, 64, 20}, {224, 320, 5}, {32, 32, 20}, {64, 96, 100}} {
			n.height, n.width, n.regions = s[0], s[1], s[2]
			n.compile(t, d, params)
		}
		if params.times != first || cpu.WeightBytes(d) != before {
			t.Errorf("%s: other shapes asked for %d parameters and packed %d more bytes", n.name, params.times-first, cpu.WeightBytes(d)-before)
		}
		d.Close()
	}
}

// Programs of many shapes share arena, scratch and weights: together they take
// little more than the largest alone.
func TestMixedShapesShareMemory(t *testing.T) {
	sizes := [][2]int{{256, 320}, {320, 256}, {288, 288}, {320, 320}, {192, 320}, {224, 256}, {320, 288}, {256, 256}, {320, 224}, {128, 320}}
	peak := func(sizes [][2]int) int64 {
		d := open(t)
		defer d.Close()
		var most int64
		for _, s := range sizes {
			c := small(s[0], s[1], 100).compile(t, d, formula.Params{Basic: true})
			c.run(t, t.Context())
			_, bytes := onednn.Live()
			most = max(most, bytes)
		}
		return most
	}
	one, all := peak([][2]int{{320, 320}}), peak(sizes)
	if float64(all) > 1.3*float64(one) {
		t.Errorf("%d shapes take %.1f MB, the largest alone %.1f", len(sizes), float64(all)/1e6, float64(one)/1e6)
	}
}

// A detection that was done before allocates nothing, with a context that
// could end.
func TestRunAllocatesNothing(t *testing.T) {
	d := open(t)
	defer d.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	c := small(64, 96, 20).compile(t, d, formula.Params{Basic: true})
	c.run(t, ctx)
	if n := testing.AllocsPerRun(20, func() { c.run(t, ctx) }); n > 0 {
		t.Errorf("%v allocations a run", n)
	}
}

// paramsFunc makes a function a device.Params.
type paramsFunc func(key string, shape nd.Shape) ([]float32, error)

func (f paramsFunc) Param(key string, shape nd.Shape) ([]float32, error) { return f(key, shape) }

// incomparable looks like a key of a map and is none.
type incomparable struct {
	device.Params
	extra any
}

// Whatever Params does, it is its caller's error: the device's thread lives on.
func TestBadParams(t *testing.T) {
	d := open(t)
	defer d.Close()
	one, _ := small(64, 96, 20).graphs(t)
	for name, params := range map[string]device.Params{
		"none":   nil,
		"panics": paramsFunc(func(string, nd.Shape) ([]float32, error) { panic("no weights today") }),
		"writes": paramsFunc(func(string, nd.Shape) ([]float32, error) { var m map[string]int; m["x"] = 1; return nil, nil }),
		"empty":  paramsFunc(func(string, nd.Shape) ([]float32, error) { return nil, nil }),
		"more":   paramsFunc(func(_ string, s nd.Shape) ([]float32, error) { return make([]float32, s.Len()+1), nil }),
	} {
		if _, err := d.Compile(one, params, nil); err == nil {
			t.Errorf("%s: compiled", name)
		}
	}
	p, err := d.Compile(one, incomparable{formula.Params{Basic: true}, []int{1}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Run(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
}

// Any number of threads within reason gives the same result.
func TestThreads(t *testing.T) {
	for _, n := range []int{-1, 1025} {
		if _, err := cpu.Open(cpu.Options{Threads: n}); err == nil {
			t.Errorf("%d threads are no error", n)
		}
	}
	for _, n := range []int{0, 1, 3} {
		d, err := cpu.Open(cpu.Options{Threads: n})
		if err != nil {
			t.Fatal(err)
		}
		g, err := nn.Build(func(b *nn.Builder) { b.Output("y", b.ReLU(b.Input("x", 1, 20, 9, 7))) })
		if err != nil {
			t.Fatal(err)
		}
		p, err := d.Compile(g, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		x := p.Input(0).Data()
		for i := range x {
			x[i] = float32(i%3) - 1
		}
		if err := p.Run(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		for i, y := range p.Output(0).Data() {
			if y != max(x[i], 0) {
				t.Fatalf("%d threads: element %d is %v", n, i, y)
			}
		}
		d.Close()
	}
}

// Signals that hit the team's threads do no harm: a profiler sends a hundred a
// second to whoever is running.
func TestRunsUnderAProfiler(t *testing.T) {
	d := open(t)
	defer d.Close()
	g, err := nn.Build(func(b *nn.Builder) { b.Output("y", b.Linear("fc", b.Flatten(b.Input("x", 300, 256, 7, 7)), 1024)) })
	if err != nil {
		t.Fatal(err)
	}
	p, err := d.Compile(g, paramsFunc(func(_ string, s nd.Shape) ([]float32, error) { return make([]float32, s.Len()), nil }), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := pprof.StartCPUProfile(io.Discard); err != nil {
		t.Skip(err) // the test itself is being profiled, which is as good
	}
	defer pprof.StopCPUProfile()
	for range 40 {
		if err := p.Run(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
	}
}

// Devices that share weights hold one copy of them, which lives until the last
// of them closes.
func TestDevicesShareWeights(t *testing.T) {
	weights := cpu.NewWeights()
	params := &asked{Params: formula.Params{Basic: true}}
	n := small(64, 96, 20)
	var devices []device.Device
	var compiled []*compiled
	var first int // parameters that the first asked for
	for range 3 {
		d, err := cpu.Open(cpu.Options{Threads: 1, Weights: weights})
		if err != nil {
			t.Fatal(err)
		}
		devices = append(devices, d)
		compiled = append(compiled, n.compile(t, d, params))
		if i := len(devices) - 1; i > 0 && cpu.WeightBytes(d) != cpu.WeightBytes(devices[0]) {
			t.Errorf("device %d: %d bytes of weights, the first has %d", i, cpu.WeightBytes(d), cpu.WeightBytes(devices[0]))
		}
		if first == 0 {
			first = params.times
		}
	}
	if params.times != first || first == 0 {
		t.Errorf("the first device asked for %d parameters, the others for %d more", first, params.times-first)
	}
	var wait sync.WaitGroup
	for _, c := range compiled {
		wait.Go(func() { c.run(t, t.Context()) })
	}
	wait.Wait()
	want := slices.Clone(compiled[2].programs[1].Output(0).Data())
	for i, d := range devices[:2] {
		if got := compiled[i].programs[1].Output(0).Data(); !slices.Equal(got, want) {
			t.Errorf("device %d computes something else", i)
		}
		d.Close()
	}
	compiled[2].run(t, t.Context())
	if got := compiled[2].programs[1].Output(0).Data(); !slices.Equal(got, want) {
		t.Error("the last device computes something else once the others are closed")
	}
	devices[2].Close()
}
