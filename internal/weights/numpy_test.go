package weights

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// numpy appends an array with the elements that data pushes.
func (p *pickle) numpy(module, typ, order string, fortran bool, shape []int, data func(p *pickle)) *pickle {
	p.global(module+".multiarray", "_reconstruct").global("numpy", "ndarray").ints(0).text("b").op(opTuple3, opReduce)
	p.op(opMark).int(1).ints(shape...)
	p.global("numpy", "dtype").text(typ).op(opNewFalse, opNewTrue, opTuple3, opReduce)
	p.op(opMark).int(3).text(order).op(opNone, opNone, opNone).int(-1).int(-1).int(0).op(opTuple, opBuild)
	flag := byte(opNewFalse)
	if fortran {
		flag = opNewTrue
	}
	p.op(flag)
	data(p)
	return p.op(opTuple, opBuild)
}

// raw pushes bytes as protocol 3 does, str as Python 2, latin as protocol 2 of Python 3.
func raw(b []byte) func(*pickle) {
	return func(p *pickle) {
		p.op(opBinBytes).Write(binary.LittleEndian.AppendUint32(nil, uint32(len(b))))
		p.Write(b)
	}
}

func str(b []byte) func(*pickle) {
	return func(p *pickle) {
		p.op(opBinString).Write(binary.LittleEndian.AppendUint32(nil, uint32(len(b))))
		p.Write(b)
	}
}

func latin(b []byte) func(*pickle) {
	return func(p *pickle) {
		runes := make([]rune, len(b))
		for i, c := range b {
			runes[i] = rune(c)
		}
		p.global("_codecs", "encode").text(string(runes)).text("latin1").op(opTuple2, opReduce)
	}
}

// dictOf pickles {"w": value, "cfg": "…"}.
func dictOf(value func(p *pickle)) []byte {
	p := newPickle().op(opEmptyDict, opMark).text("w")
	value(p)
	return p.text("cfg").text("TEST: 1").op(opSetItems, opStop).Bytes()
}

