package weights

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"strings"
)

// maxInflation bounds how much larger than the file its compressed members may
// get. torch.save stores without compression; trained weights shrink by a
// tenth or two when something else compresses them, and only a bomb by more
// than this.
const maxInflation = 8

// parseZip reads the container of torch 1.6 and later: a zip archive of
// ROOT/data.pkl, ROOT/data/KEY for each storage, and ROOT/byteorder.
//
// The directory is walked twice, to find the pickle and then what the pickle
// wants, so that a directory of any length costs no memory.
func (c *Checkpoint) parseZip(mem *budget) error {
	dir, err := c.zipDirectory()
	if err != nil {
		return err
	}
	var root string
	var object, order section
	err = dir.each(func(name []byte, e zipEntry) error {
		switch base, ok := bytes.CutSuffix(name, []byte("/data.pkl")); {
		case ok && root == "":
			root = string(base) + "/"
			object, err = e.section()
			return err
		case ok:
			return damaged("it has two pickles, in %q and %q", root, base)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if root == "" {
		return fmt.Errorf("%w: it is a zip archive without a data.pkl", ErrFormat)
	}
	err = dir.each(func(name []byte, e zipEntry) error {
		rest, ok := bytes.CutPrefix(name, []byte(root))
		switch {
		case ok && string(rest) == "byteorder":
			order, err = e.section()
			return err
		case ok && string(rest) == "constants.pkl":
			return fmt.Errorf("%w: it is a TorchScript program; save the model's state_dict instead", ErrFormat)
		}
		return nil
	})
	if err != nil {
		return err
	}

	p := torchPickle{storages: map[string]*storage{}}
	if order.plain > 0 {
		in, err := c.member(order, mem)
		if err != nil {
			return fmt.Errorf("byteorder: %w", err)
		}
		b, err := in.next(int(min(in.left(), 8)))
		if err != nil {
			return err
		}
		p.big = strings.TrimSpace(string(b)) == "big"
	}
	in, err := c.member(object, mem)
	if err != nil {
		return fmt.Errorf("data.pkl: %w", err)
	}
	value, err := p.run(in, mem)
	if err != nil {
		return fmt.Errorf("data.pkl: %w", err)
	}
	if err := c.zipStorages(dir, root+"data/", p.storages); err != nil {
		return err
	}
	return c.stateDict(value, mem)
}

// zipStorages finds where the storages lie.
func (c *Checkpoint) zipStorages(dir zipDirectory, prefix string, storages map[string]*storage) error {
	inflated := int64(0)
	err := dir.each(func(name []byte, e zipEntry) error {
		key, ok := bytes.CutPrefix(name, []byte(prefix))
		if !ok {
			return nil
		}
		s := storages[string(key)]
		if s == nil {
			return nil // of something that is no tensor
		}
		if s.found {
			return damaged("member %q is there twice", name)
		}
		if s.dtype == 0 {
			return damaged("storage %q has no element type", key)
		}
		where, err := e.section()
		if err != nil {
			return fmt.Errorf("member %q: %w", name, err)
		}
		if where.plain/s.dtype.Size() != s.elems || where.plain%s.dtype.Size() != 0 {
			return damaged("member %q has %d bytes, its tensors say %d elements of %v", name, where.plain, s.elems, s.dtype)
		}
		if where.coding == deflated {
			if inflated += where.plain; inflated > maxInflation*c.size+1<<20 {
				return damaged("its members inflate to more than %d times its size", maxInflation)
			}
		}
		s.where, s.found = where, true
		return nil
	})
	if err != nil {
		return err
	}
	for key, s := range storages {
		if !s.found {
			return damaged("member %q is missing", prefix+key)
		}
	}
	return nil
}

// member returns a cursor over the plain bytes of a small member, which are
// checked first.
func (c *Checkpoint) member(s section, mem *budget) (*cursor, error) {
	if err := s.verify(c.r); err != nil {
		return nil, err
	}
	if s.coding == asIs {
		return newCursor(c.r, s.off, s.off+s.size), nil
	}
	if err := mem.take(s.plain); err != nil {
		return nil, err
	}
	in, done := s.open(c.r)
	defer done()
	b := make([]byte, s.plain)
	if _, err := io.ReadFull(in, b); err != nil {
		return nil, damaged("%v", err)
	}
	return newCursor(bytes.NewReader(b), 0, s.plain), nil
}

// zipDirectory is where an archive lists its members.
type zipDirectory struct {
	r          io.ReaderAt
	from, size int64
	count      uint64
	file       int64 // bytes of the whole archive
}

// zipEntry is what the directory says of one member.
type zipEntry struct {
	dir           *zipDirectory
	flags, method uint16
	sum           uint32
	size, plain   uint64 // as stored, inflated
	local         uint64 // offset of the local header
}

const (
	zipEndBytes     = 22
	zipLocatorBytes = 20
	zipEnd64Bytes   = 56
	zipEntryBytes   = 46
	zipLocalBytes   = 30
	zipMaxComment   = 1 << 16
)

var errZipCut = damaged("the archive's directory is missing at its end; the file is cut off")

// zipDirectory finds the directory by the record at the end of the file.
func (c *Checkpoint) zipDirectory() (zipDirectory, error) {
	var none zipDirectory
	le := binary.LittleEndian
	if c.size < zipEndBytes {
		return none, errZipCut
	}
	tail := make([]byte, zipEndBytes)
	if err := readAt(c.r, tail, c.size-zipEndBytes); err != nil {
		return none, err
	}
	at := c.size - zipEndBytes
	if !bytes.HasPrefix(tail, []byte("PK\x05\x06")) {
		tail = make([]byte, min(c.size, zipEndBytes+zipMaxComment)) // there may be a comment
		if err := readAt(c.r, tail, c.size-int64(len(tail))); err != nil {
			return none, err
		}
		i := bytes.LastIndex(tail, []byte("PK\x05\x06"))
		if i < 0 || len(tail)-i < zipEndBytes {
			return none, errZipCut
		}
		at = c.size - int64(len(tail)-i)
		tail = tail[i:]
	}
	count, size, from := uint64(le.Uint16(tail[10:])), uint64(le.Uint32(tail[12:])), uint64(le.Uint32(tail[16:]))
	if at >= zipLocatorBytes {
		var loc [zipLocatorBytes]byte
		if err := readAt(c.r, loc[:], at-zipLocatorBytes); err != nil {
			return none, err
		}
		if string(loc[:4]) == "PK\x06\x07" { // the same in 64 bits
			var end [zipEnd64Bytes]byte
			off := le.Uint64(loc[8:])
			if off > uint64(c.size) {
				return none, errZipCut
			}
			if err := readAt(c.r, end[:], int64(off)); err != nil {
				return none, err
			}
			if string(end[:4]) != "PK\x06\x06" {
				return none, errZipCut
			}
			count, size, from = le.Uint64(end[32:]), le.Uint64(end[40:]), le.Uint64(end[48:])
		}
	}
	if from > uint64(c.size) || size > uint64(c.size)-from || count > size/zipEntryBytes {
		return none, errZipCut
	}
	return zipDirectory{c.r, int64(from), int64(size), count, c.size}, nil
}

// each calls f for every member, in the directory's order. The name is good
// during the call.
func (d *zipDirectory) each(f func(name []byte, e zipEntry) error) error {
	in := newCursor(d.r, d.from, d.from+d.size)
	le := binary.LittleEndian
	for range d.count {
		h, err := in.next(zipEntryBytes)
		if err != nil {
			return err
		}
		if string(h[:4]) != "PK\x01\x02" {
			return damaged("the archive's directory has an entry without its signature")
		}
		e := zipEntry{dir: d, flags: le.Uint16(h[8:]), method: le.Uint16(h[10:]), sum: le.Uint32(h[16:]),
			size: uint64(le.Uint32(h[20:])), plain: uint64(le.Uint32(h[24:])), local: uint64(le.Uint32(h[42:]))}
		name, extra, comment := int(le.Uint16(h[28:])), int(le.Uint16(h[30:])), int(le.Uint16(h[32:]))
		if name > cursorBuffer/2 || extra > cursorBuffer/2 {
			return damaged("the archive's directory has a name of %d bytes", name)
		}
		b, err := in.next(name + extra)
		if err != nil {
			return err
		}
		if err := e.wide(b[name:]); err != nil {
			return err
		}
		if err := f(b[:name], e); err != nil {
			return err
		}
		if err := in.skip(int64(comment)); err != nil {
			return err
		}
	}
	return nil
}

// wide replaces sizes and offset by those of the 64-bit extra field, where the
// entry has no room for them.
func (e *zipEntry) wide(extra []byte) error {
	le := binary.LittleEndian
	for len(extra) >= 4 {
		id, n := le.Uint16(extra), int(le.Uint16(extra[2:]))
		if extra = extra[4:]; n > len(extra) {
			return damaged("the archive's directory has an extra field that leaves its entry")
		}
		field := extra[:n]
		extra = extra[n:]
		if id != 1 {
			continue
		}
		for _, v := range []*uint64{&e.plain, &e.size, &e.local} {
			if *v == 0xffffffff && len(field) >= 8 {
				*v, field = le.Uint64(field), field[8:]
			}
		}
	}
	return nil
}

// section returns where the member's bytes lie, which the local header before
// them decides.
func (e *zipEntry) section() (section, error) {
	switch {
	case e.flags&1 != 0:
		return section{}, fmt.Errorf("%w: it is encrypted", ErrFormat)
	case e.method != 0 && e.method != 8:
		return section{}, fmt.Errorf("%w: compression method %d is not read", ErrFormat, e.method)
	case e.method == 0 && e.size != e.plain:
		return section{}, damaged("a stored member has two sizes")
	}
	file := uint64(e.dir.file)
	if e.local > file {
		return section{}, io.ErrUnexpectedEOF
	}
	var h [zipLocalBytes]byte
	if err := readAt(e.dir.r, h[:], int64(e.local)); err != nil {
		return section{}, err
	}
	if string(h[:4]) != "PK\x03\x04" {
		return section{}, damaged("a member's header has no signature")
	}
	off := e.local + zipLocalBytes + uint64(binary.LittleEndian.Uint16(h[26:])) + uint64(binary.LittleEndian.Uint16(h[28:]))
	if off > file || e.size > file-off {
		return section{}, io.ErrUnexpectedEOF
	}
	if e.plain > 1<<50 {
		return section{}, damaged("a member claims %d bytes", e.plain)
	}
	s := section{off: int64(off), size: int64(e.size), plain: int64(e.plain), sum: e.sum}
	if e.method == 8 {
		s.coding = deflated
	}
	return s, nil
}
