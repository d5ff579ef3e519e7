//go:build cgo && linux && amd64 && !noonednn

#define LANES 4
#define VERSION rd_version_base
#include "version.h"
