package weights

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"resdet/internal/nd"
)

// pickle assembles opcodes.
type pickle struct{ bytes.Buffer }

func (p *pickle) op(b ...byte) *pickle { p.Write(b); return p }

func (p *pickle) global(module, name string) *pickle {
	fmt.Fprintf(p, "c%s\n%s\n", module, name)
	return p
}

func (p *pickle) text(s string) *pickle {
	p.op(opBinUnicode)
	p.Write(binary.LittleEndian.AppendUint32(nil, uint32(len(s))))
	p.WriteString(s)
	return p
}

func (p *pickle) int(v int) *pickle {
	p.op(opLong1, 8)
	p.Write(binary.LittleEndian.AppendUint64(nil, uint64(v)))
	return p
}

func (p *pickle) ints(vs ...int) *pickle {
	p.op(opMark)
	for _, v := range vs {
		p.int(v)
	}
	return p.op(opTuple)
}

// tensor pushes a view of storage key, which has elems elements of the class
// "FloatStorage" or "cuda.FloatStorage".
func (p *pickle) tensor(class, key string, elems, offset int, shape, strides []int) *pickle {
	module := "torch"
	if rest, ok := strings.CutPrefix(class, "cuda."); ok {
		module, class = "torch.cuda", rest
	}
	p.global("torch._utils", "_rebuild_tensor_v2").op(opMark)
	p.op(opMark).text("storage").global(module, class).text(key).text("cpu").int(elems).op(opTuple, opBinPersID)
	p.int(offset).ints(shape...).ints(strides...).op(opNewFalse, opNone)
	return p.op(opTuple, opReduce)
}

func newPickle() *pickle { return new(pickle).op(opProto, 2) }

// stateDict is a pickle of one tensor "w".
func oneTensor(class string, elems, offset int, shape, strides []int) []byte {
	return newPickle().op(opEmptyDict).text("w").tensor(class, "0", elems, offset, shape, strides).op(opSetItem, opStop).Bytes()
}

type member struct {
	name   string
	data   []byte
	method uint16
}

