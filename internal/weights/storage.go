package weights

import (
	"compress/flate"
	"fmt"
	"hash/crc32"
	"io"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"resdet/internal/nd"
)

// storage is a run of elements in a file, which one or more arrays are cut from.
type storage struct {
	key   string // as the file names it
	dtype DType
	elems int64
	where section
	found bool // where is known
	big   bool // big-endian elements

	// inline holds the bytes where they are few and the parser has met them
	// already; where then counts from its start.
	inline string

	check sync.Once
	fault error
}

// section is where the bytes of something lie in a file.
type section struct {
	off, size int64 // as stored
	coding    coding
	plain     int64  // bytes once decoded
	sum       uint32 // CRC-32 of the plain bytes; 0 is not recorded
}

// coding says how a section's bytes are stored.
type coding uint8

const (
	asIs        coding = iota
	deflated           // compressed, as members of an archive
	latin1             // UTF-8 of the characters 0–255: how Python 3 writes bytes in protocol 2
	blobFloats         // a Caffe blob: the numbers of its field data, in however many pieces
	blobDoubles        // the same of its field double_data
)

// open returns a reader of the plain bytes, and what gives its memory back.
func (s section) open(r io.ReaderAt) (io.Reader, func()) {
	raw := io.NewSectionReader(r, s.off, s.size)
	switch s.coding {
	case deflated:
		z := inflaters.Get().(io.ReadCloser)
		z.(flate.Resetter).Reset(raw, nil)
		return io.LimitReader(z, s.plain+1), func() { inflaters.Put(z) }
	case latin1:
		return &latin1Reader{in: newCursor(r, s.off, s.off+s.size)}, func() {}
	case blobFloats:
		return &blobReader{in: newCursor(r, s.off, s.off+s.size), field: blobData, width: 4}, func() {}
	case blobDoubles:
		return &blobReader{in: newCursor(r, s.off, s.off+s.size), field: blobDoubleData, width: 8}, func() {}
	}
	return raw, func() {}
}

// A decompressor holds 44 KiB, and a checkpoint has hundreds of storages.
var inflaters = sync.Pool{New: func() any { return flate.NewReader(nil) }}

// verify reads all of the section once and holds it against its checksum and length.
func (s section) verify(r io.ReaderAt) error {
	if s.sum == 0 && s.coding == asIs {
		return nil
	}
	chunk := chunks.Get().(*[]byte)
	defer chunks.Put(chunk)
	in, done := s.open(r)
	defer done()
	sum, n := uint32(0), int64(0)
	for {
		k, err := in.Read(*chunk)
		sum = crc32.Update(sum, crc32.IEEETable, (*chunk)[:k])
		n += int64(k)
		if err == io.EOF {
			break
		}
		if err != nil {
			return damaged("%v", err)
		}
		if n > s.plain {
			break
		}
	}
	if n != s.plain {
		return damaged("it holds another size than the %d bytes it claims", s.plain)
	}
	if s.sum != 0 && sum != s.sum {
		return damaged("its checksum is wrong")
	}
	return nil
}

// chunkBytes is what is converted at once: it fits the second-level cache
// together with its result.
const chunkBytes = 128 << 10

var chunks = sync.Pool{New: func() any { b := make([]byte, chunkBytes); return &b }}

// verify checks the storage's bytes, the first time that any of them is read.
func (s *storage) verify(r io.ReaderAt) error {
	s.check.Do(func() {
		if err := s.where.verify(s.source(r)); err != nil {
			s.fault = fmt.Errorf("storage %q: %w", s.key, err)
		}
	})
	return s.fault
}

// source is what where counts in: the file, unless the bytes are in memory.
func (s *storage) source(r io.ReaderAt) io.ReaderAt {
	if s.inline != "" {
		return strings.NewReader(s.inline)
	}
	return r
}

