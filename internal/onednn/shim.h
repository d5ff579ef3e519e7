//go:build cgo && linux && amd64 && !noonednn

// The flat C interface of package onednn: engines, primitives of our fixed
// kinds, and programs (arrays of steps run by one call). Functions return 0 or
// a dnnl_status_t; pointers that come back are owned by the caller.
#ifndef RESDET_SHIM_H
#define RESDET_SHIM_H

#include <stddef.h>
#include <stdint.h>

#include <oneapi/dnnl/dnnl.h>

#include "kern.h"

#if DNNL_VERSION_MAJOR != 2
#error "resdet needs oneDNN 2.x (libdnnl-dev of Debian 12): 3.x has no operation descriptors"
#endif

// Layouts of four-dimensional arrays; ROWS is two-dimensional, row-major.
// CHWN16C is for kernels of our own only.
// Elements other than floats are in RD_NHWC and RD_ROWS.
enum { RD_NCHW, RD_NHWC, RD_NCHW16C, RD_ROWS, RD_CHWN16C };

typedef struct {
	dnnl_engine_t engine;
	dnnl_stream_t stream;
} rd_engine;

int rd_engine_new(rd_engine **out, int threads);
void rd_engine_free(rd_engine *e);

// Memory: 64-byte aligned, huge pages where the kernel gives them. NULL if
// there is none.
void *rd_alloc(size_t bytes);
// rd_reserve returns addresses, many, whose memory the kernel gives as it is
// touched.
void *rd_reserve(size_t bytes);
void rd_free(void *p, size_t bytes);

// A primitive with its arrays' descriptors. A gradient's names are those of the
// operation's arrays, whose gradients they may be: RD_TO_INPUT writes src,
// RD_TO_WEIGHTS writes weights.
enum { RD_FORWARD, RD_TO_INPUT, RD_TO_WEIGHTS };
typedef struct {
	dnnl_primitive_t primitive;
	int direction;
	dnnl_memory_desc_t src, weights, bias, dst, scratch;
	char impl[48]; // oneDNN's name of the implementation
} rd_primitive;

// The types of elements that an operation reads, writes and adds; zeros are
// floats. What it writes is scaled: relu(scales[c]·(op + bias) + sum_scale·dst),
// rounded to the type. Weights of a source of integers are RD_SINT8. Of a gradient
// what is multiplied is floats or RD_BFLOAT16, and dw is floats.
typedef struct {
	int src, dst, sum;
	float sum_scale;
	const float *scales; // one for each output channel; NULL: 1
} rd_types;

typedef struct {
	int n, c, h, w, oc, oh, ow, kh, kw, stride, pad;
	int src, dst; // layouts
	int winograd, bias, sum, relu;
} rd_conv;

typedef struct {
	int rows, c, h, w, oc; // h = w = 0 for two-dimensional sources
	int src;               // layout
	int relu;
	int plain; // weights are row-major
} rd_linear;

// Gradients are without bias, sum and relu; the weights of matrix products are
// row-major then.
int rd_conv_new(rd_engine *e, const rd_conv *spec, const rd_types *types, int direction, rd_primitive **out);
int rd_linear_new(rd_engine *e, const rd_linear *spec, const rd_types *types, int direction, rd_primitive **out);
// A copy of row-major weights to the layout that p wants, or of p's back.
int rd_weights_reorder_new(rd_engine *e, const rd_primitive *p, int back, rd_primitive **out);
// A copy of a dense or blocked array from one layout to another.
int rd_reorder_new(rd_engine *e, const int dims[4], int src, int dst, rd_primitive **out);
void rd_primitive_free(rd_primitive *p);

// rd_pack lays row-major weights, floats or integers where p's are, out as p
// wants them; packed has room for rd_weights_size(p) bytes.
size_t rd_weights_size(const rd_primitive *p);
int rd_weights_plain(const rd_primitive *p); // they are row-major
int rd_pack(rd_engine *e, const rd_primitive *p, const void *weights, void *packed);

// A place in memory: bytes from the start of a region, whose address is given
// at every run; region RD_ABSOLUTE is address 0.
typedef struct {
	int64_t offset;
	int region;
} rd_ref;
enum { RD_ABSOLUTE, RD_REGIONS = 32 };

typedef struct rd_program rd_program;

rd_program *rd_program_new(rd_engine *e, int steps);
void rd_program_free(rd_program *p);

// Steps, appended in the order of execution. They fail for want of memory only.
int rd_add_conv(rd_program *p, const rd_primitive *c, rd_ref src, rd_ref weights, rd_ref bias, rd_ref dst, rd_ref scratch);
int rd_add_reorder(rd_program *p, const rd_primitive *r, rd_ref src, rd_ref dst, rd_ref scratch);
int rd_add_kernel(rd_program *p, const rd_kernel *k, const rd_ref *src, int sources, rd_ref dst, rd_ref scratch);

// rd_run executes the steps with the given region addresses until *cancel is
// not 0, writes each step's nanoseconds, and returns 0, a dnnl_status_t, or
// RD_CANCELLED; *at is the step where it stopped.
enum { RD_CANCELLED = -1 };
int rd_run(rd_program *p, char *const bases[RD_REGIONS], const int *cancel, int64_t *nanos, int *at);

// Rates of this machine, the best of several runs, 0 where it is not to be had:
// 10⁹ operations a second of n×n matrix products (u8·s8 for RD_INT8), and 10⁹
// bytes a second read and written by copies that no cache holds.
enum { RD_F32, RD_BF16, RD_INT8 };
double rd_matmul_rate(rd_engine *e, int precision, int n, int runs);
double rd_bandwidth(int runs);

// GFLOP/s of dnnl_sgemm on n×n matrices: the best of several runs; 0 for want of memory.
double rd_sgemm(int threads, int n, int runs);

#endif
