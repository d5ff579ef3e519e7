package onnx

import (
	"encoding/binary"
	"math"

	"google.golang.org/protobuf/encoding/protowire"
)

// Versions that the file declares. Opset 16 is the first whose RoiAlign can
// sample without a half-pixel shift; IR 8 came with it (onnx 1.11).
const (
	opset     = 16
	irVersion = 8
)

// elemType is TensorProto.DataType.
type elemType int32

const (
	float32s elemType = 1
	int64s   elemType = 7
	float64s elemType = 11
)

// message is an encoded protobuf message that grows by fields.
type message []byte

func (m *message) int(field protowire.Number, v int64) {
	*m = protowire.AppendVarint(protowire.AppendTag(*m, field, protowire.VarintType), uint64(v))
}

func (m *message) float(field protowire.Number, v float32) {
	*m = protowire.AppendFixed32(protowire.AppendTag(*m, field, protowire.Fixed32Type), math.Float32bits(v))
}

func (m *message) bytes(field protowire.Number, v []byte) {
	*m = protowire.AppendBytes(protowire.AppendTag(*m, field, protowire.BytesType), v)
}

func (m *message) text(field protowire.Number, v string) { m.bytes(field, []byte(v)) }

// pair is a StringStringEntryProto: key 1, value 2.
func (m *message) pair(field protowire.Number, key, value string) {
	var p message
	p.text(1, key)
	p.text(2, value)
	m.bytes(field, p)
}

// attr is an AttributeProto.
type attr struct {
	name  string
	value any // int, float32, string or []int64
}

func (a attr) encode() message {
	var m message
	m.text(1, a.name)
	kind := int64(0) // AttributeType, field 20
	switch v := a.value.(type) {
	case int:
		m.int(3, int64(v))
		kind = 2
	case float32:
		m.float(2, v)
		kind = 1
	case string:
		m.text(4, v)
		kind = 3
	case []int64:
		for _, i := range v {
			m.int(8, i)
		}
		kind = 7
	default:
		panic(errAttr)
	}
	m.int(20, kind)
	return m
}

// errAttr is a bug of this package.
const errAttr = "onnx: an attribute is of no type that is written"

// node is a NodeProto: input 1, output 2, name 3, op_type 4, attribute 5.
func node(op, name string, in, out []string, attrs []attr) message {
	var m message
	for _, s := range in {
		m.text(1, s)
	}
	for _, s := range out {
		m.text(2, s)
	}
	m.text(3, name)
	m.text(4, op)
	for _, a := range attrs {
		m.bytes(5, a.encode())
	}
	return m
}

// dim is an extent of a graph's input or output: a number, or a name for one
// that each run decides.
type dim struct {
	size int64
	name string
}

// valueInfo is a ValueInfoProto: name 1, type 2 with tensor_type 1 of
// elem_type 1 and shape 2, whose dims 1 are dim_value 1 or dim_param 2.
func valueInfo(name, doc string, t elemType, dims ...dim) message {
	var shape message
	for _, d := range dims {
		var one message
		if d.name != "" {
			one.text(2, d.name)
		} else {
			one.int(1, d.size)
		}
		shape.bytes(1, one)
	}
	var tensor, kind, m message
	tensor.int(1, int64(t))
	tensor.bytes(2, shape)
	kind.bytes(1, tensor)
	m.text(1, name)
	m.bytes(2, kind)
	m.text(3, doc)
	return m
}

// tensorHead is the part of a TensorProto before its elements: dims 1,
// data_type 2, name 8.
func tensorHead(name string, t elemType, shape []int) message {
	var m message
	for _, d := range shape {
		m.int(1, int64(d))
	}
	m.int(2, int64(t))
	m.text(8, name)
	return m
}

// rawTag begins raw_data, field 9: the elements, little-endian, as the last
// field of a TensorProto.
func rawTag(size int64) message {
	var m message
	m = protowire.AppendTag(m, 9, protowire.BytesType)
	return protowire.AppendVarint(m, uint64(size))
}

// external says that the elements lie in another file: entries of
// external_data 13, and data_location 14 = EXTERNAL.
func (m *message) external(file string, offset, length int64) {
	number := func(v int64) string { return string(appendInt(nil, v)) }
	m.pair(13, "location", file)
	m.pair(13, "offset", number(offset))
	m.pair(13, "length", number(length))
	m.int(14, 1)
}

// littleEndian returns values' bytes as raw_data has them.
func littleEndian(values any) []byte {
	b, err := binary.Append(nil, binary.LittleEndian, values)
	if err != nil {
		panic(errAttr) // only slices of numbers come here
	}
	return b
}
