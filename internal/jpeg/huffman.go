// Copyright 2009 The Go Authors. All rights reserved.
// Use of this source code is governed by a BSD-style
// license that can be found in the LICENSE file.

package jpeg

// lookBits is how many bits are looked up at once. With 9, both tables of a
// component take 4 kB of the processor's cache, and nine codes of ten with the
// bits that follow them are read in one step.
const lookBits = 9

// huffman decodes one table's codes, specified in section C.
//
// A code's value is a byte: the high half is a run of zeros, the low half the
// number of bits that follow and make the coefficient.
type huffman struct {
	defined bool
	// look has an entry for the next lookBits bits. Bits 8…15 are the code's value
	// and bits 0…7 its length, 0 if it is longer than lookBits. Where the bits that
	// follow the code are among those looked at, bits 16…31 are the coefficient,
	// which is never 0, and bits 0…7 the length of both.
	look [1 << lookBits]int32
	// For the longer codes: the first 16 bits of the stream that are no code of
	// that length or less, and what to add to a code for its value's index.
	limit [17]int32
	index [17]int32
	vals  [256]uint8
}

// huffmanTables reads Huffman tables, section B.2.4.2.
func (d *decoder) huffmanTables(b []byte) error {
	for len(b) > 0 {
		if len(b) < 17 {
			return fail("a Huffman table has %d bytes", len(b))
		}
		class, to := b[0]>>4, b[0]&15
		if class > 1 || to > 3 || d.baseline && to > 1 {
			return fail("Huffman table %d of class %d is unknown", to, class)
		}
		total := 0
		for _, n := range b[1:17] {
			total += int(n)
		}
		if total < 1 || total > 256 || total > len(b)-17 {
			return fail("a Huffman table of %d codes has %d bytes", total, len(b)-17)
		}
		if !d.huffman[class][to].set([16]uint8(b[1:17]), b[17:17+total]) {
			return fail("a Huffman table has more codes than their lengths allow")
		}
		b = b[17+total:]
	}
	return nil
}

// set derives the tables from the number of codes of each length and their
// values in the codes' order. It returns false where there are more codes than
// their lengths allow.
func (h *huffman) set(counts [16]uint8, vals []byte) bool {
	*h = huffman{defined: true}
	copy(h.vals[:], vals)
	code, at := 0, 0
	for i, n := range counts {
		length, count := i+1, int(n)
		if code+count > 1<<length {
			return false
		}
		h.index[length] = int32(at - code)
		if length <= lookBits {
			span := 1 << (lookBits - length)
			for j := range count {
				for k := range span {
					h.look[(code+j)*span+k] = entry(vals[at+j], length, k, lookBits-length)
				}
			}
		}
		code, at = code+count, at+count
		h.limit[length] = int32(code << (16 - length))
		code <<= 1
	}
	return true
}

// entry is look's entry for a code, rest bits standing after it.
func entry(val uint8, length, bits, rest int) int32 {
	size := int(val & 15)
	if size == 0 || size > rest {
		return int32(val)<<8 | int32(length)
	}
	return int32(extend(bits>>(rest-size), size))<<16 | int32(val)<<8 | int32(length+size)
}

// extend gives size > 0 bits their sign, section F.2.2.1.
func extend(v, size int) int {
	// Where the first bit is 0 the number is negative.
	return v - (1<<size-1)&((v>>(size-1))-1)
}

// long returns the value and length of a code longer than lookBits; length 0 if
// there is none.
func (h *huffman) long(acc uint64) (val uint8, length int) {
	next := int32(acc >> 48)
	for length := lookBits + 1; length <= 16; length++ {
		if next < h.limit[length] {
			return h.vals[uint8(next>>(16-length)+h.index[length])], length
		}
	}
	return 0, 0
}

// symbol returns the next code's value.
func (d *decoder) symbol(h *huffman) (uint8, error) {
	if d.n < enough {
		d.acc, d.n = d.refill(d.acc, d.n)
	}
	e := h.look[d.acc>>(64-lookBits)]
	val, length := uint8(e>>8), int(e&255)
	if e>>16 != 0 {
		length -= int(val & 15)
	} else if length == 0 {
		if val, length = h.long(d.acc); length == 0 {
			return 0, d.noCode(d.n)
		}
	}
	d.acc <<= uint(length)
	d.n -= length
	return val, nil
}

// noCode is the error where the next bits, of which n are left, are no code.
func (d *decoder) noCode(n int) error {
	d.n = n - 16 // what a code may take
	return d.unlessShort(errCode)
}

var errCode = fail("the coded data has a bit sequence that is no Huffman code")
