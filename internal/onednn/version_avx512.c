//go:build cgo && linux && amd64 && !noonednn

#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx2,fma")
#define LANES 16
#define VERSION rd_version_avx512
#include "version.h"
