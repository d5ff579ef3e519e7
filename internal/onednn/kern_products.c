//go:build cgo && linux && amd64 && !noonednn

#include "kern_isa.h"

// The inner product of all our matrix kernels, with registers chosen by hand,
// for compilers spill some of the 28 sums: row r in zmm(2r) and zmm(2r+1), U in
// zmm28 and zmm29. It runs at the rate of the two multiply-add units while U
// comes from the second-level cache.
#define ZERO(r, lo, hi, t) "vpxorq %%zmm" #lo ", %%zmm" #lo ", %%zmm" #lo "\n\tvpxorq %%zmm" #hi ", %%zmm" #hi ", %%zmm" #hi "\n\t"
#define OWN(r, lo, hi, t) "prefetchw 64*" #r "(%[m])\n\tprefetchw 64*" #r "(%[m2])\n\t"
#define ROW(r, lo, hi, c, t)                                  \
	"vbroadcastss 64*" #r "+4*" #c "(%[v]), %%zmm" #t "\n\t"    \
	"vfmadd231ps %%zmm28, %%zmm" #t ", %%zmm" #lo "\n\t"        \
	"vfmadd231ps %%zmm29, %%zmm" #t ", %%zmm" #hi "\n\t"
#define SHIFT(r, lo, hi, t) "vaddps %%zmm28, %%zmm" #lo ", %%zmm" #lo "\n\tvaddps %%zmm29, %%zmm" #hi ", %%zmm" #hi "\n\t"
#define SUM(r, lo, hi, t) "vaddps 64*" #r "(%[m]), %%zmm" #lo ", %%zmm" #lo "\n\tvaddps 64*" #r "(%[m2]), %%zmm" #hi ", %%zmm" #hi "\n\t"
#define RELU(r, lo, hi, t) "vmaxps %%zmm28, %%zmm" #lo ", %%zmm" #lo "\n\tvmaxps %%zmm28, %%zmm" #hi ", %%zmm" #hi "\n\t"
#define MASK(r, lo, hi, t)                                                        \
	"vcmpps $17, 64*" #r "(%[m],%[quads]), %%zmm28, %%k1\n\t"                      \
	"vcmpps $17, 64*" #r "(%[m2],%[quads]), %%zmm28, %%k2\n\t"                     \
	"vmovaps %%zmm" #lo ", %%zmm" #lo "%{%%k1%}%{z%}\n\tvmovaps %%zmm" #hi ", %%zmm" #hi "%{%%k2%}%{z%}\n\t"
#define STORE(r, lo, hi, t) "vmovups %%zmm" #lo ", 64*" #r "(%[m])\n\tvmovups %%zmm" #hi ", 64*" #r "(%[m2])\n\t"

// X(row, its two registers …, a scratch register) for the first n rows.
#define ROWS1(X, ...) X(0, 0, 1, ##__VA_ARGS__, 30)
#define ROWS2(X, ...) ROWS1(X, ##__VA_ARGS__) X(1, 2, 3, ##__VA_ARGS__, 31)
#define ROWS3(X, ...) ROWS2(X, ##__VA_ARGS__) X(2, 4, 5, ##__VA_ARGS__, 30)
#define ROWS4(X, ...) ROWS3(X, ##__VA_ARGS__) X(3, 6, 7, ##__VA_ARGS__, 31)
#define ROWS5(X, ...) ROWS4(X, ##__VA_ARGS__) X(4, 8, 9, ##__VA_ARGS__, 30)
#define ROWS6(X, ...) ROWS5(X, ##__VA_ARGS__) X(5, 10, 11, ##__VA_ARGS__, 31)
#define ROWS7(X, ...) ROWS6(X, ##__VA_ARGS__) X(6, 12, 13, ##__VA_ARGS__, 30)
#define ROWS8(X, ...) ROWS7(X, ##__VA_ARGS__) X(7, 14, 15, ##__VA_ARGS__, 31)
#define ROWS9(X, ...) ROWS8(X, ##__VA_ARGS__) X(8, 16, 17, ##__VA_ARGS__, 30)
#define ROWS10(X, ...) ROWS9(X, ##__VA_ARGS__) X(9, 18, 19, ##__VA_ARGS__, 31)
#define ROWS11(X, ...) ROWS10(X, ##__VA_ARGS__) X(10, 20, 21, ##__VA_ARGS__, 30)
#define ROWS12(X, ...) ROWS11(X, ##__VA_ARGS__) X(11, 22, 23, ##__VA_ARGS__, 31)
#define ROWS13(X, ...) ROWS12(X, ##__VA_ARGS__) X(12, 24, 25, ##__VA_ARGS__, 30)
#define ROWS14(X, ...) ROWS13(X, ##__VA_ARGS__) X(13, 26, 27, ##__VA_ARGS__, 31)

