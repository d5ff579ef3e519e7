//go:build cgo && linux && amd64 && !noonednn

package cpu_test

import (
	"encoding/binary"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"resdet/internal/device"
	"resdet/internal/formula"
	"resdet/internal/nd"
	"resdet/internal/nn"
	"resdet/internal/weights"
)

// A model of half-precision weights is widened while it is packed: it must
// give what the same numbers give as floats, bit for bit, whether its file is
// read or in memory.
func TestHalfWeights(t *testing.T) {
	n := small(64, 96, 20)
	path := filepath.Join(t.TempDir(), "half.safetensors")
	one, two := n.graphs(t)
	specs := append(one.Params(), two.Params()...)
	if err := weights.Save(path, []byte("{}"), specs, formula.Params{Basic: true}, weights.F16); err != nil {
		t.Fatal(err)
	}
	file, err := weights.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	memory, err := weights.OpenString("memory", string(text))
	if err != nil {
		t.Fatal(err)
	}
	floats := device.MapParams{}
	for _, s := range specs {
		data, err := file.Read(s.Key)
		if err != nil {
			t.Fatal(err)
		}
		floats[s.Key] = nd.Of(data, s.Shape...)
	}
	outputs := func(params device.Params) []float32 {
		d := open(t)
		defer d.Close()
		c := n.compile(t, d, params)
		c.run(t, t.Context())
		return slices.Concat(c.programs[1].Output(0).Data(), c.programs[1].Output(1).Data())
	}
	want := outputs(floats)
	for name, params := range map[string]device.Params{"file": file, "memory": memory} {
		if !slices.Equal(outputs(params), want) {
			t.Errorf("%s: the outputs differ from those of the same weights as floats", name)
		}
	}
}

// halves has every finite half-precision number.
type halves struct{ bytes []byte }

func (h halves) Param(key string, shape nd.Shape) ([]float32, error) {
	return make([]float32, shape.Len()), nil // the bias
}

func (h halves) ParamInto(dst []float32, key string, shape nd.Shape) error {
	clear(dst)
	return nil
}

func (h halves) ParamHalf(key string, shape nd.Shape, _ func(int) ([]byte, error)) ([]byte, error) {
	if len(shape) == 1 {
		return nil, nil
	}
	return h.bytes, nil
}

// The product of the unit matrix with all finite halves gives each of them.
func TestEveryHalf(t *testing.T) {
	const rows, terms = 256, 248 // 2·31·1024 finite numbers
	var h halves
	for bits := range 1 << 16 {
		if bits&0x7c00 != 0x7c00 {
			h.bytes = binary.LittleEndian.AppendUint16(h.bytes, uint16(bits))
		}
	}
	g, err := nn.Build(func(b *nn.Builder) {
		b.Output("y", b.Linear("fc", b.Input("x", terms, terms), rows))
	})
	if err != nil {
		t.Fatal(err)
	}
	d := open(t)
	defer d.Close()
	p, err := d.Compile(g, h, nil)
	if err != nil {
		t.Fatal(err)
	}
	x := p.Input(0).Data()
	for i := range terms {
		x[i*terms+i] = 1
	}
	if err := p.Run(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	for i, got := range p.Output(0).Data() {
		term, row := i/rows, i%rows
		bits := binary.LittleEndian.Uint16(h.bytes[2*(row*terms+term):])
		mantissa, exponent := float64(bits&0x3ff), int(bits>>10&0x1f)
		want := math.Ldexp(mantissa, -24)
		if exponent > 0 {
			want = math.Ldexp(1024+mantissa, exponent-25)
		}
		if bits&0x8000 != 0 {
			want = -want
		}
		if float64(got) != want {
			t.Fatalf("half %#04x came out as %g, it is %g", bits, got, want)
		}
	}
}
