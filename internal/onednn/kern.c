//go:build cgo && linux && amd64 && !noonednn

#include <float.h>
#include <omp.h>

#include <oneapi/dnnl/dnnl.h>

#include "kern_isa.h"

int rd_isa(void) {
	static int isa = -1;
	if (isa < 0) {
		int allowed = dnnl_get_effective_cpu_isa();
		int have = RD_BASE;
		if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && (allowed & dnnl_cpu_isa_avx2) == dnnl_cpu_isa_avx2) have = RD_AVX2;
		if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
		    __builtin_cpu_supports("avx512dq") && (allowed & dnnl_cpu_isa_avx512_core) == dnnl_cpu_isa_avx512_core)
			have = RD_AVX512;
		isa = have;
	}
	return isa;
}

void rd_parallel(rd_items run, const rd_call *c, int64_t n) {
#pragma omp parallel if (n > 1)
	{
		int64_t team = omp_get_num_threads(), me = omp_get_thread_num();
		int64_t from = n * me / team, to = n * (me + 1) / team;
		if (from < to) run(c, from, to);
	}
}

// mask(relu(in0·scale + shift + in1)), or times in1
INLINE void pointwise(const rd_call *c, int64_t from, int64_t to) {
	const rd_kernel *k = c->k;
	for (int64_t i = from; i < to; i++) {
		rd_row r = row_of(&k->out, i);
		int lanes = lanes16(&k->out, r.b), la = lanes16(&k->in[0], r.b), lb = lanes16(&k->in[1], r.b), lm = lanes16(&k->in[k->mask], r.b);
		int64_t a = at(&k->in[0], r, r.y), b = at(&k->in[1], r, r.y), d = at(&k->out, r, r.y);
		const rd_map *mask = k->mask ? &k->in[k->mask] : NULL;
		int64_t m = mask ? at(mask, r, r.y) : 0;
		v16 scale = k->scale ? load16(k->scale + r.b * 16, 16) : all16(1);
		v16 shift = k->shift ? load16(k->shift + r.b * 16, 16) : zero16();
		for (int x = 0; x < k->out.w; x++) {
			v16 v = read16(&k->in[0], c->src[0], a + x * k->in[0].pix, la);
			if (k->scale) v = v * scale + shift;
			if (k->levels > 1) {
				v16 other = read16(&k->in[1], c->src[1], b + x * k->in[1].pix, lb);
				v = k->mul ? v * other : v + other;
			}
			if (k->relu) v = max16(v, zero16());
			if (mask) v = masked16(v, read16(mask, c->src[k->mask], m + x * mask->pix, lm));
			write16(&k->out, c->dst, d + x * k->out.pix, v, lanes);
		}
	}
}
KERNEL(pointwise)

INLINE void maxpool(const rd_call *c, int64_t from, int64_t to) {
	const rd_kernel *k = c->k;
	const rd_map *in = &k->in[0], *out = &k->out;
	for (int64_t i = from; i < to; i++) {
		rd_row r = row_of(out, i);
		int lanes = lanes16(out, r.b);
		int64_t d = at(out, r, r.y);
		int y0 = r.y * k->stride - k->pad, y1 = y0 + k->kernel;
		if (y0 < 0) y0 = 0;
		if (y1 > in->h) y1 = in->h;
		int64_t s = r.n * in->img + r.b * in->blk;
		for (int x = 0; x < out->w; x++) {
			int x0 = x * k->stride - k->pad, x1 = x0 + k->kernel;
			if (x0 < 0) x0 = 0;
			if (x1 > in->w) x1 = in->w;
			v16 best = all16(-FLT_MAX);
			for (int yy = y0; yy < y1; yy++)
				for (int xx = x0; xx < x1; xx++) best = max16(read16(in, c->src[0], s + ((int64_t)yy * in->w + xx) * in->pix, lanes), best);
			write16(out, c->dst, d + x * out->pix, best, lanes);
		}
	}
}
KERNEL(maxpool)

INLINE void upsample(const rd_call *c, int64_t from, int64_t to) {
	const rd_map *in = &c->k->in[0], *out = &c->k->out;
	for (int64_t i = from; i < to; i++) {
		rd_row r = row_of(out, i);
		int lanes = lanes16(out, r.b);
		int64_t s = at(in, r, (int)((int64_t)r.y * in->h / out->h)), d = at(out, r, r.y);
		for (int x = 0; x < out->w; x++)
			write16(out, c->dst, d + x * out->pix, read16(in, c->src[0], s + ((int64_t)x * in->w / out->w) * in->pix, lanes), lanes);
	}
}
KERNEL(upsample)

// Items are (image, 16 channels); in the result, images are pixels.
INLINE void mean(const rd_call *c, int64_t from, int64_t to) {
	const rd_map *in = &c->k->in[0];
	int64_t pixels = (int64_t)in->h * in->w;
	for (int64_t i = from; i < to; i++) {
		int n = (int)(i / blocks16(in)), b = (int)(i % blocks16(in));
		int lanes = lanes16(in, b);
		int64_t s = n * in->img + b * in->blk;
		v16 sum[4] = {zero16(), zero16(), zero16(), zero16()};
		int64_t p = 0;
		for (; p + 4 <= pixels; p += 4)
			for (int j = 0; j < 4; j++) sum[j] += read16(in, c->src[0], s + (p + j) * in->pix, lanes);
		for (; p < pixels; p++) sum[0] += read16(in, c->src[0], s + p * in->pix, lanes);
		v16 v = (sum[0] + sum[1] + sum[2] + sum[3]) * all16(1.0f / (float)pixels);
		write16(&c->k->out, c->dst, n * c->k->out.pix + b * c->k->out.blk, v, lanes16(&c->k->out, b));
	}
}
KERNEL(mean)

size_t rd_kernel_scratch(const rd_kernel *k) {
	switch (k->kind) {
	case RD_ROIALIGN: return rd_roialign_scratch(k);
	case RD_WINOGRAD: return rd_winograd_scratch(k);
	case RD_GEMM: return rd_gemm_scratch(k);
	}
	return rd_gradient_scratch(k);
}

void rd_kernel_run(const rd_kernel *k, const float *const *src, float *dst, void *scratch) {
	rd_call c = {k, src, dst, scratch};
	if (rd_gradient(&c)) return;
	switch (k->kind) {
	case RD_POINTWISE: rd_parallel(PICK(pointwise), &c, rows(&k->out)); break;
	case RD_MAXPOOL: rd_parallel(PICK(maxpool), &c, rows(&k->out)); break;
	case RD_UPSAMPLE: rd_parallel(PICK(upsample), &c, rows(&k->out)); break;
	case RD_MEAN: rd_parallel(PICK(mean), &c, (int64_t)k->in[0].n * blocks16(&k->in[0])); break;
	case RD_ROIALIGN: rd_roialign(&c); break;
	case RD_ROIPOOL: rd_roipool(&c); break;
	case RD_WINOGRAD: rd_winograd(&c); break;
	case RD_GEMM: rd_gemm(&c); break;
	}
}
