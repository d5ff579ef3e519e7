//go:build cgo && linux && amd64 && !noonednn

#define _GNU_SOURCE
#include "shim.h"

#include <omp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#define TRY(call)                           \
	do {                                    \
		dnnl_status_t status_ = (call);     \
		if (status_ != dnnl_success) return status_; \
	} while (0)

// start_team makes OpenMP's threads with all signals blocked, which they
// inherit: a profiler's signals on them crash oneDNN's matrix products with a
// damaged heap, in plain C too. Our guess is that its generated code moves the
// stack pointer about, and a handler's frame then lies where it must not: the
// team has no signal stacks of its own. It lives as long as the calling thread.
static void start_team(int threads) {
	sigset_t all, before;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	omp_set_num_threads(threads);
#pragma omp parallel
	__asm__ volatile(""); // or the region is optimised away
	pthread_sigmask(SIG_SETMASK, &before, NULL);
}

int rd_engine_new(rd_engine **out, int threads) {
	start_team(threads);
	rd_engine *e = calloc(1, sizeof *e);
	if (!e) return dnnl_out_of_memory;
	dnnl_status_t s = dnnl_engine_create(&e->engine, dnnl_cpu, 0);
	if (s == dnnl_success) s = dnnl_stream_create(&e->stream, e->engine, dnnl_stream_default_flags);
	if (s != dnnl_success) {
		rd_engine_free(e);
		return s;
	}
	*out = e;
	return 0;
}

void rd_engine_free(rd_engine *e) {
	if (e->stream) dnnl_stream_destroy(e->stream);
	if (e->engine) dnnl_engine_destroy(e->engine);
	free(e);
}

enum { HUGE_PAGE = 2 << 20 };

