//go:build cgo && linux && amd64 && !noonednn

package cpu

import (
	"reflect"
	"slices"
	"sync"

	"resdet/internal/device"
	"resdet/internal/device/plan"
	"resdet/internal/nd"
	"resdet/internal/onednn"
)

// Weights holds the learned arrays in the layouts in use. Programs share them,
// those of several devices too if they were opened with the same Weights; the
// last one that closes frees them. Compiles of sharing devices take turns, so
// that one model's Params are asked by one of them at a time.
type Weights struct {
	mu     sync.Mutex // held while a program is compiled or closed
	arrays map[packedKey]*packedArray
	slab   *slab // that new arrays go to
}

// NewWeights returns an empty store for devices to share.
func NewWeights() *Weights { return &Weights{arrays: map[packedKey]*packedArray{}} }

type packedKey struct {
	params any    // identity of the model
	arrays string // plan.Affine.Key
	layout string // of packed weights, or "shift", "scale"
}

type packedArray struct {
	block  *onednn.Block // in slab
	slab   *slab
	params device.Params // keeps the identity from being used again
	users  int
}

// slab is memory that packed arrays share. In slabs of several huge pages the
// weights of the default model take 100 page faults; in blocks of their own,
// which are too small for huge pages, they took 18,000, a tenth of the time
// from start to detection.
type slab struct {
	block  *onednn.Block
	used   int64
	arrays int
}

const slabBytes = 32 << 20

// take returns so many bytes of a slab, a new one if the last has no room.
func (w *Weights) take(size int64) (*onednn.Block, *slab, error) {
	size = (size + 63) / 64 * 64
	s := w.slab
	if s == nil || s.block.Size()-s.used < size {
		block, err := onednn.Alloc(max(size, slabBytes))
		if err != nil {
			return nil, nil, err
		}
		s = &slab{block: block}
		if size < slabBytes {
			w.slab = s
		}
	}
	s.arrays++
	s.used += size
	return s.block.Slice(s.used-size, size), s, nil
}

// give ends an array's use of its slab.
func (w *Weights) give(s *slab) {
	if s.arrays--; s.arrays == 0 {
		s.block.Free()
		if w.slab == s {
			w.slab = nil
		}
	}
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
func (l *lowering) sourceOf(a plan.Affine) (s onednn.Source, err error) {
	size := 4 * int64(a.Shape.Len())
	if size >= largeWeights {
		l.d.makeRoom()
	}
	l.packedBytes += size
	if s.Scale, err = a.Scale(l.params); err != nil {
		return s, err
	}
	if given, ok := l.given.(device.ParamsHalf); ok {
		if s.Half, err = given.ParamHalf(a.Weight, a.Shape, l.stageBytes); s.Half != nil || err != nil {
			return s, err
		}
	}
	into, ok := l.given.(device.ParamsInto)
	if !ok {
		s.Floats, err = a.Weights(l.params)
		return s, err
	}
	if s.Floats, err = l.stage(a.Shape.Len()); err != nil {
		return s, err
	}
	return s, into.ParamInto(s.Floats, a.Weight, a.Shape)
}

// stage returns memory for one weight at a time, on huge pages from 8 MB on,
// where a new slice for each of the default model's would fault in 25,000
// small ones.
func (l *lowering) stage(n int) ([]float32, error) {
	if err := l.staging.grow(4 * int64(n)); err != nil {
		return nil, err
	}
	return l.staging.block.Floats()[:n], nil
}

// stageBytes is stage for bytes, in memory of their own: what is read into
// them may be widened into the other.
func (l *lowering) stageBytes(n int) ([]byte, error) {
	if err := l.halves.grow(int64(n)); err != nil {
		return nil, err
	}
	return l.halves.block.Bytes()[:n], nil
}

// weightsOf returns a's weights as conv wants them.
func (l *lowering) weightsOf(a plan.Affine, conv *onednn.Primitive) (*onednn.Block, error) {
	return l.packed(a, conv.WeightsLayout(), conv.WeightsSize(), func(b *onednn.Block) error {
		w, err := l.sourceOf(a)
		if err != nil {
			return err
		}
		return l.d.engine.Pack(conv, w, l.stage, b)
	})
}

// shiftOf returns a's shift, padded with zeros to 32 channels.
func (l *lowering) shiftOf(a plan.Affine) (*onednn.Block, error) {
	return l.perChannel(a, "shift", func() ([]float32, error) { return a.Shift(l.params) })
}

// scaleOf returns the scale of a's norm, padded likewise.
func (l *lowering) scaleOf(a plan.Affine) (*onednn.Block, error) {
	return l.perChannel(a, "scale", func() ([]float32, error) {
		exact, err := a.Scale(l.params)
		scale := make([]float32, len(exact))
		for c, s := range exact {
			scale[c] = float32(s)
		}
		return scale, err
	})
}

func (l *lowering) perChannel(a plan.Affine, what string, get func() ([]float32, error)) (*onednn.Block, error) {
	return l.packed(a, what, int64(a.Channels()+31)/32*32*4, func(b *onednn.Block) error {
		v, err := get()
		if err != nil {
			return err
		}
		clear(b.Floats()[copy(b.Floats(), v):])
		return nil
	})
}

// packed returns an array of the given size in bytes that pack fills, unless
// the device has it already.
func (l *lowering) packed(a plan.Affine, layout string, size int64, pack func(*onednn.Block) error) (*onednn.Block, error) {
	key := packedKey{l.id, a.Key(), layout}
	arrays := l.d.weights.arrays
	w, ok := arrays[key]
	if !ok {
		var err error
		if w, err = l.pack(size, pack); err != nil {
			return nil, err
		}
		arrays[key] = w
	}
	w.users++
	l.program.weights = append(l.program.weights, key)
	return w.block, nil
}

func (l *lowering) pack(size int64, pack func(*onednn.Block) error) (w *packedArray, err error) {
	block, slab, err := l.d.weights.take(size)
	if err != nil {
		return nil, err
	}
	defer func() {
		if w == nil { // pack failed or, asking anybody's Params, panicked
			l.d.weights.give(slab)
		}
	}()
	if err := pack(block); err != nil {
		return nil, err
	}
	return &packedArray{block, slab, l.given, 0}, nil
}

// drop ends one use of an array.
func (w *Weights) drop(key packedKey) {
	a := w.arrays[key]
	if a.users--; a.users == 0 {
		w.give(a.slab)
		delete(w.arrays, key)
	}
}
