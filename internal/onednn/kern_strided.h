//go:build cgo && linux && amd64 && !noonednn

#ifndef RESDET_KERN_STRIDED_H
#define RESDET_KERN_STRIDED_H

#include "kern_isa.h"

enum { RD_STRIDED_BLOCKS = 512 / 16, RD_STRIDED_ROWS = 16 * RD_GROUP8 }; // blocks of terms, pixels at a time

#endif
