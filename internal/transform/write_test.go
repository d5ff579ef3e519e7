package transform

import (
	"fmt"
	"image"
	"image/color"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"resdet/internal/det"
	"resdet/internal/fixture"
	"resdet/internal/nd"
)

// tolerance is the largest difference from torchvision in normalised units,
// whose whole range is about 4.8: a few roundings of float32, and six decimals
// in the file.
const tolerance = 3e-6

// planes is a source of float levels, for fixtures that are not 8-bit.
type planes struct{ *nd.Tensor[float32] }

func (p planes) read(y int, rgb *[3][]float32, _ *chroma) {
	h, w := p.Shape[1], p.Shape[2]
	for c := range 3 {
		copy(rgb[c][:w], p.Data[(c*h+y)*w:])
	}
}

func TestWriteIsTorchvisionsFloat(t *testing.T) {
	dir := filepath.Join(fixture.Dir(t, "torchvision"), "transform")
	x, want := fixture.Floats(t, filepath.Join(dir, "x.npy")), fixture.Floats(t, filepath.Join(dir, "out.npy"))
	c := DefaultConfig()
	c.ShortSide, c.LongSide, c.Scale = 120, 200, 1
	view, shape := c.Plan(x.Shape[2], x.Shape[1])
	if !shape.Equal(want.Shape) {
		t.Fatalf("shape %v, want %v", shape, want.Shape)
	}
	for _, threads := range []int{1, 2, 7} {
		got := dirty(shape.Len())
		if err := c.write(got, shape[2], shape[3], planes{x}, view, NewScratch(threads)); err != nil {
			t.Fatal(err)
		}
		if d := maxDiff(got, want.Data); d > tolerance {
			t.Errorf("%d threads: differs by %g", threads, d)
		}
	}
}

func TestWriteIsTorchvisionsBytes(t *testing.T) {
	var cases []struct {
		Min, Max, W, H int
		Shape          []int
		Sum            [3]float64
		At             []int
		Values         []float64
	}
	readJSON(t, "testdata/resize.json", &cases)
	for _, k := range cases {
		t.Run(fmt.Sprintf("%dx%d", k.W, k.H), func(t *testing.T) {
			c := DefaultConfig()
			c.ShortSide, c.LongSide = k.Min, k.Max
			view, shape := c.Plan(k.W, k.H)
			if shape[2] != k.Shape[1] || shape[3] != k.Shape[2] {
				t.Fatalf("shape %v, want %v", shape, k.Shape)
			}
			got := dirty(shape.Len())
			if err := c.Write(got, shape[2], shape[3], formula(k.W, k.H), view, NewScratch(2)); err != nil {
				t.Fatal(err)
			}
			for i, at := range k.At {
				if d := math.Abs(float64(got[at]) - k.Values[i]); d > tolerance {
					t.Fatalf("element %d is %g, want %g", at, got[at], k.Values[i])
				}
			}
			n := shape[2] * shape[3]
			for p, want := range k.Sum {
				sum := 0.0
				for _, v := range got[p*n : (p+1)*n] {
					sum += float64(v)
				}
				if math.Abs(sum-want) > tolerance*float64(n)/10 { // roundings go both ways
					t.Errorf("plane %d sums to %g, want %g", p, sum, want)
				}
			}
		})
	}
}

func TestWriteChannelOrderAndScale(t *testing.T) {
	img := image.NewNRGBA(image.Rect(0, 0, 8, 8))
	for i := range 64 {
		copy(img.Pix[4*i:], []byte{10, 20, 30, 255})
	}
	c := Config{Order: BGR, Scale: 1, Mean: [3]float32{1, 2, 3}, Std: [3]float32{1, 2, 4}, ShortSide: 8, LongSide: 8, PadMultiple: 16}
	view, shape := c.Plan(8, 8)
	got := dirty(shape.Len())
	if err := c.Write(got, shape[2], shape[3], img, view, NewScratch(1)); err != nil {
		t.Fatal(err)
	}
	for p, want := range []float32{29, 9, 1.75} {
		for y := range 16 {
			for x := range 16 {
				w := want
				if x >= 8 || y >= 8 {
					w = 0
				}
				if v := got[(p*16+y)*16+x]; v != w {
					t.Fatalf("plane %d (%d, %d) is %g, want %g", p, x, y, v, w)
				}
			}
		}
	}
}

