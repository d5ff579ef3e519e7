//go:build cgo && linux && amd64 && !noonednn

package cpu

import (
	"strings"

	"resdet/internal/device/plan"
	"resdet/internal/onednn"
)

// workLayout is the layout of feature maps: with 512-bit vectors the blocked
// one, the only one that oneDNN's Winograd knows; plain nhwc otherwise, which
// is as fast for direct convolution.
func workLayout() onednn.Layout {
	if onednn.AVX512() {
		return onednn.NChw16c
	}
	return onednn.NHWC
}

// channelLayout is the layout in which our own kernels read v: the one it has
// unless that is the host's.
func (l *lowering) channelLayout(v plan.Value) onednn.Layout {
	for _, a := range l.arrays[v] {
		if a.Layout != onednn.NCHW {
			return a.Layout
		}
	}
	return workLayout()
}

// newConv compiles the convolution in the best way that oneDNN has for it and
// returns spec with the layouts and the algorithm that were chosen. The rule
// looks at shapes and the CPU only, never at a clock: a model compiled twice
// is the same program.
func (l *lowering) newConv(spec onednn.Conv, src []*array) (*onednn.Primitive, onednn.Conv, error) {
	work := workLayout()
	var tries []onednn.Conv
	try := func(src onednn.Layout, winograd bool) {
		c := spec
		c.Src, c.Dst, c.Winograd = src, work, winograd
		tries = append(tries, c)
	}
	if spec.C < 16 && len(src) == 1 && src[0].Layout == onednn.NCHW {
		try(onednn.NCHW, false) // the first layer reads the image as it is
	}
	if winogradPays(spec) {
		try(work, true)
	}
	try(work, false)
	for i, c := range tries {
		p, err := l.d.engine.NewConv(c)
		if err != nil {
			if i == len(tries)-1 {
				return nil, spec, err
			}
			continue
		}
		if i < len(tries)-1 && (!strings.Contains(p.Impl(), "jit") && !strings.Contains(p.Impl(), "brg")) {
			p.Close() // a loop nest in plain C++
			continue
		}
		l.program.primitives = append(l.program.primitives, p)
		return p, c, nil
	}
	panic("unreachable: the last try returns")
}

// winogradPays reports whether F(4×4, 3×3) is worth its transforms, which are
// proportional to the channels on both sides while the products it saves are
// proportional to their product.
func winogradPays(c onednn.Conv) bool {
	return onednn.AVX512() && c.KH == 3 && c.KW == 3 && c.Stride == 1 && c.Pad == 1 &&
		c.C%16 == 0 && c.OC%16 == 0 && c.C >= 64 && c.OC >= 64
}

// algorithm names what oneDNN chose.
func algorithm(impl string) string {
	switch {
	case strings.Contains(impl, "wino"):
		return "winograd"
	case strings.Contains(impl, "gemm") && !strings.Contains(impl, "brgemm"):
		return "gemm"
	case strings.Contains(impl, "brg"):
		return "brgemm"
	case strings.Contains(impl, "jit"):
		return "direct"
	}
	return "plain"
}
