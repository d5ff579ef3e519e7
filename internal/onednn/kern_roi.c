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
	float area = (roi[3] - roi[1]) * (roi[4] - roi[2]);
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
		roi_box g = read_roi(k, c->src[k->levels] + 5 * r);
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
INLINE void blend_rows(v16 *line, const float *src, const rd_map *in, int columns, const int32_t *ys, int lanes) {
	const float *w = (const float *)ys + 1 + FEW;
	const float *r[FEW];
	for (int j = 0; j < FEW; j++) r[j] = src + (int64_t)ys[1 + j] * in->w * in->pix;
	if (ys[0] <= 2)
		for (int x = 0; x < columns; x++) line[x] = w[0] * load16(r[0] + x * in->pix, lanes) + w[1] * load16(r[1] + x * in->pix, lanes);
	else if (ys[0] == 3)
		for (int x = 0; x < columns; x++)
			line[x] = w[0] * load16(r[0] + x * in->pix, lanes) + w[1] * load16(r[1] + x * in->pix, lanes) + w[2] * load16(r[2] + x * in->pix, lanes);
	else
		for (int x = 0; x < columns; x++)
			line[x] = w[0] * load16(r[0] + x * in->pix, lanes) + w[1] * load16(r[1] + x * in->pix, lanes) +
			          (w[2] * load16(r[2] + x * in->pix, lanes) + w[3] * load16(r[3] + x * in->pix, lanes));
}

// Items are (16 channels, region), channels outermost: a group's part of the
// map stays in the core's cache for all regions.
INLINE void roialign(const rd_call *c, int64_t from, int64_t to) {
	const rd_kernel *k = c->k;
	const rd_map *out = &k->out;
	int cap = table_cap(k);
	size_t step = list_ints(k);
	for (int64_t i = from; i < to; i++) {
		int b = (int)(i / k->regions), r = (int)(i % k->regions);
		const roi_table *t = (const roi_table *)((const char *)c->scratch + r * table_bytes(k));
		const rd_map *in = &k->in[t->level];
		const float *src = c->src[t->level] + t->image * in->img + b * in->blk;
		float *dst = c->dst + r * out->img + b * out->blk;
		int lanes = lanes16(in, b);
		v16 shift = k->shift ? load16(k->shift + b * 16, 16) : zero16();
		const int32_t *ys = t->axis, *first_xs = t->axis + step * out->h;
		// Rows first and columns after reads every pixel once for each row of
		// bins; where the bins are wide, only what they sample is read.
		int twice = cap == FEW && t->columns <= COLUMNS && t->columns < 3 * out->w;
		for (int py = 0; py < out->h; py++, ys += step) {
			v16 line[COLUMNS];
			if (twice) blend_rows(line, src + t->first_x * in->pix, in, t->columns, ys, lanes);
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
						const float *row = src + (int64_t)ys[1 + j] * in->w * in->pix;
						sum += ((const float *)ys)[1 + FEW + j] * (wx[0] * load16(row + xs[1] * in->pix, lanes) + wx[1] * load16(row + xs[2] * in->pix, lanes) +
						                                            (wx[2] * load16(row + xs[3] * in->pix, lanes) + wx[3] * load16(row + xs[4] * in->pix, lanes)));
					}
				} else {
					sum = zero16();
					for (int j = 0; j < ys[0]; j++) {
						const float *row = src + (int64_t)ys[1 + j] * in->w * in->pix;
						v16 part = zero16();
						for (int l = 0; l < xs[0]; l++) part += wx[l] * load16(row + xs[1 + l] * in->pix, lanes);
						sum += ((const float *)ys)[1 + cap + j] * part;
					}
				}
				sum += shift;
				if (k->relu) sum = max16(sum, zero16());
				store16(dst + ((int64_t)py * out->w + px) * out->pix, sum, lanes);
			}
		}
	}
}
KERNEL(roialign)

void rd_roialign(const rd_call *c) {
	rd_parallel(tables, c, c->k->regions);
	rd_parallel(PICK(roialign), c, (int64_t)blocks16(&c->k->out) * c->k->regions);
}

INLINE int clampi(int v, int hi) { return v < 0 ? 0 : v > hi ? hi : v; }

INLINE void roipool(const rd_call *c, int64_t from, int64_t to) {
	const rd_kernel *k = c->k;
	const rd_map *out = &k->out;
	for (int64_t i = from; i < to; i++) {
		int b = (int)(i / k->regions), r = (int)(i % k->regions);
		roi_box g = read_roi(k, c->src[k->levels] + 5 * (int64_t)r);
		const rd_map *in = &k->in[g.level];
		const float *src = c->src[g.level] + g.image * in->img + b * in->blk;
		float *dst = c->dst + r * out->img + b * out->blk;
		int lanes = lanes16(in, b);
		// Caffe's rounding: halves away from zero, the end pixel included.
		int x0 = 0, y0 = 0, x1 = 0, y1 = 0;
		if (g.valid) x0 = (int)roundf(g.x0), y0 = (int)roundf(g.y0), x1 = (int)roundf(g.x1), y1 = (int)roundf(g.y1);
		int w = x1 - x0 + 1, h = y1 - y0 + 1;
		float bw = (float)(w > 1 ? w : 1) / k->bins_w, bh = (float)(h > 1 ? h : 1) / k->bins_h;
		for (int py = 0; py < out->h; py++) {
			int ya = clampi((int)floorf(py * bh) + y0, in->h), yb = clampi((int)ceilf((py + 1) * bh) + y0, in->h);
			for (int px = 0; px < out->w; px++) {
				int xa = clampi((int)floorf(px * bw) + x0, in->w), xb = clampi((int)ceilf((px + 1) * bw) + x0, in->w);
				v16 best = g.valid && ya < yb && xa < xb ? all16(-FLT_MAX) : zero16();
				for (int y = ya; y < yb && g.valid; y++)
					for (int x = xa; x < xb; x++) best = max16(load16(src + ((int64_t)y * in->w + x) * in->pix, lanes), best);
				store16(dst + ((int64_t)py * out->w + px) * out->pix, best, lanes);
			}
		}
	}
}
KERNEL(roipool)

void rd_roipool(const rd_call *c) { rd_parallel(PICK(roipool), c, (int64_t)blocks16(&c->k->out) * c->k->regions); }
