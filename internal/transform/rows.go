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
				c := color.NRGBAModel.Convert(color.RGBA{pix[4*x], pix[4*x+1], pix[4*x+2], a}).(color.NRGBA)
				r[x], g[x], bl[x] = level(c.R), level(c.G), level(c.B)
			}
		}
	case *image.Paletted:
		o := m.PixOffset(b.Min.X, y)
		for x, v := range m.Pix[o : o+n] {
			if int(v) < len(m.Palette) { // a broken file may point past its palette
				set(r, g, bl, x, m.Palette[v])
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
	default:
		for x := range n {
			set(r, g, bl, x, m.At(b.Min.X+x, y))
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

func set(r, g, b []float32, x int, c color.Color) {
	n := straight(c)
	r[x], g[x], b[x] = level(n.R), level(n.G), level(n.B)
}

// straight returns the 8-bit colour without alpha's influence.
func straight(c color.Color) color.NRGBA {
	switch c := c.(type) {
	case color.NRGBA:
		return c
	case color.NRGBA64: // its model's conversion goes through alpha, and a fully transparent colour is lost
		return color.NRGBA{uint8(c.R >> 8), uint8(c.G >> 8), uint8(c.B >> 8), uint8(c.A >> 8)}
	}
	return color.NRGBAModel.Convert(c).(color.NRGBA)
}

// inkless is Pillow's CMYK to RGB: white less the ink's share of it, rounded.
func inkless(white int, ink uint8) float32 {
	t := int(ink)*white + 128
	return float32(white - ((t>>8)+t)>>8)
}

func level(v uint8) float32 { return float32(v) }
