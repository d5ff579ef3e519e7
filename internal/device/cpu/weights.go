//go:build cgo && linux && amd64 && !noonednn

package cpu

import (
	"reflect"
	"slices"

	"resdet/internal/device"
	"resdet/internal/device/plan"
	"resdet/internal/nd"
	"resdet/internal/onednn"
)

// packed holds the learned arrays in the layouts in use. Programs share them;
// the last one that closes frees them.
type packed map[packedKey]*packedArray

type packedKey struct {
	params any    // identity of the model
	arrays string // plan.Affine.Key
	layout string // of packed weights, or "shift", "scale"
}

type packedArray struct {
	block  *onednn.Block
	params device.Params // keeps the identity from being used again
	users  int
}

// identity tells models apart: a map by its address, other comparable values
// by themselves; what cannot be compared shares nothing.
func identity(params device.Params) any {
	if v := reflect.ValueOf(params); v.Kind() == reflect.Map {
		return v.Pointer()
	}
	if reflect.ValueOf(params).Comparable() {
		return params
	}
	return new(int) // not of size 0: distinct from all others
}

// remembered asks Params once for each of the small arrays during a compile: a
// norm's are wanted for the weights and again for the shift.
type remembered struct {
	device.Params
	arrays map[string][]float32
}

func (r remembered) Param(key string, shape nd.Shape) ([]float32, error) {
	if v, ok := r.arrays[key]; ok {
		return v, nil
	}
	v, err := r.Params.Param(key, shape)
	if err == nil && len(shape) == 1 {
		v = slices.Clone(v) // Params may use its memory again
		r.arrays[key] = v
	}
	return v, err
}

// largeWeights is where a source and its packed copy side by side matter: fc6
// of VGG-16 has 411 MB.
const largeWeights = 16 << 20

// sourceOf returns a's weights as params has them, to be packed.
func (l *lowering) sourceOf(a plan.Affine) ([]float32, error) {
	size := 4 * int64(a.Shape.Len())
	if size >= largeWeights {
		l.d.makeRoom()
	}
	l.packedBytes += size
	into, ok := l.given.(device.ParamsInto)
	if !ok {
		return a.Weights(l.params)
	}
	w, err := l.stage(a.Shape.Len())
	if err != nil {
		return nil, err
	}
	return w, a.WeightsInto(w, into)
}

// stage returns memory for one source at a time, as large as the largest of
// the plan: made once, on huge pages, where a new slice for each array of the
// default model would fault in 25,000 small ones.
func (l *lowering) stage(n int) ([]float32, error) {
	if l.staging == nil {
		largest := n
		for i := range l.plan.Steps {
			largest = max(largest, l.plan.Steps[i].Affine.Shape.Len())
		}
		var err error
		if l.staging, err = onednn.Alloc(4 * int64(largest)); err != nil {
			return nil, err
		}
	}
	return l.staging.Floats()[:n], nil
}

// weightsOf returns a's weights as conv wants them.
func (l *lowering) weightsOf(a plan.Affine, conv *onednn.Primitive) (*onednn.Block, error) {
	return l.packed(a, conv.WeightsLayout(), func() (*onednn.Block, error) {
		w, err := l.sourceOf(a)
		if err != nil {
			return nil, err
		}
		return l.d.engine.Pack(conv, w)
	})
}

// shiftOf returns a's shift, padded with zeros to 32 channels.
func (l *lowering) shiftOf(a plan.Affine) (*onednn.Block, error) {
	return l.channels(a, "shift", a.Shift)
}

// scaleOf returns the scale of a's norm, padded likewise.
func (l *lowering) scaleOf(a plan.Affine) (*onednn.Block, error) {
	return l.channels(a, "scale", a.Scale)
}

func (l *lowering) channels(a plan.Affine, what string, get func(device.Params) ([]float32, error)) (*onednn.Block, error) {
	return l.packed(a, what, func() (*onednn.Block, error) {
		v, err := get(l.params)
		if err != nil {
			return nil, err
		}
		b, err := onednn.Alloc(int64(len(v)+31) / 32 * 32 * 4)
		if err != nil {
			return nil, err
		}
		clear(b.Floats()[copy(b.Floats(), v):])
		return b, nil
	})
}

func (l *lowering) packed(a plan.Affine, layout string, pack func() (*onednn.Block, error)) (*onednn.Block, error) {
	key := packedKey{l.id, a.Key(), layout}
	w, ok := l.d.weights[key]
	if !ok {
		block, err := pack()
		if err != nil {
			return nil, err
		}
		w = &packedArray{block, l.given, 0}
		l.d.weights[key] = w
	}
	w.users++
	l.program.weights = append(l.program.weights, key)
	return w.block, nil
}

// drop ends one use of an array.
func (p packed) drop(key packedKey) {
	w := p[key]
	if w.users--; w.users == 0 {
		w.block.Free()
		delete(p, key)
	}
}
