//go:build cgo && linux && amd64 && !noonednn

// Vector kernels of our own, for what oneDNN has not or does worse: regions,
// pooling, repetition, sums. Each comes in three versions (AVX-512, AVX2, any
// x86-64) of one source, chosen at run time; see kern_isa.h.
#ifndef RESDET_KERN_H
#define RESDET_KERN_H

#include <stddef.h>
#include <stdint.h>

// Types of elements. Integers stand for themselves times a step.
enum { RD_FLOAT32, RD_BFLOAT16, RD_UINT8, RD_SINT8 };

// A four-dimensional array whose channels lie in groups of 16 beside each
// other. Strides are in elements; rows follow each other (w·pix). Kernels of
// regions, pooling, repetition, means and sums take any type of elements, the
// others floats.
typedef struct {
	int type;
	float step, inverse; // of integers
	int n, c, h, w;
	int64_t img, blk, pix; // from image to image, 16 channels to the next 16, pixel to pixel
	int padded;            // lanes beyond c exist in memory (and are zero)
} rd_map;

enum { RD_LEVELS = 8 };

enum { RD_POINTWISE, RD_MAXPOOL, RD_UPSAMPLE, RD_MEAN, RD_ROIALIGN, RD_ROIPOOL, RD_WINOGRAD, RD_GEMM, RD_STRIDED };
// Of gradients:
enum {
	RD_CHANNEL_SUM = 32,
	RD_SCALED_SUM,
	RD_MAXPOOL_GRAD,
	RD_UPSAMPLE_GRAD,
	RD_MEAN_GRAD,
	RD_ROIALIGN_GRAD,
	RD_ROIPOOL_GRAD,
	RD_FLATTEN,
	RD_UNFLATTEN,
	RD_REPACK_GEMM,
	RD_REPACK_WINOGRAD,
	RD_OUTER,
	RD_WINOGRAD_GRAD,
	RD_REPACK_STRIDED
};

// One kernel with its attributes; unused ones are 0.
typedef struct {
	int kind;
	int levels;          // of region kernels; the regions are the source after them
	rd_map in[RD_LEVELS], out;
	int relu;
	const float *scale, *shift; // per channel, padded with zeros to 16; NULL without
	int kernel, stride, pad;    // maxpool, convolutions
	int regions, bins_h, bins_w, every, sampling, aligned;
	float spatial[RD_LEVELS]; // feature pixels per network pixel
	int canonical_level, first_level;
	float canonical_size, canonical_extra;
	int sum, pool; // winograd, gemm: add what is in dst; winograd: write 2×2 maxima
	int threads;   // that scratch memory is for
	int block;     // winograd: groups of tiles that a thread works on; 0: by the channels

	// Of gradients. grad is the array of dy; rois the source that the regions
	// are, after those of in and dy; level the one whose gradient is made.
	rd_map grad;
	int rois, level;
	int mul;  // pointwise: the second source is a factor
	int mask; // the result is 0 where this source, laid out like in[mask], is not positive; 0: none
	int64_t rows, per_row; // of a dense array; of packed weights, output and input channels
	int transposed;        // repack: the weights are those of the gradient's operation
} rd_kernel;

// rd_kernel_scratch returns the bytes of scratch memory that k needs.
size_t rd_kernel_scratch(const rd_kernel *k);

// Learned arrays as a model has them, row-major: floats or, if those are NULL,
// IEEE halves; output channel o is multiplied by scale[o] unless that is NULL.
#define RD_SOURCE const float *floats, const uint16_t *half, const double *scale

// Weights of RD_WINOGRAD: bytes and layout of what rd_winograd_pack makes of
// [oc c 3 3]; oc is a multiple of 32, c of 16.
size_t rd_winograd_weights(int oc, int c);
void rd_winograd_pack(RD_SOURCE, int oc, int c, float *packed);

// Weights of RD_GEMM: bytes and layout of what rd_gemm_pack makes of
// [oc c pixels]; terms is c, up to a multiple of 16, times pixels. It returns
// 0, or 1 for want of memory.
size_t rd_gemm_weights(int oc, int terms);
int rd_gemm_pack(RD_SOURCE, int oc, int c, int pixels, float *packed);

// Weights of RD_STRIDED: bytes and layout of what rd_strided_pack makes of
// [oc c kernel kernel]; channels are multiples of 16. It returns 0, or 1 for want
// of memory.
size_t rd_strided_weights(int oc, int c, int kernel);
int rd_strided_pack(RD_SOURCE, int oc, int c, int kernel, float *packed);

// rd_widen gives the source's [rows][per_row] as scaled floats.
void rd_widen(RD_SOURCE, int rows, int64_t per_row, float *dst);

// Weights of 8-bit layers: each row of the source becomes round(w/step) with
// step = max|w|/largest, 1 for rows of zeros. rows may be NULL. It returns 0, or 1
// for want of memory.
int rd_pack8(RD_SOURCE, int oc, int64_t per_row, float largest, float *steps, int8_t *rows);

// rd_kernel_run computes k on the calling thread's OpenMP team.
void rd_kernel_run(const rd_kernel *k, const float *const *src, float *dst, void *scratch);

#endif
