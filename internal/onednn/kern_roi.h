//go:build cgo && linux && amd64 && !noonednn

// Regions and the tables of their samples.
#ifndef RESDET_KERN_ROI_H
#define RESDET_KERN_ROI_H

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

// A region in feature pixels of its level. One of no image of the batch, or
// with a corner that is not finite or beyond what float32 can tell from its
// neighbour by a quarter of a pixel, is not valid and pools to zeros.
typedef struct {
	int valid, level, image;
	float x0, y0, x1, y1;
} roi_box;

roi_box rd_read_roi(const rd_kernel *k, const float *roi);

#endif
