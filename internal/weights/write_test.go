package weights_test

import (
	"archive/zip"
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
)

// published is an array of a checkpoint that a test writes, its elements made
// when they are written.
type published struct {
	key     string
	shape   []int
	role    string           // see testdata/families/README.md
	pattern func() []float32 // the elements, or as many as are then repeated
}

// values returns the elements.
func (p published) values() []float32 {
	out := make([]float32, p.len())
	p.into(out)
	return out
}

// into is values in memory that is there.
func (p published) into(dst []float32) {
	for done := copy(dst, p.pattern()); 0 < done && done < len(dst); done *= 2 {
		copy(dst[done:], dst[:done])
	}
}

func (p published) len() int {
	n := 1
	for _, d := range p.shape {
		n *= d
	}
	return n
}

// writer writes a checkpoint in one container.
type writer func(w io.Writer, arrays []published) error

// write makes a file of the arrays and returns its path.
func write(t testing.TB, name string, with writer, arrays []published) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	b := bufio.NewWriterSize(f, 1<<20)
	if err := with(b, arrays); err != nil {
		t.Fatal(err)
	}
	if err := b.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

var le = binary.LittleEndian

// rope is a file in memory that keeps what is written again and again once:
// those of the families have four gigabytes in all.
type rope struct {
	parts []strand
	size  int64
}

// strand is data that is repeated, from byte at of the file on.
type strand struct {
	at    int64
	data  []byte
	times int64
}

func (r *rope) Write(b []byte) (int, error) {
	switch last := len(r.parts) - 1; {
	case len(b) == 0:
	case last >= 0 && bytes.Equal(r.parts[last].data, b):
		r.parts[last].times++
	default:
		r.parts = append(r.parts, strand{r.size, bytes.Clone(b), 1})
	}
	r.size += int64(len(b))
	return len(b), nil
}

func (r *rope) ReadAt(b []byte, at int64) (n int, err error) {
	i := sort.Search(len(r.parts), func(i int) bool { return r.parts[i].at > at }) - 1
	for n < len(b) && at < r.size {
		p := r.parts[i]
		size := int64(len(p.data))
		if from := at - p.at; from < size*p.times {
			k := copy(b[n:], p.data[from%size:])
			n, at = n+k, at+int64(k)
		} else {
			i++
		}
	}
	if n < len(b) {
		err = io.EOF
	}
	return n, err
}

// hollow is a file that begins with the head and has zeros up to its size.
func hollow(head []byte, size int64) *rope {
	r := &rope{}
	r.Write(head)
	repeat(r, make([]byte, 1<<16), int(size)-len(head))
	return r
}

// singles writes float32.
func singles(w io.Writer, a published) error {
	var b []byte
	for _, v := range a.pattern() {
		b = le.AppendUint32(b, math.Float32bits(v))
	}
	return repeat(w, b, 4*a.len())
}

// halves writes float16, which the values must fit exactly.
func halves(w io.Writer, a published) error {
	var b []byte
	for _, v := range a.pattern() {
		bits := math.Float32bits(v)
		h := uint16(bits >> 16 & 0x8000)
		if abs := bits & 0x7fffffff; abs != 0 {
			if abs&0x1fff != 0 || abs < 0x38800000 || abs >= 0x47800000 {
				return fmt.Errorf("%s: %v is no normal float16", a.key, v)
			}
			h |= uint16((abs - 112<<23) >> 13)
		}
		b = le.AppendUint16(b, h)
	}
	return repeat(w, b, 2*a.len())
}

// repeat writes n bytes, b again and again.
func repeat(w io.Writer, b []byte, n int) error {
	for n > 0 {
		b = b[:min(n, len(b))]
		if _, err := w.Write(b); err != nil {
			return err
		}
		n -= len(b)
	}
	return nil
}

// safetensors writes float16 matrices and float32 vectors.
func safetensors(w io.Writer, arrays []published) error {
	head, _, err := safetensorsHead(arrays, nil)
	if err != nil {
		return err
	}
	if _, err := w.Write(head); err != nil {
		return err
	}
	for _, a := range arrays {
		put := singles
		if len(a.shape) > 1 {
			put = halves
		}
		if err := put(w, a); err != nil {
			return err
		}
	}
	return nil
}

// safetensorsHead is what comes before the elements, and how many bytes these
// have.
func safetensorsHead(arrays []published, notes map[string]string) (head []byte, data int, err error) {
	notes = maps.Clone(notes)
	if notes == nil {
		notes = map[string]string{}
	}
	notes["format"] = "pt"
	header := map[string]any{"__metadata__": notes}
	for _, a := range arrays {
		dtype, size := "F32", 4*a.len()
		if len(a.shape) > 1 {
			dtype, size = "F16", 2*a.len()
		}
		header[a.key] = map[string]any{"dtype": dtype, "shape": append([]int{}, a.shape...), "data_offsets": []int{data, data + size}}
		data += size
	}
	text, err := json.Marshal(header)
	return append(le.AppendUint64(nil, uint64(len(text))), text...), data, err
}

