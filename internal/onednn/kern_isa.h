//go:build cgo && linux && amd64 && !noonednn

// One source, three instruction sets. What works on vectors of channels stands
// in the headers vec_*.h, of which version_avx512.c, version_avx2.c and
// version_base.c each compile one version, with vectors as wide as registers:
// wider ones GCC takes apart, and keeps in memory. rd_version is the best
// that this CPU has and that ONEDNN_MAX_CPU_ISA allows, so that a test of the
// library's AVX2 paths tests ours too.
#ifndef RESDET_KERN_ISA_H
#define RESDET_KERN_ISA_H

#include "kern.h"

#define INLINE static inline __attribute__((always_inline))

#define AVX512 __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx2,fma")))
#define AVX2 __attribute__((target("avx2,fma")))

enum { RD_BASE, RD_AVX2, RD_AVX512 };
int rd_isa(void);

typedef struct {
	const rd_kernel *k;
	const float *const *src; // of any type
	float *dst;
	void *scratch;
} rd_call;

// A kernel computes items [from, to), which each say what they are.
typedef void (*rd_items)(const rd_call *c, int64_t from, int64_t to);

// A source (RD_SOURCE) with the length of its rows.
typedef struct {
	const float *floats;
	const uint16_t *half;
	const double *scale;
	int64_t per_row;
} rd_source;

// Winograd's convolution, as vec_wino.h has it.
typedef struct {
	int tiles, rows, cols; // of all images; per image
	int block;             // tiles that a thread works on at a time
	int splits;            // parts of the output channels, made by different threads
	int chunk;             // output channels in M at a time
	int64_t vstep, mstep;  // floats from one of the 36 to the next
} rd_wino_plan;

struct rd_wino_grad_plan;

typedef struct {
	int parts; // items of each group of 16 channels
	rd_items pointwise, maxpool, upsample, mean, roialign, roipool;
	rd_items channel_sum, scaled_sum, maxpool_grad, upsample_grad, mean_grad, roialign_grad, roipool_grad;
	void (*scale)(float *f, int64_t n, double s);
	float (*magnitude)(const float *f, int64_t n);
	void (*round8)(const float *f, int64_t n, float inverse, int8_t *q);
	int panel, group; // of Winograd's products: channels, and tiles at most
	void (*wino_pack)(const rd_source *s, int oc, int c, int o, float *u);
	rd_items wino_repack;
	void (*wino_tiles)(const rd_call *c, const rd_wino_plan *p, int first, int count, int from, int to, float *v, float *m);
	void (*wino_grad_tiles)(const rd_call *c, const struct rd_wino_grad_plan *p, int block, int first, int count, float *v, float *w);
	void (*wino_grad_finish)(const rd_call *c, const struct rd_wino_grad_plan *p, int o, const float *s);
	// Pixels [first, first+count) of a convolution with a stride; see kern_strided.c.
	void (*strided)(const rd_call *c, int64_t first, int count, float *v, float *m);
} rd_version_table;
extern const rd_version_table rd_version_avx512, rd_version_avx2, rd_version_base;
const rd_version_table *rd_version(void);

// rd_parallel runs items [0, n) in equal shares on the team; rd_vectors those of
// n groups of 16 channels.
void rd_parallel(rd_items run, const rd_call *c, int64_t n);
INLINE void rd_vectors(rd_items run, const rd_call *c, int64_t n) { rd_parallel(run, c, n * rd_version()->parts); }

INLINE int blocks16(const rd_map *m) { return (m->c + 15) / 16; }
INLINE int64_t rows(const rd_map *m) { return (int64_t)m->n * blocks16(m) * m->h; }

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

// The same for 256-bit vectors, of half as many columns, m[n][16] = Σ v·u + m,
// with no flag but that of the sum: for n rows, 1 to RD_GROUP8. It fetches one
// line of U for every four terms.
enum { RD_GROUP8 = 6, RD_PANEL8 = 16 };
extern const rd_products_func rd_products8[RD_GROUP8 + 1];

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

// rd_read gives n elements of a row of a source, from the given one on.
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
void rd_strided(const rd_call *c);
size_t rd_strided_scratch(const rd_kernel *k);
void rd_repack_strided(const rd_call *c);
void rd_winograd_grad(const rd_call *c);
size_t rd_winograd_grad_scratch(const rd_kernel *k);
void rd_winograd(const rd_call *c);
size_t rd_winograd_scratch(const rd_kernel *k);

#endif
