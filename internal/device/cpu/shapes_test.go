//go:build cgo && linux && amd64 && !noonednn

package cpu_test

import (
	"bytes"
	"fmt"
	"os"
	"runtime/debug"
	"slices"
	"testing"

	"resdet/internal/device"
	"resdet/internal/nd"
	"resdet/internal/nn"
	"resdet/internal/onednn"
)

// A thousand programs of mixed shapes, in every precision, of inference and of
// training, leave nothing behind: no object, no block, and no memory that nobody
// counts. oneDNN itself keeps up to 1,024 primitives, and those of a second round
// are the first one's. The process grows for other reasons too, threads and the
// collector's pace: what leaks grows in every round.
func TestThousandShapes(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles a thousand programs")
	}
	t.Setenv("RESDET_EMULATE_BF16", "1")
	d := open(t).(device.Trainer)
	defer d.Close()
	params := paramsFunc(func(_ string, s nd.Shape) ([]float32, error) {
		w := make([]float32, s.Len())
		for i := range w {
			w[i] = float32(i%7) - 3
		}
		return w, nil
	})
	handles, size := onednn.Live()
	fiveHundred(t, d, params)
	const rounds, limit = 4, 8 << 20
	for round := range rounds {
		before := resident(t)
		fiveHundred(t, d, params)
		grown := resident(t) - before
		if grown < limit {
			break
		}
		if round == rounds-1 {
			t.Errorf("every 500 programs leave %d MB", grown>>20)
		}
	}
	// The arena and the scratch stay as large as the last program needed them.
	if left, bytes := onednn.Live(); left > handles+2 || bytes > size+1<<20 {
		t.Errorf("%d objects and %d bytes were left, %d and %d before", left, bytes, handles, size)
	}
}

func fiveHundred(t *testing.T, d device.Trainer, params device.Params) {
	precisions := d.Precisions()
	for i := range 500 {
		h, w := 8+i%23, 8+i/23
		numbers := nn.Numbers{Precision: precisions[i%len(precisions)]}
		if numbers.Precision == nn.Int8 {
			numbers.Scale = 0.1
		}
		run := inference
		if i%4 == 3 && numbers.Precision != nn.Int8 {
			run = training
		}
		if err := run(t, d, params, numbers, h, w); err != nil {
			t.Fatalf("%s, %d×%d: %v", numbers.Precision, h, w, err)
		}
	}
}

func inference(t *testing.T, d device.Trainer, params device.Params, n nn.Numbers, h, w int) error {
	g, err := nn.Build(func(b *nn.Builder) {
		x := b.ReLU(b.Conv("a", b.Input("x", 1, 16, h, w), 32, 3, 1, 1))
		b.Output("y", b.Linear("fc", b.Mean(b.Add(x, b.Conv("b", x, 32, 1, 1, 0))), 8))
	})
	if err != nil {
		return err
	}
	p, err := d.Compile(g.With(nn.Numerics{"a": n, "b": n, "fc": n}), params, nil)
	if err != nil {
		return err
	}
	defer p.Close()
	return p.Run(t.Context(), nil)
}

func training(t *testing.T, d device.Trainer, params device.Params, n nn.Numbers, h, w int) error {
	g, err := nn.Build(func(b *nn.Builder) {
		x, dy, weight := b.Input("x", 1, 16, h, w), b.Input("dy", 1, 32, h, w), b.Param("a.weight", 32, 16, 3, 3)
		b.Output("dx", b.Apply("dx", nn.ConvInput{Stride: 1, Pad: 1, H: h, W: w}, dy, weight))
		b.Output("dw", b.Apply("a.dw", nn.ConvWeight{Stride: 1, Pad: 1, KH: 3, KW: 3}, x, dy))
	})
	if err != nil {
		return err
	}
	p, err := d.CompileStep(g.With(nn.Numerics{"a": n}), params, nil)
	if err != nil {
		return err
	}
	defer p.Close()
	return p.RunPart(t.Context(), 0)
}

// resident returns the bytes of memory that the process has.
func resident(t *testing.T) (n int) {
	t.Helper()
	debug.FreeOSMemory()
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	fields := bytes.Fields(text)
	at := slices.IndexFunc(fields, func(f []byte) bool { return string(f) == "VmRSS:" })
	if _, err := fmt.Sscan(string(fields[at+1]), &n); err != nil {
		t.Fatal(err)
	}
	return n << 10
}
