package weights

import (
	"fmt"
	"io"
	"math"

	"google.golang.org/protobuf/encoding/protowire"

	"resdet/internal/nd"
)

// Fields of Caffe's messages (caffe.proto) that a model's weights stand in.
const (
	netName     = 1
	netLayersV1 = 2   // V1LayerParameter: files before 2015, whose types are numbers
	netLayer    = 100 // LayerParameter

	layerName    = 1
	layerBlobs   = 7
	layerNameV1  = 4
	layerBlobsV1 = 6

	blobNum        = 1 // to 4: channels, height, width: shapes before blobShape
	blobWidth      = 4
	blobData       = 5
	blobShape      = 7
	blobDoubleData = 8

	shapeDim = 1
)

// looksLikeNet reports whether a file that begins with head can be a
// NetParameter: its fields, as far as they are seen, are known ones.
func looksLikeNet(head []byte) bool {
	for seen := 0; ; seen++ {
		num, typ, n := protowire.ConsumeTag(head)
		if n < 0 {
			return seen > 0
		}
		head = head[n:]
		switch {
		case (num == netLayer || num == netLayersV1) && typ == protowire.BytesType:
			_, n := protowire.ConsumeVarint(head)
			return n > 0
		case num == netName && typ == protowire.BytesType && seen == 0:
		case num > netLayersV1 && num <= 8: // inputs, their shapes, the state, flags
		default:
			return false
		}
		n = protowire.ConsumeFieldValue(num, typ, head)
		if n < 0 {
			return seen > 0
		}
		head = head[n:]
	}
}

// wire reads protobuf's fields from a stretch of a file.
type wire struct{ in *cursor }

// field reads the next tag; of a value with a length (BytesType) the stretch
// then stands at its first byte, and size is its length; any other value is
// read, and given if it is a varint.
func (w wire) field() (num protowire.Number, typ protowire.Type, value uint64, size int64, err error) {
	head, err := w.in.peek(20)
	if err != nil {
		return 0, 0, 0, 0, err
	}
	num, typ, n := protowire.ConsumeTag(head)
	if n < 0 {
		return 0, 0, 0, 0, wireError(n)
	}
	switch typ {
	case protowire.BytesType:
		v, k := protowire.ConsumeVarint(head[n:])
		if k < 0 {
			return 0, 0, 0, 0, wireError(k)
		}
		if err := w.in.skip(int64(n + k)); err != nil {
			return 0, 0, 0, 0, err
		}
		if v > uint64(w.in.left()) {
			return 0, 0, 0, 0, io.ErrUnexpectedEOF
		}
		return num, typ, 0, int64(v), nil
	case protowire.VarintType:
		v, k := protowire.ConsumeVarint(head[n:])
		if k < 0 {
			return 0, 0, 0, 0, wireError(k)
		}
		return num, typ, v, 0, w.in.skip(int64(n + k))
	case protowire.Fixed32Type:
		return num, typ, 0, 0, w.in.skip(int64(n + 4))
	case protowire.Fixed64Type:
		return num, typ, 0, 0, w.in.skip(int64(n + 8))
	}
	return 0, 0, 0, 0, damaged("a protobuf group, which no Caffe model has")
}

func wireError(n int) error { return damaged("protobuf: %v", protowire.ParseError(n)) }

// message calls do for every field of the next size bytes. do may read a value
// with a length; what it leaves of it is skipped.
func (w wire) message(size int64, do func(num protowire.Number, typ protowire.Type, value uint64, size int64) error) error {
	outer := w.in.end
	w.in.end = w.in.pos + size
	for w.in.left() > 0 {
		num, typ, v, n, err := w.field()
		if err != nil {
			return err
		}
		next := w.in.pos + n
		if err := do(num, typ, v, n); err != nil {
			return err
		}
		if err := w.in.skip(next - w.in.pos); err != nil {
			return err
		}
	}
	w.in.end = outer
	return nil
}

