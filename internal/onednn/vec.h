//go:build cgo && linux && amd64 && !noonednn

// Vectors of LANES floats: 16, 8 or 4, as the includer says. Arrays have their
// channels in groups of 16, of which a vector is one, a half or a quarter: items
// of kernels are counted in vectors, and those of one group follow each other.
#ifndef RESDET_VEC_H
#define RESDET_VEC_H

#include "kern_isa.h"

#pragma GCC diagnostic ignored "-Wpsabi" // vectors are passed between inlined functions only

enum { PARTS = 16 / LANES };

typedef float vec __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t ivec __attribute__((vector_size(4 * LANES)));

INLINE vec zeros(void) { return (vec){0}; }
INLINE vec all(float x) { return x - zeros(); } // x − 0 is x, of −0 too
INLINE vec larger(vec a, vec b) {
	ivec m = a > b;
	return (vec)(((ivec)a & m) | ((ivec)b & ~m));
}

// v where m is positive, 0 elsewhere
INLINE vec masked(vec v, vec m) { return (vec)((ivec)v & (m > zeros())); }

// The channels of vector g begin here; so many of them are in memory.
INLINE int64_t group_at(const rd_map *m, int g) { return g / PARTS * m->blk + g % PARTS * LANES; }
INLINE int lanes_of(const rd_map *m, int g) {
	int left = m->c - g * LANES;
	return left >= LANES || m->padded ? LANES : left < 0 ? 0 : left;
}
INLINE vec load(const float *p, int lanes) {
	if (__builtin_expect(lanes == LANES, 1)) return *(const vec *)p;
	vec v = zeros();
	for (int i = 0; i < lanes; i++) v[i] = p[i];
	return v;
}
INLINE void store(float *p, vec v, int lanes) {
	if (__builtin_expect(lanes == LANES, 1)) {
		*(vec *)p = v;
		return;
	}
	for (int i = 0; i < lanes; i++) p[i] = v[i];
}

// Elements of any type as floats and back: integers are rounded to the nearest,
// halves to even. Conversions go by way of 16 bits, for GCC does those from 8
// to 32 one by one.
typedef uint8_t u8vec __attribute__((vector_size(LANES), aligned(1), may_alias));
typedef int8_t s8vec __attribute__((vector_size(LANES), aligned(1), may_alias));
typedef uint16_t u16vec __attribute__((vector_size(2 * LANES), aligned(2), may_alias));
typedef int16_t s16vec __attribute__((vector_size(2 * LANES)));
typedef uint32_t u32vec __attribute__((vector_size(4 * LANES)));

INLINE vec read_as(int type, float step, const void *p, int64_t at, int lanes) {
	if (type == RD_FLOAT32) return load((const float *)p + at, lanes);
	if (type == RD_BFLOAT16) {
		const uint16_t *h = (const uint16_t *)p + at;
		u16vec v = {0};
		if (__builtin_expect(lanes == LANES, 1))
			v = *(const u16vec *)h;
		else
			for (int i = 0; i < lanes; i++) v[i] = h[i];
		return (vec)(__builtin_convertvector(v, u32vec) << 16);
	}
	const uint8_t *q = (const uint8_t *)p + at;
	u8vec v = {0};
	if (__builtin_expect(lanes == LANES, 1))
		v = *(const u8vec *)q;
	else
		for (int i = 0; i < lanes; i++) v[i] = q[i];
	s16vec wide = type == RD_UINT8 ? __builtin_convertvector(v, s16vec) : __builtin_convertvector((s8vec)v, s16vec);
	return __builtin_convertvector(__builtin_convertvector(wide, ivec), vec) * step;
}
INLINE vec read(const rd_map *m, const void *p, int64_t at, int lanes) { return read_as(m->type, m->step, p, at, lanes); }

INLINE void write(const rd_map *m, void *p, int64_t at, vec v, int lanes) {
	if (m->type == RD_FLOAT32) {
		store((float *)p + at, v, lanes);
		return;
	}
	if (m->type == RD_BFLOAT16) {
		u32vec bits = (u32vec)v;
		bits += 0x7fff + (bits >> 16 & 1);
		u16vec h = __builtin_convertvector(bits >> 16, u16vec);
		uint16_t *d = (uint16_t *)p + at;
		if (__builtin_expect(lanes == LANES, 1))
			*(u16vec *)d = h;
		else
			for (int i = 0; i < lanes; i++) d[i] = h[i];
		return;
	}
	const float round = 0x1.8p23f; // what is beyond the point falls off
	float low = m->type == RD_UINT8 ? 0 : -128, high = m->type == RD_UINT8 ? 255 : 127;
	v = larger(v * m->inverse, all(low));
	v = -larger(-v, all(-high));
	ivec i = __builtin_convertvector((v + round) - round, ivec);
	u8vec q = __builtin_convertvector(__builtin_convertvector(i, s16vec), u8vec);
	uint8_t *d = (uint8_t *)p + at;
	if (__builtin_expect(lanes == LANES, 1))
		*(u8vec *)d = q;
	else
		for (int j = 0; j < lanes; j++) d[j] = q[j];
}

// Vectors of all channels, those beyond the last one included.
INLINE int vectors(const rd_map *m) { return blocks16(m) * PARTS; }

// Items are rows of output, of one vector of channels, g: (image, 16 channels, row, part).
typedef struct {
	int n, g, y;
} rd_row;
INLINE rd_row row_of(const rd_map *m, int64_t item) {
	int64_t nb = item / PARTS / m->h;
	return (rd_row){(int)(nb / blocks16(m)), (int)(nb % blocks16(m) * PARTS + item % PARTS), (int)(item / PARTS % m->h)};
}
INLINE int64_t at(const rd_map *m, rd_row r, int y) { return r.n * m->img + group_at(m, r.g) + (int64_t)y * m->w * m->pix; }

#endif