void *rd_alloc(size_t bytes) {
	void *p = NULL;
	if (bytes < 4 * HUGE_PAGE) return posix_memalign(&p, 64, bytes ? bytes : 64) ? NULL : p;
	// Straight from the system, so that it goes straight back when freed.
	size_t room = bytes + HUGE_PAGE;
	char *m = mmap(NULL, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (m == MAP_FAILED) return NULL;
	char *start = (char *)(((uintptr_t)m + HUGE_PAGE - 1) & ~(uintptr_t)(HUGE_PAGE - 1));
	if (start > m) munmap(m, start - m);
	char *end = (char *)(((uintptr_t)start + bytes + 4095) & ~(uintptr_t)4095);
	if (m + room > end) munmap(end, m + room - end);
	madvise(start, end - start, MADV_HUGEPAGE);
	return start;
}

void *rd_reserve(size_t bytes) {
	void *m = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	return m == MAP_FAILED ? NULL : m;
}

void rd_free(void *p, size_t bytes) {
	if (bytes < 4 * HUGE_PAGE)
		free(p);
	else
		munmap(p, (bytes + 4095) & ~(size_t)4095);
}

static const dnnl_data_type_t data_types[] = {[RD_FLOAT32] = dnnl_f32, [RD_BFLOAT16] = dnnl_bf16, [RD_UINT8] = dnnl_u8, [RD_SINT8] = dnnl_s8};

static dnnl_status_t describe(dnnl_memory_desc_t *d, const int dims[4], int layout, int type) {
	static const dnnl_format_tag_t tags[] = {[RD_NCHW] = dnnl_nchw, [RD_NHWC] = dnnl_nhwc, [RD_NCHW16C] = dnnl_nChw16c, [RD_ROWS] = dnnl_nc};
	dnnl_dims_t d64 = {dims[0], dims[1], dims[2], dims[3]};
	return dnnl_memory_desc_init_by_tag(d, layout == RD_ROWS ? 2 : 4, d64, data_types[type], tags[layout]);
}

// weights_type returns the type of weights that are multiplied with the given one.
static dnnl_data_type_t weights_type(int type) { return type == RD_FLOAT32 || type == RD_BFLOAT16 ? data_types[type] : dnnl_s8; }

// An operation and its gradients: descriptors of the arrays as they are (0) and
// as the operation itself would have them (1), which is a gradient's hint. That
// has one type throughout, that of what is multiplied.
typedef struct {
	dnnl_memory_desc_t src[2], weights[2], dst[2], bias;
} arrays;

static dnnl_status_t describe_all(arrays *a, const rd_types *t, int direction, const int x[4], int xl, const int y[4], int yl, int wn, const dnnl_dims_t w, dnnl_format_tag_t tag) {
	int operand = direction == RD_TO_INPUT ? t->dst : t->src;
	TRY(describe(&a->src[0], x, xl, t->src));
	TRY(describe(&a->dst[0], y, yl, t->dst));
	TRY(describe(&a->src[1], x, xl, operand));
	TRY(describe(&a->dst[1], y, yl, operand));
	TRY(dnnl_memory_desc_init_by_tag(&a->weights[1], wn, w, weights_type(operand), tag));
	TRY(dnnl_memory_desc_init_by_tag(&a->weights[0], wn, w, direction == RD_TO_WEIGHTS ? dnnl_f32 : weights_type(operand), tag));
	return dnnl_memory_desc_init_by_tag(&a->bias, 1, w, dnnl_f32, dnnl_x);
}

// wrong reports whether an implementation computes nonsense. oneDNN 2.6.3's 1x1
// convolution of bfloat16 on CPUs with products of it takes channels two by two,
// and of an odd number of them gives an input's gradient that is far off.
static int wrong(const_dnnl_primitive_desc_t pd, int direction) {
	const char *impl = NULL;
	if (direction != RD_TO_INPUT || dnnl_primitive_desc_query(pd, dnnl_query_impl_info_str, 0, &impl) || !strstr(impl, "bf16_1x1")) return 0;
	return dnnl_primitive_desc_query_md(pd, dnnl_query_diff_dst_md, 0)->dims[1] % 2;
}

// describe_primitive takes the first implementation that is not wrong.
static dnnl_status_t describe_primitive(rd_engine *e, const_dnnl_op_desc_t op, const_dnnl_primitive_attr_t attr, const_dnnl_primitive_desc_t forward, int direction, dnnl_primitive_desc_t *out) {
	dnnl_primitive_desc_iterator_t all = NULL;
	dnnl_status_t s = dnnl_primitive_desc_iterator_create(&all, op, attr, e->engine, forward);
	while (!s) {
		*out = dnnl_primitive_desc_iterator_fetch(all);
		if (!*out || !wrong(*out, direction)) break;
		dnnl_primitive_desc_destroy(*out);
		*out = NULL;
		s = dnnl_primitive_desc_iterator_next(all);
	}
	if (!s && !*out) s = dnnl_unimplemented;
	if (all) dnnl_primitive_desc_iterator_destroy(all);
	return s;
}

// create makes the primitive of an operation descriptor and asks what it chose;
// a gradient's descriptor stands after that of the operation itself, hint.
static dnnl_status_t create(rd_engine *e, const_dnnl_op_desc_t op, const rd_types *t, int oc, int sum, int relu, int direction, const_dnnl_op_desc_t hint, rd_primitive **out) {
	dnnl_primitive_attr_t attr = NULL;
	dnnl_post_ops_t post = NULL;
	dnnl_primitive_desc_t pd = NULL, forward = NULL;
	rd_primitive *p = calloc(1, sizeof *p);
	dnnl_status_t s = p ? dnnl_primitive_attr_create(&attr) : dnnl_out_of_memory;
	if (!s) s = dnnl_primitive_attr_set_scratchpad_mode(attr, dnnl_scratchpad_mode_user);
	if (!s && hint) s = dnnl_primitive_desc_create(&forward, hint, attr, e->engine, NULL);
	if (!s) s = dnnl_post_ops_create(&post);
	if (!s && t->scales) s = dnnl_primitive_attr_set_output_scales(attr, oc, 1 << 1, t->scales);
	if (!s && sum) s = t->src == RD_FLOAT32 ? dnnl_post_ops_append_sum(post, 1) : dnnl_post_ops_append_sum_v2(post, t->sum_scale, data_types[t->sum]);
	if (!s && relu) s = dnnl_post_ops_append_eltwise(post, 1, dnnl_eltwise_relu, 0, 0);
	if (!s) s = dnnl_primitive_attr_set_post_ops(attr, post);
	if (!s) s = describe_primitive(e, op, attr, forward, direction, &pd);
	if (!s) s = dnnl_primitive_create(&p->primitive, pd);
	if (!s) {
		p->direction = direction;
		p->src = *dnnl_primitive_desc_query_md(pd, direction == RD_TO_INPUT ? dnnl_query_diff_src_md : dnnl_query_src_md, 0);
		p->dst = *dnnl_primitive_desc_query_md(pd, direction == RD_FORWARD ? dnnl_query_dst_md : dnnl_query_diff_dst_md, 0);
		p->weights = *dnnl_primitive_desc_query_md(pd, direction == RD_TO_WEIGHTS ? dnnl_query_diff_weights_md : dnnl_query_weights_md, 0);
		p->bias = *dnnl_primitive_desc_query_md(pd, dnnl_query_weights_md, 1);
		p->scratch = *dnnl_primitive_desc_query_md(pd, dnnl_query_scratchpad_md, 0);
		const char *impl = NULL;
		dnnl_primitive_desc_query(pd, dnnl_query_impl_info_str, 0, &impl);
		strncpy(p->impl, impl ? impl : "", sizeof p->impl - 1);
		*out = p;
	} else if (p)
		rd_primitive_free(p);
	if (pd) dnnl_primitive_desc_destroy(pd);
	if (forward) dnnl_primitive_desc_destroy(forward);
	if (post) dnnl_post_ops_destroy(post);
	if (attr) dnnl_primitive_attr_destroy(attr);
	return s;
}

void rd_primitive_free(rd_primitive *p) {
	if (p->primitive) dnnl_primitive_destroy(p->primitive);
	free(p);
}

int rd_conv_new(rd_engine *e, const rd_conv *c, const rd_types *t, int direction, rd_primitive **out) {
	arrays a;
	dnnl_dims_t w = {c->oc, c->c, c->kh, c->kw};
	TRY(describe_all(&a, t, direction, (int[]){c->n, c->c, c->h, c->w}, c->src, (int[]){c->n, c->oc, c->oh, c->ow}, c->dst, 4, w, dnnl_format_tag_any));
	dnnl_dims_t stride = {c->stride, c->stride}, left = {c->pad, c->pad};
	dnnl_dims_t right = {(c->oh - 1) * c->stride + c->kh - c->h - c->pad, (c->ow - 1) * c->stride + c->kw - c->w - c->pad};
	dnnl_alg_kind_t kind = c->winograd ? dnnl_convolution_winograd : dnnl_convolution_direct;
	dnnl_convolution_desc_t d, g;
	if (direction == RD_FORWARD) {
		TRY(dnnl_convolution_forward_desc_init(&d, dnnl_forward_inference, kind, &a.src[0], &a.weights[0], c->bias ? &a.bias : NULL, &a.dst[0], stride, left, right));
		return create(e, &d, t, c->oc, c->sum, c->relu, direction, NULL, out);
	}
	TRY(dnnl_convolution_forward_desc_init(&d, dnnl_forward_training, kind, &a.src[1], &a.weights[1], NULL, &a.dst[1], stride, left, right));
	if (direction == RD_TO_INPUT)
		TRY(dnnl_convolution_backward_data_desc_init(&g, kind, &a.src[0], &a.weights[0], &a.dst[0], stride, left, right));
	else
		TRY(dnnl_convolution_backward_weights_desc_init(&g, kind, &a.src[0], &a.weights[0], NULL, &a.dst[0], stride, left, right));
	return create(e, &g, t, 0, 0, 0, direction, &d, out);
}

int rd_linear_new(rd_engine *e, const rd_linear *l, const rd_types *t, int direction, rd_primitive **out) {
	arrays a;
	dnnl_dims_t w = {l->oc, l->c, l->h, l->w};
	TRY(describe_all(&a, t, direction, (int[]){l->rows, l->c, l->h, l->w}, l->src, (int[]){l->rows, l->oc, 0, 0}, RD_ROWS, l->src == RD_ROWS ? 2 : 4, w,
	                 l->plain ? dnnl_ab : dnnl_format_tag_any));
	dnnl_inner_product_desc_t d, g;
	if (direction == RD_FORWARD) {
		TRY(dnnl_inner_product_forward_desc_init(&d, dnnl_forward_inference, &a.src[0], &a.weights[0], &a.bias, &a.dst[0]));
		return create(e, &d, t, l->oc, 0, l->relu, direction, NULL, out);
	}
	TRY(dnnl_inner_product_forward_desc_init(&d, dnnl_forward_training, &a.src[1], &a.weights[1], NULL, &a.dst[1]));
	if (direction == RD_TO_INPUT)
		TRY(dnnl_inner_product_backward_data_desc_init(&g, &a.src[0], &a.weights[0], &a.dst[0]));
	else
		TRY(dnnl_inner_product_backward_weights_desc_init(&g, &a.src[0], &a.weights[0], NULL, &a.dst[0]));
	return create(e, &g, t, 0, 0, 0, direction, &d, out);
}

static dnnl_status_t reorder(rd_engine *e, const dnnl_memory_desc_t *src, const dnnl_memory_desc_t *dst, rd_primitive **out) {
	dnnl_primitive_attr_t attr = NULL;
	dnnl_primitive_desc_t pd = NULL;
	rd_primitive *p = calloc(1, sizeof *p);
	dnnl_status_t s = p ? dnnl_primitive_attr_create(&attr) : dnnl_out_of_memory;
	if (!s) s = dnnl_primitive_attr_set_scratchpad_mode(attr, dnnl_scratchpad_mode_user);
	if (!s) s = dnnl_reorder_primitive_desc_create(&pd, src, e->engine, dst, e->engine, attr);
	if (!s) s = dnnl_primitive_create(&p->primitive, pd);
	if (!s) {
		p->src = *src;
		p->dst = *dst;
		p->scratch = *dnnl_primitive_desc_query_md(pd, dnnl_query_scratchpad_md, 0);
		*out = p;
	} else if (p)
		rd_primitive_free(p);
	if (pd) dnnl_primitive_desc_destroy(pd);
	if (attr) dnnl_primitive_attr_destroy(attr);
	return s;
}

int rd_reorder_new(rd_engine *e, const int dims[4], int from, int to, rd_primitive **out) {
	dnnl_memory_desc_t src, dst;
	TRY(describe(&src, dims, from, RD_FLOAT32));
	TRY(describe(&dst, dims, to, RD_FLOAT32));
	return reorder(e, &src, &dst, out);
}

size_t rd_weights_size(const rd_primitive *p) { return dnnl_memory_desc_get_size(&p->weights); }

// row_major describes p's weights as a model has them.
static dnnl_status_t row_major(const rd_primitive *p, dnnl_memory_desc_t *d) {
	return dnnl_memory_desc_init_by_tag(d, p->weights.ndims, p->weights.dims, p->weights.data_type == dnnl_s8 ? dnnl_s8 : dnnl_f32, p->weights.ndims == 4 ? dnnl_abcd : dnnl_ab);
}

int rd_weights_plain(const rd_primitive *p) {
	dnnl_memory_desc_t dense;
	return row_major(p, &dense) == dnnl_success && dnnl_memory_desc_equal(&dense, &p->weights);
}

int rd_weights_reorder_new(rd_engine *e, const rd_primitive *p, int back, rd_primitive **out) {
	dnnl_memory_desc_t dense;
	TRY(row_major(p, &dense));
	return back ? reorder(e, &p->weights, &dense, out) : reorder(e, &dense, &p->weights, out);
}

int rd_pack(rd_engine *e, const rd_primitive *p, const void *weights, void *packed) {
	dnnl_memory_desc_t dense;
	TRY(row_major(p, &dense));
	rd_primitive *r = NULL;
	TRY(reorder(e, &dense, &p->weights, &r));
	void *scratch = NULL;
	size_t room = dnnl_memory_desc_get_size(&r->scratch);
	dnnl_memory_t src = NULL, dst = NULL, pad = NULL;
	dnnl_status_t s = dnnl_memory_create(&src, &dense, e->engine, (void *)weights);
	if (!s) s = dnnl_memory_create(&dst, &p->weights, e->engine, packed);
	if (!s && room) s = (scratch = rd_alloc(room)) ? dnnl_memory_create(&pad, &r->scratch, e->engine, scratch) : dnnl_out_of_memory;
	if (!s) {
		dnnl_exec_arg_t args[] = {{DNNL_ARG_FROM, src}, {DNNL_ARG_TO, dst}, {DNNL_ARG_SCRATCHPAD, pad}};
		s = dnnl_primitive_execute(r->primitive, e->stream, room ? 3 : 2, args);
	}
	if (!s) s = dnnl_stream_wait(e->stream);
	if (src) dnnl_memory_destroy(src);
	if (dst) dnnl_memory_destroy(dst);
	if (pad) dnnl_memory_destroy(pad);
	if (scratch) rd_free(scratch, room);
	rd_primitive_free(r);
	return s;
}

// A step runs a primitive or a kernel of ours. Its addresses are worked out
// anew at every run, for regions move; oneDNN's memory objects are told only
// when theirs did.
enum { MAX_REFS = RD_LEVELS + 4 };

typedef struct {
	dnnl_primitive_t primitive; // NULL: kernel
	rd_kernel *kernel;
	int refs;
	rd_ref ref[MAX_REFS];
	dnnl_exec_arg_t args[MAX_REFS];
	void *bound[MAX_REFS]; // what the memory object points to
} rd_step;

struct rd_program {
	rd_engine *engine;
	int count, room;
	rd_step steps[];
};

rd_program *rd_program_new(rd_engine *e, int steps) {
	rd_program *p = calloc(1, sizeof *p + steps * sizeof(rd_step));
	if (p) p->engine = e, p->room = steps;
	return p;
}

void rd_program_free(rd_program *p) {
	for (int i = 0; i < p->count; i++) {
		rd_step *s = &p->steps[i];
		for (int a = 0; a < s->refs; a++)
			if (s->args[a].memory) dnnl_memory_destroy(s->args[a].memory);
		free(s->kernel);
	}
	free(p);
}

static dnnl_status_t add_arg(rd_program *p, rd_step *s, int arg, const dnnl_memory_desc_t *d, rd_ref ref) {
	s->ref[s->refs] = ref;
	s->args[s->refs].arg = arg;
	return dnnl_memory_create(&s->args[s->refs++].memory, d, p->engine->engine, DNNL_MEMORY_NONE);
}

static rd_step *new_step(rd_program *p) { return p->count < p->room ? &p->steps[p->count++] : NULL; }

int rd_add_conv(rd_program *p, const rd_primitive *c, rd_ref src, rd_ref weights, rd_ref bias, rd_ref dst, rd_ref scratch) {
	rd_step *s = new_step(p);
	if (!s) return dnnl_invalid_arguments;
	s->primitive = c->primitive;
	int to = c->direction;
	TRY(add_arg(p, s, to == RD_TO_INPUT ? DNNL_ARG_DIFF_SRC : DNNL_ARG_SRC, &c->src, src));
	TRY(add_arg(p, s, to == RD_TO_WEIGHTS ? DNNL_ARG_DIFF_WEIGHTS : DNNL_ARG_WEIGHTS, &c->weights, weights));
	if (to == RD_FORWARD && c->bias.ndims) TRY(add_arg(p, s, DNNL_ARG_BIAS, &c->bias, bias));
	TRY(add_arg(p, s, to == RD_FORWARD ? DNNL_ARG_DST : DNNL_ARG_DIFF_DST, &c->dst, dst));
	if (dnnl_memory_desc_get_size(&c->scratch)) TRY(add_arg(p, s, DNNL_ARG_SCRATCHPAD, &c->scratch, scratch));
	return 0;
}

int rd_add_reorder(rd_program *p, const rd_primitive *r, rd_ref src, rd_ref dst, rd_ref scratch) {
	rd_step *s = new_step(p);
	if (!s) return dnnl_invalid_arguments;
	s->primitive = r->primitive;
	TRY(add_arg(p, s, DNNL_ARG_FROM, &r->src, src));
	TRY(add_arg(p, s, DNNL_ARG_TO, &r->dst, dst));
	if (dnnl_memory_desc_get_size(&r->scratch)) TRY(add_arg(p, s, DNNL_ARG_SCRATCHPAD, &r->scratch, scratch));
	return 0;
}

int rd_add_kernel(rd_program *p, const rd_kernel *k, const rd_ref *src, int sources, rd_ref dst, rd_ref scratch) {
	rd_step *s = new_step(p);
	if (!s || sources + 2 > MAX_REFS) return dnnl_invalid_arguments;
	if (!(s->kernel = malloc(sizeof *k))) return dnnl_out_of_memory;
	*s->kernel = *k;
	s->ref[0] = dst;
	s->ref[1] = scratch;
	memcpy(s->ref + 2, src, sources * sizeof *src);
	s->refs = sources + 2;
	return 0;
}

static int64_t now(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

static int run_step(rd_program *p, rd_step *s, char *const bases[RD_REGIONS]) {
	void *address[MAX_REFS];
	for (int a = 0; a < s->refs; a++) address[a] = bases[s->ref[a].region] + s->ref[a].offset;
	if (!s->primitive) {
		rd_kernel_run(s->kernel, (const float *const *)address + 2, address[0], address[1]);
		return 0;
	}
	for (int a = 0; a < s->refs; a++) {
		if (s->bound[a] == address[a]) continue;
		TRY(dnnl_memory_set_data_handle(s->args[a].memory, address[a]));
		s->bound[a] = address[a];
	}
	TRY(dnnl_primitive_execute(s->primitive, p->engine->stream, s->refs, s->args));
	return dnnl_stream_wait(p->engine->stream);
}

static int run_steps(rd_program *p, char *const bases[RD_REGIONS], const int *cancel, int64_t *nanos, int *at) {
	int64_t start = now();
	for (int i = 0; i < p->count; i++) {
		*at = i;
		if (__atomic_load_n(cancel, __ATOMIC_RELAXED)) return RD_CANCELLED;
		int s = run_step(p, &p->steps[i], bases);
		if (s) return s;
		int64_t end = now();
		nanos[i] = end - start;
		start = end;
	}
	return 0;
}

int rd_run(rd_program *p, char *const bases[RD_REGIONS], const int *cancel, int64_t *nanos, int *at) {
	return run_steps(p, bases, cancel, nanos, at);
}

double rd_sgemm(int threads, int n, int runs) {
	start_team(threads);
	size_t bytes = (size_t)n * n * sizeof(float);
	float *m = rd_alloc(3 * bytes);
	if (!m) return 0;
	for (size_t i = 0; i < 3 * (size_t)n * n; i++) m[i] = (float)(i % 97) * 0.01f;
	double best = 0;
	for (int i = 0; i < runs; i++) {
		int64_t t = now();
		if (dnnl_sgemm('N', 'N', n, n, n, 1, m, n, m + (size_t)n * n, n, 0, m + 2 * (size_t)n * n, n) != dnnl_success) break;
		double rate = 2.0 * n * n * n / (double)(now() - t);
		if (i && rate > best) best = rate; // the first run makes the code
	}
	rd_free(m, 3 * bytes);
	return best;
}