func TestWriteErrors(t *testing.T) {
	c := DefaultConfig()
	img := formula(20, 10)
	view, shape := c.Plan(20, 10)
	s := NewScratch(2)
	h, w := shape[2], shape[3]
	broken := formula(20, 10)
	broken.Pix = slices.Clip(broken.Pix[:100])
	for _, k := range []struct {
		name string
		dst  []float32
		h, w int
		img  image.Image
		view det.View
		want string
	}{
		{"short destination", make([]float32, 3*h*w-1), h, w, img, view, "destination"},
		{"batch too small", make([]float32, 3*32*32), 32, 32, img, view, "does not fit"},
		{"another image's view", make([]float32, 3*h*w), h, w, formula(10, 20), view, "planned for 20x10"},
		{"empty image", make([]float32, 3*h*w), h, w, image.NewGray(image.Rectangle{}), view, "0x0"},
		{"zero view", make([]float32, 3*h*w), h, w, img, det.View{Width: 20, Height: 10}, "does not fit"},
		{"pixels missing", make([]float32, 3*h*w), h, w, broken, view, "reading the image's pixels"},
	} {
		if err := c.Write(k.dst, k.h, k.w, k.img, k.view, s); err == nil || !strings.Contains(err.Error(), k.want) {
			t.Errorf("%s: error is %v", k.name, err)
		}
	}
	if err := c.Write(make([]float32, 3*h*w), h, w, img, view, s); err != nil {
		t.Errorf("after the errors: %v", err)
	}
}

// Every kind of image must give the same levels as its pixels one by one.
func TestReadKinds(t *testing.T) {
	b := image.Rect(3, 5, 3+19, 5+11) // an offset, so that bounds are honoured
	paletted := image.NewPaletted(b, color.Palette{color.NRGBA{9, 8, 7, 255}, color.NRGBA{200, 100, 50, 0}, color.NRGBA{1, 2, 3, 128}})
	kinds := []interface {
		image.Image
		Set(x, y int, c color.Color)
	}{
		image.NewNRGBA(b), image.NewRGBA(b), image.NewGray(b), image.NewGray16(b), image.NewNRGBA64(b), image.NewRGBA64(b),
		image.NewCMYK(b), paletted,
	}
	for _, m := range kinds {
		for y := b.Min.Y; y < b.Max.Y; y++ {
			for x := b.Min.X; x < b.Max.X; x++ {
				m.Set(x, y, color.NRGBA{uint8(x * 11), uint8(y * 17), uint8(x * y), 255})
			}
		}
		var rgb [3][]float32
		for c := range rgb {
			rgb[c] = make([]float32, b.Dx())
		}
		for y := range b.Dy() {
			(&imageRows{m, b}).read(y, &rgb, &chroma{})
			for x := range b.Dx() {
				want := straight(m.At(b.Min.X+x, b.Min.Y+y))
				got := [3]float32{rgb[0][x], rgb[1][x], rgb[2][x]}
				for c, w := range [3]uint8{want.R, want.G, want.B} {
					limit := float32(0)
					if _, ok := m.(*image.CMYK); ok {
						limit = 1 // Pillow rounds otherwise than Go
					}
					if d := got[c] - float32(w); d > limit || d < -limit {
						t.Fatalf("%T (%d, %d): %v, want %v", m, x, y, got, want)
					}
				}
			}
		}
	}
}

// Alpha must be dropped, not blended.
func TestReadAlpha(t *testing.T) {
	b := image.Rect(0, 0, 1, 1)
	c := color.NRGBA{200, 100, 50, 0}
	nrgba, nrgba64 := image.NewNRGBA(b), image.NewNRGBA64(b)
	nrgba.SetNRGBA(0, 0, c)
	nrgba64.SetNRGBA64(0, 0, color.NRGBA64{200<<8 | 77, 100<<8 | 255, 50 << 8, 0})
	rgba := image.NewRGBA(b)
	rgba.SetRGBA(0, 0, color.RGBA{100, 50, 25, 128})
	paletted := image.NewPaletted(b, color.Palette{c})
	for _, m := range []image.Image{nrgba, nrgba64, paletted, rgba} {
		rgb := [3][]float32{{0}, {0}, {0}}
		(&imageRows{m, b}).read(0, &rgb, &chroma{})
		if math.Abs(float64(rgb[0][0])-200) > 1 || math.Abs(float64(rgb[1][0])-100) > 1 || math.Abs(float64(rgb[2][0])-50) > 1 {
			t.Errorf("%T: %v", m, rgb)
		}
	}
}

