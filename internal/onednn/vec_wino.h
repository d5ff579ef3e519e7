//go:build cgo && linux && amd64 && !noonednn

// Winograd's convolution in vectors of channels; kern_wino.c says how it goes.
#ifndef RESDET_VEC_WINO_H
#define RESDET_VEC_WINO_H

#include "vec_tile.h"

#if LANES == 16
enum { PANEL = RD_PANEL, GROUP = RD_GROUP };
#define PRODUCTS rd_products
#else
enum { PANEL = RD_PANEL8, GROUP = RD_GROUP8 };
#define PRODUCTS rd_products8
#endif

// G·g of three values step apart: in double precision for weights that are
// packed once, in single precision for those that change.
#define TRANSFORM_WEIGHTS(name, type, real)                                                                                                                  \
	INLINE void name(const type *g, int step, type *u, int ustep) {                                                                                            \
		const real a = A, b = B, na = 1 / (2 * a * a * (a * a - b * b)), nb = 1 / (2 * b * b * (b * b - a * a)), n0 = 1 / (a * a * b * b);                      \
		type ea = (g[0] + a * a * g[2 * step]) * na, oa = a * na * g[step];                                                                                     \
		type eb = (g[0] + b * b * g[2 * step]) * nb, ob = b * nb * g[step];                                                                                     \
		u[0] = n0 * g[0];                                                                                                                                       \
		u[ustep] = ea + oa;                                                                                                                                     \
		u[2 * ustep] = ea - oa;                                                                                                                                 \
		u[3 * ustep] = eb + ob;                                                                                                                                 \
		u[4 * ustep] = eb - ob;                                                                                                                                 \
		u[5 * ustep] = g[2 * step];                                                                                                                             \
	}
typedef double dvec __attribute__((vector_size(8 * LANES)));
TRANSFORM_WEIGHTS(transform_doubles, dvec, double)
TRANSFORM_WEIGHTS(transform_floats, vec, float)

// wino_pack packs the output channels [o, o+LANES), READ input channels at a time.
enum { READ = 32 };
static void wino_pack(const rd_source *s, int oc, int c, int o, float *u) {
	float rows[LANES][READ * 9];
	u += (int64_t)(o / PANEL * PANEL) * c + o % PANEL;
	for (int i = 0; i < c; i++, u += PANEL) {
		if (i % READ == 0)
			for (int l = 0; l < LANES; l++) rd_read(s, o + l, (int64_t)i * 9, (int64_t)(c - i < READ ? c - i : READ) * 9, rows[l]);
		dvec g[9], t[18], d[36];
		for (int k = 0; k < 9; k++)
			for (int l = 0; l < LANES; l++) g[k][l] = rows[l][i % READ * 9 + k];
		for (int x = 0; x < 3; x++) transform_doubles(g + x, 3, t + x, 3);
		for (int y = 0; y < 6; y++) transform_doubles(t + y * 3, 1, d + y * 6, 1);
		for (int k = 0; k < 36; k++) *(vec *)(u + (int64_t)k * oc * c) = __builtin_convertvector(d[k], vec);
	}
}

// Items are vectors of output channels. Transposed, the filters are those of the
// gradient: channels change places and each filter is turned.
static void wino_repack(const rd_call *call, int64_t from, int64_t to) {
	const rd_kernel *k = call->k;
	int64_t oc = k->rows, c = k->per_row;
	const float *w = call->src[0];
	for (int64_t o = from * LANES; o < to * LANES; o += LANES) {
		float *u = call->dst + o / PANEL * PANEL * c + o % PANEL;
		for (int64_t i = 0; i < c; i++, u += PANEL) {
			vec g[9], t[18], d[36];
			for (int l = 0; l < LANES; l++) {
				const float *f = k->transposed ? w + (i * oc + o + l) * 9 : w + ((o + l) * c + i) * 9;
				float s = !k->scale ? 1 : k->scale[k->transposed ? i : o + l];
				for (int e = 0; e < 9; e++) g[e][l] = s * f[k->transposed ? 8 - e : e];
			}
			for (int x = 0; x < 3; x++) transform_floats(g + x, 3, t + x, 3);
			for (int y = 0; y < 6; y++) transform_floats(t + y * 3, 1, d + y * 6, 1);
			for (int e = 0; e < 36; e++) *(vec *)(u + e * oc * c) = d[e];
		}
	}
}