func archive(t testing.TB, members ...member) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, m := range members {
		f, err := w.CreateHeader(&zip.FileHeader{Name: m.name, Method: m.method})
		if err == nil {
			_, err = f.Write(m.data)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// torchZip is a checkpoint of one pickle and one storage, "0".
func torchZip(t testing.TB, object, storage []byte) []byte {
	t.Helper()
	return archive(t, member{"m/data.pkl", object, zip.Store}, member{"m/data/0", storage, zip.Store})
}

func floats(vs ...float32) []byte {
	var b []byte
	for _, v := range vs {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
	}
	return b
}

// legacy is a checkpoint in the old container.
func legacy(object []byte, storages map[string][]byte, size int) []byte {
	var b bytes.Buffer
	b.Write(newPickle().op(opLong1, byte(len(legacyMagic))).Bytes())
	b.WriteString(string(legacyMagic) + ".")
	b.Write(newPickle().op(opBinInt2, 0xe9, 3, opStop).Bytes()) // 1001
	b.Write(newPickle().op(opEmptyDict, opStop).Bytes())
	b.Write(object)
	keys := newPickle().op(opEmptyList)
	var names []string
	for k := range storages {
		names = append(names, k)
	}
	slices.Sort(names)
	for _, k := range names {
		keys.text(k).op(opAppend)
	}
	b.Write(keys.op(opStop).Bytes())
	for _, k := range names {
		b.Write(binary.LittleEndian.AppendUint64(nil, uint64(len(storages[k])/size)))
		b.Write(storages[k])
	}
	return b.Bytes()
}

func safe(header string, data []byte) []byte {
	return slices.Concat(binary.LittleEndian.AppendUint64(nil, uint64(len(header))), []byte(header), data)
}

// TestLayouts reads what torch may write and the fixtures do not have.
func TestLayouts(t *testing.T) {
	six := floats(0, 1, 2, 3, 4, 5)
	big := slices.Clone(six)
	swap(big, 4)
	matrix := oneTensor("FloatStorage", 6, 0, []int{2, 3}, []int{3, 1})
	for name, tt := range map[string]struct {
		file  []byte
		shape nd.Shape
		want  []float32
	}{
		"transposed":     {torchZip(t, oneTensor("FloatStorage", 6, 0, []int{3, 2}, []int{1, 3}), six), nd.Shape{3, 2}, []float32{0, 3, 1, 4, 2, 5}},
		"expanded":       {torchZip(t, oneTensor("FloatStorage", 6, 4, []int{2, 2}, []int{0, 1}), six), nd.Shape{2, 2}, []float32{4, 5, 4, 5}},
		"slice":          {torchZip(t, oneTensor("FloatStorage", 6, 1, []int{2}, []int{3}), six), nd.Shape{2}, []float32{1, 4}},
		"scalar":         {torchZip(t, oneTensor("FloatStorage", 6, 5, nil, nil), six), nd.Shape{}, []float32{5}},
		"no elements":    {torchZip(t, oneTensor("FloatStorage", 6, 0, []int{0, 3}, []int{3, 1}), six), nd.Shape{0, 3}, []float32{}},
		"int32":          {torchZip(t, oneTensor("IntStorage", 1, 0, []int{1}, []int{1}), []byte{0xfe, 0xff, 0xff, 0xff}), nd.Shape{1}, []float32{-2}},
		"legacy":         {legacy(matrix, map[string][]byte{"0": six}, 4), nd.Shape{2, 3}, []float32{0, 1, 2, 3, 4, 5}},
		"compressed":     {archive(t, member{"a/b/data.pkl", matrix, zip.Deflate}, member{"a/b/data/0", six, zip.Deflate}), nd.Shape{2, 3}, []float32{0, 1, 2, 3, 4, 5}},
		"big endian":     {archive(t, member{"m/data.pkl", matrix, 0}, member{"m/byteorder", []byte("big"), 0}, member{"m/data/0", big, 0}), nd.Shape{2, 3}, []float32{0, 1, 2, 3, 4, 5}},
		"nested":         {torchZip(t, newPickle().op(opEmptyDict).text("state_dict").op(opEmptyDict).text("w").tensor("FloatStorage", "0", 6, 0, []int{6}, []int{1}).op(opSetItem, opSetItem, opStop).Bytes(), six), nd.Shape{6}, []float32{0, 1, 2, 3, 4, 5}},
		"padded header":  {safe(`{"w":{"dtype":"F32","shape":[6],"data_offsets":[0,24]}}   `, six), nd.Shape{6}, []float32{0, 1, 2, 3, 4, 5}},
		"escaped name":   {safe(`{"__metadata__":{"a\n":"\u00fc"},"\u0077":{"data_offsets":[0,24],"dtype":"F32","shape":[6]}}`, six), nd.Shape{6}, []float32{0, 1, 2, 3, 4, 5}},
		"64-bit offsets": {zip64(t, matrix, six), nd.Shape{2, 3}, []float32{0, 1, 2, 3, 4, 5}},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := OpenReader(name, bytes.NewReader(tt.file), int64(len(tt.file)))
			if err != nil {
				t.Fatal(err)
			}
			got, err := c.Param("w", tt.shape)
			if err != nil || !slices.Equal(got, tt.want) {
				t.Errorf("%v, %v; want %v", got, err, tt.want)
			}
		})
	}
}

// zip64 rewrites an archive's end so that only the 64-bit record is right, as
// torch writes archives beyond 4 GiB.
func zip64(t testing.TB, object, storage []byte) []byte {
	b := torchZip(t, object, storage)
	at := len(b) - zipEndBytes
	end := slices.Clone(b[at:])
	le := binary.LittleEndian
	count, size, from := le.Uint16(end[10:]), le.Uint32(end[12:]), le.Uint32(end[16:])
	wide := make([]byte, zipEnd64Bytes+zipLocatorBytes)
	copy(wide, "PK\x06\x06")
	le.PutUint64(wide[4:], zipEnd64Bytes-12)
	le.PutUint64(wide[24:], uint64(count))
	le.PutUint64(wide[32:], uint64(count))
	le.PutUint64(wide[40:], uint64(size))
	le.PutUint64(wide[48:], uint64(from))
	copy(wide[zipEnd64Bytes:], "PK\x06\x07")
	le.PutUint64(wide[zipEnd64Bytes+8:], uint64(at))
	for i := 8; i < 20; i++ {
		end[i] = 0xff
	}
	return slices.Concat(b[:at], wide, end)
}

