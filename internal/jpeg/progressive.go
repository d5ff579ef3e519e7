// Copyright 2012 The Go Authors. All rights reserved.
// Use of this source code is governed by a BSD-style
// license that can be found in the LICENSE file.

package jpeg

var errRefine = fail("the coded data refines a coefficient by more than a bit")

func (s *scan) block(i, x, y int) *block {
	c := s.comps[i]
	return &c.coefs[y*c.across+x]
}

// firstDC decodes a DC coefficient but for its low bits, section G.1.2.1.
func (d *decoder) firstDC(s *scan, i, x, y int) error {
	size, err := d.symbol(s.dc[i])
	if err != nil {
		return err
	}
	if size > 15 {
		return d.unlessShort(errDC)
	}
	if size > 0 {
		s.last[i] += int32(extend(d.take(int(size)), int(size)))
	}
	s.block(i, x, y)[0] = int16(s.last[i] << s.low)
	return d.unlessShort(nil)
}

// refineDC decodes a DC coefficient's next bit.
func (d *decoder) refineDC(s *scan, i, x, y int) error {
	if d.bit() {
		s.block(i, x, y)[0] |= 1 << s.low
	}
	return d.unlessShort(nil)
}

// firstAC decodes a band of AC coefficients but for their low bits, section
// G.1.2.2.
func (d *decoder) firstAC(s *scan, i, x, y int) error {
	if s.eobRun > 0 {
		s.eobRun--
		return nil
	}
	b, h := s.block(i, x, y), s.ac[i]
	for k := s.from; k <= s.to; k++ {
		val, err := d.symbol(h)
		if err != nil {
			return err
		}
		run, size := int(val>>4), int(val&15)
		if size == 0 && run < 15 {
			s.eobRun = 1<<run - 1 + d.take(run)
			break
		}
		if k += run; size == 0 {
			continue
		}
		if k > s.to {
			return d.unlessShort(errRun)
		}
		b[natural[k]&63] = int16(extend(d.take(size), size) << s.low)
	}
	return d.unlessShort(nil)
}

// refineAC decodes the next bit of those coefficients of a band that are not 0
// and the ones that this bit makes so, section G.1.2.3.
func (d *decoder) refineAC(s *scan, i, x, y int) error {
	b, h := s.block(i, x, y), s.ac[i]
	k := s.from
	if s.eobRun == 0 {
		for ; k <= s.to; k++ {
			val, err := d.symbol(h)
			if err != nil {
				return err
			}
			run, fresh := int(val>>4), int16(0)
			switch val & 15 {
			case 0:
				if run < 15 {
					s.eobRun = 1<<run + d.take(run)
				}
			case 1:
				fresh = -1 << s.low
				if d.bit() {
					fresh = 1 << s.low
				}
			default:
				return d.unlessShort(errRefine)
			}
			if s.eobRun > 0 {
				break
			}
			if k = d.refine(b, k, s.to, run, s.low); k > s.to {
				if fresh != 0 {
					return d.unlessShort(errRun)
				}
				break
			}
			if fresh != 0 {
				b[natural[k]&63] = fresh
			}
		}
	}
	if s.eobRun > 0 {
		s.eobRun--
		d.refine(b, k, s.to, 64, s.low)
	}
	return d.unlessShort(nil)
}

// refine gives the coefficients from k on that are not 0 their next bit. It
// passes zeros and returns the index of the next one, to+1 if there is none.
func (d *decoder) refine(b *block, k, to, zeros int, low uint) int {
	for ; k <= to; k++ {
		v := &b[natural[k]&63]
		switch {
		case *v == 0:
			if zeros == 0 {
				return k
			}
			zeros--
		case !d.bit():
		case *v > 0:
			*v += 1 << low
		default:
			*v -= 1 << low
		}
	}
	return k
}
