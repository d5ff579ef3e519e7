//go:build cgo && linux && amd64 && !noonednn

// What is pooled from regions, and its gradients.
#ifndef RESDET_VEC_REGIONS_H
#define RESDET_VEC_REGIONS_H

#include <float.h>
#include <math.h>

#include "kern_roi.h"
#include "vec.h"

enum { COLUMNS = 96 };

// line[x] = Σ_y wy·f(y, x) of one row of bins.
INLINE void blend_rows(vec *line, int type, const void *src, int64_t from, const rd_map *in, int columns, const int32_t *ys, int lanes) {
	const float *w = (const float *)ys + 1 + FEW;
	int64_t r[FEW];
	for (int j = 0; j < FEW; j++) r[j] = from + (int64_t)ys[1 + j] * in->w * in->pix;
	if (ys[0] <= 2)
		for (int x = 0; x < columns; x++) line[x] = w[0] * read_as(type, 1, src, r[0] + x * in->pix, lanes) + w[1] * read_as(type, 1, src, r[1] + x * in->pix, lanes);
	else if (ys[0] == 3)
		for (int x = 0; x < columns; x++)
			line[x] = w[0] * read_as(type, 1, src, r[0] + x * in->pix, lanes) + w[1] * read_as(type, 1, src, r[1] + x * in->pix, lanes) + w[2] * read_as(type, 1, src, r[2] + x * in->pix, lanes);
	else
		for (int x = 0; x < columns; x++)
			line[x] = w[0] * read_as(type, 1, src, r[0] + x * in->pix, lanes) + w[1] * read_as(type, 1, src, r[1] + x * in->pix, lanes) +
			          (w[2] * read_as(type, 1, src, r[2] + x * in->pix, lanes) + w[3] * read_as(type, 1, src, r[3] + x * in->pix, lanes));
}

// Bins of one region and vector of channels, from elements of one type; integers are
// multiplied by their step at the end.
INLINE void roialign_bins(const rd_call *c, const roi_table *t, int type, int g, int r) {
	const rd_kernel *k = c->k;
	const rd_map *out = &k->out, *in = &k->in[t->level];
	const void *src = c->src[t->level];
	int cap = table_cap(k);
	size_t step = list_ints(k);
	int64_t from = t->image * in->img + group_at(in, g), to = r * out->img + group_at(out, g);
	int lanes = lanes_of(in, g), out_lanes = lanes_of(out, g);
	vec shift = k->shift ? load(k->shift + g * LANES, LANES) : zeros();
	const int32_t *ys = t->axis, *first_xs = t->axis + step * out->h;
	// Rows first and columns after reads every pixel once for each row of
	// bins; where the bins are wide, only what they sample is read.
	int twice = cap == FEW && t->columns <= COLUMNS && t->columns < 3 * out->w;
	for (int py = 0; py < out->h; py++, ys += step) {
		vec line[COLUMNS];
		if (twice) blend_rows(line, type, src, from + t->first_x * in->pix, in, t->columns, ys, lanes);
		const int32_t *xs = first_xs;
		for (int px = 0; px < out->w; px++, xs += step) {
			const float *wx = (const float *)xs + 1 + cap;
			vec sum;
			if (twice) {
				int x0 = t->first_x;
				sum = wx[0] * line[xs[1] - x0] + wx[1] * line[xs[2] - x0] + (wx[2] * line[xs[3] - x0] + wx[3] * line[xs[4] - x0]);
			} else if (cap == FEW) {
				sum = zeros();
				for (int j = 0; j < FEW; j++) {
					int64_t row = from + (int64_t)ys[1 + j] * in->w * in->pix;
					sum += ((const float *)ys)[1 + FEW + j] *
					       (wx[0] * read_as(type, 1, src, row + xs[1] * in->pix, lanes) + wx[1] * read_as(type, 1, src, row + xs[2] * in->pix, lanes) +
					        (wx[2] * read_as(type, 1, src, row + xs[3] * in->pix, lanes) + wx[3] * read_as(type, 1, src, row + xs[4] * in->pix, lanes)));
				}
			} else {
				sum = zeros();
				for (int j = 0; j < ys[0]; j++) {
					int64_t row = from + (int64_t)ys[1 + j] * in->w * in->pix;
					vec part = zeros();
					for (int l = 0; l < xs[0]; l++) part += wx[l] * read_as(type, 1, src, row + xs[1 + l] * in->pix, lanes);
					sum += ((const float *)ys)[1 + cap + j] * part;
				}
			}
			if (type >= RD_UINT8) sum *= in->step;
			sum += shift;
			if (k->relu) sum = larger(sum, zeros());
			write(out, c->dst, to + ((int64_t)py * out->w + px) * out->pix, sum, out_lanes);
		}
	}
}

