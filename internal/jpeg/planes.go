// Copyright 2009 The Go Authors. All rights reserved.
// Use of this source code is governed by a BSD-style
// license that can be found in the LICENSE file.

package jpeg

import (
	"image"
	"image/color"
)

// memory returns what allocate and picture take: a byte a sample, two more for
// a progressive file's coefficients, four a pixel for RGB and CMYK.
func (d *decoder) memory() int64 {
	blocks := int64(0)
	for _, c := range d.comps {
		blocks += int64(c.h * c.v)
	}
	blocks *= int64(d.unitsX) * int64(d.unitsY)
	bytes := 64 * blocks
	if d.progressive {
		bytes += 2 * 64 * blocks
	}
	if len(d.comps) == 4 || d.isRGB() {
		bytes += 4 * int64(d.width) * int64(d.height)
	}
	return bytes
}

// allocate makes the planes, of whole units of all components.
func (d *decoder) allocate() {
	first := &d.comps[0]
	all := image.Rect(0, 0, 8*first.h*d.unitsX, 8*first.v*d.unitsY)
	seen := image.Rect(0, 0, d.width, d.height)
	if len(d.comps) == 1 {
		m := image.NewGray(all)
		first.pix, first.stride = m.Pix, m.Stride
		d.img = m.SubImage(seen)
	} else {
		m := image.NewYCbCr(all, ratios[[2]int{first.h / d.comps[1].h, first.v / d.comps[1].v}])
		for i, pix := range [][]byte{m.Y, m.Cb, m.Cr} {
			d.comps[i].pix, d.comps[i].stride = pix, 8*d.comps[i].across
		}
		d.img = m.SubImage(seen)
	}
	if len(d.comps) == 4 {
		black := &d.comps[3]
		black.stride = 8 * black.across
		black.pix = make([]byte, black.stride*8*black.v*d.unitsY)
	}
	if d.progressive {
		for i := range d.comps {
			c := &d.comps[i]
			c.coefs = make([]block, c.across*c.v*d.unitsY)
		}
	}
}

// picture makes the result of the planes.
func (d *decoder) picture() (image.Image, error) {
	if len(d.comps) == 0 {
		return nil, fail("the file ends without a frame's header")
	}
	if i := d.missing(); i >= 0 {
		return nil, fail("no scan has component %d", d.comps[i].id)
	}
	if d.progressive {
		d.transformAll()
	}
	switch {
	case len(d.comps) == 4:
		return d.cmyk(), nil
	case d.isRGB():
		return d.rgb(), nil
	}
	return d.img, nil
}

// missing returns the index of a component that no scan had, −1 if all were
// there.
func (d *decoder) missing() int {
	for i := range d.comps {
		if d.comps[i].quant == nil {
			return i
		}
	}
	if len(d.comps) == 0 {
		return 0
	}
	return -1
}

// transformAll turns a progressive file's coefficients into samples.
func (d *decoder) transformAll() {
	var b [64]int32
	for i := range d.comps {
		c := &d.comps[i]
		for y := range c.height {
			for x := range c.width {
				var ac int16
				coefs := &c.coefs[y*c.across+x]
				for i, v := range coefs {
					b[i] = int32(v) * c.quant[i]
					if i > 0 {
						ac |= v
					}
				}
				out := c.pix[8*(y*c.stride+x):]
				if ac == 0 {
					fill(out, c.stride, b[0])
				} else {
					idct(out, c.stride, &b)
				}
			}
		}
	}
}

// isRGB tells whether three components are red, green and blue, as libjpeg
// (jdapimin.c) decides it.
func (d *decoder) isRGB() bool {
	switch {
	case len(d.comps) != 3 || d.jfif:
		return false
	case d.adobe:
		return d.transform == 0
	}
	return d.comps[0].id == 'R' && d.comps[1].id == 'G' && d.comps[2].id == 'B'
}

func (d *decoder) rgb() image.Image {
	m := image.NewRGBA(image.Rect(0, 0, d.width, d.height))
	for i := range d.comps {
		d.interleave(m.Pix, i, func(v uint8) uint8 { return v })
	}
	for i := 3; i < len(m.Pix); i += 4 {
		m.Pix[i] = 255
	}
	return m
}

// cmyk makes a picture of four components. Files have 255 for no ink where
// image.CMYK has 0.
func (d *decoder) cmyk() image.Image {
	m := image.NewCMYK(image.Rect(0, 0, d.width, d.height))
	invert := func(v uint8) uint8 { return 255 - v }
	if !d.adobe || d.transform == 0 {
		for i := range d.comps {
			d.interleave(m.Pix, i, invert)
		}
		return m
	}
	// The first three are YCbCr of the inverted ink's inverse: of red, green
	// and blue as image.CMYK has cyan, magenta and yellow.
	ycc := d.img.(*image.YCbCr)
	for y := range d.height {
		for x := range d.width {
			c, o := ycc.YCbCrAt(x, y), m.PixOffset(x, y)
			m.Pix[o], m.Pix[o+1], m.Pix[o+2] = color.YCbCrToRGB(c.Y, c.Cb, c.Cr)
		}
	}
	d.interleave(m.Pix, 3, invert)
	return m
}

// interleave writes a component to every fourth byte of pix, repeating samples
// where there are fewer than pixels.
func (d *decoder) interleave(pix []byte, i int, level func(uint8) uint8) {
	c := &d.comps[i]
	h, v := d.comps[0].h/c.h, d.comps[0].v/c.v
	for y := range d.height {
		row := c.pix[y/v*c.stride:]
		for x := range d.width {
			pix[4*(y*d.width+x)+i] = level(row[x/h])
		}
	}
}