// read converts the elements from first on into dst. Both goroutines and
// chunks are bounded; it may be called concurrently.
func (s *storage) read(r io.ReaderAt, dst []float32, first int64) error {
	size := s.dtype.Size()
	r = s.source(r)
	if s.where.coding != asIs {
		return s.stream(r, dst, first*size)
	}
	per := int(chunkBytes / size)
	n := (len(dst) + per - 1) / per
	part := func(i int, buf []byte) error {
		d := dst[i*per : min((i+1)*per, len(dst))]
		b := buf[:int64(len(d))*size]
		if err := readAt(r, b, s.where.off+(first+int64(i*per))*size); err != nil {
			return err
		}
		if s.big {
			swap(b, size)
		}
		decode(d, b, s.dtype)
		return nil
	}
	var (
		next atomic.Int64
		wait sync.WaitGroup
		errs = make([]error, min(n, runtime.GOMAXPROCS(0)))
	)
	work := func(w int) {
		chunk := chunks.Get().(*[]byte)
		defer chunks.Put(chunk)
		for errs[w] == nil {
			i := int(next.Add(1)) - 1
			if i >= n {
				return
			}
			errs[w] = part(i, *chunk)
		}
	}
	for w := 1; w < len(errs); w++ {
		wait.Go(func() { work(w) })
	}
	if n > 0 {
		work(0)
	}
	wait.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// stream is read for a storage that is not stored as it is, from plain byte off on.
func (s *storage) stream(r io.ReaderAt, dst []float32, off int64) error {
	in, done := s.where.open(r)
	defer done()
	size := s.dtype.Size()
	if _, err := io.CopyN(io.Discard, in, off); err != nil {
		return damaged("%v", err)
	}
	chunk := chunks.Get().(*[]byte)
	defer chunks.Put(chunk)
	per := int(chunkBytes / size)
	for len(dst) > 0 {
		d := dst[:min(per, len(dst))]
		b := (*chunk)[:int64(len(d))*size]
		if _, err := io.ReadFull(in, b); err != nil {
			return damaged("%v", err)
		}
		if s.big {
			swap(b, size)
		}
		decode(d, b, s.dtype)
		dst = dst[len(d):]
	}
	return nil
}

// view is an array cut from a storage: element (i, j, …) is the storage's
// element offset + i·strides[0] + j·strides[1] + …
type view struct {
	shape   nd.Shape
	data    *storage
	offset  int64
	strides []int // nil: row-major
}

// extent returns how many elements of the storage lie between the view's first
// and last, or an error if the view leaves the storage, or has more elements
// than it (which only a repeating view can, and a small file could claim
// any size with one).
func (v *view) extent() (int64, error) {
	for _, d := range v.shape {
		if d < 0 {
			return 0, damaged("shape %v", v.shape)
		}
	}
	if slices.Contains(v.shape, 0) {
		return 0, nil
	}
	all, count, last := v.data.elems, int64(1), int64(0)
	for i, d := range v.shape {
		if int64(d) > all/count {
			return 0, damaged("shape %v is larger than its storage of %d elements", v.shape, all)
		}
		count *= int64(d)
		if v.strides != nil && d > 1 {
			step := int64(v.strides[i])
			if step < 0 || step > all {
				return 0, damaged("strides %v leave its storage of %d elements", v.strides, all)
			}
			last += int64(d-1) * step
		}
	}
	if v.strides == nil {
		last = count - 1
	}
	if v.offset < 0 || v.offset >= all || last >= all-v.offset {
		return 0, damaged("the %d elements from %d on leave its storage of %d elements", last+1, v.offset, all)
	}
	return last + 1, nil
}

// contiguous reports whether the elements lie in row-major order without gaps.
func (v *view) contiguous() bool {
	if v.strides == nil {
		return true
	}
	step := 1
	for i := len(v.shape) - 1; i >= 0; i-- {
		if v.shape[i] != 1 && v.strides[i] != step {
			return false
		}
		step *= v.shape[i]
	}
	return true
}

// read fills dst, of shape.Len() elements, in row-major order.
func (v *view) read(r io.ReaderAt, dst []float32) error {
	if len(dst) == 0 {
		return nil
	}
	if err := v.data.verify(r); err != nil {
		return err
	}
	if v.contiguous() {
		return v.data.read(r, dst, v.offset)
	}
	n, err := v.extent()
	if err != nil {
		return err
	}
	flat := make([]float32, n)
	if err := v.data.read(r, flat, v.offset); err != nil {
		return err
	}
	gather(dst, flat, v.shape, v.strides)
	return nil
}

// gather copies the strided elements of src to dst and returns the rest of dst.
func gather(dst, src []float32, shape nd.Shape, strides []int) []float32 {
	if len(shape) == 0 {
		dst[0] = src[0]
		return dst[1:]
	}
	for i := range shape[0] {
		if len(shape) == 1 {
			dst[i] = src[i*strides[0]]
		} else {
			dst = gather(dst, src[i*strides[0]:], shape[1:], strides[1:])
		}
	}
	if len(shape) == 1 {
		return dst[shape[0]:]
	}
	return dst
}
