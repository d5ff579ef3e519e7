//go:build cgo && linux && amd64 && !noonednn

#ifndef RESDET_KERN_WINO_H
#define RESDET_KERN_WINO_H

#include "kern_isa.h"

INLINE int64_t odd_lines(int64_t floats) { return ((floats + 15) / 16 | 1) * 16; } // not all in one set of the cache

// The points are 0, ±A, ±B, ∞.
#define A 0.625f
#define B 1.5f

// The gradient of the weights, as vec_wino_grad.h has it.
typedef struct rd_wino_grad_plan {
	int tiles, rows, cols; // of all images; per image
	int count;             // tiles that are transformed at a time
	int64_t vstep, wstep, sstep; // floats from one of the 36 to the next
} rd_wino_grad_plan;

#endif
