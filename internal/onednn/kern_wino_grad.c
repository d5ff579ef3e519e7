//go:build cgo && linux && amd64 && !noonednn

#include <omp.h>
#include <string.h>

#include "kern_wino.h"

// The gradient of the weight of a 3×3 convolution by Winograd's F(4×4, 3×3),
// for channels in groups of 16, of nChw16c or nhwc. With y = Aᵀ[(G g Gᵀ) ⊙ (Bᵀ d B)]A it is
//
//	dg = Gᵀ [ Σ (A dy Aᵀ) ⊙ (Bᵀ d B) ] G    over tiles of 4×4 pixels of dy
//
// 36 outer products of channels a tile instead of 144. Tiles are transformed
// some at a time; the 36 sums S[36][O][C] stay in memory until the end. Every
// sum has one thread, which adds in the order of the tiles.
enum { ROOM = 24 << 20 }; // bytes of transformed tiles

static rd_wino_grad_plan plan_of(const rd_kernel *k) {
	const rd_map *x = &k->in[0], *dy = &k->grad;
	rd_wino_grad_plan p = {.rows = (dy->h + 3) / 4, .cols = (dy->w + 3) / 4};
	p.tiles = dy->n * p.rows * p.cols;
	int64_t channels = (x->c + dy->c + 15) / 16 * 16;
	int most = (int)(ROOM / (36 * sizeof(float) * channels));
	if (most < 64) most = 64;
	int turns = (p.tiles + most - 1) / most;
	p.count = (p.tiles + turns - 1) / turns;
	p.vstep = odd_lines((int64_t)p.count * blocks16(x) * 16);
	p.wstep = odd_lines((int64_t)p.count * blocks16(dy) * 16);
	p.sstep = odd_lines((int64_t)x->c * dy->c);
	return p;
}

size_t rd_winograd_grad_scratch(const rd_kernel *k) {
	rd_wino_grad_plan p = plan_of(k);
	return 36 * sizeof(float) * (p.vstep + p.wstep + p.sstep);
}

void rd_winograd_grad(const rd_call *c) {
	rd_wino_grad_plan p = plan_of(c->k);
	const rd_map *x = &c->k->in[0], *dy = &c->k->grad;
	float *v = c->scratch, *w = v + 36 * p.vstep, *s = w + 36 * p.wstep;
	int blocks = x->c / 16, all = blocks + blocks16(dy);
	int parts = blocks < 16 ? 1 : blocks / 16 > 4 ? 4 : blocks / 16; // of the columns of a sum
#pragma omp parallel
	{
#pragma omp for
		for (int e = 0; e < 36; e++) memset(s + e * p.sstep, 0, sizeof(float) * p.sstep);
		for (int first = 0; first < p.tiles; first += p.count) {
			int count = p.tiles - first < p.count ? p.tiles - first : p.count;
#pragma omp for schedule(dynamic)
			for (int b = 0; b < all; b++) rd_version()->wino_grad_tiles(c, &p, b, first, count, v, w);
#pragma omp for schedule(dynamic)
			for (int i = 0; i < 36 * parts; i++) {
				int e = i / parts, part = i % parts;
				rd_outer_job j = {.u = v + e * p.vstep, .v = w + e * p.wstep, .m = s + e * p.sstep, .ublk = (int64_t)p.count * 16,
				                  .vblk = (int64_t)p.count * 16, .ld = x->c, .terms = count, .runs = 1};
				rd_outer_part(&j, blocks * part / parts, blocks * (part + 1) / parts, 0, dy->c);
			}
		}
#pragma omp for
		for (int o = 0; o < dy->c; o++) rd_version()->wino_grad_finish(c, &p, o, s);
	}
}
