//go:build cgo && linux && amd64 && !noonednn

#include <omp.h>

#include "kern_isa.h"

// 3×3 convolution by Winograd's F(4×4, 3×3), for nChw16c and 512-bit vectors:
//
//	6×6 pixels ─Bᵀ·B▶ V[36][C/16][tiles][16] ─×U[36]▶ M[36][O/16][tiles][16] ─Aᵀ·A▶ 4×4 pixels
//
// 36 products instead of 144. Each thread works on one block of tiles at a
// time, all three stages after each other, so that V and M stay in its cache;
// the library's version keeps them for the whole image, which for the first
// layers of VGG-16 is 700 MB and memory-bound. The points 0, ±5/8, ±3/2, ∞ are
// those with which the library loses least precision.

typedef struct {
	int tiles, rows, cols; // of all images; per image
	int block;             // tiles that a thread works on at a time
	int splits;            // parts of the output channels, made by different threads
	int chunk;             // output channels in M at a time
	int64_t vstep, mstep;  // floats from one of the 36 to the next
} wino_plan;

enum { PANEL = RD_PANEL, GROUP = RD_GROUP };

static int64_t odd_lines(int64_t floats) { return ((floats + 15) / 16 | 1) * 16; } // not all in one set of the cache

static wino_plan plan_of(const rd_kernel *k) {
	const rd_map *in = &k->in[0];
	wino_plan p = {.rows = (in->h + 3) / 4, .cols = (in->w + 3) / 4};
	p.tiles = in->n * p.rows * p.cols;
	// Few channels: U is small, V and M stay in a second-level cache of 2 MB.
	// Many: U passes through the cache once for each block, so blocks are large.
	int few = (int64_t)in->c * k->out.c <= 128 * 128;
	int block = few ? 4 * GROUP : 8 * GROUP;
	// Too few tiles for all threads: share the channels out too, which repeats
	// the first stage, about a tenth of the work.
	p.splits = 1;
	while (p.tiles * p.splits < 2 * GROUP * k->threads && 2 * p.splits <= k->threads && k->out.c % (2 * p.splits * PANEL) == 0) p.splits *= 2;
	int part = k->out.c / p.splits;
	p.chunk = few && part > 64 && part % 64 == 0 ? 64 : part;
	int workers = k->threads / p.splits;
	int blocks = (p.tiles + block - 1) / block;
	blocks = (blocks + workers - 1) / workers * workers;
	p.block = (p.tiles + blocks - 1) / blocks;
	p.vstep = odd_lines((int64_t)p.block * in->c);
	p.mstep = odd_lines((int64_t)p.block * p.chunk);
	return p;
}

static size_t thread_bytes(const wino_plan *p) { return 36 * sizeof(float) * (p->vstep + p->mstep); }

size_t rd_winograd_scratch(const rd_kernel *k) {
	wino_plan p = plan_of(k);
	return thread_bytes(&p) * k->threads;
}

#define A 0.625f
#define B 1.5f

size_t rd_winograd_weights(int oc, int c) { return sizeof(float) * 36 * oc * c; }

// G·g of three values step apart, for 16 output channels, in double precision:
// weights are packed once.
typedef double d16 __attribute__((vector_size(128)));

INLINE void transform_weights(const d16 *g, int step, d16 *u, int ustep) {
	const double a = A, b = B, na = 1 / (2 * a * a * (a * a - b * b)), nb = 1 / (2 * b * b * (b * b - a * a)), n0 = 1 / (a * a * b * b);
	d16 ea = (g[0] + a * a * g[2 * step]) * na, oa = a * na * g[step];
	d16 eb = (g[0] + b * b * g[2 * step]) * nb, ob = b * nb * g[step];
	u[0] = n0 * g[0];
	u[ustep] = ea + oa;
	u[2 * ustep] = ea - oa;
	u[3 * ustep] = eb + ob;
	u[4 * ustep] = eb - ob;
	u[5 * ustep] = g[2 * step];
}