// Items are (16 channels, region, part), channels outermost: their part of the
// map stays in the core's cache for all regions.
static void roialign(const rd_call *c, int64_t from, int64_t to) {
	for (int64_t i = from; i < to; i++) {
		int r = (int)(i / PARTS % c->k->regions), g = (int)(i / PARTS / c->k->regions * PARTS + i % PARTS);
		const roi_table *t = (const roi_table *)((const char *)c->scratch + r * table_bytes(c->k));
		switch (c->k->in[t->level].type) {
		case RD_FLOAT32: roialign_bins(c, t, RD_FLOAT32, g, r); break;
		case RD_BFLOAT16: roialign_bins(c, t, RD_BFLOAT16, g, r); break;
		case RD_UINT8: roialign_bins(c, t, RD_UINT8, g, r); break;
		case RD_SINT8: roialign_bins(c, t, RD_SINT8, g, r); break;
		}
	}
}

INLINE int clampi(int v, int hi) { return v < 0 ? 0 : v > hi ? hi : v; }

// The bins of one region on its map.
typedef struct {
	int x0, y0;
	float bw, bh;
} pool_bins;

// Caffe's rounding: halves away from zero, the end pixel included.
static pool_bins bins_of(const rd_kernel *k, const roi_box *g) {
	int x0 = (int)roundf(g->x0), y0 = (int)roundf(g->y0), w = (int)roundf(g->x1) - x0 + 1, h = (int)roundf(g->y1) - y0 + 1;
	return (pool_bins){x0, y0, (float)(w > 1 ? w : 1) / k->bins_w, (float)(h > 1 ? h : 1) / k->bins_h};
}

// Bin i starts and ends here, at most at extent.
INLINE int bin_start(int i, float bin, int first, int extent) { return clampi((int)floorf(i * bin) + first, extent); }
INLINE int bin_end(int i, float bin, int first, int extent) { return clampi((int)ceilf((i + 1) * bin) + first, extent); }

INLINE vec largest(const void *src, int64_t from, const rd_map *in, int ya, int yb, int xa, int xb, int lanes) {
	vec best = ya < yb && xa < xb ? all(-FLT_MAX) : zeros();
	for (int y = ya; y < yb; y++)
		for (int x = xa; x < xb; x++) best = larger(read(in, src, from + ((int64_t)y * in->w + x) * in->pix, lanes), best);
	return best;
}

static void roipool(const rd_call *c, int64_t first, int64_t end) {
	const rd_kernel *k = c->k;
	const rd_map *out = &k->out;
	for (int64_t i = first; i < end; i++) {
		int r = (int)(i / PARTS % k->regions), g = (int)(i / PARTS / k->regions * PARTS + i % PARTS);
		roi_box box = rd_read_roi(k, c->src[k->rois] + 5 * (int64_t)r);
		const rd_map *in = &k->in[box.level];
		int64_t from = box.image * in->img + group_at(in, g), to = r * out->img + group_at(out, g);
		int lanes = lanes_of(in, g), out_lanes = lanes_of(out, g);
		pool_bins bins = box.valid ? bins_of(k, &box) : (pool_bins){0};
		for (int py = 0; py < out->h; py++) {
			int ya = bin_start(py, bins.bh, bins.y0, in->h), yb = box.valid ? bin_end(py, bins.bh, bins.y0, in->h) : 0;
			for (int px = 0; px < out->w; px++) {
				int xa = bin_start(px, bins.bw, bins.x0, in->w), xb = bin_end(px, bins.bw, bins.x0, in->w);
				write(out, c->dst, to + ((int64_t)py * out->w + px) * out->pix, largest(c->src[box.level], from, in, ya, yb, xa, xb, lanes), out_lanes);
			}
		}
	}
}

INLINE void clear_plane(float *d, const rd_map *m, int lanes) {
	for (int64_t p = 0; p < (int64_t)m->h * m->w; p++) store(d + p * m->pix, zeros(), lanes);
}

