package weights

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"unicode/utf8"

	"resdet/internal/nd"
)

// parseSafetensors reads the header: its length, then a JSON object that gives
// each tensor's type, shape and range of bytes behind the header. The ranges
// must fill the rest of the file, each byte once.
func (c *Checkpoint) parseSafetensors(mem *budget) error {
	in := newCursor(c.r, 0, c.size)
	n, err := (&machine{in: in}).number(8)
	if err != nil {
		return err
	}
	if n < 0 || n > in.left() {
		return damaged("the header claims %d bytes, the file has %d more", uint64(n), in.left())
	}
	data := in.pos + n
	in.end = data
	h := header{in: in, mem: mem, data: data, room: c.size - data, c: c}
	if err := h.parse(); err != nil {
		return fmt.Errorf("header: %w", err)
	}
	return h.tiles()
}

// header reads the JSON of a safetensors file, which has one fixed form, from
// a cursor. encoding/json would take several times the header's size.
type header struct {
	in         *cursor
	mem        *budget
	data, room int64 // where the elements begin, and how many bytes they have
	c          *Checkpoint
	text       []byte // of the last string; reused
}

func (h *header) parse() error {
	err := h.object(func(name []byte) error {
		if string(name) == "__metadata__" {
			return h.metadata()
		}
		return h.tensor(name)
	})
	if err != nil {
		return err
	}
	for h.in.left() > 0 { // padding
		if b, err := h.in.byte(); err != nil || !space(b) {
			return damaged("there is more behind the JSON")
		}
	}
	return nil
}

func (h *header) metadata() error {
	if h.c.Metadata != nil {
		return damaged("__metadata__ is there twice")
	}
	h.c.Metadata = map[string]string{}
	return h.object(func(name []byte) error {
		if err := h.mem.take(int64(len(name)) + 96); err != nil {
			return err
		}
		key := string(name)
		v, err := h.string(1 << 30)
		if err != nil {
			return err
		}
		if err := h.mem.take(int64(len(v))); err != nil {
			return err
		}
		h.c.Metadata[key] = string(v)
		return nil
	})
}

func (h *header) tensor(name []byte) error {
	if err := h.mem.take(int64(len(name)) + 288); err != nil {
		return err
	}
	key := string(name)
	var (
		dtype DType
		shape nd.Shape
		span  []int
	)
	err := h.object(func(field []byte) (err error) {
		switch string(field) {
		case "dtype":
			v, err := h.string(64)
			if err == nil {
				if dtype = safeDType(v); dtype == 0 {
					err = fmt.Errorf("%w: element type %q is not read", ErrFormat, v)
				}
			}
			return err
		case "shape":
			shape, err = h.numbers()
			return err
		case "data_offsets":
			span, err = h.numbers()
			return err
		}
		return damaged("unknown field %q", field)
	})
	if err != nil {
		return fmt.Errorf("tensor %q: %w", key, err)
	}
	if dtype == 0 || shape == nil || len(span) != 2 {
		return damaged("tensor %q lacks its dtype, shape or data_offsets", key)
	}
	from, to := int64(span[0]), int64(span[1])
	if from > to || to > h.room {
		return damaged("tensor %q: bytes %d to %d lie outside the file's %d", key, from, to, h.room)
	}
	s := &storage{key: key, dtype: dtype, elems: (to - from) / dtype.Size(), found: true,
		where: section{off: h.data + from, size: to - from, plain: to - from}}
	v := view{shape: shape, data: s}
	n, err := v.extent()
	if err == nil && n*dtype.Size() != to-from {
		err = damaged("shape %v does not fit its %d bytes", shape, to-from)
	}
	if err != nil {
		return fmt.Errorf("tensor %q: %w", key, err)
	}
	return h.c.add(h.mem, key, v)
}

// tiles checks that the tensors' ranges follow each other without gap or
// overlap, and that no name is there twice.
func (h *header) tiles() error {
	ts := h.c.Tensors
	if err := h.mem.take(16 * int64(len(ts))); err != nil {
		return err
	}
	order := make([]int, len(ts))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return strings.Compare(ts[a].Key, ts[b].Key) })
	for i := 1; i < len(order); i++ {
		if ts[order[i]].Key == ts[order[i-1]].Key {
			return damaged("tensor %q is there twice", ts[order[i]].Key)
		}
	}
	where := func(i int) section { return ts[i].view.data.where }
	slices.SortFunc(order, func(a, b int) int {
		return cmp.Or(cmp.Compare(where(a).off, where(b).off), cmp.Compare(where(a).size, where(b).size))
	})
	end := h.data
	for _, i := range order {
		if at := where(i).off; at != end {
			return damaged("tensor %q begins at byte %d, the one before it ends at %d", ts[i].Key, at-h.data, end-h.data)
		}
		end += where(i).size
	}
	if end != h.data+h.room {
		return damaged("the last %d bytes belong to no tensor", h.data+h.room-end)
	}
	return nil
}