// Aᵀ: six values step apart to four, in place.
INLINE void transform_out(vec *m, int step) {
	vec m0 = m[0], m5 = m[5 * step];
	vec sa = m[step] + m[2 * step], da = m[step] - m[2 * step];
	vec sb = m[3 * step] + m[4 * step], db = m[3 * step] - m[4 * step];
	m[0] = m0 + sa + sb;
	m[step] = A * da + B * db;
	m[2 * step] = A * A * sa + B * B * sb;
	m[3 * step] = A * A * A * da + B * B * B * db + m5;
}

// Writes the 4×4 results, or their 2×2 maxima, that lie inside the map.
INLINE void out_tile(const rd_kernel *k, const float *m, int64_t mstep, vec shift, float *plane, const float *mask, int y0, int x0) {
	vec d[36];
	for (int i = 0; i < 36; i++) d[i] = *(const vec *)(m + i * mstep);
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
				vec *q = d + y * 12 + x * 2;
				vec v = larger(larger(q[0], q[1]), larger(q[6], q[7]));
				if (k->relu) v = larger(v, zeros());
				*(vec *)(plane + ((int64_t)(y0 + y) * w + x0 + x) * k->out.pix) = v;
			}
		return;
	}
	for (int y = 0; y < 4 && y0 + y < h; y++)
		for (int x = 0; x < 4 && x0 + x < w; x++) {
			vec *at = (vec *)(plane + ((int64_t)(y0 + y) * w + x0 + x) * k->out.pix);
			vec v = d[y * 6 + x];
			if (k->sum) v += *at;
			if (k->relu) v = larger(v, zeros());
			if (mask) v = masked(v, *(const vec *)(mask + ((int64_t)(y0 + y) * w + x0 + x) * k->out.pix));
			*at = v;
		}
}

// All stages for tiles [first, first+count) and output channels [from, to). The
// channels of a pixel follow each other in nhwc: tiles are outermost there.
static void wino_tiles(const rd_call *c, const rd_wino_plan *p, int first, int count, int from, int to, float *v, float *m) {
	const rd_kernel *k = c->k;
	const rd_map *in = &k->in[0], *out = &k->out;
	int64_t vblk = (int64_t)p->block * 16;
	int blocks = in->c / 16, per_image = p->rows * p->cols, nhwc = in->blk == 16;
	for (int i = 0; i < blocks * count; i++) {
		int b = nhwc ? i % blocks : i / count, t = nhwc ? i / blocks : i % count;
		int n = (first + t) / per_image, at = (first + t) % per_image;
		for (int l = 0; l < 16; l += LANES)
			in_tile(c->src[0] + n * in->img + b * in->blk + l, in->pix, in->h, in->w, at / p->cols * 4 - 1, at % p->cols * 4 - 1, v + b * vblk + t * 16 + l, p->vstep);
	}
	int groups = (count + GROUP - 1) / GROUP, panels = p->chunk / PANEL;
	// A group fetches its share of the next panel of U, which is C·PANEL floats, in
	// C/4 parts; all groups and panels together fetch the next of the 36 V.
	rd_products_args args = {.blocks = blocks, .vskip = 4 * vblk - 64, .mblk = vblk, .ustep = (16 * PANEL + groups - 1) / groups,
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
					PRODUCTS[n](v + i * p->vstep + a * 16, u, m + i * p->mstep + (q / 16) * vblk + a * 16, &args);
				}
			}
		int outs = p->chunk / 16;
		for (int i = 0; i < outs * count; i++) {
			int q = nhwc ? i % outs : i / count, t = nhwc ? i / outs : i % count;
			int n = (first + t) / per_image, at = (first + t) % per_image;
			for (int l = 0; l < 16; l += LANES) {
				vec shift = k->shift ? load(k->shift + o + q * 16 + l, LANES) : zeros();
				int64_t plane = n * out->img + (o / 16 + q) * out->blk + l;
				out_tile(k, m + q * vblk + t * 16 + l, p->mstep, shift, c->dst + plane, k->mask ? c->src[k->mask] + plane : NULL, at / p->cols * 4, at % p->cols * 4);
			}
		}
	}
}

#endif
