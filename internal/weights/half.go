package weights

import (
	"encoding/binary"
	"math"
)

// decodeHalf converts len(dst) little-endian float16 values.
//
// Shifting exponent and fraction into place leaves the exponent's bias wrong by
// 112, which one addition of 112<<23 puts right for every normal number: two at
// a time in a 64-bit word. The rare exponents, 0 of zero and subnormals and 31
// of infinities and NaN, are looked for in four values at once and branch off.
// No table: its 256 KiB would push the weights out of the cache.
func decodeHalf(dst []float32, src []byte) {
	const (
		exponents = 0x7c00_7c00_7c00_7c00
		tops      = 0x8000_8000_8000_8000
		pair      = 1<<32 | 1
	)
	for len(dst) >= 4 && len(src) >= 8 {
		q := binary.LittleEndian.Uint64(src)
		d := dst[:4:4]
		// A top bit of the first sum says exponent > 0, of the second exponent = 31.
		if e := q & exponents; (e+exponents)&^(e+0x0400_0400_0400_0400)&tops == tops {
			low := q&0xffff | q&0xffff_0000<<16
			low = low&(0x8000*pair)<<16 | (low&(0x7fff*pair)<<13 + 112<<23*pair)
			high := q>>32&0xffff | q>>48<<32
			high = high&(0x8000*pair)<<16 | (high&(0x7fff*pair)<<13 + 112<<23*pair)
			d[0] = math.Float32frombits(uint32(low))
			d[1] = math.Float32frombits(uint32(low >> 32))
			d[2] = math.Float32frombits(uint32(high))
			d[3] = math.Float32frombits(uint32(high >> 32))
		} else {
			for i := range d {
				d[i] = halfToFloat(uint32(q>>(16*i)) & 0xffff)
			}
		}
		dst, src = dst[4:], src[8:]
	}
	for i := range dst {
		dst[i] = halfToFloat(uint32(binary.LittleEndian.Uint16(src[2*i:])))
	}
}

// halfToFloat converts one float16, given by its bits, exactly.
func halfToFloat(h uint32) float32 {
	sign := h << 16 & 0x80000000
	x := h << 13 & 0x0fffe000 // exponent and fraction
	switch x >> 23 {
	case 31: // infinity, NaN
		return math.Float32frombits(sign | x | 0x7f800000)
	case 0:
		// A subnormal is fraction·2⁻²⁴: give it the exponent of 2⁻¹⁴ with the
		// hidden bit, then take the hidden bit away.
		v := math.Float32frombits(x+113<<23) - 0x1p-14
		return math.Float32frombits(sign | math.Float32bits(v))
	}
	return math.Float32frombits(sign | (x + 112<<23))
}

// floatToHalf rounds to the nearest float16, ties to even; ok is false where a
// finite value is too large for one.
func floatToHalf(f float32) (h uint16, ok bool) {
	bits := math.Float32bits(f)
	sign := uint16(bits >> 16 & 0x8000)
	abs := bits & 0x7fffffff
	switch {
	case abs > 0x7f800000: // NaN stays one
		return sign | 0x7e00, true
	case abs == 0x7f800000:
		return sign | 0x7c00, true
	case abs >= 0x477ff000: // 65520 and above would round to infinity
		return sign | 0x7c00, false
	case abs < 0x38800000: // below 2⁻¹⁴: adding 0.5 rounds at the last place of a subnormal
		return sign | uint16(math.Float32bits(math.Float32frombits(abs)+0.5)-0x3f000000), true
	}
	abs += 0xfff + abs>>13&1 // half a unit, less one where the result is even
	return sign | uint16((abs-112<<23)>>13), true
}
