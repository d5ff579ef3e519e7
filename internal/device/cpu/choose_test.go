//go:build cgo && linux && amd64 && !noonednn

package cpu_test

import (
	"math"
	"strings"
	"testing"

	"resdet/internal/device/cpu"
	"resdet/internal/device/ref"
	"resdet/internal/formula"
)

// choiceTolerance is for sums of up to 4,608 products in other orders, and
// Winograd's transforms.
const choiceTolerance = 2e-4

// Every algorithm that a layer may be computed by gives the reference's result,
// and is used where it can be.
func TestEveryAlgorithmComputesTheSame(t *testing.T) {
	n := small(64, 96, 20)
	exact := ref.Open(2)
	defer exact.Close()
	want := n.compile(t, exact, formula.Params{Basic: true})
	want.run(t, t.Context())

	var layer string // that has a choice
	for _, name := range cpu.Algorithms() {
		d, err := cpu.Open(cpu.Options{Threads: 2, Choices: cpu.Choices{Others: name}})
		if err != nil {
			t.Fatal(err)
		}
		got := n.compile(t, d, formula.Params{Basic: true})
		got.run(t, t.Context())
		used := 0
		for stage, p := range got.programs {
			for _, s := range p.Steps() {
				if s.Trial.Algorithm == name {
					used++
					layer = s.Trial.Layer
				}
			}
			for i := range 2 {
				compareOutputs(t, name, p.Output(i).Data(), want.programs[stage].Output(i).Data())
			}
		}
		own := strings.HasPrefix(name, "winograd") || name == "gemm"
		if used == 0 && (strings.Contains(d.Name(), "avx512") && name != "library" || strings.Contains(d.Name(), " avx2,") && own) {
			t.Errorf("no layer is computed by %s", name)
		}
		d.Close()
	}

	d, err := cpu.Open(cpu.Options{Threads: 2, Choices: cpu.Choices{Layers: map[string]string{layer: "library", "unknown": "gemm"}, Others: "no algorithm"}})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	chosen, others := 0, 0
	for _, p := range n.compile(t, d, formula.Params{Basic: true}).programs {
		for _, s := range p.Steps() {
			switch {
			case s.Trial.Layer == layer && s.Trial.Algorithm != "library":
				t.Errorf("layer %s is computed by %s", layer, s.Trial.Algorithm)
			case s.Trial.Layer == layer:
				chosen++
			case s.Trial.Layer != "":
				others++
			}
		}
	}
	if chosen == 0 || others == 0 {
		t.Errorf("%d steps as chosen, %d others", chosen, others)
	}
}

func compareOutputs(t *testing.T, name string, got, want []float32) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d elements, want %d", name, len(got), len(want))
	}
	var most, largest float64
	for i := range got {
		most = max(most, math.Abs(float64(got[i]-want[i])))
		largest = max(largest, math.Abs(float64(want[i])))
	}
	if !(most <= choiceTolerance*largest) || largest == 0 {
		t.Errorf("%q: results differ by %.2g of %.2g", name, most, largest)
	}
}
