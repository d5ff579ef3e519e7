//go:build cgo && linux && amd64 && !noonednn

// Learned arrays on their way to a kernel's layout.
#ifndef RESDET_VEC_WEIGHTS_H
#define RESDET_VEC_WEIGHTS_H

#include <math.h>

#include "vec.h"

static void scale(float *f, int64_t n, double s) {
	for (int64_t i = 0; i < n; i++) f[i] = (float)((double)f[i] * s);
}

static float magnitude(const float *f, int64_t n) {
	vec most = zeros();
	int64_t i = 0;
	for (; i + LANES <= n; i += LANES) most = larger(larger(*(const vec *)(f + i), -*(const vec *)(f + i)), most);
	float m = 0;
	for (int j = 0; j < LANES; j++) m = most[j] > m ? most[j] : m;
	for (; i < n; i++) m = fabsf(f[i]) > m ? fabsf(f[i]) : m;
	return m;
}

static void round8(const float *f, int64_t n, float inverse, int8_t *q) {
	rd_map m = {.type = RD_SINT8, .inverse = inverse};
	for (int64_t i = 0; i < n; i += LANES) {
		int lanes = n - i < LANES ? (int)(n - i) : LANES;
		write(&m, q, i, load(f + i, lanes), lanes);
	}
}

#endif
