//go:build cgo && linux && amd64 && !noonednn

#include <immintrin.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kern_isa.h"

// Learned arrays on their way to a kernel's layout: halves become floats and
// rows are multiplied by a folded norm's scale, in double precision, while a
// few kilobytes of them are in the first-level cache.

static float half_to_float(uint16_t h) {
	uint32_t sign = (uint32_t)(h & 0x8000) << 16, rest = h & 0x7fff, bits;
	if (rest >= 0x7c00) // infinity, not a number
		bits = 0x7f800000 | rest << 13;
	else if (rest >= 0x400)
		bits = (rest << 13) + ((127 - 15) << 23);
	else { // subnormal: rest · 2⁻²⁴
		float f = (float)rest * 0x1p-24f;
		memcpy(&bits, &f, 4);
	}
	bits |= sign;
	float f;
	memcpy(&f, &bits, 4);
	return f;
}

static void widen_base(const uint16_t *h, int64_t n, float *f) {
	for (int64_t i = 0; i < n; i++) f[i] = half_to_float(h[i]);
}

__attribute__((target("avx,f16c"))) static void widen_f16c(const uint16_t *h, int64_t n, float *f) {
	int64_t i = 0;
	for (; i + 8 <= n; i += 8) _mm256_storeu_ps(f + i, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(h + i))));
	widen_base(h + i, n - i, f + i);
}

void rd_read(const rd_source *s, int row, int64_t from, int64_t n, float *dst) {
	int64_t at = row * s->per_row + from;
	if (s->floats)
		memcpy(dst, s->floats + at, n * sizeof *dst);
	else if (rd_isa() >= RD_AVX2 && __builtin_cpu_supports("f16c"))
		widen_f16c(s->half + at, n, dst);
	else
		widen_base(s->half + at, n, dst);
	if (s->scale) rd_version()->scale(dst, n, s->scale[row]);
}

void rd_widen(RD_SOURCE, int rows, int64_t per_row, float *dst) {
	enum { PIECE = 4096 };
	rd_source s = {floats, half, scale, per_row};
	int64_t pieces = (per_row + PIECE - 1) / PIECE;
#pragma omp parallel for
	for (int64_t i = 0; i < rows * pieces; i++) {
		int row = (int)(i / pieces);
		int64_t from = i % pieces * PIECE, left = per_row - from;
		rd_read(&s, row, from, left < PIECE ? left : PIECE, dst + row * per_row + from);
	}
}

int rd_pack8(RD_SOURCE, int oc, int64_t per_row, float largest, float *steps, int8_t *rows) {
	rd_source s = {floats, half, scale, per_row};
	int failed = 0;
#pragma omp parallel
	{
		float *row = malloc(sizeof(float) * per_row);
		if (!row) __atomic_store_n(&failed, 1, __ATOMIC_RELAXED);
#pragma omp for
		for (int o = 0; o < oc; o++) {
			if (!row) continue;
			rd_read(&s, o, 0, per_row, row);
			float most = rd_version()->magnitude(row, per_row);
			steps[o] = most > 0 ? most / largest : 1;
			if (rows) rd_version()->round8(row, per_row, most > 0 ? largest / most : 0, rows + o * per_row);
		}
		free(row);
	}
	return failed;
}

// U[O/32][terms][32]; terms are in the order of [C/16][pixels][16].
int rd_gemm_pack(RD_SOURCE, int oc, int c, int pixels, float *u) {
	rd_source s = {floats, half, scale, (int64_t)c * pixels};
	int padded = (c + 15) / 16 * 16, panels = (oc + RD_PANEL - 1) / RD_PANEL;
	int chunk = pixels < 32 ? 512 / pixels / 16 * 16 : 16; // channels that are read at once
	int failed = 0;
#pragma omp parallel
	{
		float *row = malloc(sizeof(float) * chunk * pixels);
		if (!row) __atomic_store_n(&failed, 1, __ATOMIC_RELAXED);
#pragma omp for
		for (int q = 0; q < panels; q++) {
			if (!row) continue;
			float *panel = u + (int64_t)q * RD_PANEL * padded * pixels;
			for (int first = 0; first < padded; first += chunk) {
				int end = first + chunk < padded ? first + chunk : padded, have = (end < c ? end : c) - first;
				for (int i = 0; i < RD_PANEL; i++) {
					int o = q * RD_PANEL + i;
					if (o < oc) rd_read(&s, o, (int64_t)first * pixels, (int64_t)have * pixels, row);
					for (int k = first; k < end; k++)
						for (int p = 0; p < pixels; p++)
							panel[((int64_t)(k / 16 * pixels + p) * 16 + k % 16) * RD_PANEL + i] = o < oc && k < c ? row[(k - first) * pixels + p] : 0;
				}
			}
		}
		free(row);
	}
	return failed;
}

// The same of weights that change, read where they lie: items are panels.
// Transposed, rows of the weights are the terms.
static void repack_gemm(const rd_call *c, int64_t from, int64_t to) {
	const rd_kernel *k = c->k;
	int64_t oc = k->rows, terms = k->per_row, padded = (terms + 15) / 16 * 16;
	const float *w = c->src[0];
	for (int64_t q = from; q < to; q++) {
		float *panel = c->dst + q * RD_PANEL * padded;
		int64_t first = q * RD_PANEL, n = oc - first < RD_PANEL ? oc - first : RD_PANEL;
		if (n < RD_PANEL || terms < padded) memset(panel, 0, sizeof(float) * RD_PANEL * padded);
		if (k->transposed)
			for (int64_t t = 0; t < terms; t++) {
				float s = k->scale ? k->scale[t] : 1;
				for (int i = 0; i < n; i++) panel[t * RD_PANEL + i] = s * w[t * oc + first + i];
			}
		else
			for (int64_t t = 0; t < terms; t += 16)
				for (int i = 0; i < n; i++) {
					float s = k->scale ? k->scale[first + i] : 1;
					for (int64_t j = t; j < t + 16 && j < terms; j++) panel[j * RD_PANEL + i] = s * w[(first + i) * terms + j];
				}
	}
}
void rd_repack_gemm(const rd_call *c) { rd_parallel(repack_gemm, c, (c->k->rows + RD_PANEL - 1) / RD_PANEL); }