// parseNet reads a NetParameter. Blob i of a layer becomes the array "LAYER.i":
// 0 is a convolution's weight and 1 its bias; 0, 1 and 2 are a batch norm's
// sums of means and variances and the number that divides them.
func (c *Checkpoint) parseNet(mem *budget) error {
	w := wire{newCursor(c.r, 0, c.size)}
	seen := map[string]bool{}
	layers := 0
	err := w.message(c.size, func(num protowire.Number, typ protowire.Type, _ uint64, size int64) error {
		nameField, blobsField := protowire.Number(layerName), protowire.Number(layerBlobs)
		switch {
		case typ != protowire.BytesType:
			return nil
		case num == netLayersV1:
			nameField, blobsField = layerNameV1, layerBlobsV1
		case num != netLayer:
			return nil
		}
		layers++
		return c.netLayer(w, size, nameField, blobsField, seen, mem)
	})
	switch {
	case err != nil:
		return err
	case layers == 0:
		return damaged("it has no layers")
	case len(c.Tensors) == 0:
		return damaged("none of its %d layers has weights; is it a prototxt's description?", layers)
	}
	return nil
}

func (c *Checkpoint) netLayer(w wire, size int64, nameField, blobsField protowire.Number, seen map[string]bool, mem *budget) error {
	name, first, end := "", len(c.Tensors), w.in.pos+size
	err := w.message(size, func(num protowire.Number, typ protowire.Type, _ uint64, size int64) error {
		switch {
		case num == nameField && typ == protowire.BytesType:
			if size > shortString {
				return damaged("the name of a layer has %d bytes", size)
			}
			b, err := w.in.next(int(size))
			if err != nil {
				return err
			}
			name = string(b)
			return mem.take(2*size + mapBytes)
		case num == blobsField && typ == protowire.BytesType:
			v, err := readBlob(w, size, mem)
			if err != nil {
				return fmt.Errorf("blob %d of the layer that ends at byte %d: %w", len(c.Tensors)-first, end, err)
			}
			return c.add(mem, "", *v)
		}
		return nil
	})
	if err != nil || len(c.Tensors) == first {
		return err
	}
	if seen[name] || name == "" {
		return damaged("the name %q of a layer is empty or taken", name)
	}
	seen[name] = true
	for i := range c.Tensors[first:] {
		if err := mem.take(int64(len(name) + 16)); err != nil {
			return err
		}
		c.Tensors[first+i].Key = fmt.Sprintf("%s.%d", name, i)
	}
	return nil
}

