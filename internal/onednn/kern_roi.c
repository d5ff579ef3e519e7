//go:build cgo && linux && amd64 && !noonednn

#include <math.h>

#include "kern_roi.h"

size_t rd_roialign_scratch(const rd_kernel *k) { return table_bytes(k) * k->regions; }

INLINE int level_of(const rd_kernel *k, const float *roi) {
	if (k->levels == 1) return 0;
	float area = (roi[3] - roi[1] + k->canonical_extra) * (roi[4] - roi[2] + k->canonical_extra);
	float level = floorf(k->canonical_level + log2f(sqrtf(area) / k->canonical_size) + 1e-6f) - k->first_level;
	if (!(level > 0)) return 0; // also −∞ and NaN of empty regions
	return level < k->levels - 1 ? (int)level : k->levels - 1;
}

roi_box rd_read_roi(const rd_kernel *k, const float *roi) {
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
		roi_box g = rd_read_roi(k, c->src[k->rois] + 5 * r);
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

void rd_roialign(const rd_call *c) {
	rd_parallel(tables, c, c->k->regions);
	rd_vectors(rd_version()->roialign, c, (int64_t)blocks16(&c->k->out) * c->k->regions);
}

void rd_roipool(const rd_call *c) { rd_vectors(rd_version()->roipool, c, (int64_t)blocks16(&c->k->out) * c->k->regions); }

void rd_roialign_grad(const rd_call *c) {
	rd_parallel(tables, c, c->k->regions);
	rd_vectors(rd_version()->roialign_grad, c, blocks16(&c->k->out));
}

void rd_roipool_grad(const rd_call *c) { rd_vectors(rd_version()->roipool_grad, c, blocks16(&c->k->out)); }
