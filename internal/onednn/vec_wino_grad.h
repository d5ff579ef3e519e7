//go:build cgo && linux && amd64 && !noonednn

// Winograd's gradient of weights in vectors of channels; kern_wino_grad.c says how
// it goes.
#ifndef RESDET_VEC_WINO_GRAD_H
#define RESDET_VEC_WINO_GRAD_H

#include "vec_tile.h"

// A: four values step apart to six, ustep apart.
INLINE void expand(const vec *d, int step, vec *w, int ustep) {
	vec ea = d[0] + A * A * d[2 * step], oa = A * d[step] + A * A * A * d[3 * step];
	vec eb = d[0] + B * B * d[2 * step], ob = B * d[step] + B * B * B * d[3 * step];
	w[0] = d[0];
	w[ustep] = ea + oa;
	w[2 * ustep] = ea - oa;
	w[3 * ustep] = eb + ob;
	w[4 * ustep] = eb - ob;
	w[5 * ustep] = d[3 * step];
}

// Gᵀ: six values step apart to three, ustep apart.
INLINE void reduce(const vec *s, int step, vec *g, int gstep) {
	const float na = 1 / (2 * A * A * (A * A - B * B)), nb = 1 / (2 * B * B * (B * B - A * A)), n0 = 1 / (A * A * B * B);
	vec sa = s[step] + s[2 * step], da = s[step] - s[2 * step];
	vec sb = s[3 * step] + s[4 * step], db = s[3 * step] - s[4 * step];
	g[0] = n0 * s[0] + na * sa + nb * sb;
	g[gstep] = na * A * da + nb * B * db;
	g[2 * gstep] = na * A * A * sa + nb * B * B * sb + s[5 * step];
}

// A dy Aᵀ of the 4×4 pixels from (y0, x0) on; those outside count as zero.
INLINE void grad_tile(const float *plane, int64_t pix, int h, int w, int y0, int x0, float *out, int64_t step) {
	vec d[16], t[24];
	for (int y = 0; y < 4; y++)
		for (int x = 0; x < 4; x++) d[y * 4 + x] = y0 + y < h && x0 + x < w ? *(const vec *)(plane + ((int64_t)(y0 + y) * w + x0 + x) * pix) : zeros();
#pragma GCC unroll 4
	for (int x = 0; x < 4; x++) expand(d + x, 4, t + x, 4);
#pragma GCC unroll 6
	for (int y = 0; y < 6; y++) {
		vec row[6];
		expand(t + y * 4, 1, row, 1);
		for (int x = 0; x < 6; x++) *(vec *)(out + (y * 6 + x) * step) = row[x];
	}
}

// Tiles [first, first+count) of 16 channels, of x or of dy.
static void wino_grad_tiles(const rd_call *c, const rd_wino_grad_plan *p, int block, int first, int count, float *v, float *w) {
	const rd_map *x = &c->k->in[0], *dy = &c->k->grad;
	int per_image = p->rows * p->cols, grad = block >= blocks16(x);
	if (grad) block -= blocks16(x);
	for (int t = 0; t < count; t++) {
		int n = (first + t) / per_image, at = (first + t) % per_image, y = at / p->cols * 4, xx = at % p->cols * 4;
		for (int l = 0; l < 16; l += LANES) {
			int64_t to = ((int64_t)block * p->count + t) * 16 + l;
			if (grad)
				grad_tile(c->src[1] + n * dy->img + block * dy->blk + l, dy->pix, dy->h, dy->w, y, xx, w + to, p->wstep);
			else
				in_tile(c->src[0] + n * x->img + block * x->blk + l, x->pix, x->h, x->w, y - 1, xx - 1, v + to, p->vstep);
		}
	}
}

// Row o of the gradient from the sums.
static void wino_grad_finish(const rd_call *c, const rd_wino_grad_plan *p, int o, const float *s) {
	const rd_kernel *k = c->k;
	int channels = k->in[0].c;
	vec scale = all(k->scale ? k->scale[o] : 1);
	for (int i = 0; i < channels; i += LANES) {
		vec d[36], t[18], g[9];
		for (int e = 0; e < 36; e++) d[e] = *(const vec *)(s + e * p->sstep + (int64_t)o * channels + i);
		for (int x = 0; x < 6; x++) reduce(d + x, 6, t + x, 6);
		for (int y = 0; y < 3; y++) reduce(t + y * 6, 1, g + y * 3, 1);
		float *dst = c->dst + ((int64_t)o * channels + i) * 9;
		for (int e = 0; e < 9; e++) {
			vec v = scale * g[e];
			for (int l = 0; l < LANES; l++) dst[l * 9 + e] = (k->sum ? dst[l * 9 + e] : 0) + v[l];
		}
	}
}

#endif