// pickler writes the opcodes of a pickle.
type pickler struct{ b []byte }

func (p *pickler) op(b ...byte) *pickler { p.b = append(p.b, b...); return p }

func (p *pickler) global(module, name string) *pickler {
	p.b = append(p.b, "c"+module+"\n"+name+"\n"...)
	return p
}

func (p *pickler) text(s string) *pickler { // BINUNICODE
	p.b = append(le.AppendUint32(append(p.b, 'X'), uint32(len(s))), s...)
	return p
}

func (p *pickler) int(v int) *pickler { // LONG1
	p.b = le.AppendUint64(append(p.b, 0x8a, 8), uint64(v))
	return p
}

func (p *pickler) ints(vs []int) *pickler {
	p.op('(')
	for _, v := range vs {
		p.int(v)
	}
	return p.op('t')
}

func (p *pickler) flush(w io.Writer) error {
	_, err := w.Write(p.b)
	p.b = p.b[:0]
	return err
}

// torchObject writes a state dict whose storages are numbered: alone, or, as
// training code saves it, under a name with notes beside it.
func torchObject(p *pickler, arrays []published, half bool, root string, notes map[string]string) {
	class := "FloatStorage"
	if half {
		class = "HalfStorage"
	}
	p.op(0x80, 2)
	if root != "" {
		p.op('}', '(').text(root)
	}
	p.global("collections", "OrderedDict").op(')', 'R', '(')
	for i, a := range arrays {
		strides, step := make([]int, len(a.shape)), 1
		for j := len(a.shape) - 1; j >= 0; j-- {
			strides[j] = step
			step *= a.shape[j]
		}
		p.text(a.key).global("torch._utils", "_rebuild_tensor_v2").op('(')
		p.op('(').text("storage").global("torch", class).text(fmt.Sprint(i)).text("cpu").int(a.len()).op('t', 'Q')
		p.int(0).ints(a.shape).ints(strides).op(0x89).global("collections", "OrderedDict").op(')', 'R', 't', 'R')
	}
	p.op('u')
	if root != "" {
		for k, v := range notes {
			p.text(k).text(v)
		}
		p.text("epoch").int(6).text("meta").op('}', '(').text("CLASSES").op('(').text("person").text("bicycle").op('t', 'u', 'u')
	}
	p.op('.')
}

// torchZip is the container of torch since 1.6.
func torchZip(half bool, root string, notes map[string]string) writer {
	return func(w io.Writer, arrays []published) error {
		z := zip.NewWriter(w)
		member := func(name string) (io.Writer, error) {
			return z.CreateHeader(&zip.FileHeader{Name: "archive/" + name, Method: zip.Store})
		}
		m, err := member("data.pkl")
		if err != nil {
			return err
		}
		var p pickler
		torchObject(&p, arrays, half, root, notes)
		if err := p.flush(m); err != nil {
			return err
		}
		put := singles
		if half {
			put = halves
		}
		for i, a := range arrays {
			if m, err = member(fmt.Sprintf("data/%d", i)); err != nil {
				return err
			}
			if err := put(m, a); err != nil {
				return err
			}
		}
		return z.Close()
	}
}

// torchLegacy is the container before.
func torchLegacy(half bool, root string, notes map[string]string) writer {
	return func(w io.Writer, arrays []published) error {
		var p pickler
		p.op(0x80, 2, 0x8a, 10).op([]byte("\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19")...).op('.')
		p.op(0x80, 2).int(1001).op('.')
		p.op(0x80, 2, '}', '.')
		torchObject(&p, arrays, half, root, notes)
		p.op(0x80, 2, ']', '(')
		for i := range arrays {
			p.text(fmt.Sprint(i))
		}
		p.op('e', '.')
		if err := p.flush(w); err != nil {
			return err
		}
		put := singles
		if half {
			put = halves
		}
		for _, a := range arrays {
			if _, err := w.Write(le.AppendUint64(nil, uint64(a.len()))); err != nil {
				return err
			}
			if err := put(w, a); err != nil {
				return err
			}
		}
		return nil
	}
}

