//go:build cgo && linux && amd64 && !noonednn

package cpu

import (
	"fmt"
	"strings"

	"resdet/internal/device"
	"resdet/internal/device/plan"
	"resdet/internal/onednn"
)

// workLayout is the layout of feature maps: with 512-bit vectors the blocked
// one, the only one that oneDNN's Winograd knows; plain nhwc otherwise, which
// is as fast for direct convolution, and which our own kernels read as well.
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
		if a.Layout != onednn.NCHW && !a.number().low() {
			return a.Layout
		}
	}
	return workLayout()
}

// choose returns the algorithm of a convolution, by its name among trials. The
// rule looks at shapes and the CPU only, never at a clock: a model compiled
// twice is the same program, unless trials on this machine say otherwise.
func (l *lowering) choose(s *plan.Step, spec onednn.Conv) device.Trial {
	regional, pooled := l.regional[s.In[0]], ownWinograd(spec) && l.pooledBy(s) != nil
	t := device.Trial{Layer: layerName(spec, regional, pooled), Algorithm: rule(spec, regional || s.Weight != plan.None)}
	if l.shared != nil || s.Weight != plan.None { // of a training step
		return t
	}
	if name := l.d.choices.of(t.Layer, candidates(spec, pooled)); name != "" {
		t.Algorithm = name
	}
	return t
}

// layerName identifies the work of a convolution.
func layerName(c onednn.Conv, regional, pooled bool) string {
	name := fmt.Sprintf("conv %d×%d×%d×%d→%d×%d×%d %d×%d/%d+%d", c.N, c.C, c.H, c.W, c.OC, c.OH, c.OW, c.KH, c.KW, c.Stride, c.Pad)
	for _, has := range []struct {
		is   bool
		name string
	}{{c.Bias, "bias"}, {c.Sum, "sum"}, {c.ReLU, "relu"}, {regional, "regions"}, {pooled, "pool"}} {
		if has.is {
			name += " " + has.name
		}
	}
	return name
}

// rule is what is chosen without trials; small: of regions, or in training.
func rule(c onednn.Conv, small bool) string {
	switch {
	case ownWinograd(c) && c.C*c.OC <= 128*128:
		// U is small, and V and M of so many tiles stay in a second-level cache of 2 MB.
		return winogradName(4)
	case ownWinograd(c): // U passes through the cache once for each block
		return winogradName(8)
	case ownGemm(c) && small, ownStrided(c):
		return ownProducts
	case onednn.AVX512() && winogradPays(c):
		return libraryWinograd
	}
	return library
}

// candidates are the algorithms that a convolution can be computed by. Only our
// own Winograd takes in the pooling that follows: its time includes that.
func candidates(c onednn.Conv, pooled bool) []string {
	var names []string
	if ownWinograd(c) {
		for _, block := range winogradBlocks {
			names = append(names, winogradName(block))
		}
	}
	if pooled {
		return names
	}
	if onednn.AVX512() && winogradPays(c) {
		names = append(names, libraryWinograd)
	}
	if ownGemm(c) || ownStrided(c) {
		names = append(names, ownProducts)
	}
	return append(names, library)
}

// newConv compiles the convolution as oneDNN does it, by its Winograd or not,
// and returns spec with the layouts that were chosen.
func (l *lowering) newConv(spec onednn.Conv, winograd bool, src []*array) (*onednn.Primitive, onednn.Conv, error) {
	work := workLayout()
	var tries []onednn.Conv
	try := func(src, dst onednn.Layout, winograd bool) {
		c := spec
		c.Src, c.Dst, c.Winograd = src, dst, winograd
		tries = append(tries, c)
	}
	if spec.C < 16 && len(src) == 1 && src[0].Layout == onednn.NCHW {
		try(onednn.NCHW, work, false) // the first layer reads the image as it is
	}
	if !spec.Sum && len(src) == 1 && src[0].Layout == onednn.NHWC && !src[0].number().low() {
		try(onednn.NHWC, onednn.NHWC, false) // after a layer below float32: logits and deltas
	}
	if winograd {
		try(work, work, true)
	}
	try(work, work, false)
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
	return onednn.AVX2() && c.KH == 3 && c.KW == 3 && c.Stride == 1 && c.Pad == 1 &&
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