#define STEP(n, c) "vmovups 128*" #c "(%[u]), %%zmm28\n\tvmovups 128*" #c "+64(%[u]), %%zmm29\n\t" ROWS##n(ROW, c)

#define PRODUCTS(n)                                                                                                     \
	AVX512 static void products##n(const float *v, const float *u, float *m, const rd_products_args *p) {               \
		const float *au = p->next_u, *av = p->next_v;                                                                   \
		int64_t blocks = p->blocks, quads;                                                                              \
		__asm__ volatile(ROWS##n(ZERO) ROWS##n(OWN)                                                                     \
		                 "2:\n\tmov $4, %[quads]\n"                                                                       \
		                 "1:\n\tprefetcht1 (%[au])\n\tprefetcht1 64(%[au])\n\tprefetcht1 (%[av])\n\t"                     \
		                 "add %[aus], %[au]\n\tadd %[avs], %[av]\n\t"                                                     \
		                 STEP(n, 0) STEP(n, 1) STEP(n, 2) STEP(n, 3)                                                    \
		                 "add $16, %[v]\n\tadd $512, %[u]\n\tdec %[quads]\n\tjnz 1b\n\t"                                  \
		                 "add %[vskip], %[v]\n\tdec %[blocks]\n\tjnz 2b\n\t"                                              \
		                 "mov %[shift], %[quads]\n\ttest %[quads], %[quads]\n\tjz 3f\n\t"                                 \
		                 "vmovups (%[quads]), %%zmm28\n\tvmovups 64(%[quads]), %%zmm29\n\t" ROWS##n(SHIFT)                \
		                 "3:\n\ttestl $1, %[flags]\n\tjz 4f\n\t" ROWS##n(SUM)                                             \
		                 "4:\n\ttestl $2, %[flags]\n\tjz 5f\n\tvpxorq %%zmm28, %%zmm28, %%zmm28\n\t" ROWS##n(RELU)        \
		                 "5:\n\ttestl $4, %[flags]\n\tjz 6f\n\tvpxorq %%zmm28, %%zmm28, %%zmm28\n\t"                     \
		                 "mov %[mask], %[quads]\n\t" ROWS##n(MASK)                                                     \
		                 "6:\n\t" ROWS##n(STORE)                                                                         \
		                 : [v] "+r"(v), [u] "+r"(u), [blocks] "+r"(blocks), [quads] "=&r"(quads), [au] "+r"(au), [av] "+r"(av) \
		                 : [m] "r"(m), [m2] "r"(m + p->mblk), [vskip] "m"(p->vskip), [aus] "m"(p->ustep), [avs] "m"(p->vstep), \
		                   [shift] "m"(p->shift), [flags] "m"(p->flags), [mask] "m"(p->mask)                                                 \
		                 : "memory", "cc", "zmm0", "zmm1", "zmm2", "zmm3", "zmm4", "zmm5", "zmm6", "zmm7", "zmm8", "zmm9",     \
		                   "zmm10", "zmm11", "zmm12", "zmm13", "zmm14", "zmm15", "zmm16", "zmm17", "zmm18", "zmm19", "zmm20", \
		                   "zmm21", "zmm22", "zmm23", "zmm24", "zmm25", "zmm26", "zmm27", "zmm28", "zmm29", "zmm30", "zmm31", "k1", "k2"); \
	}
PRODUCTS(1) PRODUCTS(2) PRODUCTS(3) PRODUCTS(4) PRODUCTS(5) PRODUCTS(6) PRODUCTS(7)
PRODUCTS(8) PRODUCTS(9) PRODUCTS(10) PRODUCTS(11) PRODUCTS(12) PRODUCTS(13) PRODUCTS(14)

const rd_products_func rd_products[RD_GROUP + 1] = {0, products1, products2, products3, products4, products5, products6, products7,
                                                    products8, products9, products10, products11, products12, products13, products14};