// hostile are files that lie or ask for what they must not get, made once.
func hostile(t testing.TB) map[string][]byte {
	t.Helper()
	hostileOnce.Do(func() { hostileFiles = newHostile(t) })
	return maps.Clone(hostileFiles)
}

var (
	hostileOnce  sync.Once
	hostileFiles map[string][]byte
)

func newHostile(t testing.TB) map[string][]byte {
	six := floats(0, 1, 2, 3, 4, 5)
	object := func(f func(p *pickle)) []byte {
		p := newPickle()
		f(p)
		return torchZip(t, p.op(opStop).Bytes(), six)
	}
	tensor := func(elems, offset int, shape, strides []int) []byte {
		return torchZip(t, oneTensor("FloatStorage", elems, offset, shape, strides), six)
	}
	evil := newPickle().global("os", "system").text("touch pwned").op(opTuple1, opReduce, opStop).Bytes()
	good := torchZip(t, oneTensor("FloatStorage", 6, 0, []int{6}, []int{1}), six)
	wrongSum := slices.Clone(good)
	wrongSum[bytes.Index(wrongSum, six)+5] ^= 1
	bomb := make([]byte, 8<<20)
	zeros := len(bomb) / 4
	return map[string][]byte{
		"evil legacy": legacy(evil, nil, 4),
		"evil builtin": object(func(p *pickle) {
			p.global("builtins", "eval").text("1").op(opTuple1, opReduce)
		}),
		"evil by stack": object(func(p *pickle) { p.text("posix").text("system").op(opStackGlobal) }),
		"calls a dict":  object(func(p *pickle) { p.op(opEmptyDict, opEmptyTuple, opReduce) }),
		"old protocol":  torchZip(t, []byte("(dp0\nI1\n."), six),
		"memo gap":      object(func(p *pickle) { p.op(opNone, opLongBinPut, 0xff, 0xff, 0xff, 0x7f) }),
		"memo missing":  object(func(p *pickle) { p.op(opBinGet, 3) }),
		"underflow":     object(func(p *pickle) { p.op(opPop) }),
		"no mark":       object(func(p *pickle) { p.op(opTuple) }),
		"endless text":  object(func(p *pickle) { p.op(opBinUnicode8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f) }),
		"endless frame": object(func(p *pickle) { p.op(opFrame, 0, 0, 0, 0, 0, 0, 0, 0x7f) }),
		"a list":        object(func(p *pickle) { p.op(opEmptyList) }),
		"no tensors":    object(func(p *pickle) { p.op(opEmptyDict).text("epoch").int(3).op(opSetItem) }),
		"in itself": object(func(p *pickle) {
			p.op(opEmptyDict, opBinPut, 0).text("model").op(opBinGet, 0, opSetItem)
		}),
		"doubling": object(func(p *pickle) { // each tuple holds the one before twice
			p.op(opEmptyTuple)
			for range 200_000 {
				p.op(opDup, opTuple2)
			}
		}),
		"many marks":        object(func(p *pickle) { p.Write(bytes.Repeat([]byte{opMark}, 100_000)) }),
		"storage too short": tensor(7, 0, []int{7}, []int{1}),
		"shape too large":   tensor(6, 0, []int{1 << 40, 1 << 40}, []int{1, 1}),
		"offset outside":    tensor(6, 6, []int{1}, []int{1}),
		"strides outside":   tensor(6, 0, []int{2, 2}, []int{5, 1}),
		"repeats too much":  tensor(6, 0, []int{1 << 30}, []int{0}),
		"negative shape":    tensor(6, 0, []int{-2}, []int{1}),
		"negative stride":   tensor(6, 5, []int{3}, []int{-1}),
		"wrong checksum":    wrongSum,
		"no pickle":         archive(t, member{"a.txt", six, 0}),
		"two pickles":       archive(t, member{"a/data.pkl", evil, 0}, member{"b/data.pkl", evil, 0}),
		"no storage":        archive(t, member{"m/data.pkl", oneTensor("FloatStorage", 6, 0, []int{6}, []int{1}), 0}),
		"a program":         archive(t, member{"m/data.pkl", oneTensor("FloatStorage", 6, 0, []int{6}, []int{1}), 0}, member{"m/constants.pkl", nil, 0}),
		"bomb":              archive(t, member{"m/data.pkl", oneTensor("FloatStorage", zeros, 0, []int{zeros}, []int{1}), 0}, member{"m/data/0", bomb, zip.Deflate}),
		"bomb of a pickle":  archive(t, member{"m/data.pkl", bomb, zip.Deflate}),
		"legacy cut":        legacy(oneTensor("FloatStorage", 1<<40, 0, []int{6}, []int{1}), map[string][]byte{"0": six}, 4),
		"legacy no list":    legacy(oneTensor("FloatStorage", 6, 0, []int{6}, []int{1}), nil, 4),
		"empty":             {},
		"text":              []byte("this is a text file\n"),
		"page":              []byte("<!DOCTYPE html><html>not found</html>"),
		"lfs":               []byte("version https://git-lfs.github.com/spec/v1\noid sha256:1\n"),
		"bare pickle":       evil,
		"keras":             []byte("\x89HDF\r\n\x1a\n0000"),

		"safe: same name":       safe(`{"w":{"dtype":"F32","shape":[3],"data_offsets":[0,12]},"w":{"dtype":"F32","shape":[3],"data_offsets":[12,24]}}`, six),
		"safe: gap":             safe(`{"w":{"dtype":"F32","shape":[5],"data_offsets":[4,24]}}`, six),
		"safe: left over":       safe(`{"w":{"dtype":"F32","shape":[5],"data_offsets":[0,20]}}`, six),
		"safe: overlap":         safe(`{"v":{"dtype":"F32","shape":[6],"data_offsets":[0,24]},"w":{"dtype":"F32","shape":[5],"data_offsets":[4,24]}}`, six),
		"safe: beyond":          safe(`{"w":{"dtype":"F32","shape":[7],"data_offsets":[0,28]}}`, six),
		"safe: backwards":       safe(`{"w":{"dtype":"F32","shape":[6],"data_offsets":[24,0]}}`, six),
		"safe: shape":           safe(`{"w":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,24]}}`, six),
		"safe: huge number":     safe(`{"w":{"dtype":"F32","shape":[99999999999999999999999],"data_offsets":[0,24]}}`, six),
		"safe: negative":        safe(`{"w":{"dtype":"F32","shape":[-6],"data_offsets":[0,24]}}`, six),
		"safe: many dimensions": safe(`{"w":{"dtype":"F32","shape":[`+strings.Repeat("1,", 999)+`6],"data_offsets":[0,24]}}`, six),
		"safe: dtype":           safe(`{"w":{"dtype":"F8_E4M3","shape":[24],"data_offsets":[0,24]}}`, six),
		"safe: no dtype":        safe(`{"w":{"shape":[6],"data_offsets":[0,24]}}`, six),
		"safe: field":           safe(`{"w":{"dtype":"F32","shape":[6],"data_offsets":[0,24],"x":1}}`, six),
		"safe: not closed":      safe(`{"w":{"dtype":"F32","shape":[6],"data_offsets":[0,24]}`, six),
		"safe: closed by data":  safe(`{"w":{"dtype":"U8","shape":[25],"data_offsets":[0,25]}`, []byte("}0123456789012345678901234")),
		"safe: text behind":     safe(`{"w":{"dtype":"F32","shape":[6],"data_offsets":[0,24]}} x`, six),
		"safe: two metadata":    safe(`{"__metadata__":{},"__metadata__":{},"w":{"dtype":"F32","shape":[6],"data_offsets":[0,24]}}`, six),
		"safe: escape":          safe(`{"\q":{"dtype":"F32","shape":[6],"data_offsets":[0,24]}}`, six),
		"safe: long name":       safe(`{"`+strings.Repeat("w", 1<<16)+`":{"dtype":"F32","shape":[6],"data_offsets":[0,24]}}`, six),
		"safe: small tensors":   manyTensors(100_000),
	}
}

