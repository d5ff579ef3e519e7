//go:build cgo && linux && amd64 && !noonednn

#pragma GCC target("avx2,fma")
#define LANES 8
#define VERSION rd_version_avx2
#include "version.h"