// pack_channels packs the output channels [o, o+16).
AVX512 static void pack_channels(const float *weights, int oc, int c, int o, float *u) {
	u += (int64_t)(o / PANEL * PANEL) * c + o % PANEL;
	for (int i = 0; i < c; i++, u += PANEL) {
		d16 g[9], t[18], d[36];
		for (int k = 0; k < 9; k++)
			for (int l = 0; l < 16; l++) g[k][l] = weights[((int64_t)(o + l) * c + i) * 9 + k];
		for (int x = 0; x < 3; x++) transform_weights(g + x, 3, t + x, 3);
		for (int y = 0; y < 6; y++) transform_weights(t + y * 3, 1, d + y * 6, 1);
		for (int k = 0; k < 36; k++) *(v16 *)(u + (int64_t)k * oc * c) = __builtin_convertvector(d[k], v16);
	}
}

// U[36][O/32][C][32] = G g Gᵀ
void rd_winograd_pack(const float *weights, int oc, int c, float *u) {
#pragma omp parallel for
	for (int o = 0; o < oc; o += 16) pack_channels(weights, oc, c, o, u);
}

// Bᵀ of six values that lie step apart, in place.
INLINE void transform_in(v16 *d, int step) {
	v16 d0 = d[0], d1 = d[step], d2 = d[2 * step], d3 = d[3 * step], d4 = d[4 * step], d5 = d[5 * step];
	v16 ea = d4 - B * B * d2, oa = d3 - B * B * d1;
	v16 eb = d4 - A * A * d2, ob = d3 - A * A * d1;
	d[0] = A * A * B * B * d0 - (A * A + B * B) * d2 + d4;
	d[step] = ea + A * oa;
	d[2 * step] = ea - A * oa;
	d[3 * step] = eb + B * ob;
	d[4 * step] = eb - B * ob;
	d[5 * step] = A * A * B * B * d1 - (A * A + B * B) * d3 + d5;
}

// Aᵀ: six values step apart to four, in place.
INLINE void transform_out(v16 *m, int step) {
	v16 m0 = m[0], m5 = m[5 * step];
	v16 sa = m[step] + m[2 * step], da = m[step] - m[2 * step];
	v16 sb = m[3 * step] + m[4 * step], db = m[3 * step] - m[4 * step];
	m[0] = m0 + sa + sb;
	m[step] = A * da + B * db;
	m[2 * step] = A * A * sa + B * B * sb;
	m[3 * step] = A * A * A * da + B * B * B * db + m5;
}

AVX512 static void in_tile(const float *plane, int h, int w, int y0, int x0, float *v, int64_t vstep) {
	v16 d[36];
	if (y0 >= 0 && x0 >= 0 && y0 + 6 <= h && x0 + 6 <= w) {
		for (int y = 0; y < 6; y++) // what the next tile but one reads anew
			for (int x = 10; x < 14; x++) __builtin_prefetch(plane + ((int64_t)(y0 + y) * w + x0 + x) * 16, 0, 3);
		for (int y = 0; y < 6; y++)
			for (int x = 0; x < 6; x++) d[y * 6 + x] = *(const v16 *)(plane + ((int64_t)(y0 + y) * w + x0 + x) * 16);
	} else {
		for (int y = 0; y < 6; y++)
			for (int x = 0; x < 6; x++) {
				int yy = y0 + y, xx = x0 + x;
				d[y * 6 + x] = yy >= 0 && yy < h && xx >= 0 && xx < w ? *(const v16 *)(plane + ((int64_t)yy * w + xx) * 16) : zero16();
			}
	}
#pragma GCC unroll 6
	for (int x = 0; x < 6; x++) transform_in(d + x, 6);
#pragma GCC unroll 6
	for (int y = 0; y < 6; y++) {
		transform_in(d + y * 6, 1);
		for (int x = 0; x < 6; x++) *(v16 *)(v + (y * 6 + x) * vstep) = d[y * 6 + x];
	}
}