func TestArrays(t *testing.T) {
	six := floats(0, 1, 2, 3, 4, 5)
	long := make([]float32, 2*shortString) // long enough to stay in the file
	for i := range long {
		long[i] = float32(i%251) / 3
	}
	bigEndian := slices.Clone(six)
	swap(bigEndian, 4)
	want := []float32{0, 1, 2, 3, 4, 5}
	for name, tt := range map[string]struct {
		file  []byte
		shape []int
		want  []float32
	}{
		"Python 3, protocol 3": {dictOf(func(p *pickle) { p.numpy("numpy.core", "f4", "<", false, []int{2, 3}, raw(six)) }), []int{2, 3}, want},
		"Python 3, protocol 2": {dictOf(func(p *pickle) { p.numpy("numpy.core", "f4", "<", false, []int{2, 3}, latin(six)) }), []int{2, 3}, want},
		"Python 2":             {dictOf(func(p *pickle) { p.numpy("numpy.core", "f4", "<", false, []int{2, 3}, str(six)) }), []int{2, 3}, want},
		"numpy 2":              {dictOf(func(p *pickle) { p.numpy("numpy._core", "f4", "<", false, []int{2, 3}, raw(six)) }), []int{2, 3}, want},
		"big-endian":           {dictOf(func(p *pickle) { p.numpy("numpy.core", "f4", ">", false, []int{6}, raw(bigEndian)) }), []int{6}, want},
		"Fortran's order":      {dictOf(func(p *pickle) { p.numpy("numpy.core", "f4", "<", true, []int{3, 2}, raw(six)) }), []int{3, 2}, []float32{0, 3, 1, 4, 2, 5}},
		"doubles":              {dictOf(func(p *pickle) { p.numpy("numpy.core", "f8", "<", false, []int{2}, raw(doubles(1.5, -2))) }), []int{2}, []float32{1.5, -2}},
		"scalar":               {dictOf(func(p *pickle) { p.numpy("numpy.core", "i8", "<", false, nil, raw([]byte{7, 0, 0, 0, 0, 0, 0, 0})) }), nil, []float32{7}},
		"empty":                {dictOf(func(p *pickle) { p.numpy("numpy.core", "f4", "<", false, []int{0, 3}, raw(nil)) }), []int{0, 3}, []float32{}},
		"long":                 {dictOf(func(p *pickle) { p.numpy("numpy.core", "f4", "<", false, []int{len(long)}, raw(floats(long...))) }), []int{len(long)}, long},
		"long in Latin-1":      {dictOf(func(p *pickle) { p.numpy("numpy.core", "f4", "<", false, []int{len(long)}, latin(floats(long...))) }), []int{len(long)}, long},
		"wrapped": {newPickle().op(opEmptyDict, opMark).text("blobs").op(opEmptyDict).text("w").
			numpy("numpy.core", "f4", "<", false, []int{6}, raw(six)).op(opSetItem).text("cfg").text("x").op(opSetItems, opStop).Bytes(), []int{6}, want},
		"protocol 5": {dictOf(func(p *pickle) {
			p.global("numpy.core.numeric", "_frombuffer").op(opMark, opByteArray8).Write(binary.LittleEndian.AppendUint64(nil, 24))
			p.Write(six)
			p.global("numpy", "dtype").text("f4").op(opNewFalse, opNewTrue, opTuple3, opReduce).ints(2, 3).text("C").op(opTuple, opReduce)
		}), []int{2, 3}, want},
		"objects beside": {newPickle().op(opEmptyDict, opMark).text("names").
			numpy("numpy.core", "O8", "|", false, []int{1}, func(p *pickle) { p.op(opEmptyList) }).text("w").
			numpy("numpy.core", "f4", "<", false, []int{6}, raw(six)).op(opSetItems, opStop).Bytes(), []int{6}, want},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := OpenReader("zoo.pkl", bytes.NewReader(tt.file), int64(len(tt.file)))
			if err != nil {
				t.Fatal(err)
			}
			got, err := c.Read("w")
			if err != nil {
				t.Fatal(err)
			}
			if c.Format != "pickle" || len(c.Tensors) != 1 || !slices.Equal(c.Tensors[0].Shape, tt.shape) {
				t.Errorf("%s: tensors %+v", c.Format, c.Tensors)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// hostileArrays lie, or ask for what they must not get.
func hostileArrays() map[string][]byte {
	six := floats(0, 1, 2, 3, 4, 5)
	of := func(shape []int, data func(*pickle)) []byte {
		return dictOf(func(p *pickle) { p.numpy("numpy.core", "f4", "<", false, shape, data) })
	}
	cut := of([]int{2 * shortString}, raw(make([]byte, 8*shortString)))
	beyond := func(p *pickle) {
		p.global("_codecs", "encode").text(strings.Repeat("aaaĀ", shortString)).text("latin1").op(opTuple2, opReduce)
	}
	return map[string][]byte{
		"evil array class":     dictOf(func(p *pickle) { p.global("numpy.core.multiarray", "fromfile").text("x").op(opTuple1, opReduce) }),
		"evil loads":           dictOf(func(p *pickle) { p.global("torch.storage", "_load_from_bytes").text("x").op(opTuple1, opReduce) }),
		"array: cut":           cut[:len(cut)-100],
		"array: too large":     of([]int{7}, raw(six)),
		"array: too small":     of([]int{5}, raw(six)),
		"array: product wraps": of([]int{1 << 30, 1 << 30, 1 << 30}, raw(six)),
		"array: negative":      of([]int{-6}, raw(six)),
		"array: no state":      dictOf(func(p *pickle) { p.global("numpy.core.multiarray", "_reconstruct").op(opEmptyTuple, opReduce) }),
		"array: state": dictOf(func(p *pickle) {
			p.global("numpy.core.multiarray", "_reconstruct").op(opEmptyTuple, opReduce, opNone, opBuild)
		}),
		"array: text":            of([]int{2 * shortString}, func(p *pickle) { p.text(strings.Repeat("a", 8*shortString)) }),
		"array: no numbers":      of([]int{6}, func(p *pickle) { p.op(opNone) }),
		"array: not latin1":      of([]int{1}, func(p *pickle) { p.global("_codecs", "encode").text("ab\u0100c").text("latin1").op(opTuple2, opReduce) }),
		"array: long no latin1":  of([]int{shortString}, beyond),
		"array: other codec":     of([]int{1}, func(p *pickle) { p.global("_codecs", "encode").text("abcd").text("rot13").op(opTuple2, opReduce) }),
		"array: out of band":     dictOf(func(p *pickle) { p.op(0x97) }),
		"array: persistent":      dictOf(func(p *pickle) { p.text("x").op(opBinPersID) }),
		"array: text in a shape": dictOf(func(p *pickle) { p.numpy("numpy.core", "f4", "<", false, nil, func(p *pickle) { p.op(opEmptyDict) }) }),
	}
}

func FuzzArrays(f *testing.F) {
	six := floats(0, 1, 2, 3, 4, 5)
	f.Add(dictOf(func(p *pickle) { p.numpy("numpy.core", "f4", "<", false, []int{2, 3}, latin(six)) }))
	f.Add(dictOf(func(p *pickle) { p.numpy("numpy._core", "f2", ">", true, []int{3, 4}, raw(six)) }))
	f.Add(dictOf(func(p *pickle) { p.numpy("numpy.core", "f4", "<", false, []int{6}, str(six)) }))
	for _, file := range hostileArrays() {
		if len(file) < 4<<10 {
			f.Add(file)
		}
	}
	f.Fuzz(func(t *testing.T, file []byte) { checkAny(t, file) })
}
