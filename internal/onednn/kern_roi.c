//go:build cgo && linux && amd64 && !noonednn

#include <float.h>
#include <math.h>

#include "kern_isa.h"

// RoIAlign's bilinear samples are separable: a bin is Σ_y Σ_x wy·wx·f(y, x)
// with the weights of all samples on one row, or column, added up. So every
// region has a table of (index, weight) lists, one for each row and column of
// bins, made once and read by all channels. With at most two samples on a side
// every list is filled up to FEW entries with weights of 0, for branches that
// cannot be foretold cost more than the products.
enum { FEW = 4 };
typedef struct {
	int level, image;
	int first_x, columns; // of the map that are read
	int32_t axis[];       // bins_h + bins_w lists of: count, index[cap], weight[cap]
} roi_table;

INLINE int used(int bins, int every) { return (bins + every - 1) / every; }

// The most entries that a list can have: each sample touches two pixels, and
// no pixel is listed twice.
INLINE int table_cap(const rd_kernel *k) {
	int extent = 1;
	for (int l = 0; l < k->levels; l++) {
		if (k->in[l].h > extent) extent = k->in[l].h;
		if (k->in[l].w > extent) extent = k->in[l].w;
	}
	if (k->sampling > 0 && 2 * k->sampling <= FEW) return FEW;
	return k->sampling > 0 && k->sampling < extent / 2 ? 2 * k->sampling : extent;
}
INLINE size_t list_ints(const rd_kernel *k) { return 1 + 2 * (size_t)table_cap(k); }
INLINE size_t table_bytes(const rd_kernel *k) {
	return sizeof(roi_table) + 4 * list_ints(k) * (used(k->bins_h, k->every) + used(k->bins_w, k->every));
}

size_t rd_roialign_scratch(const rd_kernel *k) { return table_bytes(k) * k->regions; }

INLINE int level_of(const rd_kernel *k, const float *roi) {
	if (k->levels == 1) return 0;
	float area = (roi[3] - roi[1] + k->canonical_extra) * (roi[4] - roi[2] + k->canonical_extra);
	float level = floorf(k->canonical_level + log2f(sqrtf(area) / k->canonical_size) + 1e-6f) - k->first_level;
	if (!(level > 0)) return 0; // also −∞ and NaN of empty regions
	return level < k->levels - 1 ? (int)level : k->levels - 1;
}

// A region in feature pixels of its level. One of no image of the batch, or
// with a corner that is not finite or beyond what float32 can tell from its
// neighbour by a quarter of a pixel, is not valid and pools to zeros.
typedef struct {
	int valid, level, image;
	float x0, y0, x1, y1;
} roi_box;

static roi_box read_roi(const rd_kernel *k, const float *roi) {
	const float most = 1 << 22;
	int level = level_of(k, roi);
	float s = k->spatial[level];
	roi_box g = {0, level, 0, roi[1] * s, roi[2] * s, roi[3] * s, roi[4] * s};
	if (!(fabsf(g.x0) <= most && fabsf(g.y0) <= most && fabsf(g.x1) <= most && fabsf(g.y1) <= most)) return g;
	if (!(roi[0] >= 0 && roi[0] < k->in[0].n)) return g;
	g.valid = 1;
	g.image = (int)roi[0];
	return g;
}

static void add_tap(int32_t *list, int cap, int index, float weight) {
	int n = list[0];
	int32_t *idx = list + 1;
	float *w = (float *)(list + 1 + cap);
	for (int i = n - 1; i >= 0 && i >= n - 2; i--)
		if (idx[i] == index) {
			w[i] += weight;
			return;
		}
	idx[n] = index;
	w[n] = weight;
	list[0] = n + 1;
}

static void fill_up(int32_t *list, int cap) {
	if (cap != FEW) return;
	int32_t last = list[0] ? list[list[0]] : 0;
	for (int n = list[0]; n < FEW; n++) {
		list[1 + n] = last;
		((float *)(list + 1 + cap))[n] = 0;
	}
}

