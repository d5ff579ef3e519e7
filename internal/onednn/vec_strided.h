//go:build cgo && linux && amd64 && !noonednn

// Convolutions with a stride in vectors of channels; kern_strided.c says how they go.
#ifndef RESDET_VEC_STRIDED_H
#define RESDET_VEC_STRIDED_H

#include "kern_strided.h"
#include "vec.h"

// v[blocks][count][16] is what the pixels read of the given blocks of terms.
INLINE void gather(const rd_call *c, int64_t first, int count, int from, int blocks, float *v) {
	const rd_kernel *k = c->k;
	const rd_map *in = &k->in[0], *out = &k->out;
	int groups = in->c / 16;
	for (int r = 0; r < count; r++) {
		int64_t pixel = first + r;
		int x = (int)(pixel % out->w) * k->stride - k->pad, y = (int)(pixel / out->w % out->h) * k->stride - k->pad;
		const float *image = c->src[0] + pixel / out->w / out->h * in->img;
		for (int b = 0; b < blocks;) {
			int tap = (from + b) / groups, group = (from + b) % groups, yy = y + tap / k->kernel, xx = x + tap % k->kernel;
			int end = b + groups - group < blocks ? b + groups - group : blocks; // of this pixel
			float *d = v + ((int64_t)b * count + r) * 16;
			const float *s = image + ((int64_t)yy * in->w + xx) * in->pix + group * in->blk;
			int inside = yy >= 0 && yy < in->h && xx >= 0 && xx < in->w;
			for (; b < end; b++, d += (int64_t)count * 16, s += in->blk)
				for (int l = 0; l < 16; l += LANES) *(vec *)(d + l) = inside ? *(const vec *)(s + l) : zeros();
		}
	}
}

static void strided(const rd_call *c, int64_t first, int count, float *v, float *m) {
	const rd_kernel *k = c->k;
	const rd_map *out = &k->out;
	int all_blocks = k->kernel * k->kernel * k->in[0].c / 16, panels = out->c / RD_PANEL8, groups = (count + RD_GROUP8 - 1) / RD_GROUP8;
	rd_products_args args = {.vskip = 64 * (int64_t)count - 64, .ustep = (16 * RD_PANEL8 + groups - 1) / groups};
	for (int from = 0; from < all_blocks; from += RD_STRIDED_BLOCKS) {
		args.blocks = all_blocks - from < RD_STRIDED_BLOCKS ? all_blocks - from : RD_STRIDED_BLOCKS;
		args.flags = from > 0 ? RD_PRODUCTS_SUM : 0;
		gather(c, first, count, from, (int)args.blocks, v);
		for (int q = 0; q < panels; q++) {
			const float *u = c->src[1] + ((int64_t)q * all_blocks + from) * 16 * RD_PANEL8, *next = u + (int64_t)all_blocks * 16 * RD_PANEL8;
			for (int g = 0; g < groups; g++) {
				int a = count * g / groups, n = count * (g + 1) / groups - a;
				args.next_u = next + g * args.blocks * args.ustep;
				args.next_v = v;
				rd_products8[n](v + a * 16, u, m + ((int64_t)q * count + a) * 16, &args);
			}
		}
	}
	for (int r = 0; r < count; r++) {
		float *d = c->dst + (first + r) / out->h / out->w * out->img + (first + r) % ((int64_t)out->h * out->w) * out->pix;
		for (int q = 0; q < panels; q++, d += out->blk)
			for (int l = 0; l < 16; l += LANES) {
				vec s = *(const vec *)(m + ((int64_t)q * count + r) * 16 + l);
				if (k->shift) s += *(const vec *)(k->shift + q * 16 + l);
				*(vec *)(d + l) = k->relu ? larger(s, zeros()) : s;
			}
	}
}

#endif
