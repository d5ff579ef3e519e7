//go:build cgo && linux && amd64 && !noonednn

#include <omp.h>

#include <oneapi/dnnl/dnnl.h>

#include "kern_isa.h"

int rd_isa(void) {
	static int isa = -1;
	if (isa < 0) {
		int allowed = dnnl_get_effective_cpu_isa();
		int have = RD_BASE;
		if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && (allowed & dnnl_cpu_isa_avx2) == dnnl_cpu_isa_avx2) have = RD_AVX2;
		if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
		    __builtin_cpu_supports("avx512dq") && (allowed & dnnl_cpu_isa_avx512_core) == dnnl_cpu_isa_avx512_core)
			have = RD_AVX512;
		isa = have;
	}
	return isa;
}

const rd_version_table *rd_version(void) { return rd_isa() == RD_AVX512 ? &rd_version_avx512 : rd_isa() == RD_AVX2 ? &rd_version_avx2 : &rd_version_base; }

void rd_parallel(rd_items run, const rd_call *c, int64_t n) {
#pragma omp parallel if (n > 1)
	{
		int64_t team = omp_get_num_threads(), me = omp_get_thread_num();
		int64_t from = n * me / team, to = n * (me + 1) / team;
		if (from < to) run(c, from, to);
	}
}

size_t rd_kernel_scratch(const rd_kernel *k) {
	switch (k->kind) {
	case RD_ROIALIGN: return rd_roialign_scratch(k);
	case RD_WINOGRAD: return rd_winograd_scratch(k);
	case RD_GEMM: return rd_gemm_scratch(k);
	case RD_STRIDED: return rd_strided_scratch(k);
	}
	return rd_gradient_scratch(k);
}

void rd_kernel_run(const rd_kernel *k, const float *const *src, float *dst, void *scratch) {
	rd_call c = {k, src, dst, scratch};
	if (rd_gradient(&c)) return;
	switch (k->kind) {
	case RD_POINTWISE: rd_vectors(rd_version()->pointwise, &c, rows(&k->out)); break;
	case RD_MAXPOOL: rd_vectors(rd_version()->maxpool, &c, rows(&k->out)); break;
	case RD_UPSAMPLE: rd_vectors(rd_version()->upsample, &c, rows(&k->out)); break;
	case RD_MEAN: rd_vectors(rd_version()->mean, &c, (int64_t)k->in[0].n * blocks16(&k->in[0])); break;
	case RD_ROIALIGN: rd_roialign(&c); break;
	case RD_ROIPOOL: rd_roipool(&c); break;
	case RD_WINOGRAD: rd_winograd(&c); break;
	case RD_GEMM: rd_gemm(&c); break;
	case RD_STRIDED: rd_strided(&c); break;
	}
}