// numpyPickle is a pickle of numpy arrays under one key, with text beside it:
// detectron2's {"model": …, "__author__": …}, Detectron's {"blobs": …, "cfg": …}.
// Protocol 2 is as Python 2 wrote it, with bytes as str; 3 has bytes.
func numpyPickle(protocol byte, root, beside string) writer {
	return func(w io.Writer, arrays []published) error {
		str := func(p *pickler, s string) {
			if protocol == 2 {
				p.op('U', byte(len(s))).op([]byte(s)...)
			} else {
				p.text(s)
			}
		}
		var p pickler
		p.op(0x80, protocol, '}', '(')
		if root != "" {
			str(&p, root)
			p.op('}', '(')
		}
		for _, a := range arrays {
			str(&p, a.key)
			p.global("numpy.core.multiarray", "_reconstruct").global("numpy", "ndarray").ints([]int{0})
			str(&p, "b")
			p.op(0x87, 'R', '(').int(1).ints(a.shape).global("numpy", "dtype")
			str(&p, "f4")
			p.int(0).int(1).op(0x87, 'R', '(').int(3)
			str(&p, "<")
			p.op('N', 'N', 'N').int(-1).int(-1).int(0).op('t', 'b', 0x89)
			bytes := byte('B')
			if protocol == 2 {
				bytes = 'T'
			}
			p.b = le.AppendUint32(append(p.b, bytes), uint32(4*a.len()))
			if err := p.flush(w); err != nil {
				return err
			}
			if err := singles(w, a); err != nil {
				return err
			}
			p.op('t', 'b')
		}
		if root != "" {
			p.op('u')
			str(&p, beside)
			str(&p, "zoo")
		}
		return p.op('u', '.').flush(w)
	}
}

// latin1Pickle is a pickle of numpy arrays in protocol 2 as Python 3 writes it:
// bytes are text of the characters up to 255, to be encoded again.
func latin1Pickle(w io.Writer, arrays []published) error {
	var p pickler
	p.op(0x80, 2, '}', '(')
	for _, a := range arrays {
		p.text(a.key).global("numpy.core.multiarray", "_reconstruct").global("numpy", "ndarray").ints([]int{0}).text("b").op(0x87, 'R')
		p.op('(').int(1).ints(a.shape).global("numpy", "dtype").text("f4").int(0).int(1).op(0x87, 'R', '(').int(3).text("<")
		p.op('N', 'N', 'N').int(-1).int(-1).int(0).op('t', 'b', 0x89)
		var raw bytes.Buffer
		if err := singles(&raw, a); err != nil {
			return err
		}
		text := make([]byte, 0, 2*raw.Len())
		for _, b := range raw.Bytes() {
			text = utf8.AppendRune(text, rune(b))
		}
		p.global("_codecs", "encode").text(string(text)).text("latin1").op(0x86, 'R', 't', 'b')
		if err := p.flush(w); err != nil {
			return err
		}
	}
	return p.op('u', '.').flush(w)
}

// caffemodel is a NetParameter of layers, "layer" with shapes and names of
// types or, before 2015, "layers" with four extents and numbers of types. Arrays
// are called LAYER.0, LAYER.1 …, in that order.
func caffemodel(v1 bool) writer {
	layerField, nameField, blobsField := protowire.Number(100), protowire.Number(1), protowire.Number(7)
	if v1 {
		layerField, nameField, blobsField = 2, 4, 6
	}
	tag := func(b []byte, n protowire.Number) []byte { return protowire.AppendTag(b, n, protowire.BytesType) }
	blobHead := func(a published) []byte {
		var b []byte
		if v1 {
			dims := append([]int{1, 1, 1}, a.shape...)
			for i, d := range dims[len(dims)-4:] {
				b = protowire.AppendVarint(protowire.AppendTag(b, protowire.Number(1+i), protowire.VarintType), uint64(d))
			}
		} else {
			var dims []byte
			for _, d := range a.shape {
				dims = protowire.AppendVarint(dims, uint64(d))
			}
			b = protowire.AppendBytes(tag(b, 7), protowire.AppendBytes(tag(nil, 1), dims))
		}
		return protowire.AppendVarint(tag(b, 5), uint64(4*a.len()))
	}
	return func(w io.Writer, arrays []published) error {
		if _, err := w.Write(protowire.AppendString(tag(nil, 1), "net")); err != nil {
			return err
		}
		layers, names := map[string][]published{}, []string{}
		for _, a := range arrays {
			name := a.key[:strings.LastIndex(a.key, ".")]
			if layers[name] == nil {
				names = append(names, name)
			}
			layers[name] = append(layers[name], a)
		}
		for _, name := range names {
			head := protowire.AppendString(tag(nil, nameField), name)
			if !v1 {
				head = protowire.AppendString(tag(head, 2), "Convolution")
			}
			size := len(head)
			for _, a := range layers[name] {
				blob := len(blobHead(a)) + 4*a.len()
				size += protowire.SizeTag(blobsField) + protowire.SizeVarint(uint64(blob)) + blob
			}
			out := append(protowire.AppendVarint(tag(nil, layerField), uint64(size)), head...)
			for _, a := range layers[name] {
				h := blobHead(a)
				out = append(protowire.AppendVarint(tag(out, blobsField), uint64(len(h)+4*a.len())), h...)
				if _, err := w.Write(out); err != nil {
					return err
				}
				out = out[:0]
				if err := singles(w, a); err != nil {
					return err
				}
			}
		}
		return nil
	}
}
