//go:build cgo && linux && amd64 && !noonednn

// The table of one version of all vector kernels; see kern_isa.h.
#include "vec_grads.h"
#include "vec_maps.h"
#include "vec_regions.h"
#include "vec_weights.h"
#if LANES > 4
#include "vec_wino.h"
#include "vec_wino_grad.h"
#endif
#if LANES == 8
#include "vec_strided.h"
#endif

const rd_version_table VERSION = {
	.parts = PARTS,
	.pointwise = pointwise,
	.maxpool = maxpool,
	.upsample = upsample,
	.mean = mean,
	.roialign = roialign,
	.roipool = roipool,
	.channel_sum = channel_sum,
	.scaled_sum = scaled_sum,
	.maxpool_grad = maxpool_grad,
	.upsample_grad = upsample_grad,
	.mean_grad = mean_grad,
	.roialign_grad = roialign_grad,
	.roipool_grad = roipool_grad,
	.scale = scale,
	.magnitude = magnitude,
	.round8 = round8,
#if LANES > 4
	.panel = PANEL,
	.group = GROUP,
	.wino_pack = wino_pack,
	.wino_repack = wino_repack,
	.wino_tiles = wino_tiles,
	.wino_grad_tiles = wino_grad_tiles,
	.wino_grad_finish = wino_grad_finish,
#endif
#if LANES == 8
	.strided = strided,
#endif
};
