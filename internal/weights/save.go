package weights

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"

	"resdet/internal/nd"
	"resdet/internal/nn"
	"resdet/internal/replace"
)

// Params gives parameters by key, in row-major order (it is device.Params). A
// [Checkpoint] is one, and so is a [Report].
type Params interface {
	Param(key string, shape nd.Shape) ([]float32, error)
}

// Save writes a model file: a safetensors file of the wanted parameters with
// the JSON configuration in its metadata. The same input gives the same bytes.
//
// With F16, matrices and filters are stored in float16 and vectors (biases,
// norms) in float32: they are under 1 % of a network, and variances of pixels
// in 0–255 exceed float16's 65504. With F32 nothing is lost. Parameters are
// asked for one at a time. The file appears under path when it is complete and
// on disk, or not at all.
func Save(path string, config []byte, wanted []nn.ParamSpec, from Params, dtype DType) error {
	var compact bytes.Buffer
	if err := json.Compact(&compact, config); err != nil {
		return fmt.Errorf("weights: writing %s: the configuration is no JSON: %w", path, err)
	}
	return SaveArrays(path, map[string]string{ConfigKey: compact.String()}, wanted, from, dtype)
}

// SaveArrays writes a safetensors file of any arrays and metadata, as [Save]
// does a model.
func SaveArrays(path string, metadata map[string]string, wanted []nn.ParamSpec, from Params, dtype DType) error {
	if err := save(path, metadata, wanted, from, dtype); err != nil {
		return fmt.Errorf("weights: writing %s: %w", path, err)
	}
	return nil
}

func save(path string, metadata map[string]string, wanted []nn.ParamSpec, from Params, dtype DType) error {
	if dtype != F32 && dtype != F16 {
		return fmt.Errorf("element type %v: models are float32 or float16", dtype)
	}
	specs := slices.Clone(wanted)
	stored := func(s nn.ParamSpec) DType {
		if len(s.Shape) < 2 {
			return F32
		}
		return dtype
	}
	// The wider type first, so that every array is aligned to its elements.
	slices.SortStableFunc(specs, func(a, b nn.ParamSpec) int { return int(stored(b).Size() - stored(a).Size()) })
	head, err := fileHeader(metadata, specs, stored)
	if err != nil {
		return err
	}

	return replace.File(path, func(w io.Writer) error {
		if _, err := w.Write(head); err != nil {
			return err
		}
		for _, s := range specs {
			values, err := from.Param(s.Key, s.Shape)
			if err == nil && len(values) != s.Shape.Len() {
				err = fmt.Errorf("%d values for shape %v", len(values), s.Shape)
			}
			if err == nil {
				err = encode(w, values, stored(s))
			}
			if err != nil {
				return fmt.Errorf("%s: %w", s.Key, err)
			}
		}
		return nil
	})
}

// fileHeader returns the file up to the first element.
func fileHeader(metadata map[string]string, specs []nn.ParamSpec, stored func(nn.ParamSpec) DType) ([]byte, error) {
	var b bytes.Buffer
	quote := func(s string) {
		text, _ := json.Marshal(s) // a string always can be
		b.Write(text)
	}
	b.Write(make([]byte, 8)) // its length, when that is known
	b.WriteString(`{"__metadata__":{"format":"pt"`)
	for _, key := range slices.Sorted(maps.Keys(metadata)) {
		b.WriteByte(',')
		quote(key)
		b.WriteByte(':')
		quote(metadata[key])
	}
	b.WriteByte('}')
	seen := map[string]bool{"__metadata__": true}
	at := int64(0)
	for _, s := range specs {
		if seen[s.Key] || s.Key == "" {
			return nil, fmt.Errorf("the name %q is empty or taken", s.Key)
		}
		seen[s.Key] = true
		shape, _ := json.Marshal(append([]int{}, s.Shape...)) // [] of a scalar, not null
		end := at + int64(s.Shape.Len())*stored(s).Size()
		b.WriteByte(',')
		quote(s.Key)
		fmt.Fprintf(&b, `:{"dtype":%q,"shape":%s,"data_offsets":[%d,%d]}`, dtypes[stored(s)].safe, shape, at, end)
		at = end
	}
	b.WriteByte('}')
	for b.Len()%8 != 0 {
		b.WriteByte(' ')
	}
	binary.LittleEndian.PutUint64(b.Bytes(), uint64(b.Len()-8))
	return b.Bytes(), nil
}

// encode writes values as little-endian float32 or float16.
func encode(w io.Writer, values []float32, d DType) error {
	chunk := chunks.Get().(*[]byte)
	defer chunks.Put(chunk)
	size := int(d.Size())
	le := binary.LittleEndian
	for len(values) > 0 {
		part := values[:min(len(values), chunkBytes/size)]
		b := (*chunk)[:len(part)*size]
		for i, v := range part {
			if d == F32 {
				le.PutUint32(b[4*i:], math.Float32bits(v))
				continue
			}
			h, ok := floatToHalf(v)
			if !ok {
				return fmt.Errorf("%v is too large for float16; store float32", v)
			}
			le.PutUint16(b[2*i:], h)
		}
		if _, err := w.Write(b); err != nil {
			return err
		}
		values = values[len(part):]
	}
	return nil
}
