//go:build cgo && linux && amd64 && !noonednn

#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx2,fma")
#define LANES 16

#include <omp.h>
#include <string.h>

#include "vec_tile.h"

// The gradient of the weight of a 3×3 convolution by Winograd's F(4×4, 3×3),
// for nChw16c and 512-bit vectors. With y = Aᵀ[(G g Gᵀ) ⊙ (Bᵀ d B)]A it is
//
//	dg = Gᵀ [ Σ (A dy Aᵀ) ⊙ (Bᵀ d B) ] G    over tiles of 4×4 pixels of dy
//
// 36 outer products of channels a tile instead of 144. Tiles are transformed
// some at a time; the 36 sums S[36][O][C] stay in memory until the end. Every
// sum has one thread, which adds in the order of the tiles.
typedef struct {
	int tiles, rows, cols; // of all images; per image
	int count;             // tiles that are transformed at a time
	int64_t vstep, wstep, sstep; // floats from one of the 36 to the next
} plan;

enum { ROOM = 24 << 20 }; // bytes of transformed tiles

static plan plan_of(const rd_kernel *k) {
	const rd_map *x = &k->in[0], *dy = &k->grad;
	plan p = {.rows = (dy->h + 3) / 4, .cols = (dy->w + 3) / 4};
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
	plan p = plan_of(k);
	return 36 * sizeof(float) * (p.vstep + p.wstep + p.sstep);
}

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
static void grad_tile(const float *plane, int h, int w, int y0, int x0, float *out, int64_t step) {
	vec d[16], t[24];
	for (int y = 0; y < 4; y++)
		for (int x = 0; x < 4; x++) d[y * 4 + x] = y0 + y < h && x0 + x < w ? *(const vec *)(plane + ((int64_t)(y0 + y) * w + x0 + x) * 16) : zeros();
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
static void tiles(const rd_call *c, const plan *p, int block, int first, int count, float *v, float *w) {
	const rd_map *x = &c->k->in[0], *dy = &c->k->grad;
	int per_image = p->rows * p->cols, grad = block >= blocks16(x);
	if (grad) block -= blocks16(x);
	for (int t = 0; t < count; t++) {
		int n = (first + t) / per_image, at = (first + t) % per_image, y = at / p->cols * 4, xx = at % p->cols * 4;
		int64_t to = ((int64_t)block * p->count + t) * 16;
		if (grad)
			grad_tile(c->src[1] + n * dy->img + block * dy->blk, dy->h, dy->w, y, xx, w + to, p->wstep);
		else
			in_tile(c->src[0] + n * x->img + block * x->blk, x->pix, x->h, x->w, y - 1, xx - 1, v + to, p->vstep);
	}
}

// Row o of the gradient from the sums.
static void finish(const rd_call *c, const plan *p, int o, const float *s) {
	const rd_kernel *k = c->k;
	int channels = k->in[0].c;
	vec scale = all(k->scale ? k->scale[o] : 1);
	for (int i = 0; i < channels; i += 16) {
		vec d[36], t[18], g[9];
		for (int e = 0; e < 36; e++) d[e] = *(const vec *)(s + e * p->sstep + (int64_t)o * channels + i);
		for (int x = 0; x < 6; x++) reduce(d + x, 6, t + x, 6);
		for (int y = 0; y < 3; y++) reduce(t + y * 6, 1, g + y * 3, 1);
		float *dst = c->dst + ((int64_t)o * channels + i) * 9;
		for (int e = 0; e < 9; e++) {
			vec v = scale * g[e];
			for (int l = 0; l < 16; l++) dst[l * 9 + e] = (k->sum ? dst[l * 9 + e] : 0) + v[l];
		}
	}
}

void rd_winograd_grad(const rd_call *c) {
	plan p = plan_of(c->k);
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
			for (int b = 0; b < all; b++) tiles(c, &p, b, first, count, v, w);
#pragma omp for schedule(dynamic)
			for (int i = 0; i < 36 * parts; i++) {
				int e = i / parts, part = i % parts;
				rd_outer_job j = {.u = v + e * p.vstep, .v = w + e * p.wstep, .m = s + e * p.sstep, .ublk = (int64_t)p.count * 16,
				                  .vblk = (int64_t)p.count * 16, .ld = x->c, .terms = count, .runs = 1};
				rd_outer_part(&j, blocks * part / parts, blocks * (part + 1) / parts, 0, dy->c);
			}
		}
#pragma omp for
		for (int o = 0; o < dy->c; o++) finish(c, &p, o, s);
	}
}
