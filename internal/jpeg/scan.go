// Copyright 2012 The Go Authors. All rights reserved.
// Use of this source code is governed by a BSD-style
// license that can be found in the LICENSE file.

package jpeg

import "slices"

// maxScans bounds the time that a progressive file may take: a scan of 20 bytes
// costs a pass over all coefficients. Encoders make about ten.
const maxScans = 200

// block holds the coefficients of 8×8 samples in natural order.
type block [64]int16

// scan is one pass over some components, specified in section B.2.3.
type scan struct {
	comps  []*component
	dc, ac [maxComponents]*huffman // of each of comps
	// Of progressive files: coefficients from…to in zig-zag order; first is the
	// band's first scan, others refine it; low is how many bits below are to come.
	from, to int
	first    bool
	low      uint

	last   [maxComponents]int32 // each component's last DC coefficient
	eobRun int                  // how many blocks have no more coefficients in this band
}

// scan reads a scan's header, section B.2.3, and its data.
func (d *decoder) scan(b []byte) error {
	if len(d.comps) == 0 {
		return fail("a scan comes before the frame's header")
	}
	if d.scans++; d.progressive && d.scans > maxScans {
		return fail("a progressive file of more than %d scans", maxScans)
	}
	s, err := d.scanHeader(b)
	if err != nil {
		return err
	}
	if d.img == nil {
		d.allocate()
	}
	decode := d.sequential
	switch {
	case d.progressive && s.from == 0 && s.first:
		decode = d.firstDC
	case d.progressive && s.from == 0:
		decode = d.refineDC
	case d.progressive && s.first:
		decode = d.firstAC
	case d.progressive:
		decode = d.refineAC
	}

	// A scan of one component has one block after the other and none beyond the
	// picture, section A.2.2; others go by units of all components, section A.2.3.
	width, height := d.unitsX, d.unitsY
	alone := len(s.comps) == 1
	if alone {
		width, height = s.comps[0].width, s.comps[0].height
	}
	d.acc, d.n = 0, 0
	unit, marker := 0, byte(rst0)
	for y := range height {
		for x := range width {
			if d.restart > 0 && unit > 0 && unit%d.restart == 0 {
				if err := d.resume(marker); err != nil {
					return err
				}
				marker = rst0 + (marker+1-rst0)%8
				s.last, s.eobRun = [maxComponents]int32{}, 0
			}
			unit++
			if alone {
				if err := decode(s, 0, x, y); err != nil {
					return err
				}
				continue
			}
			for i, c := range s.comps {
				for v := range c.v {
					for h := range c.h {
						if err := decode(s, i, x*c.h+h, y*c.v+v); err != nil {
							return err
						}
					}
				}
			}
		}
	}
	return nil
}

func (d *decoder) scanHeader(b []byte) (*scan, error) {
	if len(b) < 1 || len(b) != 4+2*int(b[0]) || b[0] < 1 || int(b[0]) > len(d.comps) {
		return nil, fail("a scan's header has %d bytes", len(b))
	}
	n := int(b[0])
	s := &scan{to: 63, first: true}
	if d.progressive {
		s.from, s.to, s.first, s.low = int(b[1+2*n]), int(b[2+2*n]), b[3+2*n]>>4 == 0, uint(b[3+2*n]&15)
		high := uint(b[3+2*n] >> 4)
		if s.from > s.to || s.to > 63 || s.from == 0 && s.to != 0 || s.from > 0 && n > 1 || !s.first && high != s.low+1 || s.low > 13 {
			return nil, fail("a progressive scan of coefficients %d to %d, bits %d to %d, of %d components is not allowed", s.from, s.to, high, s.low, n)
		}
	}
	blocks := 0
	for i := range n {
		id, dc, ac := b[1+2*i], b[2+2*i]>>4, b[2+2*i]&15
		at := slices.IndexFunc(d.comps, func(c component) bool { return c.id == id })
		if at < 0 {
			return nil, fail("a scan has component %d, which the frame has not", id)
		}
		c := &d.comps[at]
		if slices.Contains(s.comps, c) {
			return nil, fail("a scan has component %d twice", id)
		}
		if dc > 3 || ac > 3 || d.baseline && (dc > 1 || ac > 1) {
			return nil, fail("a scan wants Huffman tables %d and %d", dc, ac)
		}
		s.comps = append(s.comps, c)
		s.dc[i], s.ac[i] = &d.huffman[0][dc], &d.huffman[1][ac]
		if needs := s.from == 0 && s.first; needs && !s.dc[i].defined {
			return nil, fail("Huffman table %d of DC coefficients is missing", dc)
		}
		if needs := s.to > 0; needs && !s.ac[i].defined {
			return nil, fail("Huffman table %d of AC coefficients is missing", ac)
		}
		if c.quant == nil {
			if !d.hasQuant[c.table] {
				return nil, fail("quantization table %d is missing", c.table)
			}
			// The table may be overwritten for another component, section B.2.4.1.
			table := d.quant[c.table]
			c.quant = &table
		}
		blocks += c.h * c.v
	}
	if n > 1 && blocks > 10 { // section B.2.3
		return nil, fail("a scan's units have %d blocks, more than 10", blocks)
	}
	return s, nil
}

