//go:build cgo && linux && amd64 && !noonednn

// One source, three instruction sets. A kernel is an always-inlined body over
// items [from, to) and KERNEL instantiates it; PICK takes the best version
// that this CPU has and that ONEDNN_MAX_CPU_ISA allows, so that a test of the
// library's AVX2 paths tests ours too.
#ifndef RESDET_KERN_ISA_H
#define RESDET_KERN_ISA_H

#include "kern.h"

#pragma GCC diagnostic ignored "-Wpsabi" // vectors are passed between inlined functions only

typedef float v16 __attribute__((vector_size(64), aligned(4), may_alias));
typedef int32_t m16 __attribute__((vector_size(64)));

#define INLINE static inline __attribute__((always_inline))

INLINE v16 zero16(void) { return (v16){0}; }
INLINE v16 all16(float x) { return (v16){x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x}; }
INLINE v16 max16(v16 a, v16 b) {
	m16 m = a > b;
	return (v16)(((m16)a & m) | ((m16)b & ~m));
}

// v where m is positive, 0 elsewhere
INLINE v16 masked16(v16 v, v16 m) { return (v16)((m16)v & (m > zero16())); }

// Lanes of channel group b that are in memory.
INLINE int lanes16(const rd_map *m, int b) {
	int left = m->c - b * 16;
	return left >= 16 || m->padded ? 16 : left;
}
INLINE v16 load16(const float *p, int lanes) {
	if (__builtin_expect(lanes == 16, 1)) return *(const v16 *)p;
	v16 v = zero16();
	for (int i = 0; i < lanes; i++) v[i] = p[i];
	return v;
}
INLINE void store16(float *p, v16 v, int lanes) {
	if (__builtin_expect(lanes == 16, 1)) {
		*(v16 *)p = v;
		return;
	}
	for (int i = 0; i < lanes; i++) p[i] = v[i];
}

// Elements of any type as floats and back: integers are rounded to the nearest,
// halves to even. Conversions go by way of 16 bits, for GCC does those from 8
// to 32 one by one.
typedef uint8_t u8x16 __attribute__((vector_size(16), aligned(1), may_alias));
typedef int8_t s8x16 __attribute__((vector_size(16), aligned(1), may_alias));
typedef uint16_t u16x16 __attribute__((vector_size(32), aligned(2), may_alias));
typedef int16_t s16x16 __attribute__((vector_size(32)));
typedef uint32_t u32x16 __attribute__((vector_size(64)));

INLINE v16 read16as(int type, float step, const void *p, int64_t at, int lanes) {
	if (type == RD_FLOAT32) return load16((const float *)p + at, lanes);
	if (type == RD_BFLOAT16) {
		const uint16_t *h = (const uint16_t *)p + at;
		u16x16 v = {0};
		if (__builtin_expect(lanes == 16, 1))
			v = *(const u16x16 *)h;
		else
			for (int i = 0; i < lanes; i++) v[i] = h[i];
		return (v16)(__builtin_convertvector(v, u32x16) << 16);
	}
	const uint8_t *q = (const uint8_t *)p + at;
	u8x16 v = {0};
	if (__builtin_expect(lanes == 16, 1))
		v = *(const u8x16 *)q;
	else
		for (int i = 0; i < lanes; i++) v[i] = q[i];
	s16x16 wide = type == RD_UINT8 ? __builtin_convertvector(v, s16x16) : __builtin_convertvector((s8x16)v, s16x16);
	return __builtin_convertvector(__builtin_convertvector(wide, m16), v16) * step;
}
INLINE v16 read16(const rd_map *m, const void *p, int64_t at, int lanes) { return read16as(m->type, m->step, p, at, lanes); }

INLINE void write16(const rd_map *m, void *p, int64_t at, v16 v, int lanes) {
	if (m->type == RD_FLOAT32) {
		store16((float *)p + at, v, lanes);
		return;
	}
	if (m->type == RD_BFLOAT16) {
		u32x16 bits = (u32x16)v;
		bits += 0x7fff + (bits >> 16 & 1);
		u16x16 h = __builtin_convertvector(bits >> 16, u16x16);
		uint16_t *d = (uint16_t *)p + at;
		if (__builtin_expect(lanes == 16, 1))
			*(u16x16 *)d = h;
		else
			for (int i = 0; i < lanes; i++) d[i] = h[i];
		return;
	}
	const float round = 0x1.8p23f; // what is beyond the point falls off
	float low = m->type == RD_UINT8 ? 0 : -128, high = m->type == RD_UINT8 ? 255 : 127;
	v = max16(v * m->inverse, all16(low));
	v = -max16(-v, all16(-high));
	m16 i = __builtin_convertvector((v + round) - round, m16);
	u8x16 q = __builtin_convertvector(__builtin_convertvector(i, s16x16), u8x16);
	uint8_t *d = (uint8_t *)p + at;
	if (__builtin_expect(lanes == 16, 1))
		*(u8x16 *)d = q;
	else
		for (int j = 0; j < lanes; j++) d[j] = q[j];
}

