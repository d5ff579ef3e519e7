package weights

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"resdet/internal/nd"
)

// A training checkpoint holds much beside its weights, of which nothing is in
// the way and nothing is run.
func TestBesideWeights(t *testing.T) {
	p := newPickle().op(opProto, 4, opEmptyDict, opMemoize, opMark)
	p.text("args").global("argparse", "Namespace").op(opEmptyTuple, opReduce, opEmptyDict).text("lr").op(opBinFloat, 0x3f, 0xf0, 0, 0, 0, 0, 0, 0, opSetItem, opBuild)
	p.text("counts").global("collections", "defaultdict").op(opEmptyTuple, opReduce, opMark).text("a").op(opNone, opSetItems)
	p.text("best").global("numpy.core.multiarray", "scalar").global("numpy", "dtype").text("f8").op(opTuple1, opReduce).op(opShortBinBytes, 2, 1, 2).op(opTuple2, opReduce)
	p.text("set").global("builtins", "set").op(opEmptyList, opTuple1, opReduce)
	p.text("names").op(opEmptySet, opMark).text("x").text("y").op(opAddItems)
	p.text("frozen").op(opMark).text("x").op(opFrozenSet)
	p.text("log").op(opEmptyList, opMark, opNewTrue, opNewFalse, opBinInt1, 3, opBinInt, 0xff, 0xff, 0xff, 0xff, opAppends)
	p.text("huge").op(opLong1, 9).op(make([]byte, 9)...)
	p.text("bytes").op(opBinBytes8, 0, 0x20, 0, 0, 0, 0, 0, 0).op(make([]byte, 0x2000)...)
	p.text("size").global("torch", "Size").ints(2, 3).op(opTuple1, opReduce)
	p.text("device").global("torch", "device").text("cuda").op(opTuple1, opReduce)
	p.text("short").op(opShortUnicode, 2, 'h', 'i')
	p.text("list").op(opMark, opNone, opPopMark, opMark, opNone, opList)
	p.text("dict").op(opMark).text("k").op(opNone, opDict)
	p.text("model").global("collections", "OrderedDict").op(opEmptyTuple, opReduce)
	p.text("a").global("torch._utils", "_rebuild_parameter").op(opMark).tensor("cuda.FloatStorage", "0", 6, 0, []int{6}, []int{1}).op(opNewTrue, opNone, opTuple, opReduce, opSetItem)
	p.text("b").global("torch._tensor", "_rebuild_from_type_v2").op(opMark).global("torch._utils", "_rebuild_tensor_v2").global("torch", "Tensor").
		op(opMark, opMark).text("storage").global("torch", "FloatStorage").text("0").text("cpu").int(6).op(opTuple, opBinPersID).int(1).ints(2).ints(1).op(opNewFalse, opNone, opTuple).
		op(opEmptyDict, opTuple, opReduce, opSetItem)
	p.op(opEmptyDict).text("_metadata").op(opEmptyDict, opSetItem, opBuild) // state of the OrderedDict
	p.text("optimizer").op(opEmptyDict).text("momentum").tensor("FloatStorage", "0", 6, 0, []int{6}, []int{1}).op(opSetItem)
	p.op(opSetItems, opStop)
	file := torchZip(t, p.Bytes(), floats(0, 1, 2, 3, 4, 5))
	c, err := OpenReader("training.pth", bytes.NewReader(file), int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Tensors) != 2 {
		t.Errorf("tensors %v", c.Tensors)
	}
	for key, want := range map[string][]float32{"a": {0, 1, 2, 3, 4, 5}, "b": {1, 2}} {
		if got, err := c.Read(key); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %v, %v", key, got, err)
		}
	}
}

