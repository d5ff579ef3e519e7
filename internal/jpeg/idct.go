package jpeg

// The inverse transform is Loeffler, Ligtenberg and Moschytz's ("Practical fast
// 1-D DCT algorithms with 11 multiplications", ICASSP 1989) with 12
// multiplications, in integers: columns first, then rows. A result is not the
// nearest integer to the exact one; it is what libjpeg's method "islow" gives,
// for which the order, the number of bits and the two roundings matter.
//
// libjpeg-turbo's C code has more bits for intermediate values than its vector
// code. They differ where coefficients are absurd, far from those of any samples
// in 0…255; only there may these samples be others than theirs.
const (
	constBits = 13 // fractional bits of the constants
	passBits  = 2  // fractional bits that the first pass keeps

	// √2·cos(kπ/16) and sums of them.
	f0298 = 2446  // 0.298631336
	f0390 = 3196  // 0.390180644
	f0541 = 4433  // 0.541196100
	f0765 = 6270  // 0.765366865
	f0899 = 7373  // 0.899976223
	f1175 = 9633  // 1.175875602
	f1501 = 12299 // 1.501321110
	f1847 = 15137 // 1.847759065
	f1961 = 16069 // 1.961570560
	f2053 = 16819 // 2.053119869
	f2562 = 20995 // 2.562915447
	f3072 = 25172 // 3.072711026
)

// even is the even half of eight inputs: what outputs 0 to 3 and, mirrored, 7
// to 4 share.
func even(x0, x2, x4, x6 int32) (a, b, c, d int32) {
	z := (x2 + x6) * f0541
	p, q := (x0+x4)<<constBits, (x0-x4)<<constBits
	r, s := z+x2*f0765, z-x6*f1847
	return p + r, q + s, q - s, p - r
}

// odd is the odd half: what is added to the even half for outputs 0 to 3 and
// subtracted for 7 to 4.
func odd(x1, x3, x5, x7 int32) (a, b, c, d int32) {
	z := (x1 + x3 + x5 + x7) * f1175
	p, q := z-(x3+x7)*f1961, z-(x1+x5)*f0390
	r, s := (x1+x7)*f0899, (x3+x5)*f2562
	return x1*f1501 - r + q, x3*f3072 - s + p, x5*f2053 - s + q, x7*f0298 - r + p
}

// idct transforms dequantized coefficients in natural order to 8×8 samples in
// rows of out that are stride apart. It spoils b.
func idct(out []byte, stride int, b *[64]int32) {
	for x := range 8 {
		c := b[x : x+57 : x+57]
		if c[8]|c[16]|c[24]|c[32]|c[40]|c[48]|c[56] == 0 {
			v := c[0] << passBits // what the rest would come to
			c[0], c[8], c[16], c[24], c[32], c[40], c[48], c[56] = v, v, v, v, v, v, v, v
			continue
		}
		const shift = constBits - passBits
		const half = 1 << (shift - 1)
		e0, e1, e2, e3 := even(c[0], c[16], c[32], c[48])
		o0, o1, o2, o3 := odd(c[8], c[24], c[40], c[56])
		c[0], c[56] = (e0+o0+half)>>shift, (e0-o0+half)>>shift
		c[8], c[48] = (e1+o1+half)>>shift, (e1-o1+half)>>shift
		c[16], c[40] = (e2+o2+half)>>shift, (e2-o2+half)>>shift
		c[24], c[32] = (e3+o3+half)>>shift, (e3-o3+half)>>shift
	}
	for y := range 8 {
		const shift = constBits + passBits + 3
		const half = 1<<(shift-1) + 128<<shift // samples are around 128
		r := b[8*y : 8*y+8 : 8*y+8]
		o := out[y*stride : y*stride+8 : y*stride+8]
		e0, e1, e2, e3 := even(r[0], r[2], r[4], r[6])
		o0, o1, o2, o3 := odd(r[1], r[3], r[5], r[7])
		o[0], o[7] = level((e0+o0+half)>>shift), level((e0-o0+half)>>shift)
		o[1], o[6] = level((e1+o1+half)>>shift), level((e1-o1+half)>>shift)
		o[2], o[5] = level((e2+o2+half)>>shift), level((e2-o2+half)>>shift)
		o[3], o[4] = level((e3+o3+half)>>shift), level((e3-o3+half)>>shift)
	}
}

// fill is idct for a block whose coefficients are 0 but for the first.
func fill(out []byte, stride int, dc int32) {
	v := level((dc+4)>>3 + 128)
	for y := range 8 {
		o := out[y*stride : y*stride+8 : y*stride+8]
		o[0], o[1], o[2], o[3], o[4], o[5], o[6], o[7] = v, v, v, v, v, v, v, v
	}
}

func level(v int32) uint8 {
	if uint32(v) > 255 {
		return uint8(^v >> 31) // 0 below, 255 above
	}
	return uint8(v)
}