typedef struct {
	const rd_kernel *k;
	const float *const *src; // of any type
	float *dst;
	void *scratch;
} rd_call;

typedef void (*rd_items)(const rd_call *c, int64_t from, int64_t to);

#define AVX512 __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx2,fma")))
#define AVX2 __attribute__((target("avx2,fma")))

#define KERNEL(name)                                                                        \
	AVX512 static void name##_avx512(const rd_call *c, int64_t a, int64_t b) { name(c, a, b); } \
	AVX2 static void name##_avx2(const rd_call *c, int64_t a, int64_t b) { name(c, a, b); }     \
	static void name##_base(const rd_call *c, int64_t a, int64_t b) { name(c, a, b); }

enum { RD_BASE, RD_AVX2, RD_AVX512 };
int rd_isa(void);

#define PICK(name) (rd_isa() == RD_AVX512 ? name##_avx512 : rd_isa() == RD_AVX2 ? name##_avx2 : name##_base)

// rd_parallel runs items [0, n) in equal shares on the team.
void rd_parallel(rd_items run, const rd_call *c, int64_t n);

INLINE int blocks16(const rd_map *m) { return (m->c + 15) / 16; }

// Items are rows of output: (image, 16 channels, row).
typedef struct {
	int n, b, y;
} rd_row;
INLINE rd_row row_of(const rd_map *m, int64_t item) {
	int64_t nb = item / m->h;
	return (rd_row){(int)(nb / blocks16(m)), (int)(nb % blocks16(m)), (int)(item % m->h)};
}
INLINE int64_t rows(const rd_map *m) { return (int64_t)m->n * blocks16(m) * m->h; }
INLINE int64_t at(const rd_map *m, rd_row r, int y) {
	return r.n * m->img + r.b * m->blk + (int64_t)y * m->w * m->pix;
}

// The inner product of matrix kernels, for 512-bit vectors:
//
//	m[2][n][16] = mask(relu(Σ v[blocks][n][16]·u[blocks·16][32] + shift[32] + m))
//
// rd_products[n] is for n rows, 1 to RD_GROUP; rows lie beside each other.
enum { RD_GROUP = 14, RD_PANEL = 32 };
enum { RD_PRODUCTS_SUM = 1, RD_PRODUCTS_RELU = 2, RD_PRODUCTS_MASK = 4 };
typedef struct {
	int64_t blocks;       // of 16 terms
	int64_t vskip;        // bytes from the end of a block's first row to the next block: the stride less 64
	int64_t mblk;         // floats between the halves of m
	const float *shift;   // NULL: none
	int flags;            // RD_PRODUCTS_…
	int64_t mask;         // bytes from m to what the mask is made of
	// What the next products read is fetched meanwhile into the second-level
	// cache: for every four terms two lines of U and one of V, ustep and vstep
	// bytes further each time.
	const float *next_u, *next_v;
	int64_t ustep, vstep;
} rd_products_args;
typedef void (*rd_products_func)(const float *v, const float *u, float *m, const rd_products_args *p);
extern const rd_products_func rd_products[RD_GROUP + 1];

// A sum of outer products: m[rows][ld] += scale·Σ v·u, see kern_outer.c. Runs of
// terms that lie 16 floats apart, in groups of 16 columns or rows.
typedef struct {
	const float *u, *v;
	float *m;
	int64_t ublk, vblk; // floats from 16 columns, or rows, to the next
	int64_t urun, vrun; // floats from run to run
	int64_t ld, terms, runs;
	const float *scale; // of rows; NULL: 1
} rd_outer_job;
typedef struct {
	int64_t terms, ublk, ld; // the strides in bytes
	const float *scale;
} rd_outer_args;
// rd_outer_part computes groups of columns [c0, c1) and rows [o0, o1).
void rd_outer_part(const rd_outer_job *j, int64_t c0, int64_t c1, int64_t o0, int64_t o1);
void rd_outer(const rd_call *c);

// A source with the length of its rows (RD_SOURCE); rd_read gives n elements of
// one, from the given one on.
typedef struct {
	const float *floats;
	const uint16_t *half;
	const double *scale;
	int64_t per_row;
} rd_source;
void rd_read(const rd_source *s, int row, int64_t from, int64_t n, float *dst);

void rd_gemm(const rd_call *c);
size_t rd_gemm_scratch(const rd_kernel *k);
void rd_roialign(const rd_call *c);
void rd_roipool(const rd_call *c);
size_t rd_roialign_scratch(const rd_kernel *k);
void rd_roialign_grad(const rd_call *c);
void rd_roipool_grad(const rd_call *c);
int rd_gradient(const rd_call *c); // 0: not one of a gradient
size_t rd_gradient_scratch(const rd_kernel *k);
void rd_repack_gemm(const rd_call *c);
void rd_repack_winograd(const rd_call *c);
void rd_winograd_grad(const rd_call *c);
size_t rd_winograd_grad_scratch(const rd_kernel *k);
void rd_winograd(const rd_call *c);
size_t rd_winograd_scratch(const rd_kernel *k);

#endif
