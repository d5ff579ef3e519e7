package transform

import (
	"image"
	"image/color"
)

// imageRows reads an image's pixels as Pillow's convert("RGB") gives them, for
// that is what the reference detectors were trained on: alpha is dropped, not
// blended; 16-bit channels keep their high byte; grey is repeated.
//
// (Pillow before 11 clips 16-bit *grey* at 255 instead, so that such images
// come out white. That is not copied.)
type imageRows struct {
	img    image.Image
	bounds image.Rectangle
}

func (p *imageRows) read(y int, rgb *[3][]float32, line *chroma) {
	b := p.bounds
	n := b.Dx()
	y += b.Min.Y
	r, g, bl := rgb[0][:n], rgb[1][:n], rgb[2][:n]
	switch m := p.img.(type) {
	case *image.YCbCr:
		o := m.YOffset(b.Min.X, y)
		yccRow(r, g, bl, m.Y[o:o+n], line.row(m, y))
	case *image.Gray:
		o := m.PixOffset(b.Min.X, y)
		for x, v := range m.Pix[o : o+n] {
			l := level(v)
			r[x], g[x], bl[x] = l, l, l
		}
	case *image.NRGBA:
		o := m.PixOffset(b.Min.X, y)
		packedRow(r, g, bl, m.Pix[o:o+4*n])
	case *image.RGBA:
		o := m.PixOffset(b.Min.X, y)
		pix := m.Pix[o : o+4*n]
		packedRow(r, g, bl, pix)
		for x := range n { // undo the premultiplication where there is one
			if a := pix[4*x+3]; a != 255 && a != 0 {
				set(r, g, bl, x, straight(color.RGBA{pix[4*x], pix[4*x+1], pix[4*x+2], a}))
			}
		}
	case *image.Paletted:
		o := m.PixOffset(b.Min.X, y)
		for x, v := range m.Pix[o : o+n] {
			if int(v) < len(m.Palette) { // a broken file may point past its palette
				set(r, g, bl, x, straight(m.Palette[v]))
			} else {
				r[x], g[x], bl[x] = 0, 0, 0
			}
		}
	case *image.CMYK:
		o := m.PixOffset(b.Min.X, y)
		pix := m.Pix[o : o+4*n]
		for x := range n {
			white := int(255 - pix[4*x+3])
			r[x] = inkless(white, pix[4*x])
			g[x] = inkless(white, pix[4*x+1])
			bl[x] = inkless(white, pix[4*x+2])
		}
	case *image.Gray16:
		o := m.PixOffset(b.Min.X, y)
		pix := m.Pix[o : o+2*n]
		for x := range n {
			l := level(pix[2*x])
			r[x], g[x], bl[x] = l, l, l
		}
	case *image.NRGBA64:
		o := m.PixOffset(b.Min.X, y)
		pix := m.Pix[o : o+8*n]
		for x := range n {
			r[x], g[x], bl[x] = level(pix[8*x]), level(pix[8*x+2]), level(pix[8*x+4])
		}
	case image.RGBA64Image: // does not box a colour per pixel as At does
		for x := range n {
			set(r, g, bl, x, straight64(m.RGBA64At(b.Min.X+x, y)))
		}
	default:
		for x := range n {
			set(r, g, bl, x, straight(m.At(b.Min.X+x, y)))
		}
	}
}

// packedRow spreads four-byte pixels over three planes; the fourth byte is
// alpha and left out.
func packedRow(r, g, b []float32, pix []byte) {
	g, b = g[:len(r)], b[:len(r)]
	for x := range r {
		p := pix[4*x : 4*x+4 : 4*x+4]
		r[x], g[x], b[x] = level(p[0]), level(p[1]), level(p[2])
	}
}

func set(r, g, b []float32, x int, c color.NRGBA) {
	r[x], g[x], b[x] = level(c.R), level(c.G), level(c.B)
}

// straight returns the 8-bit colour without alpha's influence.
func straight(c color.Color) color.NRGBA {
	switch c := c.(type) {
	case color.NRGBA:
		return c
	case color.RGBA:
		if c.A == 255 {
			return color.NRGBA(c)
		}
	case color.NRGBA64: // through RGBA() a fully transparent colour would be lost
		return color.NRGBA{uint8(c.R >> 8), uint8(c.G >> 8), uint8(c.B >> 8), uint8(c.A >> 8)}
	}
	r, g, b, a := c.RGBA()
	return straight64(color.RGBA64{uint16(r), uint16(g), uint16(b), uint16(a)})
}

func straight64(c color.RGBA64) color.NRGBA {
	switch a := uint32(c.A); a {
	case 0xffff, 0:
		return color.NRGBA{uint8(c.R >> 8), uint8(c.G >> 8), uint8(c.B >> 8), uint8(c.A >> 8)}
	default:
		whole := func(v uint16) uint8 { return uint8(min(uint32(v)*0xffff/a, 0xffff) >> 8) }
		return color.NRGBA{whole(c.R), whole(c.G), whole(c.B), uint8(a >> 8)}
	}
}

// inkless is Pillow's CMYK to RGB: white less the ink's share of it, rounded.
func inkless(white int, ink uint8) float32 {
	t := int(ink)*white + 128
	return float32(white - ((t>>8)+t)>>8)
}

func level(v uint8) float32 { return float32(v) }

// opaque returns img's pixels as the network sees them, at the origin.
func opaque(img image.Image) *image.NRGBA {
	b := img.Bounds()
	out := image.NewNRGBA(image.Rect(0, 0, b.Dx(), b.Dy()))
	src := &imageRows{img, b}
	var line chroma
	var rgb [3][]float32
	for c := range rgb {
		rgb[c] = make([]float32, b.Dx())
	}
	for y := range b.Dy() {
		src.read(y, &rgb, &line)
		pix := out.Pix[y*out.Stride:][:4*b.Dx()]
		for x, r := range rgb[0] {
			p := pix[4*x : 4*x+4 : 4*x+4]
			p[0], p[1], p[2], p[3] = uint8(r), uint8(rgb[1][x]), uint8(rgb[2][x]), 255
		}
	}
	return out
}
