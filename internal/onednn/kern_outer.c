//go:build cgo && linux && amd64 && !noonednn

#include <omp.h>
#include <string.h>

#include "kern_isa.h"

// Gradients of weights, for channels in groups of 16:
//
//	dw[o][c] += scale[o]·Σ dy[pixel][o]·x[pixel][c]
//
// Channels of x are the vectors, those of dy the rows, pixels the terms, so that
// both are read as they lie in memory and the result is written row-major.
// Each thread has channels of its own: no sum is shared between threads.

// For 512-bit vectors, outer##n: m[8][n·16] = scale[8]·Σ v[terms][8]·u[n][terms][16] + m
#define ZERO(r, a, b, c) "vpxorq %%zmm" #a ", %%zmm" #a ", %%zmm" #a "\n\tvpxorq %%zmm" #b ", %%zmm" #b ", %%zmm" #b "\n\tvpxorq %%zmm" #c ", %%zmm" #c ", %%zmm" #c "\n\t"
#define ROW1(r, a, b, c, t) "vbroadcastss 4*" #r "(%[v]), %%zmm" #t "\n\tvfmadd231ps %%zmm24, %%zmm" #t ", %%zmm" #a "\n\t"
#define ROW2(r, a, b, c, t) ROW1(r, a, b, c, t) "vfmadd231ps %%zmm25, %%zmm" #t ", %%zmm" #b "\n\t"
#define ROW3(r, a, b, c, t) ROW2(r, a, b, c, t) "vfmadd231ps %%zmm26, %%zmm" #t ", %%zmm" #c "\n\t"
#define LOAD1 "vmovups (%[u]), %%zmm24\n\t"
#define LOAD2 LOAD1 "vmovups (%[u],%[ublk]), %%zmm25\n\t"
#define LOAD3 LOAD2 "vmovups (%[u],%[ublk],2), %%zmm26\n\t"
#define STORE1(r, a, b, c) "vbroadcastss 4*" #r "(%[scale]), %%zmm24\n\tvfmadd213ps (%[m]), %%zmm24, %%zmm" #a "\n\tvmovups %%zmm" #a ", (%[m])\n\t"
#define STORE2(r, a, b, c) STORE1(r, a, b, c) "vfmadd213ps 64(%[m]), %%zmm24, %%zmm" #b "\n\tvmovups %%zmm" #b ", 64(%[m])\n\t"
#define STORE3(r, a, b, c) STORE2(r, a, b, c) "vfmadd213ps 128(%[m]), %%zmm24, %%zmm" #c "\n\tvmovups %%zmm" #c ", 128(%[m])\n\t"
#define OWN1(r) "prefetchw (%[p])\n\t"
#define OWN2(r) OWN1(r) "prefetchw 64(%[p])\n\t"
#define OWN3(r) OWN2(r) "prefetchw 128(%[p])\n\t"
#define NEXT "add %[ld], %[m]\n\t"
#define EIGHT(X)                                                                                     \
	X(0, 0, 1, 2, 27) X(1, 3, 4, 5, 28) X(2, 6, 7, 8, 29) X(3, 9, 10, 11, 30) X(4, 12, 13, 14, 27)   \
	X(5, 15, 16, 17, 28) X(6, 18, 19, 20, 29) X(7, 21, 22, 23, 30)
#define CLEAR(r, a, b, c, t) ZERO(r, a, b, c)
#define FINISH1(r, a, b, c, t) STORE1(r, a, b, c) NEXT
#define FINISH2(r, a, b, c, t) STORE2(r, a, b, c) NEXT
#define FINISH3(r, a, b, c, t) STORE3(r, a, b, c) NEXT
#define FETCH1(r, a, b, c, t) OWN1(r) "add %[ld], %[p]\n\t"
#define FETCH2(r, a, b, c, t) OWN2(r) "add %[ld], %[p]\n\t"
#define FETCH3(r, a, b, c, t) OWN3(r) "add %[ld], %[p]\n\t"