// readBlob reads where a BlobProto's numbers lie.
func readBlob(w wire, size int64, mem *budget) (*view, error) {
	start := w.in.pos
	var legacy [4]uint64
	var shape nd.Shape
	shaped := false
	var pieces [2]struct{ count, off int64 } // of float and double data: how many bytes in all, where the last run of packed ones begins
	runs := [2]int{}
	dim := func(v uint64) error {
		if v > math.MaxInt32 {
			return damaged("an extent of %d", v)
		}
		if len(shape) == cap(shape) {
			if err := mem.take(16 * int64(len(shape)+4)); err != nil {
				return err
			}
		}
		shape = append(shape, int(v))
		return nil
	}
	data := func(which int, typ protowire.Type, size int64) error {
		p := &pieces[which]
		runs[which]++
		switch width := int64(4 << which); {
		case typ == protowire.BytesType && size%width == 0:
			p.off = w.in.pos
			p.count += size / width
		case typ == protowire.Fixed32Type && which == 0, typ == protowire.Fixed64Type && which == 1:
			runs[which]++ // a number with a tag of its own
			p.count++
		default:
			return damaged("numbers of wire type %d and %d bytes", typ, size)
		}
		return nil
	}
	err := w.message(size, func(num protowire.Number, typ protowire.Type, v uint64, size int64) error {
		switch {
		case num >= blobNum && num <= blobWidth && typ == protowire.VarintType:
			legacy[num-blobNum] = v
		case num == blobData:
			return data(0, typ, size)
		case num == blobDoubleData:
			return data(1, typ, size)
		case num == blobShape && typ == protowire.BytesType:
			shaped = true
			return w.message(size, func(num protowire.Number, typ protowire.Type, v uint64, size int64) error {
				switch {
				case num == shapeDim && typ == protowire.VarintType:
					return dim(v)
				case num == shapeDim && typ == protowire.BytesType:
					for end := w.in.pos + size; w.in.pos < end; {
						b, err := w.in.peek(10)
						if err != nil {
							return err
						}
						v, n := protowire.ConsumeVarint(b)
						if n < 0 {
							return wireError(n)
						}
						if err := w.in.skip(int64(n)); err != nil {
							return err
						}
						if err := dim(v); err != nil {
							return err
						}
					}
				}
				return nil
			})
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if !shaped {
		if shape, err = legacyShape(legacy); err != nil {
			return nil, err
		}
	}
	if err := mem.take(160 + 64); err != nil {
		return nil, err
	}
	which := 0
	if pieces[0].count == 0 && pieces[1].count > 0 {
		which = 1
	}
	s := &storage{key: "blob", dtype: []DType{F32, F64}[which], elems: pieces[which].count, found: true}
	s.where = section{off: start, size: size, plain: s.elems * s.dtype.Size(), coding: []coding{blobFloats, blobDoubles}[which]}
	if runs[which] == 1 { // packed in one piece, as every writer of today does
		s.where = section{off: pieces[which].off, size: s.where.plain, plain: s.where.plain}
	}
	count := int64(1)
	for _, d := range shape {
		if d > 0 && count > s.elems/int64(d) {
			return nil, damaged("a blob of shape %v has %d numbers", shape, s.elems)
		}
		count *= int64(d)
	}
	if count != s.elems {
		return nil, damaged("a blob of shape %v has %d numbers", shape, s.elems)
	}
	return &view{shape: shape, data: s}, nil
}

// legacyShape is that of blobs which always had four extents: a matrix is
// [1 1 H W], a bias [1 1 1 W].
func legacyShape(dims [4]uint64) (nd.Shape, error) {
	shape := nd.Shape{}
	for _, d := range dims {
		if d > math.MaxInt32 {
			return nil, damaged("an extent of %d", d)
		}
		shape = append(shape, int(d))
	}
	if shape[0] == 1 && shape[1] == 1 {
		shape = shape[2:]
		if shape[0] == 1 {
			shape = shape[1:]
		}
	}
	return shape, nil
}

// blobReader gives the bytes of a blob's numbers, of one of its two fields,
// whether packed or each with its tag.
type blobReader struct {
	in    *cursor
	field protowire.Number
	width int
	left  int64 // of the packed piece that is being read
}

func (b *blobReader) Read(p []byte) (int, error) {
	for b.left == 0 {
		if b.in.left() == 0 {
			return 0, io.EOF
		}
		tag, err := b.in.peek(10)
		if err != nil {
			return 0, err
		}
		num, typ, n := protowire.ConsumeTag(tag)
		if n < 0 {
			return 0, wireError(n)
		}
		if num == b.field && (typ == protowire.Fixed32Type || typ == protowire.Fixed64Type) {
			if err := b.in.skip(int64(n)); err != nil {
				return 0, err
			}
			b.left = int64(b.width)
			break
		}
		_, _, _, size, err := wire{b.in}.field()
		if err != nil {
			return 0, err
		}
		if num == b.field {
			b.left = size
		} else if err := b.in.skip(size); err != nil {
			return 0, err
		}
	}
	part, err := b.in.next(int(min(b.left, int64(len(p)), cursorBuffer)))
	b.left -= int64(len(part))
	return copy(p, part), err
}
