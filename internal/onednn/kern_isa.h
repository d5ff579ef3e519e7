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

typedef struct {
	const rd_kernel *k;
	const float *const *src;
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

// The inner product of matrix kernels, for 512-bit vectors:
//
//	m[2][n][16] = relu(Σ v[blocks][n][16]·u[blocks·16][32] + shift[32] + m)
//
// rd_products[n] is for n rows, 1 to RD_GROUP; rows lie beside each other.
enum { RD_GROUP = 14, RD_PANEL = 32 };
enum { RD_PRODUCTS_SUM = 1, RD_PRODUCTS_RELU = 2 };
typedef struct {
	int64_t blocks;       // of 16 terms
	int64_t vskip;        // bytes from the end of a block's first row to the next block: the stride less 64
	int64_t mblk;         // floats between the halves of m
	const float *shift;   // NULL: none
	int flags;            // RD_PRODUCTS_…
	// What the next products read is fetched meanwhile into the second-level
	// cache: for every four terms two lines of U and one of V, ustep and vstep
	// bytes further each time.
	const float *next_u, *next_v;
	int64_t ustep, vstep;
} rd_products_args;
typedef void (*rd_products_func)(const float *v, const float *u, float *m, const rd_products_args *p);
extern const rd_products_func rd_products[RD_GROUP + 1];

void rd_gemm(const rd_call *c);
size_t rd_gemm_scratch(const rd_kernel *k);
void rd_roialign(const rd_call *c);
void rd_roipool(const rd_call *c);
size_t rd_roialign_scratch(const rd_kernel *k);
void rd_winograd(const rd_call *c);
size_t rd_winograd_scratch(const rd_kernel *k);

#endif