// torch 2's newest form names the element type beside the storage.
func TestUntypedStorage(t *testing.T) {
	p := newPickle().op(opEmptyDict).text("w").global("torch._utils", "_rebuild_tensor_v3").op(opMark)
	p.op(opMark).text("storage").global("torch.storage", "UntypedStorage").text("0").text("cpu").int(4).op(opTuple, opBinPersID)
	p.int(0).ints(2).ints(1).op(opNewFalse, opNone).global("torch", "bfloat16").op(opTuple, opReduce, opSetItem, opStop)
	file := torchZip(t, p.Bytes(), []byte{0x80, 0x3f, 0x00, 0xc0})
	c, err := OpenReader("w.pth", bytes.NewReader(file), int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := c.Read("w"); err != nil || !slices.Equal(got, []float32{1, -2}) || c.Tensor("w").DType != BF16 {
		t.Errorf("%v, %v", got, err)
	}
}

// Before 2018 several storages could be views of one.
func TestLegacyViews(t *testing.T) {
	p := newPickle().op(opEmptyDict).text("w").global("torch._utils", "_rebuild_tensor").op(opMark)
	p.op(opMark).text("storage").global("torch", "FloatStorage").text("7").text("cpu").int(6).op(opMark).text("8").int(2).int(3).op(opTuple, opTuple, opBinPersID)
	p.int(1).ints(2).ints(1).op(opTuple, opReduce, opSetItem, opStop)
	file := legacy(p.Bytes(), map[string][]byte{"7": floats(0, 1, 2, 3, 4, 5)}, 4)
	c, err := OpenReader("w.pth", bytes.NewReader(file), int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := c.Read("w"); err != nil || !slices.Equal(got, []float32{3, 4}) {
		t.Errorf("%v, %v", got, err)
	}
}

func TestElementTypes(t *testing.T) {
	le := binary.LittleEndian
	for dtype, tt := range map[DType]struct {
		bytes []byte
		want  float32
	}{
		F32: {le.AppendUint32(nil, math.Float32bits(-1.5)), -1.5}, F64: {le.AppendUint64(nil, math.Float64bits(1e-3)), 1e-3},
		F16: {[]byte{0x00, 0xbe}, -1.5}, BF16: {[]byte{0xc0, 0xbf}, -1.5},
		I64: {le.AppendUint64(nil, 1<<64-5), -5}, I32: {le.AppendUint32(nil, 1<<32-5), -5}, I16: {[]byte{0xfb, 0xff}, -5}, I8: {[]byte{0xfb}, -5},
		U64: {le.AppendUint64(nil, 1<<63), 1 << 63}, U32: {le.AppendUint32(nil, 1<<31), 1 << 31}, U16: {[]byte{0, 0x80}, 1 << 15}, U8: {[]byte{0x80}, 128},
		Bool: {[]byte{1}, 1},
	} {
		if int64(len(tt.bytes)) != dtype.Size() {
			t.Errorf("%v has %d bytes", dtype, dtype.Size())
			continue
		}
		header := `{"w":{"dtype":"` + dtypes[dtype].safe + `","shape":[1],"data_offsets":[0,` + string('0'+rune(dtype.Size())) + `]}}`
		file := safe(header, tt.bytes)
		c, err := OpenReader("w", bytes.NewReader(file), int64(len(file)))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := c.Read("w"); err != nil || got[0] != tt.want || c.Tensors[0].DType != dtype {
			t.Errorf("%v: %v, %v; want %v", dtype, got, err, tt.want)
		}
	}
}

func TestParam(t *testing.T) {
	c := memory(t, map[string]nd.Shape{"w": {2, 3}})
	if _, err := c.Param("w", nd.Shape{3, 2}); err == nil || !strings.Contains(err.Error(), `test.safetensors: parameter "w" has shape [2 3], the network wants [3 2]`) {
		t.Errorf("error %v of another shape", err)
	}
	if _, err := c.Param("v", nd.Shape{1}); err == nil || !strings.Contains(err.Error(), `"v" is missing`) {
		t.Errorf("error %v of no parameter", err)
	}
	if _, err := c.Read("v"); err == nil {
		t.Error("no error of no tensor")
	}
	var refused *GlobalError
	file := hostile(t)["evil builtin"]
	if _, err := OpenReader("evil", bytes.NewReader(file), int64(len(file))); !errors.As(err, &refused) || refused.Name != "eval" || !strings.Contains(refused.Hint(), "state_dict") {
		t.Errorf("error %v", err)
	}
}
