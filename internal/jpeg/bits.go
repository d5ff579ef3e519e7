package jpeg

import "encoding/binary"

// bits reads a scan's coded data bit by bit. Its users hold acc and n in local
// variables while they decode a block, for speed.
//
// Past the data's end (a marker or the file's end) all bits are 0 and n becomes
// negative, which is looked at once a block.
type bits struct {
	data []byte // the file
	at   int    // the first byte that is not in acc
	acc  uint64 // the next bits, the first one highest
	n    int    // how many bits of acc count
}

// enough is what one code and the bits that follow it may take.
const enough = 32

// refill tops acc up to at least 57 bits, fewer only at the data's end.
func (r *bits) refill(acc uint64, n int) (uint64, int) {
	if at := r.at; at+8 <= len(r.data) {
		w := binary.BigEndian.Uint64(r.data[at:])
		// No byte is 0xff, which is to say that the complement has no zero byte.
		if (^w-0x0101010101010101)&w&0x8080808080808080 == 0 {
			// The bits beyond the last whole byte are set too. They are set
			// again, to the same, when that byte's turn comes.
			r.at += (63 - n) >> 3
			return acc | w>>uint(n&63), n | 56
		}
	}
	return r.refillBytes(acc, n)
}

func (r *bits) refillBytes(acc uint64, n int) (uint64, int) {
	for n <= 56 && r.at < len(r.data) {
		c := r.data[r.at]
		if c == 0xff {
			if r.at+1 >= len(r.data) || r.data[r.at+1] != 0 {
				break
			}
			r.at++ // 0xff is coded as 0xff 0x00, section F.1.2.3
		}
		r.at++
		acc |= uint64(c) << uint(56-n)
		n += 8
	}
	return acc, n
}

// bit returns the next bit.
func (r *bits) bit() bool {
	if r.n < 1 {
		r.acc, r.n = r.refill(r.acc, r.n)
	}
	set := int64(r.acc) < 0
	r.acc <<= 1
	r.n--
	return set
}

// take returns the next k ≤ 16 bits.
func (r *bits) take(k int) int {
	if r.n < k {
		r.acc, r.n = r.refill(r.acc, r.n)
	}
	v := r.acc >> 32 >> uint(32-k)
	r.acc <<= uint(k)
	r.n -= k
	return int(v)
}

// unlessShort returns err, or what is wrong if the data ended before what led to
// it.
func (r *bits) unlessShort(err error) error {
	switch {
	case r.n >= 0:
		return err
	case r.at+1 >= len(r.data):
		return errCut
	}
	return fail("a scan's data ends too early, at a marker %#x", r.data[r.at+1])
}
