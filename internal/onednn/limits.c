//go:build cgo && linux && amd64 && !noonednn

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "shim.h"

// What the machine can do at most, to hold a network's kernels against: the
// rates of large matrix products as oneDNN does them, with weights packed as it
// likes, and of memory.

static double seconds(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec * 1e-9;
}

double rd_matmul_rate(rd_engine *e, int precision, int n, int runs) {
	static const dnnl_data_type_t types[][3] = {
		[RD_F32] = {dnnl_f32, dnnl_f32, dnnl_f32}, [RD_BF16] = {dnnl_bf16, dnnl_bf16, dnnl_f32}, [RD_INT8] = {dnnl_u8, dnnl_s8, dnnl_s32}};
	dnnl_dims_t dims = {n, n};
	dnnl_memory_desc_t md[3];
	dnnl_matmul_desc_t op;
	dnnl_primitive_desc_t pd = NULL;
	dnnl_primitive_t primitive = NULL;
	dnnl_memory_t memory[3] = {NULL};
	void *data[3] = {NULL};
	size_t size[3] = {0};
	double best = 0;
	for (int i = 0; i < 3; i++)
		if (dnnl_memory_desc_init_by_tag(&md[i], 2, dims, types[precision][i], i == 1 ? dnnl_format_tag_any : dnnl_ab)) return 0;
	if (dnnl_matmul_desc_init(&op, &md[0], &md[1], NULL, &md[2]) || dnnl_primitive_desc_create(&pd, &op, NULL, e->engine, NULL)) return 0;
	md[1] = *dnnl_primitive_desc_query_md(pd, dnnl_query_weights_md, 0);
	if (dnnl_primitive_create(&primitive, pd)) goto end;
	for (int i = 0; i < 3; i++) {
		size[i] = dnnl_memory_desc_get_size(&md[i]);
		if (!(data[i] = rd_alloc(size[i])) || dnnl_memory_create(&memory[i], &md[i], e->engine, data[i])) goto end;
		memset(data[i], 0, size[i]); // zeros take as long as other numbers, but for subnormal ones
	}
	dnnl_exec_arg_t args[] = {{DNNL_ARG_SRC, memory[0]}, {DNNL_ARG_WEIGHTS, memory[1]}, {DNNL_ARG_DST, memory[2]}};
	for (int i = 0; i <= runs; i++) {
		double start = seconds();
		if (dnnl_primitive_execute(primitive, e->stream, 3, args) || dnnl_stream_wait(e->stream)) break;
		double rate = 2.0 * n * n * n / (seconds() - start) * 1e-9;
		if (i && rate > best) best = rate; // the first run makes the code
	}
end:
	for (int i = 0; i < 3; i++) {
		if (memory[i]) dnnl_memory_destroy(memory[i]);
		if (data[i]) rd_free(data[i], size[i]);
	}
	if (primitive) dnnl_primitive_destroy(primitive);
	dnnl_primitive_desc_destroy(pd);
	return best;
}

double rd_bandwidth(int runs) {
	enum { PARTS = 3072, PART = 64 << 10 }; // 192 MB an array: more than any cache
	char *a = rd_alloc(2 * (size_t)PARTS * PART), *b = a + (size_t)PARTS * PART;
	if (!a) return 0;
	double best = 0;
	for (int i = 0; i <= runs; i++) {
		double start = seconds();
#pragma omp parallel for
		for (int part = 0; part < PARTS; part++) {
			size_t at = (size_t)part * PART;
			if (i == 0) memset(a + at, 0, PART);
			memcpy(b + at, a + at, PART);
		}
		double rate = 2.0 * PARTS * PART / (seconds() - start) * 1e-9;
		if (i && rate > best) best = rate;
	}
	rd_free(a, 2 * (size_t)PARTS * PART);
	return best;
}
