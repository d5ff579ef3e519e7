//go:build cgo && linux && amd64 && !noonednn

// Vector kernels of our own, for what oneDNN has not or does worse: regions,
// pooling, repetition, sums. Each comes in three versions (AVX-512, AVX2, any
// x86-64) of one source, chosen at run time; see kern_isa.h.
#ifndef RESDET_KERN_H
#define RESDET_KERN_H

#include <stddef.h>
#include <stdint.h>

// A four-dimensional array whose channels lie in groups of 16 beside each
// other. Strides are in floats; rows follow each other (w·pix).
typedef struct {
	int n, c, h, w;
	int64_t img, blk, pix; // from image to image, 16 channels to the next 16, pixel to pixel
	int padded;            // lanes beyond c exist in memory (and are zero)
} rd_map;

enum { RD_LEVELS = 8 };

enum { RD_POINTWISE, RD_MAXPOOL, RD_UPSAMPLE, RD_MEAN, RD_ROIALIGN, RD_ROIPOOL, RD_WINOGRAD, RD_GEMM };

// One kernel with its attributes; unused ones are 0.
typedef struct {
	int kind;
	int levels;          // of region kernels; the regions are the source after them
	rd_map in[RD_LEVELS], out;
	int relu;
	const float *scale, *shift; // per channel, padded with zeros to 16; NULL without
	int kernel, stride, pad;    // maxpool
	int regions, bins_h, bins_w, every, sampling, aligned;
	float spatial[RD_LEVELS]; // feature pixels per network pixel
	int canonical_level, first_level;
	float canonical_size;
	int sum, pool; // winograd, gemm: add what is in dst; winograd: write 2×2 maxima
	int threads;   // that scratch memory is for
} rd_kernel;

// rd_kernel_scratch returns the bytes of scratch memory that k needs.
size_t rd_kernel_scratch(const rd_kernel *k);

// Weights of RD_WINOGRAD: bytes and layout of what rd_winograd_pack makes of
// [oc c 3 3]; oc is a multiple of 32, c of 16.
size_t rd_winograd_weights(int oc, int c);
void rd_winograd_pack(const float *weights, int oc, int c, float *packed);

// Weights of RD_GEMM: bytes and layout of what rd_gemm_pack makes of
// [oc c pixels]; terms is c, up to a multiple of 16, times pixels.
size_t rd_gemm_weights(int oc, int terms);
void rd_gemm_pack(const float *weights, int oc, int c, int pixels, float *packed);

// rd_kernel_run computes k on the calling thread's OpenMP team.
void rd_kernel_run(const rd_kernel *k, const float *const *src, float *dst, void *scratch);

#endif
