package weights

import (
	"encoding/binary"
	"math"
)

// decodeHalf converts len(dst) little-endian float16 values.
//
// Shifting exponent and fraction into place leaves the exponent's bias wrong by
// 112, which one addition of 112<<23 puts right for every normal number. The
// two rare cases, one value in some hundreds of trained weights, branch off:
// exponent 0 (zero and subnormals) and 31 (infinities and NaN). Four values
// are loaded at once. No table: 256 KiB of it would push the weights out of
// the cache.
func decodeHalf(dst []float32, src []byte) {
	for len(dst) >= 4 && len(src) >= 8 {
		q := binary.LittleEndian.Uint64(src)
		d := dst[:4:4]
		d[0] = halfToFloat(uint32(q) & 0xffff)
		d[1] = halfToFloat(uint32(q) >> 16)
		d[2] = halfToFloat(uint32(q>>32) & 0xffff)
		d[3] = halfToFloat(uint32(q >> 48))
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
	if e := x >> 23; e-1 < 30 {
		return math.Float32frombits(sign | (x + 112<<23))
	}
	return rareHalf(sign, x)
}

func rareHalf(sign, x uint32) float32 {
	if x>>23 == 31 { // infinity, NaN
		return math.Float32frombits(sign | x | 0x7f800000)
	}
	// A subnormal is fraction·2⁻²⁴: give it the exponent of 2⁻¹⁴ with the
	// hidden bit, then take the hidden bit away. Exact.
	v := math.Float32frombits(x+113<<23) - 0x1p-14
	return math.Float32frombits(sign | math.Float32bits(v))
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