// The scanner. Each function begins at the first byte of what it reads, after
// white space.

func space(b byte) bool { return b == ' ' || b == '\t' || b == '\n' || b == '\r' }

// token returns the next byte that is no white space.
func (h *header) token() (byte, error) {
	for {
		b, err := h.in.byte()
		if err != nil || !space(b) {
			return b, err
		}
	}
}

func (h *header) expect(want byte) error {
	b, err := h.token()
	if err == nil && b != want {
		err = h.unexpected(b)
	}
	return err
}

func (h *header) unexpected(b byte) error {
	return damaged("unexpected %q at byte %d", b, h.in.pos-1)
}

// object calls member for every key of an object; member reads the value. The
// key is good until the next string is read.
func (h *header) object(member func(key []byte) error) error {
	if err := h.expect('{'); err != nil {
		return err
	}
	for first := true; ; first = false {
		b, err := h.token()
		if err != nil {
			return err
		}
		switch {
		case b == '}' && first:
			return nil
		case b == '"':
		default:
			return h.unexpected(b)
		}
		if err := h.quoted(shortString); err != nil {
			return err
		}
		if err := h.expect(':'); err != nil {
			return err
		}
		if err := member(h.text); err != nil {
			return err
		}
		if b, err = h.token(); err != nil {
			return err
		}
		if b == '}' {
			return nil
		}
		if b != ',' {
			return h.unexpected(b)
		}
	}
}

// string reads a string; the result is good until the next is read.
func (h *header) string(limit int) ([]byte, error) {
	if err := h.expect('"'); err != nil {
		return nil, err
	}
	err := h.quoted(limit)
	return h.text, err
}

// quoted reads the rest of a string, behind its first quote, into h.text.
func (h *header) quoted(limit int) error {
	h.text = h.text[:0]
	escaped := false
	for {
		b, err := h.in.byte()
		if err != nil {
			return err
		}
		if b == '"' {
			break
		}
		if b < ' ' {
			return h.unexpected(b)
		}
		if err := h.put(b, limit); err != nil {
			return err
		}
		if b == '\\' { // whatever is escaped does not end the string
			escaped = true
			if b, err = h.in.byte(); err != nil {
				return err
			}
			if err := h.put(b, limit); err != nil {
				return err
			}
		}
	}
	if !escaped {
		if !utf8.Valid(h.text) {
			return damaged("a string is not UTF-8")
		}
		return nil
	}
	// Rare, but for our own configuration: let the library undo the escapes.
	if err := h.mem.take(3 * int64(len(h.text)+2)); err != nil {
		return err
	}
	var s string
	if err := json.Unmarshal(slices.Concat([]byte{'"'}, h.text, []byte{'"'}), &s); err != nil {
		return damaged("%v", err)
	}
	h.text = append(h.text[:0], s...)
	return nil
}

func (h *header) put(b byte, limit int) error {
	if len(h.text) >= limit {
		return damaged("a string is longer than %d bytes", limit)
	}
	if len(h.text) == cap(h.text) {
		n := max(64, 2*cap(h.text))
		if err := h.mem.take(int64(n)); err != nil {
			return err
		}
		h.text = append(make([]byte, 0, n), h.text...)
	}
	h.text = append(h.text, b)
	return nil
}

// numbers reads an array of non-negative integers; never nil without an error.
func (h *header) numbers() ([]int, error) {
	if err := h.expect('['); err != nil {
		return nil, err
	}
	ns := make([]int, 0, 4)
	for {
		b, err := h.token()
		if err != nil {
			return nil, err
		}
		if b == ']' && len(ns) == 0 {
			return ns, nil
		}
		if b < '0' || b > '9' {
			return nil, h.unexpected(b)
		}
		v := 0
		for b >= '0' && b <= '9' {
			if v > (math.MaxInt-9)/10 {
				return nil, damaged("a number is too large")
			}
			v = 10*v + int(b-'0')
			if b, err = h.in.byte(); err != nil {
				return nil, err
			}
		}
		if len(ns) == maxRank {
			return nil, damaged("an array has more than %d numbers", maxRank)
		}
		ns = append(ns, v)
		if space(b) {
			if b, err = h.token(); err != nil {
				return nil, err
			}
		}
		switch b {
		case ']':
			return ns, nil
		case ',':
		default:
			return nil, h.unexpected(b)
		}
	}
}

// maxRank bounds the dimensions of a tensor; convolutions have four.
const maxRank = 16
