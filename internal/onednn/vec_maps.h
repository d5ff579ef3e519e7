//go:build cgo && linux && amd64 && !noonednn

// Kernels that work on each channel of maps alone.
#ifndef RESDET_VEC_MAPS_H
#define RESDET_VEC_MAPS_H

#include <float.h>

#include "vec.h"

// mask(relu(in0·scale + shift + in1)), or times in1
static void pointwise(const rd_call *c, int64_t from, int64_t to) {
	const rd_kernel *k = c->k;
	for (int64_t i = from; i < to; i++) {
		rd_row r = row_of(&k->out, i);
		int lanes = lanes_of(&k->out, r.g), la = lanes_of(&k->in[0], r.g), lb = lanes_of(&k->in[1], r.g), lm = lanes_of(&k->in[k->mask], r.g);
		int64_t a = at(&k->in[0], r, r.y), b = at(&k->in[1], r, r.y), d = at(&k->out, r, r.y);
		const rd_map *mask = k->mask ? &k->in[k->mask] : NULL;
		int64_t m = mask ? at(mask, r, r.y) : 0;
		vec scale = k->scale ? load(k->scale + r.g * LANES, LANES) : all(1);
		vec shift = k->shift ? load(k->shift + r.g * LANES, LANES) : zeros();
		for (int x = 0; x < k->out.w; x++) {
			vec v = read(&k->in[0], c->src[0], a + x * k->in[0].pix, la);
			if (k->scale) v = v * scale + shift;
			if (k->levels > 1) {
				vec other = read(&k->in[1], c->src[1], b + x * k->in[1].pix, lb);
				v = k->mul ? v * other : v + other;
			}
			if (k->relu) v = larger(v, zeros());
			if (mask) v = masked(v, read(mask, c->src[k->mask], m + x * mask->pix, lm));
			write(&k->out, c->dst, d + x * k->out.pix, v, lanes);
		}
	}
}

static void maxpool(const rd_call *c, int64_t from, int64_t to) {
	const rd_kernel *k = c->k;
	const rd_map *in = &k->in[0], *out = &k->out;
	for (int64_t i = from; i < to; i++) {
		rd_row r = row_of(out, i);
		int lanes = lanes_of(out, r.g);
		int64_t d = at(out, r, r.y);
		int y0 = r.y * k->stride - k->pad, y1 = y0 + k->kernel;
		if (y0 < 0) y0 = 0;
		if (y1 > in->h) y1 = in->h;
		int64_t s = r.n * in->img + group_at(in, r.g);
		for (int x = 0; x < out->w; x++) {
			int x0 = x * k->stride - k->pad, x1 = x0 + k->kernel;
			if (x0 < 0) x0 = 0;
			if (x1 > in->w) x1 = in->w;
			vec best = all(-FLT_MAX);
			for (int yy = y0; yy < y1; yy++)
				for (int xx = x0; xx < x1; xx++) best = larger(read(in, c->src[0], s + ((int64_t)yy * in->w + xx) * in->pix, lanes), best);
			write(out, c->dst, d + x * out->pix, best, lanes);
		}
	}
}

static void upsample(const rd_call *c, int64_t from, int64_t to) {
	const rd_map *in = &c->k->in[0], *out = &c->k->out;
	for (int64_t i = from; i < to; i++) {
		rd_row r = row_of(out, i);
		int lanes = lanes_of(out, r.g);
		int64_t s = at(in, r, (int)((int64_t)r.y * in->h / out->h)), d = at(out, r, r.y);
		for (int x = 0; x < out->w; x++)
			write(out, c->dst, d + x * out->pix, read(in, c->src[0], s + ((int64_t)x * in->w / out->w) * in->pix, lanes), lanes);
	}
}

// Items are (image, vector of channels); in the result, images are pixels.
static void mean(const rd_call *c, int64_t from, int64_t to) {
	const rd_map *in = &c->k->in[0];
	int64_t pixels = (int64_t)in->h * in->w;
	for (int64_t i = from; i < to; i++) {
		int n = (int)(i / vectors(in)), g = (int)(i % vectors(in));
		int lanes = lanes_of(in, g);
		int64_t s = n * in->img + group_at(in, g);
		vec sum[4] = {zeros(), zeros(), zeros(), zeros()};
		int64_t p = 0;
		for (; p + 4 <= pixels; p += 4)
			for (int j = 0; j < 4; j++) sum[j] += read(in, c->src[0], s + (p + j) * in->pix, lanes);
		for (; p < pixels; p++) sum[0] += read(in, c->src[0], s + p * in->pix, lanes);
		vec v = (sum[0] + sum[1] + sum[2] + sum[3]) * all(1.0f / (float)pixels);
		write(&c->k->out, c->dst, n * c->k->out.pix + group_at(&c->k->out, g), v, lanes_of(&c->k->out, g));
	}
}

#endif
