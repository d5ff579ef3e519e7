package weights

import (
	"io"
	"unicode/utf8"

	"resdet/internal/nd"
)

// parsePickle reads a bare pickle of numpy arrays, as detectron2's and
// Detectron's model zoos are: a dict, or one that wraps it as "model" or
// "blobs".
func (c *Checkpoint) parsePickle(mem *budget) error {
	p := torchPickle{storages: map[string]*storage{}}
	root, err := p.run(newCursor(c.r, 0, c.size), mem)
	if err != nil {
		return err
	}
	return c.stateDict(root, mem)
}

// array is a numpy array: made empty by _reconstruct, then given its state.
type array struct {
	view
	opaque bool // of objects, text or dates
}

// elements is a numpy.dtype of numbers.
type elements struct {
	dtype DType
	big   bool
}

// numpyTypes are the types of numbers by the name that numpy pickles.
var numpyTypes = map[string]DType{
	"f2": F16, "f4": F32, "f8": F64, "i1": I8, "i2": I16, "i4": I32, "i8": I64,
	"u1": U8, "u2": U16, "u4": U32, "u8": U64, "b1": Bool,
}

// newElements is numpy.dtype: (name, align, copy).
func newElements(m *machine, args tuple) (any, error) {
	if len(args) > 0 {
		if name, ok := args[0].(string); ok && numpyTypes[name] != 0 {
			return &elements{dtype: numpyTypes[name]}, m.mem.take(16)
		}
	}
	return opaque{}, nil
}

// build takes (version, byte order, …).
func (e *elements) build(_ *machine, state any) error {
	t, ok := state.(tuple)
	if !ok || len(t) < 2 {
		return damaged("the state of a numpy type is a %s", kind(state))
	}
	e.big = t[1] == any(">")
	return nil
}

// newArray is numpy.core.multiarray._reconstruct: (class, shape, type), all of
// which the array's state says again.
func newArray(m *machine, _ tuple) (any, error) {
	return &array{}, m.mem.take(96)
}

// build takes ([version,] shape, type, in Fortran's order, bytes).
func (a *array) build(m *machine, state any) error {
	t, ok := state.(tuple)
	if ok && len(t) == 5 {
		t = t[1:]
	}
	if !ok || len(t) != 4 {
		return damaged("the state of a numpy array is a %s", kind(state))
	}
	fortran, _ := t[2].(bool)
	return a.fill(m, t[0], t[1], fortran, t[3])
}

// newFromBuffer is numpy.core.numeric._frombuffer, of protocol 5: (bytes, type,
// shape, order).
func newFromBuffer(m *machine, args tuple) (any, error) {
	if len(args) != 4 {
		return nil, damaged("an array is built from %d values", len(args))
	}
	a := &array{}
	if err := m.mem.take(96); err != nil {
		return nil, err
	}
	return a, a.fill(m, args[2], args[1], args[3] == any("F"), args[0])
}

// fill gives the array its elements, which stay where they are.
func (a *array) fill(m *machine, shape, typ any, fortran bool, data any) error {
	e, ok := typ.(*elements)
	if !ok {
		a.opaque = true
		return nil
	}
	dims, ok := shape.(tuple)
	if !ok {
		return damaged("the shape of a numpy array is a %s", kind(shape))
	}
	if err := m.mem.take(160 + 16*int64(len(dims))); err != nil {
		return err
	}
	s := &storage{key: "numpy", dtype: e.dtype, big: e.big, found: true}
	room := int64(0) // bytes that there can be
	switch b := data.(type) {
	case string:
		s.inline, room = b, int64(len(b))
		s.where = section{size: room}
	case span:
		if b.text && !b.latin1 {
			return damaged("the elements of a numpy array are text")
		}
		s.where, room = section{off: b.off, size: b.size}, b.size
		if b.latin1 {
			s.where.coding = latin1
		}
	default:
		return damaged("the elements of a numpy array are a %s", kind(data))
	}
	a.shape, s.elems = make(nd.Shape, len(dims)), 1
	for i, v := range dims {
		d, ok := v.(int64)
		if !ok || d < 0 || int64(int(d)) != d {
			return damaged("the shape of a numpy array has a %s", kind(v))
		}
		if d > 0 && s.elems > room/d {
			return damaged("an array of shape %v and %v has only %d bytes", dims, e.dtype, room)
		}
		a.shape[i] = int(d)
		s.elems *= d
	}
	s.where.plain = s.elems * e.dtype.Size()
	if s.where.plain > room || s.where.coding == asIs && s.where.plain != room || s.where.coding == latin1 && room > 2*s.where.plain {
		return damaged("an array of shape %v and %v has %d bytes", a.shape, e.dtype, room)
	}
	if fortran && len(dims) > 1 {
		a.strides = make([]int, len(dims))
		step := 1
		for i, d := range a.shape {
			a.strides[i] = step
			step *= d
		}
	}
	a.data = s
	return nil
}

// encodeLatin1 is _codecs.encode(text, "latin1"), which protocol 2 writes bytes
// with. A long text is decoded when its array is read.
func encodeLatin1(m *machine, args tuple) (any, error) {
	if len(args) != 2 || args[1] != any("latin1") {
		return nil, damaged("text is encoded as something else than latin1")
	}
	switch text := args[0].(type) {
	case span:
		text.latin1 = true
		return text, m.mem.take(40)
	case string:
		if err := m.mem.take(16 + int64(len(text))); err != nil {
			return nil, err
		}
		b := make([]byte, 0, len(text))
		for _, r := range text {
			if r > 255 { // also of what is no UTF-8
				return nil, errLatin1
			}
			b = append(b, byte(r))
		}
		return string(b), nil
	}
	return nil, damaged("a %s is encoded as latin1", kind(args[0]))
}

var errLatin1 = damaged("the bytes of an array are no Latin-1 in UTF-8")

// latin1Reader turns the UTF-8 of characters up to 255 into their bytes.
type latin1Reader struct{ in *cursor }

func (l *latin1Reader) Read(p []byte) (int, error) {
	if l.in.left() == 0 {
		return 0, io.EOF
	}
	n := 0
	for n < len(p) && l.in.left() > 0 {
		b, err := l.in.peek(min(2*(len(p)-n), cursorBuffer))
		if err != nil {
			return n, err
		}
		used := 0
		for used < len(b) && n < len(p) {
			switch c := b[used]; {
			case c < utf8.RuneSelf:
				p[n] = c
				used++
			case c>>1 != 0xc2>>1: // C2 and C3 lead the characters 128–255
				return n, errLatin1
			case used+1 == len(b):
				if l.in.left() == int64(len(b)) {
					return n, errLatin1
				}
				goto more
			case b[used+1]>>6 != 2:
				return n, errLatin1
			default:
				p[n] = c<<6 | b[used+1]&0x3f
				used += 2
			}
			n++
		}
	more:
		if _, err := l.in.next(used); err != nil {
			return n, err
		}
	}
	return n, nil
}
