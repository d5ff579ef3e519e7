//go:build cgo && linux && amd64 && !noonednn

#include <omp.h>

#include "kern_wino.h"

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

static wino_plan plan_of(const rd_kernel *k) {
	const rd_map *in = &k->in[0];
	wino_plan p = {.rows = (in->h + 3) / 4, .cols = (in->w + 3) / 4};
	p.tiles = in->n * p.rows * p.cols;
	// Few channels: U is small, V and M stay in a second-level cache of 2 MB.
	// Many: U passes through the cache once for each block, so blocks are large.
	int few = (int64_t)in->c * k->out.c <= 128 * 128;
	int block = (k->block ? k->block : few ? 4 : 8) * GROUP;
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

// pack_channels packs the output channels [o, o+16), READ input channels at a time.
enum { READ = 32 };
AVX512 static void pack_channels(const rd_source *s, int oc, int c, int o, float *u) {
	float rows[16][READ * 9];
	u += (int64_t)(o / PANEL * PANEL) * c + o % PANEL;
	for (int i = 0; i < c; i++, u += PANEL) {
		if (i % READ == 0)
			for (int l = 0; l < 16; l++) rd_read(s, o + l, (int64_t)i * 9, (int64_t)(c - i < READ ? c - i : READ) * 9, rows[l]);
		d16 g[9], t[18], d[36];
		for (int k = 0; k < 9; k++)
			for (int l = 0; l < 16; l++) g[k][l] = rows[l][i % READ * 9 + k];
		for (int x = 0; x < 3; x++) transform_weights(g + x, 3, t + x, 3);
		for (int y = 0; y < 6; y++) transform_weights(t + y * 3, 1, d + y * 6, 1);
		for (int k = 0; k < 36; k++) *(v16 *)(u + (int64_t)k * oc * c) = __builtin_convertvector(d[k], v16);
	}
}

// U[36][O/32][C][32] = G g Gᵀ
void rd_winograd_pack(RD_SOURCE, int oc, int c, float *u) {
	rd_source s = {floats, half, scale, (int64_t)c * 9};
#pragma omp parallel for
	for (int o = 0; o < oc; o += 16) pack_channels(&s, oc, c, o, u);
}

// The same of weights that change, in single precision: items are 16 output
// channels. Transposed, the filters are those of the gradient: channels change
// places and each filter is turned.
INLINE void transform_weights_once(const v16 *g, int step, v16 *u, int ustep) {
	const float a = A, b = B, na = 1 / (2 * a * a * (a * a - b * b)), nb = 1 / (2 * b * b * (b * b - a * a)), n0 = 1 / (a * a * b * b);
	v16 ea = (g[0] + a * a * g[2 * step]) * na, oa = a * na * g[step];
	v16 eb = (g[0] + b * b * g[2 * step]) * nb, ob = b * nb * g[step];
	u[0] = n0 * g[0];
	u[ustep] = ea + oa;
	u[2 * ustep] = ea - oa;
	u[3 * ustep] = eb + ob;
	u[4 * ustep] = eb - ob;
	u[5 * ustep] = g[2 * step];
}

AVX512 static void repack_winograd(const rd_call *call, int64_t from, int64_t to) {
	const rd_kernel *k = call->k;
	int64_t oc = k->rows, c = k->per_row;
	const float *w = call->src[0];
	for (int64_t o = from * 16; o < to * 16; o += 16) {
		float *u = call->dst + o / PANEL * PANEL * c + o % PANEL;
		for (int64_t i = 0; i < c; i++, u += PANEL) {
			v16 g[9], t[18], d[36];
			for (int l = 0; l < 16; l++) {
				const float *f = k->transposed ? w + (i * oc + o + l) * 9 : w + ((o + l) * c + i) * 9;
				float s = !k->scale ? 1 : k->scale[k->transposed ? i : o + l];
				for (int e = 0; e < 9; e++) g[e][l] = s * f[k->transposed ? 8 - e : e];
			}
			for (int x = 0; x < 3; x++) transform_weights_once(g + x, 3, t + x, 3);
			for (int y = 0; y < 6; y++) transform_weights_once(t + y * 3, 1, d + y * 6, 1);
			for (int e = 0; e < 36; e++) *(v16 *)(u + e * oc * c) = d[e];
		}
	}
}
void rd_repack_winograd(const rd_call *c) { rd_parallel(repack_winograd, c, c->k->rows / 16); }

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

// Writes the 4×4 results, or their 2×2 maxima, that lie inside the map.
AVX512 static void out_tile(const rd_kernel *k, const float *m, int64_t mstep, v16 shift, float *plane, const float *mask, int y0, int x0) {
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
			if (mask) v = masked16(v, *(const v16 *)(mask + ((int64_t)(y0 + y) * w + x0 + x) * 16));
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
				int64_t plane = n * out->img + (o + q) / 16 * out->blk;
				out_tile(k, m + (q / 16) * vblk + t * 16, p->mstep, shift, c->dst + plane, k->mask ? c->src[k->mask] + plane : NULL, at / p->cols * 4, at % p->cols * 4);
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
