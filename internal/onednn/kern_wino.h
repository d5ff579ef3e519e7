//go:build cgo && linux && amd64 && !noonednn

#ifndef RESDET_KERN_WINO_H
#define RESDET_KERN_WINO_H

#include "kern_isa.h"

INLINE int64_t odd_lines(int64_t floats) { return ((floats + 15) / 16 | 1) * 16; } // not all in one set of the cache

#endif