// Items are vectors of channels: one thread adds all regions, in their order.
// A row of bins becomes a line of pixels first, which its rows then add.
static void roialign_grad(const rd_call *c, int64_t from, int64_t to) {
	const rd_kernel *k = c->k;
	const rd_map *out = &k->out, *dy = &k->grad;
	int cap = table_cap(k);
	size_t step = list_ints(k);
	for (int g = (int)from; g < to; g++) {
		int lanes = lanes_of(out, g);
		for (int n = 0; n < out->n; n++) clear_plane(c->dst + n * out->img + group_at(out, g), out, lanes);
		for (int r = 0; r < k->regions; r++) {
			const roi_table *t = (const roi_table *)((const char *)c->scratch + r * table_bytes(k));
			if (t->level != k->level) continue;
			const float *dys = c->src[k->rois + 1] + r * dy->img + group_at(dy, g);
			float *d = c->dst + t->image * out->img + group_at(out, g);
			const int32_t *ys = t->axis, *first_xs = t->axis + step * dy->h;
			for (int py = 0; py < dy->h; py++, ys += step) {
				const float *wy = (const float *)ys + 1 + cap;
				for (int x0 = 0; x0 < t->columns; x0 += COLUMNS) {
					int columns = t->columns - x0 < COLUMNS ? t->columns - x0 : COLUMNS, first = t->first_x + x0;
					vec line[COLUMNS];
					for (int x = 0; x < columns; x++) line[x] = zeros();
					const int32_t *xs = first_xs;
					for (int px = 0; px < dy->w; px++, xs += step) {
						const float *wx = (const float *)xs + 1 + cap;
						vec v = load(dys + ((int64_t)py * dy->w + px) * dy->pix, lanes);
						for (int l = 0; l < xs[0]; l++) {
							int x = xs[1 + l] - first;
							if (x >= 0 && x < columns) line[x] += wx[l] * v;
						}
					}
					for (int j = 0; j < ys[0]; j++) {
						float *row = d + ((int64_t)ys[1 + j] * out->w + first) * out->pix;
						for (int x = 0; x < columns; x++) store(row + x * out->pix, load(row + x * out->pix, lanes) + wy[j] * line[x], lanes);
					}
				}
			}
		}
	}
}

// Items are vectors of channels: one thread adds all regions, in their order,
// each bin's gradient to the first of its maxima.
static void roipool_grad(const rd_call *c, int64_t from, int64_t to) {
	const rd_kernel *k = c->k;
	const rd_map *in = &k->in[k->level], *out = &k->out, *dy = &k->grad;
	for (int g = (int)from; g < to; g++) {
		int lanes = lanes_of(out, g);
		for (int n = 0; n < out->n; n++) clear_plane(c->dst + n * out->img + group_at(out, g), out, lanes);
		for (int r = 0; r < k->regions; r++) {
			roi_box box = rd_read_roi(k, c->src[k->rois] + 5 * (int64_t)r);
			if (!box.valid || box.level != k->level) continue;
			pool_bins bins = bins_of(k, &box);
			const float *src = c->src[0] + box.image * in->img + group_at(in, g), *dys = c->src[k->rois + 1] + r * dy->img + group_at(dy, g);
			float *d = c->dst + box.image * out->img + group_at(out, g);
			for (int py = 0; py < dy->h; py++) {
				int ya = bin_start(py, bins.bh, bins.y0, in->h), yb = bin_end(py, bins.bh, bins.y0, in->h);
				for (int px = 0; px < dy->w; px++) {
					int xa = bin_start(px, bins.bw, bins.x0, in->w), xb = bin_end(px, bins.bw, bins.x0, in->w);
					vec best = largest(src, 0, in, ya, yb, xa, xb, lanes), grad = load(dys + ((int64_t)py * dy->w + px) * dy->pix, lanes);
					ivec left = ~(ivec)zeros();
					for (int y = ya; y < yb; y++)
						for (int x = xa; x < xb; x++) {
							int64_t p = (int64_t)y * in->w + x;
							ivec here = (load(src + p * in->pix, lanes) == best) & left;
							left &= ~here;
							float *at = d + p * out->pix;
							store(at, load(at, lanes) + (vec)((ivec)grad & here), lanes);
						}
				}
			}
		}
	}
}

#endif
