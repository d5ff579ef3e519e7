//go:build cgo && linux && amd64 && !noonednn

#include <omp.h>
#include <string.h>

#include "kern_isa.h"

// 1×1 convolutions and matrix products, for 512-bit vectors and channels in
// groups of 16 (nChw16c, or [C/16][N][16] for rows):
//
//	out[pixel][oc] = mask(relu(Σ in[pixel·stride][c]·U[c][oc] + shift + out))
//
// Pixels beside each other are the rows of the inner product as they lie in
// memory, so nothing is copied but at stride 2. An item is a block of pixels
// and a part of the output channels; it goes through the terms 512 at a time,
// so that its share of the input stays in the second-level cache while U
// passes by.

enum { TERMS = 512 / 16, BLOCK = 12, CHUNK = 16 }; // blocks of terms; groups of rows; panels of output channels

typedef struct {
	int per_image, groups; // groups of up to 14 rows, in an image and in all
	int blocks, parts;     // items: blocks of groups × parts of the panels
	int panels;
} gemm_plan;

static gemm_plan plan_of(const rd_kernel *k) {
	const rd_map *out = &k->out;
	gemm_plan p;
	p.per_image = (out->h * out->w + RD_GROUP - 1) / RD_GROUP;
	p.groups = out->n * p.per_image;
	p.panels = (out->c + RD_PANEL - 1) / RD_PANEL;
	// With many terms a block of rows is read for every 512 of the channels, and
	// all of U for every block: take them larger.
	int block = k->in[0].c > 4 * 16 * TERMS ? 2 * BLOCK : BLOCK;
	p.blocks = (p.groups + block - 1) / block;
	p.parts = (p.panels + CHUNK - 1) / CHUNK;
	if (p.blocks >= 2 * k->threads) { // enough items: the rows stay in the cache for all channels
		p.blocks = (p.blocks + k->threads - 1) / k->threads * k->threads;
		p.parts = 1;
	} else {
		while (p.blocks * p.parts < 4 * k->threads && p.parts < p.panels) p.parts++;
	}
	return p;
}

static int rows_of(const rd_kernel *k, const gemm_plan *p) { return (p->groups + p->blocks - 1) / p->blocks * RD_GROUP; }

size_t rd_gemm_scratch(const rd_kernel *k) {
	if (k->stride == 1) return 0;
	gemm_plan p = plan_of(k);
	return sizeof(float) * k->threads * rows_of(k, &p) * k->in[0].c;
}

size_t rd_gemm_weights(int oc, int terms) { return sizeof(float) * ((oc + RD_PANEL - 1) / RD_PANEL * RD_PANEL) * terms; }

// The rows of groups [from, to) at stride 2, as [C/16][rows][16].
AVX512 static void gather(const rd_call *c, const gemm_plan *p, int from, int to, float *v, int64_t vblk) {
	const rd_map *in = &c->k->in[0], *out = &c->k->out;
	int pixels = out->h * out->w, stride = c->k->stride;
	for (int g = from, row = 0; g < to; g++) {
		int image = g / p->per_image, at = g % p->per_image;
		int a = pixels * at / p->per_image, b = pixels * (at + 1) / p->per_image;
		for (int i = a; i < b; i++, row++) {
			const float *s = c->src[0] + image * in->img + ((int64_t)(i / out->w) * stride * in->w + (int64_t)(i % out->w) * stride) * 16;
			for (int k = 0; k < in->c / 16; k++) memcpy(v + k * vblk + row * 16, s + k * in->blk, 64);
		}
	}
}

AVX512 static void item(const rd_call *c, const gemm_plan *p, int from, int to, int first, int last, float *copy) {
	const rd_kernel *k = c->k;
	const rd_map *in = &k->in[0], *out = &k->out;
	int pixels = out->h * out->w;
	int64_t terms = (in->c + 15) / 16, vblk = in->blk;
	if (k->stride > 1) {
		vblk = (int64_t)rows_of(k, p) * 16;
		gather(c, p, from, to, copy, vblk);
	}
	rd_products_args args = {.vskip = 4 * vblk - 64, .mblk = out->blk, .ustep = (512 + to - from - 1) / (to - from)};
	if (k->mask) args.mask = (const char *)c->src[k->mask] - (const char *)c->dst;
	for (int chunk = first; chunk < last; chunk += CHUNK) {
		int end = chunk + CHUNK < last ? chunk + CHUNK : last;
		for (int64_t t = 0; t < terms; t += TERMS) {
			args.blocks = terms - t < TERMS ? terms - t : TERMS;
			args.flags = (t > 0 || k->sum ? RD_PRODUCTS_SUM : 0) | (t + TERMS < terms ? 0 : (k->relu ? RD_PRODUCTS_RELU : 0) | (k->mask ? RD_PRODUCTS_MASK : 0));
			for (int q = chunk; q < end; q++) {
				const float *u = c->src[1] + (q * terms + t) * 16 * RD_PANEL;
				const float *next = q + 1 < end ? u + terms * 16 * RD_PANEL : c->src[1] + (chunk * terms + t + TERMS) * 16 * RD_PANEL;
				args.shift = t == 0 && k->shift ? k->shift + q * RD_PANEL : NULL;
				for (int g = from, row = 0; g < to; g++) {
					int image = g / p->per_image, at = g % p->per_image;
					int a = pixels * at / p->per_image, n = pixels * (at + 1) / p->per_image - a;
					const float *v = (k->stride > 1 ? copy + row * 16 : c->src[0] + image * in->img + a * 16) + t * vblk;
					args.next_u = next + (g - from) * args.blocks * args.ustep;
					args.next_v = v;
					rd_products[n](v, u, c->dst + image * out->img + 2 * q * out->blk + a * 16, &args);
					row += n;
				}
			}
		}
	}
}

void rd_gemm(const rd_call *c) {
	gemm_plan p = plan_of(c->k);
	size_t room = rd_gemm_scratch(c->k) / c->k->threads;
#pragma omp parallel for schedule(dynamic)
	for (int i = 0; i < p.blocks * p.parts; i++) {
		int b = i / p.parts, q = i % p.parts;
		int from = (int)((int64_t)p.groups * b / p.blocks), to = (int)((int64_t)p.groups * (b + 1) / p.blocks);
		if (from < to) item(c, &p, from, to, p.panels * q / p.parts, p.panels * (q + 1) / p.parts, (float *)((char *)c->scratch + omp_get_thread_num() * room));
	}
}