// resume goes past the restart marker that must be next.
func (d *decoder) resume(want byte) error {
	got := d.next()
	if got == 0 {
		return errCut
	}
	if got != want {
		return fail("marker %#x stands where the restart marker %#x should", got, want)
	}
	d.acc, d.n = 0, 0
	return nil
}

// sequential decodes one block, section F.2.2, and transforms it.
func (d *decoder) sequential(s *scan, i, x, y int) error {
	c, dc, ac := s.comps[i], s.dc[i], s.ac[i]
	quant := c.quant
	acc, n := d.acc, d.n
	if n < enough {
		acc, n = d.refill(acc, n)
	}
	e := dc.look[acc>>(64-lookBits)]
	val, length, diff := uint8(e>>8), int(e&255), e>>16
	if diff == 0 {
		if length == 0 {
			if val, length = dc.long(acc); length == 0 {
				return d.noCode(n)
			}
		}
		if size := int(val & 15); size > 0 {
			diff = int32(extend(int(acc<<uint(length&63)>>(64-size)), size))
			length += size
		}
	}
	if val > 15 {
		d.n = n
		return d.unlessShort(errDC)
	}
	acc <<= uint(length & 63)
	n -= length
	s.last[i] += diff

	var b [64]int32
	b[0] = s.last[i] * quant[0]
	flat := true
	for k := 1; k < 64; k++ {
		if n < enough {
			acc, n = d.refill(acc, n)
		}
		e := ac.look[acc>>(64-lookBits)]
		val, length, coef := uint8(e>>8), int(e&255), e>>16
		if coef == 0 {
			if length == 0 {
				if val, length = ac.long(acc); length == 0 {
					return d.noCode(n)
				}
			}
			size := int(val & 15)
			if size == 0 {
				acc <<= uint(length & 63)
				n -= length
				if val != 0xf0 { // not a run of 16 zeros: no more coefficients
					break
				}
				k += 15
				continue
			}
			coef = int32(extend(int(acc<<uint(length&63)>>uint((64-size)&63)), size))
			length += size
		}
		acc <<= uint(length & 63)
		n -= length
		k += int(val >> 4)
		if k > 63 {
			d.n = n
			return d.unlessShort(errRun)
		}
		at := natural[k] & 63
		b[at] = coef * quant[at]
		flat = false
	}
	d.acc, d.n = acc, n
	if n < 0 {
		return d.unlessShort(nil)
	}
	out := c.pix[8*(y*c.stride+x):]
	if flat {
		fill(out, c.stride, b[0])
	} else {
		idct(out, c.stride, &b)
	}
	return nil
}

var (
	errDC  = fail("the coded data has a DC coefficient of more than 15 bits")
	errRun = fail("the coded data has a block of more than 64 coefficients")
)
