package data

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"resdet/internal/transform"
)

// Augment says how images are changed at random. The zero value but for Scale,
// which is [1, 1] then, changes nothing.
type Augment struct {
	// Flip is the probability of mirroring left and right.
	Flip float64 `json:"flip"`
	// ShortSides, if any, are drawn from in place of the transform's short side;
	// the long side's limit changes in proportion (multi-scale training).
	ShortSides []int `json:"short_sides"`
	// Scale is a range from which a factor of the short side is drawn (scale
	// jitter).
	Scale [2]float64 `json:"scale"`
	// Brightness, Contrast and Saturation are how far from 1 a factor is drawn;
	// Hue is how far from 0 an angle is, in turns (torchvision's ColorJitter).
	Brightness float64 `json:"brightness"`
	Contrast   float64 `json:"contrast"`
	Saturation float64 `json:"saturation"`
	Hue        float64 `json:"hue"`
}

// Validate reports everything that cannot work.
func (a Augment) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf("data: augment: "+format, args...)) }
	if !(a.Flip >= 0 && a.Flip <= 1) {
		bad("flip %g is not a probability", a.Flip)
	}
	if slices.ContainsFunc(a.ShortSides, func(n int) bool { return n < 16 || n > 8192 }) {
		bad("short_sides %v are not in 16…8192", a.ShortSides)
	}
	if lo, hi := a.Scale[0], a.Scale[1]; !(lo >= 0.1 && lo <= hi && hi <= 10) {
		bad("scale %v is not a range within 0.1…10", a.Scale)
	}
	for _, f := range []struct {
		name       string
		value, max float64
	}{{"brightness", a.Brightness, 1}, {"contrast", a.Contrast, 1}, {"saturation", a.Saturation, 1}, {"hue", a.Hue, 0.5}} {
		if !(f.value >= 0 && f.value <= f.max) {
			bad("%s %g is not in [0, %g]", f.name, f.value, f.max)
		}
	}
	return errors.Join(errs...)
}

// change is what was drawn for one image.
type change struct {
	flip   bool
	resize transform.Config
	colour *colour // nil: none
}

// draw draws an image's change. Numbers are drawn in one order whatever the
// settings, so that one setting does not change what another draws.
func (a Augment) draw(r *rand.Rand, t transform.Config) change {
	u := func(lo, hi float64) float64 { return lo + (hi-lo)*r.Float64() }
	c := change{flip: u(0, 1) < a.Flip, resize: t}
	if side := r.Float64(); len(a.ShortSides) > 0 {
		c.rescale(float64(a.ShortSides[int(side*float64(len(a.ShortSides)))]) / float64(t.ShortSide))
	}
	if f := u(a.Scale[0], a.Scale[1]); a.Scale != [2]float64{1, 1} {
		c.rescale(f)
	}
	brightness, contrast := u(1-a.Brightness, 1+a.Brightness), u(1-a.Contrast, 1+a.Contrast)
	saturation, hue := u(1-a.Saturation, 1+a.Saturation), u(-a.Hue, a.Hue)
	if a.Brightness != 0 || a.Contrast != 0 || a.Saturation != 0 || a.Hue != 0 {
		c.colour = newColour(brightness, contrast, saturation, hue)
	}
	return c
}

// rescale multiplies the size that images are brought to.
func (c *change) rescale(f float64) {
	c.resize.ShortSide = max(1, int(math.Round(float64(c.resize.ShortSide)*f)))
	c.resize.LongSide = max(c.resize.ShortSide, int(math.Round(float64(c.resize.LongSide)*f)))
}

// luma are the weights of grey (ITU-R BT.601, as Pillow's convert("L")).
var luma = [3]float64{0.299, 0.587, 0.114}

// colour is a change of an image's colours: levels x become matrix·x + shift,
// where shift is grey, in proportion to the image's mean grey. Brightness,
// contrast, saturation and hue, one after the other, come to that, since each
// is linear and all but brightness leave grey as it is; only levels beyond
// 0…255 are cut once, at the end, instead of after each.
type colour struct {
	matrix [3][3]float64
	grey   float64 // of the mean grey, is added
}

func newColour(brightness, contrast, saturation, hue float64) *colour {
	sin, cos := math.Sincos(2 * math.Pi * hue)
	// The rotation of hues about grey (SVG 1.1, feColorMatrix, hueRotate).
	rotate := [3][3]float64{
		{0.213 + 0.787*cos - 0.213*sin, 0.715 - 0.715*cos - 0.715*sin, 0.072 - 0.072*cos + 0.928*sin},
		{0.213 - 0.213*cos + 0.143*sin, 0.715 + 0.285*cos + 0.140*sin, 0.072 - 0.072*cos - 0.283*sin},
		{0.213 - 0.213*cos - 0.787*sin, 0.715 - 0.715*cos + 0.715*sin, 0.072 + 0.928*cos + 0.072*sin},
	}
	c := &colour{grey: (1 - contrast) * brightness}
	for i := range 3 {
		for j := range 3 {
			// The saturation's matrix is saturation·identity + (1−saturation)·luma
			// in each row; rotate's rows sum to 1, so that luma stays as it is.
			c.matrix[i][j] = brightness * contrast * (saturation*rotate[i][j] + (1-saturation)*luma[j])
		}
	}
	return c
}

// apply changes the colours of an image that stands in planes [3 H W] of
// network pixels, width by height from the top left.
func (c *colour) apply(planes []float32, width, height, planeWidth int, t transform.Config) {
	size := len(planes) / 3
	var gain, bias [3]float64 // network pixel → level, of red, green, blue
	var plane [3][]float32
	for i := range 3 {
		at := i
		if t.Order == transform.BGR {
			at = 2 - i
		}
		plane[i] = planes[at*size:][:size]
		gain[i], bias[i] = float64(t.Std[at])/t.Scale, float64(t.Mean[at])/t.Scale
	}
	var sum float64
	for y := range height {
		r, g, b := plane[0][y*planeWidth:][:width], plane[1][y*planeWidth:][:width], plane[2][y*planeWidth:][:width]
		for x := range r {
			sum += luma[0]*(float64(r[x])*gain[0]+bias[0]) + luma[1]*(float64(g[x])*gain[1]+bias[1]) + luma[2]*(float64(b[x])*gain[2]+bias[2])
		}
	}
	shift := c.grey * sum / float64(width*height)
	for y := range height {
		r, g, b := plane[0][y*planeWidth:][:width], plane[1][y*planeWidth:][:width], plane[2][y*planeWidth:][:width]
		for x := range r {
			in := [3]float64{float64(r[x])*gain[0] + bias[0], float64(g[x])*gain[1] + bias[1], float64(b[x])*gain[2] + bias[2]}
			var out [3]float32
			for i, m := range c.matrix {
				level := min(255, max(0, m[0]*in[0]+m[1]*in[1]+m[2]*in[2]+shift))
				out[i] = float32((level - bias[i]) / gain[i])
			}
			r[x], g[x], b[x] = out[0], out[1], out[2]
		}
	}
}

// mirror turns an image that stands in planes left to right.
func mirror(planes []float32, width, height, planeWidth int) {
	size := len(planes) / 3
	for p := range 3 {
		for y := range height {
			slices.Reverse(planes[p*size+y*planeWidth:][:width])
		}
	}
}
