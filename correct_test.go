package resdet

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"resdet/internal/calibrate"
	"resdet/internal/device"
	"resdet/internal/device/ref"
	"resdet/internal/formula"
	"resdet/internal/nn"
)

// Rounding shifts a row by what its definition says, and rows of integers not at
// all.
func TestRoundingShift(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	const rows, channels, taps, largest = 5, 7, 9, 64
	w, means := make([]float32, rows*channels*taps), make([]float32, channels)
	for i := range w {
		w[i] = float32(r.NormFloat64())
	}
	for i := range means {
		means[i] = r.Float32()
	}
	clear(w[:channels*taps])
	for i := range w[channels*taps:][:channels*taps] {
		w[channels*taps+i] = float32(i%128) - 63 // to 64
	}
	got := roundingShift(w, rows, means, largest)
	for row := range rows {
		of := w[row*channels*taps:][:channels*taps]
		most, want := 0.0, 0.0
		for _, v := range of {
			most = max(most, math.Abs(float64(v)))
		}
		for i, v := range of {
			if most > 0 {
				want += (math.RoundToEven(float64(v)*largest/most)*most/largest - float64(v)) * float64(means[i/taps])
			}
		}
		if d := math.Abs(float64(got[row]) - want); d > 1e-5 {
			t.Errorf("row %d is shifted by %g, want %g", row, got[row], want)
		}
	}
	whole := []float32{-127, 3, 0, 64}
	if got := roundingShift(whole, 1, []float32{1, 2, 3, 4}, 127); got[0] != 0 {
		t.Errorf("integers are shifted by %g", got[0])
	}
}

// What a layer in int8 gives is off by less on average, in every channel together,
// when its bias is corrected.
func TestCorrectedBias(t *testing.T) {
	const layer = "backbone.body.layer1.0.conv1"
	cfg, params := small(t, Options{Device: "ref"}).Config(), formula.Params{Basic: true}
	g, err := cfg.stage1(1, 128, 128)
	if err != nil {
		t.Fatal(err)
	}
	conv := nn.Value(slices.IndexFunc(g.Nodes, func(n nn.Node) bool {
		_, ok := n.Op.(nn.Conv)
		return ok && g.Nodes[n.In[1]].Name == layer+".weight"
	}))
	norm := nn.Value(slices.IndexFunc(g.Nodes, func(n nn.Node) bool {
		_, ok := n.Op.(nn.Norm)
		return ok && n.In[0] == conv
	}))
	dev := ref.Open(2)
	defer dev.Close()
	r := rand.New(rand.NewPCG(3, 4))
	pixels := make([]float32, 3*128*128)
	for i := range pixels {
		pixels[i] = float32(r.NormFloat64())
	}
	run := func(p Params, n nn.Numerics, v nn.Value) []float32 {
		one := *g
		one.Outputs = []nn.Output{{Name: "out", Value: v}}
		program, err := dev.Compile(one.With(n), p, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer program.Close()
		copy(program.Input(0).Data(), pixels)
		if err := program.Run(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		return slices.Clone(program.Output(0).Data())
	}

	in := g.Nodes[conv].In[0]
	read := run(params, nil, in)
	var means calibrate.Means
	means.Add(g.Nodes[in].Shape, read)
	layers := nn.Numerics{layer: {Precision: Int8, Scale: slices.Max(read) / 255}}
	cfg.Quantization = &Quantization{Layers: layers, Means: map[string][]float32{layer: means.Values()}}
	better, err := cfg.correct(dev, params, layers)
	if err != nil {
		t.Fatal(err)
	}

	want := run(params, nil, norm)
	off := func(got []float32) float64 {
		var of calibrate.Means
		for i := range got {
			got[i] -= want[i]
		}
		of.Add(g.Nodes[norm].Shape, got)
		sum := 0.0
		for _, v := range of.Values() {
			sum += float64(v * v)
		}
		return math.Sqrt(sum)
	}
	plain, fixed := off(run(params, layers, norm)), off(run(better, layers, norm))
	if plain == 0 || fixed > plain/2 {
		t.Errorf("the means of the channels are off by %g, %g when corrected", plain, fixed)
	}

	cfg.Quantization.Means[layer] = []float32{1, 2, 3, 4, 5}
	if _, err := cfg.correct(dev, params, layers); err == nil {
		t.Error("means of five channels fit a layer of 64")
	}
}

var _ device.ParamsHalf = (*corrected)(nil)