// fill_axis lists the samples of every bin that is used: as torchvision, those
// more than a pixel outside the map count as zero.
static void fill_axis(int32_t *list, int cap, float start, float size, int bins, int every, int sampling, int extent) {
	float bin = size / bins;
	float wanted = sampling > 0 ? sampling : ceilf(bin);
	int samples = wanted > 0 ? (int)wanted : 0;
	for (int p = 0; p < bins; p += every, list += 1 + 2 * cap) {
		float from = start + p * bin;
		list[0] = 0;
		int first = 0;
		if (bin > 0) { // skip what lies left of the map, less one for rounding
			float skip = (-1 - from) / (bin / samples) - 1;
			first = skip > 0 ? (skip < samples ? (int)skip : samples) : 0;
		}
		for (int i = first; i < samples; i++) {
			float y = from + (i + 0.5f) * bin / samples;
			if (y > extent) break;
			if (y < -1) continue;
			if (y < 0) y = 0;
			int low = (int)y;
			if (low >= extent - 1) {
				add_tap(list, cap, extent - 1, 1.0f / samples);
				continue;
			}
			float f = y - low;
			add_tap(list, cap, low, (1 - f) / samples);
			add_tap(list, cap, low + 1, f / samples);
		}
		fill_up(list, cap);
	}
}

// columns_of notes which columns the lists of the horizontal axis read.
static void columns_of(roi_table *t, const int32_t *list, int cap, int bins) {
	int lo = 0, hi = -1;
	for (int p = 0; p < bins; p++, list += 1 + 2 * cap)
		for (int i = 0; i < (cap == FEW ? FEW : list[0]); i++) {
			int x = list[1 + i];
			if (hi < lo || x < lo) lo = x;
			if (x > hi) hi = x;
		}
	t->first_x = lo;
	t->columns = hi - lo + 1;
}

static void tables(const rd_call *c, int64_t from, int64_t to) {
	const rd_kernel *k = c->k;
	int cap = table_cap(k);
	for (int64_t r = from; r < to; r++) {
		roi_box g = read_roi(k, c->src[k->rois] + 5 * r);
		roi_table *t = (roi_table *)((char *)c->scratch + r * table_bytes(k));
		t->level = g.level;
		t->image = g.image;
		if (!g.valid) {
			for (int i = used(k->bins_h, k->every) + used(k->bins_w, k->every) - 1; i >= 0; i--) {
				t->axis[i * list_ints(k)] = 0;
				fill_up(t->axis + i * list_ints(k), cap);
			}
			t->first_x = 0, t->columns = 1;
			continue;
		}
		float shift = k->aligned ? 0.5f : 0;
		float x0 = g.x0 - shift, y0 = g.y0 - shift;
		float w = g.x1 - shift - x0, h = g.y1 - shift - y0;
		if (!k->aligned) {
			w = w > 1 ? w : 1;
			h = h > 1 ? h : 1;
		}
		fill_axis(t->axis, cap, y0, h, k->bins_h, k->every, k->sampling, k->in[t->level].h);
		int32_t *xs = t->axis + list_ints(k) * used(k->bins_h, k->every);
		fill_axis(xs, cap, x0, w, k->bins_w, k->every, k->sampling, k->in[t->level].w);
		columns_of(t, xs, cap, used(k->bins_w, k->every));
	}
}

enum { COLUMNS = 96 };

