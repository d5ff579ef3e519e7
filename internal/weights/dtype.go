package weights

import (
	"encoding/binary"
	"math"
)

// DType is the type of an array's elements in a file. In memory they are
// always float32.
type DType uint8

// The element types that files may have.
const (
	F32 DType = iota + 1
	F16
	BF16
	F64
	I64
	I32
	I16
	I8
	U64
	U32
	U16
	U8
	Bool
)

// dtypes gives, for each type: torch's name, safetensors' name and bytes per element.
var dtypes = [...]struct {
	name, safe string
	size       int64
}{
	F32: {"float32", "F32", 4}, F16: {"float16", "F16", 2}, BF16: {"bfloat16", "BF16", 2}, F64: {"float64", "F64", 8},
	I64: {"int64", "I64", 8}, I32: {"int32", "I32", 4}, I16: {"int16", "I16", 2}, I8: {"int8", "I8", 1},
	U64: {"uint64", "U64", 8}, U32: {"uint32", "U32", 4}, U16: {"uint16", "U16", 2}, U8: {"uint8", "U8", 1}, Bool: {"bool", "BOOL", 1},
}

// String returns torch's name of the type: "float16".
func (d DType) String() string {
	if int(d) < len(dtypes) && d > 0 {
		return dtypes[d].name
	}
	return "unknown"
}

// Size returns the bytes of one element.
func (d DType) Size() int64 { return dtypes[d].size }

// safeDType finds a type by safetensors' name; 0 if there is none.
func safeDType(name []byte) DType {
	for d := F32; int(d) < len(dtypes); d++ {
		if string(name) == dtypes[d].safe {
			return d
		}
	}
	return 0
}

// swap turns big-endian elements of src, in place, into little-endian ones.
func swap(src []byte, size int64) {
	if size == 1 {
		return
	}
	n := int(size)
	for ; len(src) >= n; src = src[n:] {
		for i, j := 0, n-1; i < j; i, j = i+1, j-1 {
			src[i], src[j] = src[j], src[i]
		}
	}
}

// decode converts the len(dst) little-endian elements of src to float32.
// Integers and float64 values that float32 cannot hold are rounded.
func decode(dst []float32, src []byte, d DType) {
	le := binary.LittleEndian
	src = src[:len(dst)*int(d.Size())]
	switch d {
	case F32:
		for i := range dst {
			dst[i] = math.Float32frombits(le.Uint32(src[4*i:]))
		}
	case F16:
		decodeHalf(dst, src)
	case BF16:
		for i := range dst {
			dst[i] = math.Float32frombits(uint32(le.Uint16(src[2*i:])) << 16)
		}
	case F64:
		for i := range dst {
			dst[i] = float32(math.Float64frombits(le.Uint64(src[8*i:])))
		}
	case I64:
		for i := range dst {
			dst[i] = float32(int64(le.Uint64(src[8*i:])))
		}
	case I32:
		for i := range dst {
			dst[i] = float32(int32(le.Uint32(src[4*i:])))
		}
	case I16:
		for i := range dst {
			dst[i] = float32(int16(le.Uint16(src[2*i:])))
		}
	case I8:
		for i := range dst {
			dst[i] = float32(int8(src[i]))
		}
	case U64:
		for i := range dst {
			dst[i] = float32(le.Uint64(src[8*i:]))
		}
	case U32:
		for i := range dst {
			dst[i] = float32(le.Uint32(src[4*i:]))
		}
	case U16:
		for i := range dst {
			dst[i] = float32(le.Uint16(src[2*i:]))
		}
	case U8, Bool:
		for i := range dst {
			dst[i] = float32(src[i])
		}
	}
}
