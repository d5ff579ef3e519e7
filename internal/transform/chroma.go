package transform

import "image"

// chroma interpolates the colour of one row of a JPEG. Cb and Cr travel in one
// word, Cb in the low half and Cr in the high half, so that one addition serves
// both: no sum below exceeds 16 bits.
type chroma struct {
	sums []uint32 // a stored row, or two blended
	full []uint32 // one word per pixel
}

const (
	ones = 1<<16 | 1  // 1 for Cb and 1 for Cr
	mask = 255 * ones // the eight bits of each that count
)

// row returns Cb and Cr for each pixel of row y (in m's coordinates), as
// libjpeg's default decoder (libjpeg-turbo 2.1, jdsample.c) computes them:
// triangular interpolation with its alternating rounding for 4:2:2, 4:2:0 and
// 4:4:0, and repetition where it repeats (4:1:1, 4:1:0, and up to two stored
// columns). Go's own conversion always repeats, which differs by 1.6 levels
// rms and up to 43 on photos.
func (c *chroma) row(m *image.YCbCr, y int) []uint32 {
	h, v := subsampling(m.SubsampleRatio) // pixels per stored sample
	r := m.Rect
	n := (r.Max.X+h-1)/h - r.Min.X/h
	triangleX := h == 2 && n > 2
	triangleY := v == 2 && (h == 1 || triangleX)

	c.sums, c.full = resized(c.sums, n), resized(c.full, h*n)
	near := y / v
	o := m.COffset(r.Min.X, y)
	cb, cr := m.Cb[o:o+n], m.Cr[o:o+n]
	if triangleY {
		// Three parts of the nearest row and one of the next; past the image's
		// edge the outermost row stands for its neighbour.
		far := near - 1
		if y%2 == 1 {
			far = near + 1
		}
		far = min(max(far, r.Min.Y/v), (r.Max.Y-1)/v)
		o := o + (far-near)*m.CStride
		mix(c.sums, cb, cr, m.Cb[o:o+n], m.Cr[o:o+n])
	} else {
		pack(c.sums, cb, cr)
	}

	switch {
	case triangleX && triangleY:
		widen(c.full, c.sums, 8*ones, 7*ones, 4)
	case triangleX:
		widen(c.full, c.sums, 1*ones, 2*ones, 2)
	case triangleY:
		half := uint32(1 + y%2)
		for i, s := range c.sums {
			c.full[i] = (s + half*ones) >> 2 & mask
		}
	default:
		for i := range c.full {
			c.full[i] = c.sums[i/h]
		}
	}
	return c.full[r.Min.X%h:][:r.Dx()]
}

func pack(out []uint32, cb, cr []byte) {
	cb, cr = cb[:len(out)], cr[:len(out)]
	for i := range out {
		out[i] = uint32(cb[i]) | uint32(cr[i])<<16
	}
}

// mix sets out to 3·near + far.
func mix(out []uint32, nearCb, nearCr, farCb, farCr []byte) {
	nearCb, nearCr, farCb, farCr = nearCb[:len(out)], nearCr[:len(out)], farCb[:len(out)], farCr[:len(out)]
	for i := range out {
		out[i] = 3*(uint32(nearCb[i])|uint32(nearCr[i])<<16) + uint32(farCb[i]) + uint32(farCr[i])<<16
	}
}

// widen doubles a row: three parts of the nearest sample and one of the next,
// the outermost sample standing for its missing neighbour; left and right are
// added before the shift to the left and right pixel of a sample.
func widen(out, in []uint32, left, right uint32, shift uint) {
	last := in[0]
	this := in[0]
	for i := range in {
		next := this
		if i+1 < len(in) {
			next = in[i+1]
		}
		pair := out[2*i : 2*i+2 : 2*i+2]
		pair[0] = (3*this + last + left) >> shift & mask
		pair[1] = (3*this + next + right) >> shift & mask
		last, this = this, next
	}
}

func subsampling(s image.YCbCrSubsampleRatio) (h, v int) {
	switch s {
	case image.YCbCrSubsampleRatio422:
		return 2, 1
	case image.YCbCrSubsampleRatio420:
		return 2, 2
	case image.YCbCrSubsampleRatio440:
		return 1, 2
	case image.YCbCrSubsampleRatio411:
		return 4, 1
	case image.YCbCrSubsampleRatio410:
		return 4, 2
	}
	return 1, 1
}

// libjpeg's tables of the conversion to RGB (jdcolor.c): 16 fractional bits,
// rounded once for red and for blue, and once for green's sum.
var (
	fromCb, fromCr [256]struct{ direct, green int32 }
	// levels clamps to 0…255: entry 256+i is for i.
	levels [1024]float32
)

func init() {
	const half = 1 << 15
	fix := func(x float64) int32 { return int32(x*65536 + 0.5) }
	for i := range int32(256) {
		x := i - 128
		fromCr[i].direct = (fix(1.40200)*x + half) >> 16
		fromCb[i].direct = (fix(1.77200)*x + half) >> 16
		fromCr[i].green = -fix(0.71414)*x + half
		fromCb[i].green = -fix(0.34414) * x
	}
	for i := range levels {
		levels[i] = float32(min(max(i-256, 0), 255))
	}
}

// yccRow converts one row to levels of red, green and blue.
func yccRow(r, g, b []float32, luma []byte, colour []uint32) {
	g, b, luma, colour = g[:len(r)], b[:len(r)], luma[:len(r)], colour[:len(r)]
	for x := range r {
		y := int32(luma[x]) + 256
		c := colour[x]
		cb, cr := &fromCb[uint8(c)], &fromCr[uint8(c>>16)]
		r[x] = levels[(y+cr.direct)&1023]
		g[x] = levels[(y+(cb.green+cr.green)>>16)&1023]
		b[x] = levels[(y+cb.direct)&1023]
	}
}