// manyTensors is a header of arrays without elements: what they take in memory
// is more than their lines in the file.
func manyTensors(n int) []byte {
	var b strings.Builder
	b.WriteByte('{')
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `"%d":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}`, i)
	}
	return safe(b.String()+"}", nil)
}

func TestHostile(t *testing.T) {
	dir := t.TempDir()
	files := hostile(t)
	maps.Copy(files, hostileNets())
	maps.Copy(files, hostileArrays())
	for name, file := range files {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(dir, strings.ReplaceAll(name, ":", ""))
			if err := os.WriteFile(path, file, 0o600); err != nil {
				t.Fatal(err)
			}
			var want error
			if strings.HasPrefix(name, "evil") {
				want = ErrRefused
			}
			checkBad(t, path, want)
		})
	}
	if _, err := os.Stat("pwned"); err == nil {
		t.Error("something was run")
	}
}

func TestNotAFile(t *testing.T) {
	if _, err := Open(t.TempDir()); !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("error %v of a folder", err)
	}
	if _, err := Open(filepath.Join(t.TempDir(), "none.pth")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v of no file", err)
	}
}

// FuzzOpen gives files of every kind; FuzzPickle reaches the machine behind the
// checksums of an archive.
func FuzzOpen(f *testing.F) {
	for _, file := range hostile(f) {
		if len(file) < 4<<10 {
			f.Add(file)
		}
	}
	files, err := filepath.Glob("../../testdata/fixtures/checkpoints/*")
	if err != nil || len(files) == 0 {
		f.Fatal("no fixtures")
	}
	for _, name := range files {
		if b, err := os.ReadFile(name); err == nil && len(b) < 16<<10 {
			f.Add(b)
		}
	}
	f.Fuzz(func(t *testing.T, file []byte) { checkAny(t, file) })
}