// line[x] = Σ_y wy·f(y, x) of one row of bins.
INLINE void blend_rows(v16 *line, int type, const void *src, int64_t from, const rd_map *in, int columns, const int32_t *ys, int lanes) {
	const float *w = (const float *)ys + 1 + FEW;
	int64_t r[FEW];
	for (int j = 0; j < FEW; j++) r[j] = from + (int64_t)ys[1 + j] * in->w * in->pix;
	if (ys[0] <= 2)
		for (int x = 0; x < columns; x++) line[x] = w[0] * read16as(type, 1, src, r[0] + x * in->pix, lanes) + w[1] * read16as(type, 1, src, r[1] + x * in->pix, lanes);
	else if (ys[0] == 3)
		for (int x = 0; x < columns; x++)
			line[x] = w[0] * read16as(type, 1, src, r[0] + x * in->pix, lanes) + w[1] * read16as(type, 1, src, r[1] + x * in->pix, lanes) + w[2] * read16as(type, 1, src, r[2] + x * in->pix, lanes);
	else
		for (int x = 0; x < columns; x++)
			line[x] = w[0] * read16as(type, 1, src, r[0] + x * in->pix, lanes) + w[1] * read16as(type, 1, src, r[1] + x * in->pix, lanes) +
			          (w[2] * read16as(type, 1, src, r[2] + x * in->pix, lanes) + w[3] * read16as(type, 1, src, r[3] + x * in->pix, lanes));
}

// Bins of one region and 16 channels, from elements of one type; integers are
// multiplied by their step at the end.
INLINE void roialign_bins(const rd_call *c, const roi_table *t, int type, int b, int r) {
	const rd_kernel *k = c->k;
	const rd_map *out = &k->out, *in = &k->in[t->level];
	const void *src = c->src[t->level];
	int cap = table_cap(k);
	size_t step = list_ints(k);
	int64_t from = t->image * in->img + b * in->blk, to = r * out->img + b * out->blk;
	int lanes = lanes16(in, b), out_lanes = lanes16(out, b);
	v16 shift = k->shift ? load16(k->shift + b * 16, 16) : zero16();
	const int32_t *ys = t->axis, *first_xs = t->axis + step * out->h;
	// Rows first and columns after reads every pixel once for each row of
	// bins; where the bins are wide, only what they sample is read.
	int twice = cap == FEW && t->columns <= COLUMNS && t->columns < 3 * out->w;
	for (int py = 0; py < out->h; py++, ys += step) {
		v16 line[COLUMNS];
		if (twice) blend_rows(line, type, src, from + t->first_x * in->pix, in, t->columns, ys, lanes);
		const int32_t *xs = first_xs;
		for (int px = 0; px < out->w; px++, xs += step) {
			const float *wx = (const float *)xs + 1 + cap;
			v16 sum;
			if (twice) {
				int x0 = t->first_x;
				sum = wx[0] * line[xs[1] - x0] + wx[1] * line[xs[2] - x0] + (wx[2] * line[xs[3] - x0] + wx[3] * line[xs[4] - x0]);
			} else if (cap == FEW) {
				sum = zero16();
				for (int j = 0; j < FEW; j++) {
					int64_t row = from + (int64_t)ys[1 + j] * in->w * in->pix;
					sum += ((const float *)ys)[1 + FEW + j] *
					       (wx[0] * read16as(type, 1, src, row + xs[1] * in->pix, lanes) + wx[1] * read16as(type, 1, src, row + xs[2] * in->pix, lanes) +
					        (wx[2] * read16as(type, 1, src, row + xs[3] * in->pix, lanes) + wx[3] * read16as(type, 1, src, row + xs[4] * in->pix, lanes)));
				}
			} else {
				sum = zero16();
				for (int j = 0; j < ys[0]; j++) {
					int64_t row = from + (int64_t)ys[1 + j] * in->w * in->pix;
					v16 part = zero16();
					for (int l = 0; l < xs[0]; l++) part += wx[l] * read16as(type, 1, src, row + xs[1 + l] * in->pix, lanes);
					sum += ((const float *)ys)[1 + cap + j] * part;
				}
			}
			if (type >= RD_UINT8) sum *= in->step;
			sum += shift;
			if (k->relu) sum = max16(sum, zero16());
			write16(out, c->dst, to + ((int64_t)py * out->w + px) * out->pix, sum, out_lanes);
		}
	}
}