#define OUTER(n)                                                                                                           \
	AVX512 static void outer##n(const float *v, const float *u, float *m, const rd_outer_args *args) {                     \
		int64_t terms = args->terms;                                                                                       \
		const float *p = m;                                                                                                \
		__asm__ volatile(EIGHT(CLEAR) EIGHT(FETCH##n)                                                                      \
		                 "1:\n\t" LOAD##n EIGHT(ROW##n) "add $64, %[u]\n\tadd $64, %[v]\n\tdec %[terms]\n\tjnz 1b\n\t"      \
		                 EIGHT(FINISH##n)                                                                                  \
		                 : [v] "+r"(v), [u] "+r"(u), [m] "+r"(m), [p] "+r"(p), [terms] "+r"(terms)                         \
		                 : [ublk] "r"(args->ublk), [ld] "r"(args->ld), [scale] "r"(args->scale)                            \
		                 : "memory", "cc", "zmm0", "zmm1", "zmm2", "zmm3", "zmm4", "zmm5", "zmm6", "zmm7", "zmm8", "zmm9",        \
		                   "zmm10", "zmm11", "zmm12", "zmm13", "zmm14", "zmm15", "zmm16", "zmm17", "zmm18", "zmm19", "zmm20",    \
		                   "zmm21", "zmm22", "zmm23", "zmm24", "zmm25", "zmm26", "zmm27", "zmm28", "zmm29", "zmm30");          \
	}
OUTER(1) OUTER(2) OUTER(3)

// The same for 256-bit vectors: m[4][16] += scale[4]·Σ v[terms][4]·u[terms][16].
#define FOUR(X) X(0, 0, 1, 10) X(1, 2, 3, 11) X(2, 4, 5, 12) X(3, 6, 7, 13)
#define CLEAR8(r, a, b, t) "vxorps %%ymm" #a ", %%ymm" #a ", %%ymm" #a "\n\tvxorps %%ymm" #b ", %%ymm" #b ", %%ymm" #b "\n\t"
#define ROW8(r, a, b, t) "vbroadcastss 4*" #r "(%[v]), %%ymm" #t "\n\tvfmadd231ps %%ymm8, %%ymm" #t ", %%ymm" #a "\n\tvfmadd231ps %%ymm9, %%ymm" #t ", %%ymm" #b "\n\t"
#define FINISH8(r, a, b, t)                                                                                                  \
	"vbroadcastss 4*" #r "(%[scale]), %%ymm8\n\tvfmadd213ps (%[m]), %%ymm8, %%ymm" #a "\n\tvmovups %%ymm" #a ", (%[m])\n\t"    \
	"vfmadd213ps 32(%[m]), %%ymm8, %%ymm" #b "\n\tvmovups %%ymm" #b ", 32(%[m])\n\t" NEXT
AVX2 static void outer8(const float *v, const float *u, float *m, const rd_outer_args *args) {
	int64_t terms = args->terms;
	__asm__ volatile(FOUR(CLEAR8)
	                 "1:\n\tvmovups (%[u]), %%ymm8\n\tvmovups 32(%[u]), %%ymm9\n\t" FOUR(ROW8)
	                 "add $64, %[u]\n\tadd $64, %[v]\n\tdec %[terms]\n\tjnz 1b\n\t" FOUR(FINISH8)
	                 : [v] "+r"(v), [u] "+r"(u), [m] "+r"(m), [terms] "+r"(terms)
	                 : [ld] "r"(args->ld), [scale] "r"(args->scale)
	                 : "memory", "cc", "ymm0", "ymm1", "ymm2", "ymm3", "ymm4", "ymm5", "ymm6", "ymm7", "ymm8", "ymm9", "ymm10", "ymm11", "ymm12", "ymm13");
}

// A shape of tiles: rows, 16 columns at most, and the products of each number.
typedef struct {
	int rows, vectors;
	void (*outer[4])(const float *, const float *, float *, const rd_outer_args *);
} tiling;
static const tiling tiling512 = {8, 3, {0, outer1, outer2, outer3}}, tiling256 = {4, 1, {0, outer8}};

static const float ones[8] = {1, 1, 1, 1, 1, 1, 1, 1};

enum { ROWS = 8, VECTORS = 3, TERMS = 192 }; // at most

// The rows from `from` to `to` of one strip of n vectors, for some terms.
static void strip(const rd_outer_job *j, const tiling *t, int n, int64_t from, int64_t to, const float *v, const float *u, float *m, int64_t terms) {
	rd_outer_args args = {terms, j->ublk * 4, j->ld * 4, ones};
	for (int64_t o = from; o < to; o += t->rows) {
		const float *row = v + o / 16 * j->vblk + o % 16;
		float tile[ROWS][VECTORS * 16], scale[ROWS];
		int rows = to - o < t->rows ? (int)(to - o) : t->rows;
		if (j->scale)
			for (int r = 0; r < t->rows; r++) scale[r] = r < rows ? j->scale[o + r] : 0;
		args.scale = j->scale ? scale : ones;
		if (rows == t->rows) {
			args.ld = j->ld * 4;
			t->outer[n](row, u, m + o * j->ld, &args);
			continue;
		}
		// Rows that are not there lie beyond the result.
		args.ld = VECTORS * 16 * 4;
		memset(tile, 0, sizeof tile);
		t->outer[n](row, u, tile[0], &args);
		for (int r = 0; r < rows; r++)
			for (int i = 0; i < n * 16; i++) m[(o + r) * j->ld + i] += tile[r][i];
	}
}

void rd_outer_part(const rd_outer_job *j, int64_t c0, int64_t c1, int64_t o0, int64_t o1) {
	const tiling *tile = rd_isa() == RD_AVX512 ? &tiling512 : &tiling256;
	int vectors = tile->vectors;
	// Strips whose share of the result stays in the second-level cache take
	// turns with the terms; the rows of dy are then read once for all of them.
	int64_t together = (96 << 10) / ((o1 - o0) * vectors * 16);
	if (together < 1) together = 1;
	for (int64_t c = c0; c < c1; c += together * vectors) {
		int64_t end = c + together * vectors < c1 ? c + together * vectors : c1;
		for (int64_t run = 0; run < j->runs; run++)
			for (int64_t t = 0; t < j->terms; t += TERMS) {
				int64_t terms = j->terms - t < TERMS ? j->terms - t : TERMS;
				const float *v = j->v + run * j->vrun + t * 16, *u = j->u + run * j->urun + t * 16;
				for (int64_t b = c; b < end; b += vectors) {
					int n = end - b < vectors ? (int)(end - b) : vectors;
					strip(j, tile, n, o0, o1, v, u + b * j->ublk, j->m + b * 16, terms);
				}
			}
	}
}

// The gradient of a 1×1 convolution's weight, or of a matrix product's.
void rd_outer(const rd_call *c) {
	const rd_kernel *k = c->k;
	const rd_map *x = &k->in[0], *dy = &k->grad;
	int64_t pixels = (int64_t)x->h * x->w;
	rd_outer_job j = {.u = c->src[0], .v = c->src[1], .m = c->dst, .ublk = x->blk, .vblk = dy->blk, .urun = x->img, .vrun = dy->img,
	                  .ld = x->c, .terms = pixels, .runs = x->n, .scale = k->scale};
	int64_t blocks = x->c / 16, rows = dy->c;
	if (!k->sum) memset(c->dst, 0, sizeof(float) * rows * x->c);
#pragma omp parallel
	{
		int64_t team = omp_get_num_threads(), me = omp_get_thread_num();
		if (blocks >= 2 * team)
			rd_outer_part(&j, blocks * me / team, blocks * (me + 1) / team, 0, rows);
		else {
			int64_t groups = (rows + 15) / 16, from = groups * me / team * 16, to = groups * (me + 1) / team * 16;
			if (from < to && from < rows) rd_outer_part(&j, 0, blocks, from, to < rows ? to : rows);
		}
	}
}
