//go:build cgo && linux && amd64 && !noonednn

#include <float.h>
#include <string.h>

#include "kern_isa.h"

// Gradients of what works on each channel alone. Every element of a result is
// summed by one thread in one order, so that results do not depend on the
// number of threads.

// Items are groups of 16 channels: dst (+)= Σ in0 over images and pixels. Rows
// are summed apart, which keeps the rounding of long sums small.
INLINE void channel_sum(const rd_call *c, int64_t from, int64_t to) {
	const rd_map *in = &c->k->in[0];
	for (int64_t b = from; b < to; b++) {
		int lanes = lanes16(in, b), left = in->c - (int)b * 16;
		v16 total = zero16();
		for (int n = 0; n < in->n; n++) {
			const float *s = c->src[0] + n * in->img + b * in->blk;
			int64_t pixels = (int64_t)in->h * in->w;
			for (int64_t p = 0; p < pixels; p += 128) {
				int64_t end = p + 128 < pixels ? p + 128 : pixels;
				v16 sum = zero16();
				for (int64_t i = p; i < end; i++) sum += load16(s + i * in->pix, lanes);
				total += sum;
			}
		}
		float *d = c->dst + b * 16;
		int n = left < 16 ? left : 16;
		if (c->k->sum) total += load16(d, n);
		store16(d, total, n);
	}
}
KERNEL(channel_sum)

