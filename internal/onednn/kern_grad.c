//go:build cgo && linux && amd64 && !noonednn

#include "kern_isa.h"

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
	case RD_CHANNEL_SUM: rd_vectors(rd_version()->channel_sum, c, blocks16(in)); break;
	case RD_SCALED_SUM: rd_parallel(rd_version()->scaled_sum, c, k->rows); break;
	case RD_MAXPOOL_GRAD: rd_vectors(rd_version()->maxpool_grad, c, (int64_t)in->n * blocks16(in)); break;
	case RD_UPSAMPLE_GRAD: rd_vectors(rd_version()->upsample_grad, c, rows(out)); break;
	case RD_MEAN_GRAD: rd_vectors(rd_version()->mean_grad, c, (int64_t)out->n * blocks16(out)); break;
	case RD_ROIALIGN_GRAD: rd_roialign_grad(c); break;
	case RD_ROIPOOL_GRAD: rd_roipool_grad(c); break;
	case RD_FLATTEN: rd_parallel(flatten, c, (int64_t)in->n * (in->c / 16)); break;
	case RD_REPACK_GEMM: rd_repack_gemm(c); break;
	case RD_REPACK_WINOGRAD: rd_repack_winograd(c); break;
	case RD_REPACK_STRIDED: rd_repack_strided(c); break;
	case RD_OUTER: rd_outer(c); break;
	case RD_WINOGRAD_GRAD: rd_winograd_grad(c); break;
	case RD_UNFLATTEN: rd_parallel(unflatten, c, (int64_t)out->n * (out->c / 16)); break;
	default: return 0;
	}
	return 1;
}
