//go:build cgo && linux && amd64 && !noonednn

// What Winograd's convolution and the gradient of its weights share.
#ifndef RESDET_VEC_TILE_H
#define RESDET_VEC_TILE_H

#include "kern_wino.h"
#include "vec.h"

// Bᵀ of six values that lie step apart, in place.
INLINE void transform_in(vec *d, int step) {
	vec d0 = d[0], d1 = d[step], d2 = d[2 * step], d3 = d[3 * step], d4 = d[4 * step], d5 = d[5 * step];
	vec ea = d4 - B * B * d2, oa = d3 - B * B * d1;
	vec eb = d4 - A * A * d2, ob = d3 - A * A * d1;
	d[0] = A * A * B * B * d0 - (A * A + B * B) * d2 + d4;
	d[step] = ea + A * oa;
	d[2 * step] = ea - A * oa;
	d[3 * step] = eb + B * ob;
	d[4 * step] = eb - B * ob;
	d[5 * step] = A * A * B * B * d1 - (A * A + B * B) * d3 + d5;
}

// One tile of a plane of a group, whose pixels are pix apart: Bᵀ d B of the 6×6 pixels from (y0, x0) on,
// which may lie outside the plane, in 36 places vstep apart.
INLINE void in_tile(const float *plane, int64_t pix, int h, int w, int y0, int x0, float *v, int64_t vstep) {
	vec d[36];
	if (y0 >= 0 && x0 >= 0 && y0 + 6 <= h && x0 + 6 <= w) {
		for (int y = 0; y < 6; y++) // what the next tile but one reads anew
			for (int x = 10; x < 14; x++) __builtin_prefetch(plane + ((int64_t)(y0 + y) * w + x0 + x) * pix, 0, 3);
		for (int y = 0; y < 6; y++)
			for (int x = 0; x < 6; x++) d[y * 6 + x] = *(const vec *)(plane + ((int64_t)(y0 + y) * w + x0 + x) * pix);
	} else {
		for (int y = 0; y < 6; y++)
			for (int x = 0; x < 6; x++) {
				int yy = y0 + y, xx = x0 + x;
				d[y * 6 + x] = yy >= 0 && yy < h && xx >= 0 && xx < w ? *(const vec *)(plane + ((int64_t)yy * w + xx) * pix) : zeros();
			}
	}
#pragma GCC unroll 6
	for (int x = 0; x < 6; x++) transform_in(d + x, 6);
#pragma GCC unroll 6
	for (int y = 0; y < 6; y++) {
		transform_in(d + y * 6, 1);
		for (int x = 0; x < 6; x++) *(vec *)(v + (y * 6 + x) * vstep) = d[y * 6 + x];
	}
}

#endif