// Items are rows of a dense array: dst (+)= scale·in0.
INLINE void scaled_sum(const rd_call *c, int64_t from, int64_t to) {
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
KERNEL(scaled_sum)

// Items are planes of 16 channels: each window's dy goes to its first maximum.
INLINE void maxpool_grad(const rd_call *c, int64_t from, int64_t to) {
	const rd_kernel *k = c->k;
	const rd_map *in = &k->in[0], *dy = &k->grad, *out = &k->out;
	int64_t pixels = (int64_t)in->h * in->w;
	for (int64_t i = from; i < to; i++) {
		int n = (int)(i / blocks16(in)), b = (int)(i % blocks16(in));
		int lanes = lanes16(out, b);
		const float *x = c->src[0] + n * in->img + b * in->blk, *g = c->src[1] + n * dy->img + b * dy->blk;
		float *d = c->dst + n * out->img + b * out->blk;
		for (int64_t p = 0; p < pixels; p++) store16(d + p * out->pix, zero16(), lanes);
		for (int y = 0; y < dy->h; y++) {
			int y0 = y * k->stride - k->pad, y1 = y0 + k->kernel;
			if (y0 < 0) y0 = 0;
			if (y1 > in->h) y1 = in->h;
			for (int xx = 0; xx < dy->w; xx++) {
				int x0 = xx * k->stride - k->pad, x1 = x0 + k->kernel;
				if (x0 < 0) x0 = 0;
				if (x1 > in->w) x1 = in->w;
				v16 best = all16(-FLT_MAX), grad = load16(g + ((int64_t)y * dy->w + xx) * dy->pix, lanes);
				for (int yy = y0; yy < y1; yy++)
					for (int l = x0; l < x1; l++) best = max16(load16(x + ((int64_t)yy * in->w + l) * in->pix, lanes), best);
				m16 left = ~(m16)zero16();
				for (int yy = y0; yy < y1; yy++)
					for (int l = x0; l < x1; l++) {
						int64_t p = (int64_t)yy * in->w + l;
						v16 v = load16(x + p * in->pix, lanes);
						m16 here = (v == best) & left;
						left &= ~here;
						float *at = d + p * out->pix;
						store16(at, load16(at, lanes) + (v16)((m16)grad & here), lanes);
					}
			}
		}
		if (!k->mask) continue;
		const rd_map *mask = &k->in[k->mask];
		const float *m = c->src[k->mask] + n * mask->img + b * mask->blk;
		for (int64_t p = 0; p < pixels; p++) store16(d + p * out->pix, masked16(load16(d + p * out->pix, lanes), load16(m + p * mask->pix, lanes)), lanes);
	}
}
KERNEL(maxpool_grad)

// The first of the larger extent's positions that are copied from position i
// or a later one of the smaller.
INLINE int copies_from(int i, int small, int large) { return (int)(((int64_t)i * large + small - 1) / small); }

// Items are rows of the result.
INLINE void upsample_grad(const rd_call *c, int64_t from, int64_t to) {
	const rd_map *dy = &c->k->in[0], *out = &c->k->out;
	for (int64_t i = from; i < to; i++) {
		rd_row r = row_of(out, i);
		int lanes = lanes16(out, r.b);
		int y0 = copies_from(r.y, out->h, dy->h), y1 = copies_from(r.y + 1, out->h, dy->h);
		float *d = c->dst + at(out, r, r.y);
		for (int x = 0; x < out->w; x++) {
			int x0 = copies_from(x, out->w, dy->w), x1 = copies_from(x + 1, out->w, dy->w);
			v16 sum = zero16();
			for (int y = y0; y < y1; y++)
				for (int l = x0; l < x1; l++) sum += load16(c->src[0] + at(dy, r, y) + l * dy->pix, lanes);
			store16(d + x * out->pix, sum, lanes);
		}
	}
}
KERNEL(upsample_grad)

// Items are planes of 16 channels; in dy, images are pixels.
INLINE void mean_grad(const rd_call *c, int64_t from, int64_t to) {
	const rd_map *dy = &c->k->in[0], *out = &c->k->out;
	int64_t pixels = (int64_t)out->h * out->w;
	for (int64_t i = from; i < to; i++) {
		int n = (int)(i / blocks16(out)), b = (int)(i % blocks16(out));
		v16 v = load16(c->src[0] + n * dy->pix + b * dy->blk, lanes16(dy, b)) * all16(1.0f / (float)pixels);
		float *d = c->dst + n * out->img + b * out->blk;
		for (int64_t p = 0; p < pixels; p++) store16(d + p * out->pix, v, lanes16(out, b));
	}
}
KERNEL(mean_grad)

// Maps [R C/16 P 16] and rows [C·P/16 R 16]: an item is 16 channels of one
// region, whose elements follow each other in both orders, C a multiple of 16.
static void flatten(const rd_call *c, int64_t from, int64_t to) {
	const rd_map *in = &c->k->in[0], *out = &c->k->out;
	int blocks = in->c / 16;
	int64_t pixels = (int64_t)in->h * in->w;
	for (int64_t i = from; i < to; i++) {
		int64_t r = i / blocks, b = i % blocks;
		const float *s = c->src[0] + r * in->img + b * in->blk;
		float *d = c->dst + b * pixels * out->blk + r * out->pix;
		for (int64_t t = 0; t < 16 * pixels; t += 16)
			for (int64_t j = t; j < t + 16; j++) d[t / 16 * out->blk + j % 16] = s[j % pixels * 16 + j / pixels];
	}
}
static void unflatten(const rd_call *c, int64_t from, int64_t to) {
	const rd_map *in = &c->k->in[0], *out = &c->k->out;
	int blocks = out->c / 16;
	int64_t pixels = (int64_t)out->h * out->w;
	for (int64_t i = from; i < to; i++) {
		int64_t r = i / blocks, b = i % blocks;
		const float *s = c->src[0] + b * pixels * in->blk + r * in->pix;
		float *d = c->dst + r * out->img + b * out->blk;
		for (int64_t t = 0; t < 16 * pixels; t += 16)
			for (int64_t j = t; j < t + 16; j++) d[j % pixels * 16 + j / pixels] = s[t / 16 * in->blk + j % 16];
	}
}

size_t rd_gradient_scratch(const rd_kernel *k) {
	switch (k->kind) {
	case RD_ROIALIGN_GRAD: return rd_roialign_scratch(k);
	case RD_WINOGRAD_GRAD: return rd_winograd_grad_scratch(k);
	}
	return 0;
}

int rd_gradient(const rd_call *c) {
	const rd_kernel *k = c->k;
	const rd_map *in = &k->in[0], *out = &k->out;
	switch (k->kind) {
	case RD_CHANNEL_SUM: rd_parallel(PICK(channel_sum), c, blocks16(in)); break;
	case RD_SCALED_SUM: rd_parallel(PICK(scaled_sum), c, k->rows); break;
	case RD_MAXPOOL_GRAD: rd_parallel(PICK(maxpool_grad), c, (int64_t)in->n * blocks16(in)); break;
	case RD_UPSAMPLE_GRAD: rd_parallel(PICK(upsample_grad), c, rows(out)); break;
	case RD_MEAN_GRAD: rd_parallel(PICK(mean_grad), c, (int64_t)out->n * blocks16(out)); break;
	case RD_ROIALIGN_GRAD: rd_roialign_grad(c); break;
	case RD_ROIPOOL_GRAD: rd_roipool_grad(c); break;
	case RD_FLATTEN: rd_parallel(flatten, c, (int64_t)in->n * (in->c / 16)); break;
	case RD_REPACK_GEMM: rd_repack_gemm(c); break;
	case RD_REPACK_WINOGRAD: rd_repack_winograd(c); break;
	case RD_OUTER: rd_outer(c); break;
	case RD_WINOGRAD_GRAD: rd_winograd_grad(c); break;
	case RD_UNFLATTEN: rd_parallel(unflatten, c, (int64_t)out->n * (out->c / 16)); break;
	default: return 0;
	}
	return 1;
}
