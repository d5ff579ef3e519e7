package jpeg

import (
	"bytes"
	"math"
	"math/rand/v2"
	"testing"
)

// basis is the transform of one dimension as a matrix: what each of eight
// inputs adds to outputs 0…7. The entries are √2·cos((2x+1)uπ/16)·8192 as the
// sums of the algorithm's rounded constants give them, which is not always the
// nearest integer.
var basis = [8][8]int64{
	{8192, 8192, 8192, 8192, 8192, 8192, 8192, 8192},
	{11363, 9633, 6437, 2260, -2260, -6437, -9633, -11363},
	{10703, 4433, -4433, -10703, -10703, -4433, 4433, 10703},
	{9633, -2259, -11362, -6436, 6436, 11362, 2259, -9633},
	{8192, -8192, -8192, 8192, 8192, -8192, -8192, 8192},
	{6437, -11362, 2261, 9633, -9633, -2261, 11362, -6437},
	{4433, -10704, 10704, -4433, -4433, 10704, -10704, 4433},
	{2260, -6436, 9633, -11363, 11363, -9633, 6436, -2260},
}

// slow is libjpeg's "islow" as a definition: columns, rounded to two fractional
// bits, then rows, rounded to integers; halves go up.
func slow(b *[64]int32) (out [64]uint8) {
	round := func(v int64, bits uint) int64 { return int64(math.Floor(float64(v)/float64(int64(1)<<bits) + 0.5)) }
	var columns [64]int64
	for x := range 8 {
		for y := range 8 {
			sum := int64(0)
			for v := range 8 {
				sum += basis[v][y] * int64(b[8*v+x])
			}
			columns[8*y+x] = round(sum, 11)
		}
	}
	for y := range 8 {
		for x := range 8 {
			sum := int64(0)
			for u := range 8 {
				sum += basis[u][x] * columns[8*y+u]
			}
			out[8*y+x] = uint8(min(max(round(sum, 18)+128, 0), 255))
		}
	}
	return out
}

func TestIDCTIsSlows(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for i := range 40_000 {
		var b [64]int32
		size := int32(1) << (1 + r.IntN(11))
		some := []int{1, 2, 4, 10, 64, 64}[i%6] // of the first in zig-zag order
		share := r.Float64()
		for k := range some {
			if r.Float64() < share || k == 0 {
				b[natural[k]] = r.Int32N(2*size+1) - size
			}
			if i%7 == 0 && b[natural[k]] != 0 { // only the outermost
				b[natural[k]] = []int32{-size, size}[r.IntN(2)]
			}
		}
		if i%5 == 0 { // one column or row
			for k := range b {
				if at := [2]int{k % 8, k / 8}[i/5%2]; at != i/10%8 {
					b[k] = 0
				}
			}
		}
		checkIDCT(t, b)
	}
	for dc := int32(-5000); dc < 5000; dc++ {
		want := slow(&[64]int32{dc})
		out := make([]byte, 64)
		if fill(out, 8, dc); !bytes.Equal(out, want[:]) {
			t.Fatalf("all is %d for a DC of %d, want %d", out[0], dc, want[0])
		}
	}
}

func checkIDCT(t *testing.T, b [64]int32) {
	t.Helper()
	const stride = 11
	out := bytes.Repeat([]byte{77}, 8*stride)
	want := bytes.Clone(out)
	for i, v := range slow(&b) {
		want[i/8*stride+i%8] = v
	}
	coefs := b
	if idct(out, stride, &b); !bytes.Equal(out, want) {
		t.Fatalf("coefficients %v\nbecome %v,\nwant   %v", coefs, out, want)
	}
}

// The definition itself is the cosine transform, and rounds up to 0.1 off.
func TestSlowIsACosineTransform(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	differing := 0
	for range 300 {
		var b [64]int32
		for i := range b {
			b[i] = r.Int32N(41) - 20
		}
		got := slow(&b)
		for y := range 8 {
			for x := range 8 {
				sum := 0.0
				for v := range 8 {
					for u := range 8 {
						c := float64(b[8*v+u]) / 4
						if u == 0 {
							c /= math.Sqrt2
						}
						if v == 0 {
							c /= math.Sqrt2
						}
						sum += c * math.Cos(float64((2*x+1)*u)*math.Pi/16) * math.Cos(float64((2*y+1)*v)*math.Pi/16)
					}
				}
				d := math.Abs(float64(got[8*y+x]) - min(max(sum+128, 0), 255))
				if d > 0.6 {
					t.Fatalf("differs by %g", d)
				}
				if d > 0.5 {
					differing++
				}
			}
		}
	}
	t.Logf("%d of %d samples are not the nearest", differing, 300*64)
}

func BenchmarkIDCT(b *testing.B) {
	r := rand.New(rand.NewPCG(5, 6))
	var coefs [64]int32
	for i := range 10 {
		coefs[natural[i]] = r.Int32N(200) - 100
	}
	out := make([]byte, 64)
	for b.Loop() {
		c := coefs
		idct(out, 8, &c)
	}
}
