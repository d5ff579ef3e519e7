// Package onednn is the only door to C: oneDNN (Debian's libdnnl-dev 2.6.3)
// and vector kernels of our own beside it.
//
//	Engine ─NewConv, NewLinear, NewReorder▶ Primitive ─Pack▶ weights in its layout
//	   └──NewProgram▶ Program ─AddConv, AddKernel …▶ array of steps ─Run▶ one call of C
//
// Nothing here decides: which algorithm, which layout and what lies where is
// the work of package cpu. C keeps no Go pointer; what it reads at every run
// (weights, arenas) lies in [Block]s. An [Engine] and all that comes from it
// must be used on the operating system's thread that made it, for OpenMP's
// number of threads is the thread's own.
//
// Without cgo, elsewhere than on Linux on x86-64, or with the build tag
// noonednn the package is empty.
package onednn
