//go:build cgo && linux && amd64 && !noonednn

#include "kern_isa.h"

// The inner product for 256-bit vectors: row r in ymm(2r) and ymm(2r+1), U in
// ymm12 and ymm13.
#define ZERO(r, lo, hi, t) "vxorps %%ymm" #lo ", %%ymm" #lo ", %%ymm" #lo "\n\tvxorps %%ymm" #hi ", %%ymm" #hi ", %%ymm" #hi "\n\t"
#define ROW(r, lo, hi, c, t)                                \
	"vbroadcastss 64*" #r "+4*" #c "(%[v]), %%ymm" #t "\n\t"  \
	"vfmadd231ps %%ymm12, %%ymm" #t ", %%ymm" #lo "\n\t"      \
	"vfmadd231ps %%ymm13, %%ymm" #t ", %%ymm" #hi "\n\t"
#define SUM(r, lo, hi, t) "vaddps 64*" #r "(%[m]), %%ymm" #lo ", %%ymm" #lo "\n\tvaddps 64*" #r "+32(%[m]), %%ymm" #hi ", %%ymm" #hi "\n\t"
#define STORE(r, lo, hi, t) "vmovups %%ymm" #lo ", 64*" #r "(%[m])\n\tvmovups %%ymm" #hi ", 64*" #r "+32(%[m])\n\t"

// X(row, its two registers …, a scratch register) for the first n rows.
#define ROWS1(X, ...) X(0, 0, 1, ##__VA_ARGS__, 14)
#define ROWS2(X, ...) ROWS1(X, ##__VA_ARGS__) X(1, 2, 3, ##__VA_ARGS__, 15)
#define ROWS3(X, ...) ROWS2(X, ##__VA_ARGS__) X(2, 4, 5, ##__VA_ARGS__, 14)
#define ROWS4(X, ...) ROWS3(X, ##__VA_ARGS__) X(3, 6, 7, ##__VA_ARGS__, 15)
#define ROWS5(X, ...) ROWS4(X, ##__VA_ARGS__) X(4, 8, 9, ##__VA_ARGS__, 14)
#define ROWS6(X, ...) ROWS5(X, ##__VA_ARGS__) X(5, 10, 11, ##__VA_ARGS__, 15)

#define STEP(n, c) "vmovups 64*" #c "(%[u]), %%ymm12\n\tvmovups 64*" #c "+32(%[u]), %%ymm13\n\t" ROWS##n(ROW, c)

#define PRODUCTS(n)                                                                                                       \
	AVX2 static void products##n(const float *v, const float *u, float *m, const rd_products_args *p) {                   \
		const float *au = p->next_u, *av = p->next_v;                                                                     \
		int64_t blocks = p->blocks, quads;                                                                                \
		__asm__ volatile(ROWS##n(ZERO)                                                                                    \
		                 "2:\n\tmov $4, %[quads]\n"                                                                         \
		                 "1:\n\tprefetcht1 (%[au])\n\tprefetcht1 (%[av])\n\t"                                               \
		                 "add %[aus], %[au]\n\tadd %[avs], %[av]\n\t"                                                       \
		                 STEP(n, 0) STEP(n, 1) STEP(n, 2) STEP(n, 3)                                                      \
		                 "add $16, %[v]\n\tadd $256, %[u]\n\tdec %[quads]\n\tjnz 1b\n\t"                                    \
		                 "add %[vskip], %[v]\n\tdec %[blocks]\n\tjnz 2b\n\t"                                                  \
		                 "testl $1, %[flags]\n\tjz 3f\n\t" ROWS##n(SUM) "3:\n\t" ROWS##n(STORE)                             \
		                 : [v] "+r"(v), [u] "+r"(u), [blocks] "+r"(blocks), [quads] "=&r"(quads), [au] "+r"(au), [av] "+r"(av) \
		                 : [m] "r"(m), [vskip] "m"(p->vskip), [aus] "m"(p->ustep), [avs] "m"(p->vstep), [flags] "m"(p->flags) \
		                 : "memory", "cc", "ymm0", "ymm1", "ymm2", "ymm3", "ymm4", "ymm5", "ymm6", "ymm7", "ymm8", "ymm9",  \
		                   "ymm10", "ymm11", "ymm12", "ymm13", "ymm14", "ymm15");                                         \
	}
PRODUCTS(1) PRODUCTS(2) PRODUCTS(3) PRODUCTS(4) PRODUCTS(5) PRODUCTS(6)

const rd_products_func rd_products8[RD_GROUP8 + 1] = {0, products1, products2, products3, products4, products5, products6};