// Writes the 4×4 results, or their 2×2 maxima, that lie inside the map.
AVX512 static void out_tile(const rd_kernel *k, const float *m, int64_t mstep, v16 shift, float *plane, int y0, int x0) {
	v16 d[36];
	for (int i = 0; i < 36; i++) d[i] = *(const v16 *)(m + i * mstep);
#pragma GCC unroll 6
	for (int x = 0; x < 6; x++) transform_out(d + x, 6);
	int h = k->out.h, w = k->out.w, pool = k->pool;
	if (pool) y0 /= 2, x0 /= 2;
#pragma GCC unroll 4
	for (int y = 0; y < 4; y++) {
		transform_out(d + y * 6, 1);
		for (int x = 0; x < 4; x++) d[y * 6 + x] += shift;
	}
	if (pool) {
		for (int y = 0; y < 2 && y0 + y < h; y++)
			for (int x = 0; x < 2 && x0 + x < w; x++) {
				v16 *q = d + y * 12 + x * 2;
				v16 v = max16(max16(q[0], q[1]), max16(q[6], q[7]));
				if (k->relu) v = max16(v, zero16());
				*(v16 *)(plane + ((int64_t)(y0 + y) * w + x0 + x) * 16) = v;
			}
		return;
	}
	for (int y = 0; y < 4 && y0 + y < h; y++)
		for (int x = 0; x < 4 && x0 + x < w; x++) {
			v16 *at = (v16 *)(plane + ((int64_t)(y0 + y) * w + x0 + x) * 16);
			v16 v = d[y * 6 + x];
			if (k->sum) v += *at;
			if (k->relu) v = max16(v, zero16());
			*at = v;
		}
}

// All stages for tiles [first, first+count) and output channels [from, to).
AVX512 static void tile_block(const rd_call *c, const wino_plan *p, int first, int count, int from, int to, float *v, float *m) {
	const rd_kernel *k = c->k;
	const rd_map *in = &k->in[0], *out = &k->out;
	int64_t vblk = (int64_t)p->block * 16;
	int blocks = in->c / 16, per_image = p->rows * p->cols;
	for (int b = 0; b < blocks; b++)
		for (int t = 0; t < count; t++) {
			int n = (first + t) / per_image, at = (first + t) % per_image;
			in_tile(c->src[0] + n * in->img + b * in->blk, in->h, in->w, at / p->cols * 4 - 1, at % p->cols * 4 - 1, v + b * vblk + t * 16, p->vstep);
		}
	int groups = (count + GROUP - 1) / GROUP, panels = p->chunk / PANEL;
	// A group fetches its share of the next panel of U, which is C·128 bytes, in
	// C/4 parts; all groups and panels together fetch the next of the 36 V.
	rd_products_args args = {.blocks = blocks, .vskip = 4 * vblk - 64, .mblk = vblk, .ustep = (512 + groups - 1) / groups,
	                         .vstep = ((int64_t)count * 16 + panels * groups - 1) / (panels * groups)};
	for (int o = from; o < to; o += p->chunk) {
		for (int i = 0; i < 36; i++)
			for (int q = 0; q < p->chunk; q += PANEL) {
				const float *u = c->src[1] + ((int64_t)i * out->c + o + q) * in->c;
				for (int g = 0; g < groups; g++) {
					int a = count * g / groups, n = count * (g + 1) / groups - a;
					int64_t part = (int64_t)in->c / 4;
					args.next_u = u + in->c * PANEL + g * part * args.ustep / 4;
					args.next_v = v + (i + 1) * p->vstep + (q / PANEL * groups + g) * part * args.vstep / 4;
					rd_products[n](v + i * p->vstep + a * 16, u, m + i * p->mstep + (q / 16) * vblk + a * 16, &args);
				}
			}
		for (int q = 0; q < p->chunk; q += 16) {
			v16 shift = k->shift ? load16(k->shift + o + q, 16) : zero16();
			for (int t = 0; t < count; t++) {
				int n = (first + t) / per_image, at = (first + t) % per_image;
				out_tile(k, m + (q / 16) * vblk + t * 16, p->mstep, shift, c->dst + n * out->img + (o + q) / 16 * out->blk, at / p->cols * 4, at % p->cols * 4);
			}
		}
	}
}

void rd_winograd(const rd_call *c) {
	wino_plan p = plan_of(c->k);
	int blocks = (p.tiles + p.block - 1) / p.block;
#pragma omp parallel
	{
		float *v = (float *)((char *)c->scratch + omp_get_thread_num() * thread_bytes(&p)), *m = v + 36 * p.vstep;
#pragma omp for schedule(dynamic)
		for (int i = 0; i < blocks * p.splits; i++) {
			int first = i / p.splits * p.block, left = p.tiles - first, part = c->k->out.c / p.splits, from = i % p.splits * part;
			if (left > 0) tile_block(c, &p, first, left < p.block ? left : p.block, from, from + part, v, m);
		}
	}
}
