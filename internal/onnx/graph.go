package onnx

import (
	"fmt"
	"strconv"

	"google.golang.org/protobuf/encoding/protowire"
)

// graph is a GraphProto while it is built. Values are named by strings; an
// operation's result has the name of its node.
type graph struct {
	scope  string // before the names of new nodes: "proposals/0"
	nodes  message
	count  int               // of nodes, which makes names unique
	consts map[string]string // names of constants by their contents
	inits  message           // constants, encoded
	params []param
	known  map[string]bool // keys of params
}

// param is a learned array; its elements are written when the file is.
type param struct {
	key   string
	shape []int
}

func newGraph() *graph {
	return &graph{consts: map[string]string{}, known: map[string]bool{}}
}

// op adds an operation with one result and returns the result's name.
func (g *graph) op(kind string, in []string, attrs ...attr) string {
	return g.ops(kind, 1, in, attrs...)[0]
}

// ops adds an operation with several results.
func (g *graph) ops(kind string, results int, in []string, attrs ...attr) []string {
	g.count++
	name := fmt.Sprintf("%s/%s_%d", g.scope, kind, g.count)
	out := []string{name}
	for i := 1; i < results; i++ {
		out = append(out, fmt.Sprintf("%s.%d", name, i))
	}
	g.add(kind, name, in, out, attrs)
	return out
}

// add adds an operation whose results have the given names.
func (g *graph) add(kind, name string, in, out []string, attrs []attr) {
	g.nodes.bytes(1, node(kind, name, in, out, attrs)) // GraphProto.node
}

// of lists an operation's inputs.
func of(in ...string) []string { return in }

// Constants; shape nil is a scalar.

func (g *graph) floats(shape []int, values ...float32) string {
	return g.constant(float32s, shape, littleEndian(values))
}

func (g *graph) ints(shape []int, values ...int64) string {
	return g.constant(int64s, shape, littleEndian(values))
}

// float and int are scalars, vector a list of integers.
func (g *graph) float(v float32) string   { return g.floats(nil, v) }
func (g *graph) int(v int) string         { return g.ints(nil, int64(v)) }
func (g *graph) vector(v ...int64) string { return g.ints([]int{len(v)}, v...) }

func (g *graph) constant(t elemType, shape []int, raw []byte) string {
	id := fmt.Sprint(t, shape, string(raw))
	if name, ok := g.consts[id]; ok {
		return name
	}
	name := "constant_" + strconv.Itoa(len(g.consts))
	g.consts[id] = name
	m := tensorHead(name, t, shape)
	m = append(append(m, rawTag(int64(len(raw)))...), raw...)
	g.inits.bytes(5, m) // GraphProto.initializer
	return name
}

// param declares a learned array; the same key twice is the same array.
func (g *graph) param(key string, shape []int) string {
	if !g.known[key] {
		g.known[key] = true
		g.params = append(g.params, param{key, shape})
	}
	return key
}

// Shorthands of operations that occur everywhere. Arithmetic broadcasts.

func (g *graph) sum(a, b string) string      { return g.op("Add", of(a, b)) }
func (g *graph) sub(a, b string) string      { return g.op("Sub", of(a, b)) }
func (g *graph) mul(a, b string) string      { return g.op("Mul", of(a, b)) }
func (g *graph) div(a, b string) string      { return g.op("Div", of(a, b)) }
func (g *graph) min(a, b string) string      { return g.op("Min", of(a, b)) }
func (g *graph) max(a, b string) string      { return g.op("Max", of(a, b)) }
func (g *graph) mod(a, b string) string      { return g.op("Mod", of(a, b)) }
func (g *graph) reshape(x, to string) string { return g.op("Reshape", of(x, to)) }

func (g *graph) cast(x string, t elemType) string {
	return g.op("Cast", of(x), attr{"to", int(t)})
}

// extents returns the extents from…to−1 of x as a list.
func (g *graph) extents(x string, from, to int) string {
	return g.op("Shape", of(x), attr{"start", from}, attr{"end", to})
}

// scalar turns a list of one into a scalar.
func (g *graph) scalar(x string) string { return g.op("Squeeze", of(x)) }

// unsqueeze inserts an extent of 1 before the given axis of the result.
func (g *graph) unsqueeze(x string, axis int64) string {
	return g.op("Unsqueeze", of(x, g.vector(axis)))
}

func (g *graph) gather(x, indices string, axis int) string {
	return g.op("Gather", of(x, indices), attr{"axis", axis})
}

// slice returns the elements from…to−1 along the axis.
func (g *graph) slice(x string, from, to, axis int64) string {
	return g.op("Slice", of(x, g.vector(from), g.vector(to), g.vector(axis)))
}

func (g *graph) concat(axis int, in ...string) string {
	if len(in) == 1 {
		return in[0]
	}
	return g.op("Concat", in, attr{"axis", axis})
}

func (g *graph) transpose(x string, order ...int64) string {
	return g.op("Transpose", of(x), attr{"perm", order})
}

// best returns the k largest elements of a list, in descending order, and
// their indices; equal ones in ascending order of their indices.
func (g *graph) best(x, k string) (values, indices string) {
	out := g.ops("TopK", 2, of(x, k), attr{"axis", 0}, attr{"largest", 1}, attr{"sorted", 1})
	return out[0], out[1]
}

// ascending returns the sorted elements of a list and where they were.
func (g *graph) ascending(x string) (values, indices string) {
	out := g.ops("TopK", 2, of(x, g.extents(x, 0, 1)), attr{"axis", 0}, attr{"largest", 0}, attr{"sorted", 1})
	return out[0], out[1]
}

// indicesOf returns where a list of booleans is true.
func (g *graph) indicesOf(mask string) string {
	return g.op("Squeeze", of(g.op("NonZero", of(mask)), g.vector(0)))
}

func appendInt(b []byte, v int64) []byte { return strconv.AppendInt(b, v, 10) }

// sizeOf returns the bytes of a field of that many bytes with a small number.
func sizeOf(field protowire.Number, n int64) int64 {
	return int64(protowire.SizeTag(field)+protowire.SizeVarint(uint64(n))) + n
}
