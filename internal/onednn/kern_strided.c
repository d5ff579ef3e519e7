//go:build cgo && linux && amd64 && !noonednn

#include <omp.h>
#include <stdlib.h>

#include "kern_strided.h"

// Convolutions with a stride, for nhwc and 256-bit vectors, where the library
// reaches a third of its own rate: those of a few hundred pixels of a stage's
// first block, or of many regions.
//
//	out[pixel][oc] = relu(Σ in[pixel·stride + tap][c]·U[tap][c][oc] + shift)
//
// What a block of pixels reads is copied, 512 terms at a time, to be the rows of
// the inner product: V[terms/16][pixels][16] stays in the second-level cache
// while the share of U passes by, and M[O/16][pixels][16] holds the sums. Items
// are blocks of pixels.
static int rows_of(const rd_kernel *k) {
	int64_t pixels = (int64_t)k->out.n * k->out.h * k->out.w, blocks = (pixels + RD_STRIDED_ROWS - 1) / RD_STRIDED_ROWS;
	blocks = (blocks + k->threads - 1) / k->threads * k->threads;
	return (int)((pixels + blocks - 1) / blocks);
}

static size_t thread_floats(const rd_kernel *k) { return (size_t)rows_of(k) * (RD_STRIDED_BLOCKS * 16 + k->out.c); }

size_t rd_strided_scratch(const rd_kernel *k) { return sizeof(float) * thread_floats(k) * k->threads; }

void rd_strided(const rd_call *c) {
	int64_t pixels = (int64_t)c->k->out.n * c->k->out.h * c->k->out.w, rows = rows_of(c->k);
#pragma omp parallel for schedule(dynamic)
	for (int64_t first = 0; first < pixels; first += rows) {
		float *v = (float *)c->scratch + omp_get_thread_num() * thread_floats(c->k);
		rd_version()->strided(c, first, (int)(pixels - first < rows ? pixels - first : rows), v, v + rows * RD_STRIDED_BLOCKS * 16);
	}
}

size_t rd_strided_weights(int oc, int c, int kernel) { return sizeof(float) * oc * c * kernel * kernel; }

// A row of weights [c taps] in column i of its panel, U[O/16][taps][C][16].
static void place(const float *row, int c, int taps, float scale, int o, float *u) {
	u += (int64_t)(o / RD_PANEL8) * RD_PANEL8 * c * taps + o % RD_PANEL8;
	for (int k = 0; k < c; k++)
		for (int t = 0; t < taps; t++) u[((int64_t)t * c + k) * RD_PANEL8] = scale * row[k * taps + t];
}

int rd_strided_pack(RD_SOURCE, int oc, int c, int kernel, float *u) {
	int taps = kernel * kernel, failed = 0;
	rd_source s = {floats, half, scale, (int64_t)c * taps};
#pragma omp parallel
	{
		float *row = malloc(sizeof(float) * c * taps);
		if (!row) __atomic_store_n(&failed, 1, __ATOMIC_RELAXED);
#pragma omp for schedule(static, RD_PANEL8)
		for (int o = 0; o < oc; o++) {
			if (!row) continue;
			rd_read(&s, o, 0, s.per_row, row);
			place(row, c, taps, 1, o, u);
		}
		free(row);
	}
	return failed;
}

// The same of weights that change: items are panels.
static void repack_strided(const rd_call *c, int64_t from, int64_t to) {
	const rd_kernel *k = c->k;
	int taps = k->kernel * k->kernel, channels = (int)k->per_row;
	for (int o = (int)from * RD_PANEL8; o < to * RD_PANEL8; o++)
		place(c->src[0] + (int64_t)o * channels * taps, channels, taps, k->scale ? k->scale[o] : 1, o, c->dst);
}
void rd_repack_strided(const rd_call *c) { rd_parallel(repack_strided, c, c->k->rows / RD_PANEL8); }