// A part of a JPEG must look as it does in the whole.
func TestReadSubImageOfYCbCr(t *testing.T) {
	for _, ratio := range []image.YCbCrSubsampleRatio{
		image.YCbCrSubsampleRatio444, image.YCbCrSubsampleRatio422, image.YCbCrSubsampleRatio420,
		image.YCbCrSubsampleRatio440, image.YCbCrSubsampleRatio411, image.YCbCrSubsampleRatio410,
	} {
		whole := ycc(64, 48, ratio)
		part := whole.SubImage(image.Rect(9, 7, 41, 38)).(*image.YCbCr)
		var a, b [3][]float32
		for c := range a {
			a[c], b[c] = make([]float32, 64), make([]float32, 64)
		}
		for y := range 27 { // two rows and four columns less: at a border chroma repeats
			(&imageRows{whole, whole.Rect}).read(y+9, &a, &chroma{})
			(&imageRows{part, part.Rect}).read(y+2, &b, &chroma{})
			for c := range 3 {
				for x := 4; x < 28; x++ {
					if a[c][x+9] != b[c][x] {
						t.Fatalf("%v: channel %d at (%d, %d): %g in the whole, %g in the part", ratio, c, x, y, a[c][x+9], b[c][x])
					}
				}
			}
		}
	}
}

func TestWriteAllocatesNothing(t *testing.T) {
	c := DefaultConfig()
	c.ShortSide, c.LongSide = 60, 100
	img := ycc(128, 72, image.YCbCrSubsampleRatio420)
	view, shape := c.Plan(128, 72)
	dst := make([]float32, shape.Len())
	s := NewScratch(2)
	n := testing.AllocsPerRun(20, func() {
		if err := c.Write(dst, shape[2], shape[3], img, view, s); err != nil {
			t.Fatal(err)
		}
	})
	if n > 0 {
		t.Errorf("%v allocations a Write", n)
	}
}

func BenchmarkWrite(b *testing.B) {
	for _, k := range []struct {
		name              string
		w, h, short, long int
		img               image.Image
	}{
		{"jpeg420/1280x720_to_600x1066", 1280, 720, 600, 1066, ycc(1280, 720, image.YCbCrSubsampleRatio420)},
		{"jpeg420/500x375_to_800x1066", 500, 375, 800, 1333, ycc(500, 375, image.YCbCrSubsampleRatio420)},
		{"jpeg420/4000x3000_to_800x1066", 4000, 3000, 800, 1333, ycc(4000, 3000, image.YCbCrSubsampleRatio420)},
		{"nrgba/1280x720_to_600x1066", 1280, 720, 600, 1066, formula(1280, 720)},
	} {
		for _, threads := range []int{1, 2} {
			b.Run(fmt.Sprintf("%s/threads%d", k.name, threads), func(b *testing.B) {
				c := DefaultConfig()
				c.ShortSide, c.LongSide = k.short, k.long
				view, shape := c.Plan(k.w, k.h)
				dst := make([]float32, shape.Len())
				s := NewScratch(threads)
				b.ReportAllocs()
				b.SetBytes(int64(4 * len(dst)))
				for b.Loop() {
					if err := c.Write(dst, shape[2], shape[3], k.img, view, s); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// formula is make.py's picture.
func formula(w, h int) *image.NRGBA {
	m := image.NewNRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			m.SetNRGBA(x, y, color.NRGBA{uint8(x*7 + y*3 + x*y%61), uint8(255 - x*2 + y*5), uint8((x/8+y/8)%2*160 + x), 255})
		}
	}
	return m
}

func ycc(w, h int, ratio image.YCbCrSubsampleRatio) *image.YCbCr {
	m := image.NewYCbCr(image.Rect(0, 0, w, h), ratio)
	for i := range m.Y {
		m.Y[i] = uint8(i*7 + i/w)
	}
	for i := range m.Cb {
		m.Cb[i], m.Cr[i] = uint8(i*5+i/w), uint8(200-i*3)
	}
	return m
}

// dirty is a destination that shows what was not written.
func dirty(n int) []float32 {
	d := make([]float32, n)
	for i := range d {
		d[i] = float32(math.NaN())
	}
	return d
}

// maxDiff returns the largest difference; NaN anywhere makes it infinite.
func maxDiff(a, b []float32) float64 {
	if len(a) != len(b) {
		return math.Inf(1)
	}
	worst := 0.0
	for i := range a {
		d := math.Abs(float64(a[i]) - float64(b[i]))
		if math.IsNaN(d) {
			return math.Inf(1)
		}
		worst = max(worst, d)
	}
	return worst
}
