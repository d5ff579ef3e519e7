//go:build cgo && linux && amd64 && !noonednn

// Gradients of what works on each channel alone. Every element of a result is
// summed by one thread in one order, so that results do not depend on the
// number of threads.
#ifndef RESDET_VEC_GRADS_H
#define RESDET_VEC_GRADS_H

#include <float.h>

#include "vec.h"

// Items are vectors of channels: dst (+)= Σ in0 over images and pixels. Runs of
// pixels are summed apart, which keeps the rounding of long sums small.
static void channel_sum(const rd_call *c, int64_t from, int64_t to) {
	const rd_map *in = &c->k->in[0];
	for (int g = (int)from; g < to; g++) {
		int lanes = lanes_of(in, g), left = in->c - g * LANES;
		vec total = zeros();
		for (int n = 0; n < in->n; n++) {
			const float *s = c->src[0] + n * in->img + group_at(in, g);
			int64_t pixels = (int64_t)in->h * in->w;
			for (int64_t p = 0; p < pixels; p += 128) {
				int64_t end = p + 128 < pixels ? p + 128 : pixels;
				vec sum = zeros();
				for (int64_t i = p; i < end; i++) sum += load(s + i * in->pix, lanes);
				total += sum;
			}
		}
		float *d = c->dst + g * LANES;
		int n = left < 0 ? 0 : left < LANES ? left : LANES;
		if (c->k->sum) total += load(d, n);
		store(d, total, n);
	}
}

// Items are rows of a dense array: dst (+)= scale·in0.
static void scaled_sum(const rd_call *c, int64_t from, int64_t to) {
	const rd_kernel *k = c->k;
	for (int64_t r = from; r < to; r++) {
		float s = k->scale ? k->scale[r] : 1, *d = c->dst + r * k->per_row;
		const float *x = c->src[0] + r * k->per_row;
		if (k->sum)
			for (int64_t i = 0; i < k->per_row; i++) d[i] += s * x[i];
		else
			for (int64_t i = 0; i < k->per_row; i++) d[i] = s * x[i];
	}
}

// Items are planes of a vector: each window's dy goes to its first maximum.
static void maxpool_grad(const rd_call *c, int64_t from, int64_t to) {
	const rd_kernel *k = c->k;
	const rd_map *in = &k->in[0], *dy = &k->grad, *out = &k->out;
	int64_t pixels = (int64_t)in->h * in->w;
	for (int64_t i = from; i < to; i++) {
		int n = (int)(i / vectors(in)), g = (int)(i % vectors(in));
		int lanes = lanes_of(out, g);
		const float *x = c->src[0] + n * in->img + group_at(in, g), *dys = c->src[1] + n * dy->img + group_at(dy, g);
		float *d = c->dst + n * out->img + group_at(out, g);
		for (int64_t p = 0; p < pixels; p++) store(d + p * out->pix, zeros(), lanes);
		for (int y = 0; y < dy->h; y++) {
			int y0 = y * k->stride - k->pad, y1 = y0 + k->kernel;
			if (y0 < 0) y0 = 0;
			if (y1 > in->h) y1 = in->h;
			for (int xx = 0; xx < dy->w; xx++) {
				int x0 = xx * k->stride - k->pad, x1 = x0 + k->kernel;
				if (x0 < 0) x0 = 0;
				if (x1 > in->w) x1 = in->w;
				vec best = all(-FLT_MAX), grad = load(dys + ((int64_t)y * dy->w + xx) * dy->pix, lanes);
				for (int yy = y0; yy < y1; yy++)
					for (int l = x0; l < x1; l++) best = larger(load(x + ((int64_t)yy * in->w + l) * in->pix, lanes), best);
				ivec left = ~(ivec)zeros();
				for (int yy = y0; yy < y1; yy++)
					for (int l = x0; l < x1; l++) {
						int64_t p = (int64_t)yy * in->w + l;
						vec v = load(x + p * in->pix, lanes);
						ivec here = (v == best) & left;
						left &= ~here;
						float *at = d + p * out->pix;
						store(at, load(at, lanes) + (vec)((ivec)grad & here), lanes);
					}
			}
		}
		if (!k->mask) continue;
		const rd_map *mask = &k->in[k->mask];
		const float *m = c->src[k->mask] + n * mask->img + group_at(mask, g);
		for (int64_t p = 0; p < pixels; p++) store(d + p * out->pix, masked(load(d + p * out->pix, lanes), load(m + p * mask->pix, lanes)), lanes);
	}
}

// The first of the larger extent's positions that are copied from position i
// or a later one of the smaller.
INLINE int copies_from(int i, int small, int large) { return (int)(((int64_t)i * large + small - 1) / small); }

// Items are rows of the result.
static void upsample_grad(const rd_call *c, int64_t from, int64_t to) {
	const rd_map *dy = &c->k->in[0], *out = &c->k->out;
	for (int64_t i = from; i < to; i++) {
		rd_row r = row_of(out, i);
		int lanes = lanes_of(out, r.g);
		int y0 = copies_from(r.y, out->h, dy->h), y1 = copies_from(r.y + 1, out->h, dy->h);
		float *d = c->dst + at(out, r, r.y);
		for (int x = 0; x < out->w; x++) {
			int x0 = copies_from(x, out->w, dy->w), x1 = copies_from(x + 1, out->w, dy->w);
			vec sum = zeros();
			for (int y = y0; y < y1; y++)
				for (int l = x0; l < x1; l++) sum += load(c->src[0] + at(dy, r, y) + l * dy->pix, lanes);
			store(d + x * out->pix, sum, lanes);
		}
	}
}

// Items are planes of a vector; in dy, images are pixels.
static void mean_grad(const rd_call *c, int64_t from, int64_t to) {
	const rd_map *dy = &c->k->in[0], *out = &c->k->out;
	int64_t pixels = (int64_t)out->h * out->w;
	for (int64_t i = from; i < to; i++) {
		int n = (int)(i / vectors(out)), g = (int)(i % vectors(out));
		vec v = load(c->src[0] + n * dy->pix + group_at(dy, g), lanes_of(dy, g)) * all(1.0f / (float)pixels);
		float *d = c->dst + n * out->img + group_at(out, g);
		for (int64_t p = 0; p < pixels; p++) store(d + p * out->pix, v, lanes_of(out, g));
	}
}

#endif