// Items are (16 channels, region), channels outermost: a group's part of the
// map stays in the core's cache for all regions.
INLINE void roialign(const rd_call *c, int64_t from, int64_t to) {
	for (int64_t i = from; i < to; i++) {
		int b = (int)(i / c->k->regions), r = (int)(i % c->k->regions);
		const roi_table *t = (const roi_table *)((const char *)c->scratch + r * table_bytes(c->k));
		switch (c->k->in[t->level].type) {
		case RD_FLOAT32: roialign_bins(c, t, RD_FLOAT32, b, r); break;
		case RD_BFLOAT16: roialign_bins(c, t, RD_BFLOAT16, b, r); break;
		case RD_UINT8: roialign_bins(c, t, RD_UINT8, b, r); break;
		case RD_SINT8: roialign_bins(c, t, RD_SINT8, b, r); break;
		}
	}
}
KERNEL(roialign)

void rd_roialign(const rd_call *c) {
	rd_parallel(tables, c, c->k->regions);
	rd_parallel(PICK(roialign), c, (int64_t)blocks16(&c->k->out) * c->k->regions);
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

INLINE v16 largest(const void *src, int64_t from, const rd_map *in, int ya, int yb, int xa, int xb, int lanes) {
	v16 best = ya < yb && xa < xb ? all16(-FLT_MAX) : zero16();
	for (int y = ya; y < yb; y++)
		for (int x = xa; x < xb; x++) best = max16(read16(in, src, from + ((int64_t)y * in->w + x) * in->pix, lanes), best);
	return best;
}

INLINE void roipool(const rd_call *c, int64_t first, int64_t end) {
	const rd_kernel *k = c->k;
	const rd_map *out = &k->out;
	for (int64_t i = first; i < end; i++) {
		int b = (int)(i / k->regions), r = (int)(i % k->regions);
		roi_box g = read_roi(k, c->src[k->rois] + 5 * (int64_t)r);
		const rd_map *in = &k->in[g.level];
		int64_t from = g.image * in->img + b * in->blk, to = r * out->img + b * out->blk;
		int lanes = lanes16(in, b), out_lanes = lanes16(out, b);
		pool_bins bins = g.valid ? bins_of(k, &g) : (pool_bins){0};
		for (int py = 0; py < out->h; py++) {
			int ya = bin_start(py, bins.bh, bins.y0, in->h), yb = g.valid ? bin_end(py, bins.bh, bins.y0, in->h) : 0;
			for (int px = 0; px < out->w; px++) {
				int xa = bin_start(px, bins.bw, bins.x0, in->w), xb = bin_end(px, bins.bw, bins.x0, in->w);
				write16(out, c->dst, to + ((int64_t)py * out->w + px) * out->pix, largest(c->src[g.level], from, in, ya, yb, xa, xb, lanes), out_lanes);
			}
		}
	}
}
KERNEL(roipool)

void rd_roipool(const rd_call *c) { rd_parallel(PICK(roipool), c, (int64_t)blocks16(&c->k->out) * c->k->regions); }

INLINE void clear_plane(float *d, const rd_map *m, int lanes) {
	for (int64_t p = 0; p < (int64_t)m->h * m->w; p++) store16(d + p * m->pix, zero16(), lanes);
}

// Items are groups of 16 channels: one thread adds all regions, in their order.
// A row of bins becomes a line of pixels first, which its rows then add.
INLINE void roialign_grad(const rd_call *c, int64_t from, int64_t to) {
	const rd_kernel *k = c->k;
	const rd_map *out = &k->out, *dy = &k->grad;
	int cap = table_cap(k);
	size_t step = list_ints(k);
	for (int64_t b = from; b < to; b++) {
		int lanes = lanes16(out, b);
		for (int n = 0; n < out->n; n++) clear_plane(c->dst + n * out->img + b * out->blk, out, lanes);
		for (int r = 0; r < k->regions; r++) {
			const roi_table *t = (const roi_table *)((const char *)c->scratch + r * table_bytes(k));
			if (t->level != k->level) continue;
			const float *g = c->src[k->rois + 1] + r * dy->img + b * dy->blk;
			float *d = c->dst + t->image * out->img + b * out->blk;
			const int32_t *ys = t->axis, *first_xs = t->axis + step * dy->h;
			for (int py = 0; py < dy->h; py++, ys += step) {
				const float *wy = (const float *)ys + 1 + cap;
				for (int x0 = 0; x0 < t->columns; x0 += COLUMNS) {
					int columns = t->columns - x0 < COLUMNS ? t->columns - x0 : COLUMNS, first = t->first_x + x0;
					v16 line[COLUMNS];
					for (int x = 0; x < columns; x++) line[x] = zero16();
					const int32_t *xs = first_xs;
					for (int px = 0; px < dy->w; px++, xs += step) {
						const float *wx = (const float *)xs + 1 + cap;
						v16 v = load16(g + ((int64_t)py * dy->w + px) * dy->pix, lanes);
						for (int l = 0; l < xs[0]; l++) {
							int x = xs[1 + l] - first;
							if (x >= 0 && x < columns) line[x] += wx[l] * v;
						}
					}
					for (int j = 0; j < ys[0]; j++) {
						float *row = d + ((int64_t)ys[1 + j] * out->w + first) * out->pix;
						for (int x = 0; x < columns; x++) store16(row + x * out->pix, load16(row + x * out->pix, lanes) + wy[j] * line[x], lanes);
					}
				}
			}
		}
	}
}
KERNEL(roialign_grad)

void rd_roialign_grad(const rd_call *c) {
	rd_parallel(tables, c, c->k->regions);
	rd_parallel(PICK(roialign_grad), c, blocks16(&c->k->out));
}

// Items are groups of 16 channels: one thread adds all regions, in their order,
// each bin's gradient to the first of its maxima.
INLINE void roipool_grad(const rd_call *c, int64_t from, int64_t to) {
	const rd_kernel *k = c->k;
	const rd_map *in = &k->in[k->level], *out = &k->out, *dy = &k->grad;
	for (int64_t b = from; b < to; b++) {
		int lanes = lanes16(out, b);
		for (int n = 0; n < out->n; n++) clear_plane(c->dst + n * out->img + b * out->blk, out, lanes);
		for (int r = 0; r < k->regions; r++) {
			roi_box box = read_roi(k, c->src[k->rois] + 5 * (int64_t)r);
			if (!box.valid || box.level != k->level) continue;
			pool_bins bins = bins_of(k, &box);
			const float *src = c->src[0] + box.image * in->img + b * in->blk, *g = c->src[k->rois + 1] + r * dy->img + b * dy->blk;
			float *d = c->dst + box.image * out->img + b * out->blk;
			for (int py = 0; py < dy->h; py++) {
				int ya = bin_start(py, bins.bh, bins.y0, in->h), yb = bin_end(py, bins.bh, bins.y0, in->h);
				for (int px = 0; px < dy->w; px++) {
					int xa = bin_start(px, bins.bw, bins.x0, in->w), xb = bin_end(px, bins.bw, bins.x0, in->w);
					v16 best = largest(src, 0, in, ya, yb, xa, xb, lanes), grad = load16(g + ((int64_t)py * dy->w + px) * dy->pix, lanes);
					m16 left = ~(m16)zero16();
					for (int y = ya; y < yb; y++)
						for (int x = xa; x < xb; x++) {
							int64_t p = (int64_t)y * in->w + x;
							m16 here = (load16(src + p * in->pix, lanes) == best) & left;
							left &= ~here;
							float *at = d + p * out->pix;
							store16(at, load16(at, lanes) + (v16)((m16)grad & here), lanes);
						}
				}
			}
		}
	}
}
KERNEL(roipool_grad)

void rd_roipool_grad(const rd_call *c) { rd_parallel(PICK(roipool_grad), c, blocks16(&c->k->out)); }