func FuzzPickle(f *testing.F) {
	f.Add(oneTensor("FloatStorage", 6, 0, []int{2, 3}, []int{3, 1}))
	f.Add(oneTensor("HalfStorage", 12, 1, []int{2}, []int{3}))
	f.Add(newPickle().op(opEmptyDict, opBinPut, 0).text("model").op(opBinGet, 0, opSetItem, opStop).Bytes())
	f.Add(newPickle().global("collections", "OrderedDict").op(opEmptyTuple, opReduce, opMark).text("w").op(opNone, opSetItems, opStop).Bytes())
	f.Add(newPickle().op(opEmptyList, opMark).int(-1).op(opNewTrue, opAppends, opDup, opTuple2, opMemoize, opStop).Bytes())
	f.Fuzz(func(t *testing.T, object []byte) {
		checkAny(t, torchZip(t, object, floats(0, 1, 2, 3, 4, 5)))
		checkAny(t, legacy(object, map[string][]byte{"0": floats(0, 1, 2, 3, 4, 5)}, 4))
	})
}

// FuzzHeader gives safetensors whose length of the header is right whatever it
// says, so that its parser sees it.
func FuzzHeader(f *testing.F) {
	for name, file := range hostile(f) {
		if rest, ok := strings.CutPrefix(name, "safe: "); ok && len(file) < 4<<10 && rest != "" {
			n := binary.LittleEndian.Uint64(file)
			f.Add(string(file[8:8+n]), file[8+n:])
		}
	}
	f.Add(`{"__metadata__":{"format":"pt"},"w":{"dtype":"F16","shape":[2,3],"data_offsets":[0,12]},"b":{"dtype":"F32","shape":[],"data_offsets":[12,16]}}`, make([]byte, 16))
	f.Fuzz(func(t *testing.T, header string, data []byte) { checkAny(t, safe(header, data)) })
}

// checkAny opens a file: an error must be of our kinds, what opens must be
// readable or damaged, and memory stays within the promise.
func checkAny(t *testing.T, file []byte) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	c, err := OpenReader("file", bytes.NewReader(file), int64(len(file)))
	runtime.ReadMemStats(&after)
	if spent := int64(after.TotalAlloc - before.TotalAlloc); spent > int64(len(file))+1<<20 {
		t.Errorf("%d bytes allocated for a file of %d", spent, len(file))
	}
	if err != nil {
		if !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrRefused) && !errors.Is(err, ErrFormat) {
			t.Errorf("error of no kind of ours: %v", err)
		}
		return
	}
	for _, x := range c.Tensors {
		if x.Shape.Len() > 8*(len(file)+1<<20) {
			t.Fatalf("%q of %v in a file of %d bytes", x.Key, x.Shape, len(file))
		}
		if _, err := c.Read(x.Key); err != nil && !errors.Is(err, ErrDamaged) {
			t.Errorf("%q: error of no kind of ours: %v", x.Key, err)
		}
	}
}
