//go:build cgo && linux && amd64 && !noonednn

#include <omp.h>

#include "kern_wino.h"

// 3×3 convolution by Winograd's F(4×4, 3×3), for channels in groups of 16, of
// nChw16c or nhwc:
//
//	6×6 pixels ─Bᵀ·B▶ V[36][C/16][tiles][16] ─×U[36]▶ M[36][O/16][tiles][16] ─Aᵀ·A▶ 4×4 pixels
//
// 36 products instead of 144. Each thread works on one block of tiles at a
// time, all three stages after each other, so that V and M stay in its cache;
// the library's version keeps them for the whole image, which for the first
// layers of VGG-16 is 700 MB and memory-bound. The points 0, ±5/8, ±3/2, ∞ are
// those with which the library loses least precision.

static rd_wino_plan plan_of(const rd_kernel *k) {
	const rd_map *in = &k->in[0];
	int group = rd_version()->group, panel = rd_version()->panel;
	rd_wino_plan p = {.rows = (in->h + 3) / 4, .cols = (in->w + 3) / 4};
	p.tiles = in->n * p.rows * p.cols;
	// Few channels: U is small, V and M stay in the second-level cache (of 2 MB with
	// vectors of 512 bits, of half a megabyte with 256).
	// Many: U passes through the cache once for each block, so blocks are large.
	int few = (int64_t)in->c * k->out.c <= 128 * 128;
	int block = (k->block ? k->block : few ? 4 : 8) * group;
	// Too few tiles for all threads: share the channels out too, which repeats
	// the first stage, about a tenth of the work.
	p.splits = 1;
	while (p.tiles * p.splits < 2 * group * k->threads && 2 * p.splits <= k->threads && k->out.c % (2 * p.splits * panel) == 0) p.splits *= 2;
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

static size_t thread_bytes(const rd_wino_plan *p) { return 36 * sizeof(float) * (p->vstep + p->mstep); }

size_t rd_winograd_scratch(const rd_kernel *k) {
	rd_wino_plan p = plan_of(k);
	return thread_bytes(&p) * k->threads;
}

size_t rd_winograd_weights(int oc, int c) { return sizeof(float) * 36 * oc * c; }

// U[36][O/panel][C][panel] = G g Gᵀ
void rd_winograd_pack(RD_SOURCE, int oc, int c, float *u) {
	rd_source s = {floats, half, scale, (int64_t)c * 9};
	const rd_version_table *version = rd_version();
	int lanes = 16 / version->parts;
#pragma omp parallel for
	for (int o = 0; o < oc; o += lanes) version->wino_pack(&s, oc, c, o, u);
}

void rd_repack_winograd(const rd_call *c) { rd_vectors(rd_version()->wino_repack, c, c->k->rows / 16); }

void rd_winograd(const rd_call *c) {
	rd_wino_plan p = plan_of(c->k);
	int blocks = (p.tiles + p.block - 1) / p.block;
#pragma omp parallel
	{
		float *v = (float *)((char *)c->scratch + omp_get_thread_num() * thread_bytes(&p)), *m = v + 36 * p.vstep;
#pragma omp for schedule(dynamic)
		for (int i = 0; i < blocks * p.splits; i++) {
			int first = i / p.splits * p.block, left = p.tiles - first, part = c->k->out.c / p.splits, from = i % p.splits * part;
			if (left > 0) rd_version()->wino_tiles(c, &p, first, left < p.block ? left : p.block, from, from + part, v, m);
		}
	}
}
