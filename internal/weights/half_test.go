package weights

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"testing"
)

// definition is a float16's value by IEEE 754.
func definition(h uint16) float64 {
	sign, exponent, fraction := 1.0, int(h>>10&31), float64(h&1023)
	if h&0x8000 != 0 {
		sign = -1
	}
	switch {
	case exponent == 31 && fraction != 0:
		return math.NaN()
	case exponent == 31:
		return sign * math.Inf(1)
	case exponent == 0:
		return math.Copysign(math.Ldexp(fraction, -24), sign)
	}
	return sign * math.Ldexp(1024+fraction, exponent-25)
}

func same(a, b float64) bool {
	return math.Float64bits(a) == math.Float64bits(b) || math.IsNaN(a) && math.IsNaN(b)
}

func TestHalfAll(t *testing.T) {
	const all = 1 << 16
	src := make([]byte, 2*all)
	for h := range all {
		binary.LittleEndian.PutUint16(src[2*h:], uint16(h))
	}
	for _, skip := range []int{0, 1, 3} { // the values beside an infinity, and the tail
		dst := make([]float32, all-skip)
		decodeHalf(dst, src[2*skip:])
		for i, got := range dst {
			h := uint16(i + skip)
			if want := definition(h); !same(float64(got), want) {
				t.Fatalf("%#04x became %v, not %v", h, got, want)
			}
			if back, ok := floatToHalf(got); !ok || back != h && !math.IsNaN(float64(got)) || math.IsNaN(float64(got)) != math.IsNaN(definition(back)) {
				t.Fatalf("%v of %#04x became %#04x, %v", got, h, back, ok)
			}
		}
	}
}

// Rounding is to the nearest, and of two equally near ones to the even.
func TestHalfRounding(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	check := func(f float32) {
		t.Helper()
		got, ok := floatToHalf(f)
		if over := math.Abs(float64(f)) >= 65520; ok == over {
			t.Fatalf("%v: ok is %v", f, ok)
		}
		if !ok {
			return
		}
		distance := math.Abs(definition(got) - float64(f))
		for _, near := range []uint16{got - 1, got + 1} {
			v := definition(near)
			if math.IsNaN(v) || math.IsInf(v, 0) || got&0x7fff == 0 && near > got {
				continue
			}
			if d := math.Abs(v - float64(f)); d < distance || d == distance && got&1 == 1 {
				t.Fatalf("%v became %v, %v is better", f, definition(got), v)
			}
		}
	}
	n := 200_000
	if testing.Short() {
		n /= 10
	}
	for range n {
		check(float32(math.Ldexp(random.Float64()*2-1, random.IntN(46)-28)))
	}
	for h := uint16(0); h < 0x7bff; h++ { // half-way between neighbours
		middle := float32((definition(h) + definition(h+1)) / 2)
		check(middle)
		check(-middle)
		check(math.Nextafter32(middle, 0))
		check(math.Nextafter32(middle, 1e9))
	}
	for _, f := range []float32{0, 65504, 65519.996, 65520, 1e9, math.MaxFloat32, math.SmallestNonzeroFloat32} {
		check(f)
		check(-f)
	}
}
