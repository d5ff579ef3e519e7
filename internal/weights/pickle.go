package weights

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
)

// machine follows the opcodes of one pickle (protocols 2 to 5) without ever
// running anything: a global is looked up in a fixed list of our own functions
// and types, and one that is not there ends the parse with a *GlobalError.
//
// Python's values become: None nil, bool, int64, float64, string, [span] (long
// strings and bytes), [tuple], *list (also sets), *dict, and whatever the
// functions of the list return.
type machine struct {
	in    *cursor
	mem   *budget
	stack []any
	marks []int // heights of the stack
	memo  []any

	// global finds what a module's name stands for: a callable, or a value
	// that is only passed on.
	global func(module, name string) (any, error)
	// persistent finds what a persistent id stands for.
	persistent func(m *machine, id any) (any, error)
}

type (
	// callable stands for a function or class of Python's that may be called.
	callable func(m *machine, args tuple) (any, error)

	// builder is a value that a pickle may set the state of.
	builder interface {
		build(m *machine, state any) error
	}

	tuple []any
	list  struct{ items []any }
	dict  struct{ items []item }
	item  struct{ key, value any }

	// span is a string or bytes longer than shortString: it stays in the file.
	span struct {
		off, size int64
		text      bool // UTF-8, of a string
		latin1    bool // the bytes are that text in Latin-1
	}

	// opaque stands for an object that says nothing about weights.
	opaque struct{}
)

// shortString bounds the strings that are brought into memory: names are far
// shorter, arrays are longer.
const shortString = 4 << 10

// build ignores the attributes of a dict: state dicts carry versions there.
func (*dict) build(*machine, any) error  { return nil }
func (opaque) build(*machine, any) error { return nil }

// The opcodes of protocols 2 to 5, and those of 0 and 1 that these still use.
const (
	opMark           = '('
	opStop           = '.'
	opPop            = '0'
	opPopMark        = '1'
	opDup            = '2'
	opBinFloat       = 'G'
	opBinInt         = 'J'
	opBinInt1        = 'K'
	opBinInt2        = 'M'
	opNone           = 'N'
	opBinPersID      = 'Q'
	opReduce         = 'R'
	opBinString      = 'T'
	opShortBinString = 'U'
	opBinUnicode     = 'X'
	opAppend         = 'a'
	opBuild          = 'b'
	opGlobal         = 'c'
	opDict           = 'd'
	opEmptyDict      = '}'
	opAppends        = 'e'
	opBinGet         = 'h'
	opLongBinGet     = 'j'
	opList           = 'l'
	opEmptyList      = ']'
	opBinPut         = 'q'
	opLongBinPut     = 'r'
	opSetItem        = 's'
	opTuple          = 't'
	opEmptyTuple     = ')'
	opSetItems       = 'u'
	opProto          = 0x80
	opNewObj         = 0x81
	opTuple1         = 0x85
	opTuple2         = 0x86
	opTuple3         = 0x87
	opNewTrue        = 0x88
	opNewFalse       = 0x89
	opLong1          = 0x8a
	opLong4          = 0x8b
	opBinBytes       = 'B'
	opShortBinBytes  = 'C'
	opShortUnicode   = 0x8c
	opBinUnicode8    = 0x8d
	opBinBytes8      = 0x8e
	opEmptySet       = 0x8f
	opAddItems       = 0x90
	opFrozenSet      = 0x91
	opStackGlobal    = 0x93
	opMemoize        = 0x94
	opFrame          = 0x95
	opByteArray8     = 0x96
)

var (
	errUnderflow = damaged("the pickle takes more from its stack than it put there")
	errNoMark    = damaged("the pickle refers to a mark that it did not set")
)

// run follows the pickle up to its end and returns its value.
func (m *machine) run() (any, error) {
	for {
		op, err := m.in.byte()
		if err != nil {
			return nil, err
		}
		if op == opStop {
			v, err := m.pop()
			if err == nil && len(m.stack) > 0 {
				err = damaged("the pickle ends with values left over")
			}
			return v, err
		}
		at := m.in.pos - 1
		if err := m.step(op); err != nil {
			var refused *GlobalError
			if errors.As(err, &refused) || errors.Is(err, io.ErrUnexpectedEOF) {
				return nil, err
			}
			return nil, fmt.Errorf("byte %d: %w", at, err)
		}
	}
}

// step executes one opcode.
func (m *machine) step(op byte) error {
	switch op {
	case opProto:
		v, err := m.number(1)
		if err == nil && (v < 2 || v > 5) {
			err = damaged("pickle protocol %d", v)
		}
		return err
	case opFrame:
		n, err := m.number(8)
		if err == nil && (n < 0 || n > m.in.left()) {
			err = io.ErrUnexpectedEOF
		}
		return err

	// The stack, its marks and the memo.
	case opMark:
		if err := m.mem.take(24); err != nil { // with what growing leaves behind
			return err
		}
		m.marks = append(m.marks, len(m.stack))
		return nil
	case opPop:
		_, err := m.pop()
		return err
	case opPopMark:
		_, err := m.popMark()
		return err
	case opDup:
		v, err := m.top()
		if err != nil {
			return err
		}
		return m.push(v)
	case opBinGet:
		return m.get(1)
	case opLongBinGet:
		return m.get(4)
	case opBinPut:
		i, err := m.number(1)
		if err != nil {
			return err
		}
		return m.put(i)
	case opLongBinPut:
		i, err := m.number(4)
		if err != nil {
			return err
		}
		return m.put(i)
	case opMemoize:
		return m.put(int64(len(m.memo)))

	// Plain values.
	case opNone:
		return m.push(nil)
	case opNewTrue:
		return m.push(true)
	case opNewFalse:
		return m.push(false)
	case opBinInt1:
		return m.pushNumber(1)
	case opBinInt2:
		return m.pushNumber(2)
	case opBinInt:
		v, err := m.number(4)
		if err != nil {
			return err
		}
		return m.pushInt(int64(int32(v)))
	case opLong1:
		return m.long(1)
	case opLong4:
		return m.long(4)
	case opBinFloat:
		b, err := m.in.next(8)
		if err != nil {
			return err
		}
		if err := m.mem.take(8); err != nil {
			return err
		}
		return m.push(math.Float64frombits(binary.BigEndian.Uint64(b)))
	case opShortUnicode:
		return m.text(1, true)
	case opBinUnicode:
		return m.text(4, true)
	case opBinUnicode8:
		return m.text(8, true)
	case opShortBinString, opShortBinBytes:
		return m.text(1, false)
	case opBinString, opBinBytes:
		return m.text(4, false)
	case opBinBytes8, opByteArray8:
		return m.text(8, false)

	// Containers.
	case opEmptyTuple:
		return m.push(tuple(nil))
	case opTuple1:
		return m.tuple(1)
	case opTuple2:
		return m.tuple(2)
	case opTuple3:
		return m.tuple(3)
	case opTuple:
		items, err := m.popMark()
		if err != nil {
			return err
		}
		return m.pushTuple(items)
	case opEmptyList, opEmptySet:
		if err := m.mem.take(24); err != nil {
			return err
		}
		return m.push(&list{})
	case opList, opFrozenSet:
		items, err := m.popMark()
		if err != nil {
			return err
		}
		l := &list{}
		if err := l.extend(m, items); err != nil {
			return err
		}
		return m.push(l)
	case opAppend:
		v, err := m.pop()
		if err != nil {
			return err
		}
		return m.appendTo([]any{v})
	case opAppends, opAddItems:
		items, err := m.popMark()
		if err != nil {
			return err
		}
		return m.appendTo(items)
	case opEmptyDict:
		d, err := m.newDict()
		if err != nil {
			return err
		}
		return m.push(d)
	case opDict:
		items, err := m.popMark()
		if err != nil {
			return err
		}
		d, err := m.newDict()
		if err != nil {
			return err
		}
		if err := d.set(m, items); err != nil {
			return err
		}
		return m.push(d)
	case opSetItem:
		if len(m.stack) < 2 {
			return errUnderflow
		}
		pair := m.stack[len(m.stack)-2:]
		m.stack = m.stack[:len(m.stack)-2]
		return m.setOn(pair)
	case opSetItems:
		items, err := m.popMark()
		if err != nil {
			return err
		}
		return m.setOn(items)

	// Objects.
	case opGlobal:
		module, err := m.line()
		if err != nil {
			return err
		}
		name, err := m.line()
		if err != nil {
			return err
		}
		return m.pushGlobal(module, name)
	case opStackGlobal:
		name, err := m.pop()
		if err != nil {
			return err
		}
		module, err := m.pop()
		if err != nil {
			return err
		}
		mod, ok1 := module.(string)
		nam, ok2 := name.(string)
		if !ok1 || !ok2 {
			return damaged("the name of a global is no string")
		}
		return m.pushGlobal(mod, nam)
	case opReduce, opNewObj:
		args, err := m.pop()
		if err != nil {
			return err
		}
		f, err := m.pop()
		if err != nil {
			return err
		}
		v, err := m.call(f, args)
		if err != nil {
			return err
		}
		return m.push(v)
	case opBuild:
		state, err := m.pop()
		if err != nil {
			return err
		}
		on, err := m.top()
		if err != nil {
			return err
		}
		b, ok := on.(builder)
		if !ok {
			return damaged("the pickle sets the state of a %s", kind(on))
		}
		return b.build(m, state)
	case opBinPersID:
		id, err := m.pop()
		if err != nil {
			return err
		}
		v, err := m.persistent(m, id)
		if err != nil {
			return err
		}
		return m.push(v)
	}
	return damaged("opcode %#02x, which no checkpoint of weights has", op)
}

func (m *machine) push(v any) error {
	if len(m.stack) == cap(m.stack) {
		n := max(64, 2*cap(m.stack))
		if err := m.mem.take(16 * int64(n)); err != nil {
			return err
		}
		m.stack = append(make([]any, 0, n), m.stack...)
	}
	m.stack = append(m.stack, v)
	return nil
}

// floor is the height that the values above the last mark begin at.
func (m *machine) floor() int {
	if len(m.marks) == 0 {
		return 0
	}
	return m.marks[len(m.marks)-1]
}

func (m *machine) top() (any, error) {
	if len(m.stack) <= m.floor() {
		return nil, errUnderflow
	}
	return m.stack[len(m.stack)-1], nil
}

func (m *machine) pop() (any, error) {
	v, err := m.top()
	if err == nil {
		m.stack = m.stack[:len(m.stack)-1]
	}
	return v, err
}

// popMark takes the values above the last mark, and the mark. They are good
// until the next push.
func (m *machine) popMark() ([]any, error) {
	if len(m.marks) == 0 {
		return nil, errNoMark
	}
	at := m.floor()
	items := m.stack[at:]
	m.stack, m.marks = m.stack[:at], m.marks[:len(m.marks)-1]
	return items, nil
}

func (m *machine) get(width int) error {
	i, err := m.number(width)
	if err != nil {
		return err
	}
	if i < 0 || i >= int64(len(m.memo)) {
		return damaged("the pickle refers to value %d of %d", i, len(m.memo))
	}
	return m.push(m.memo[i])
}

// put stores the top of the stack as value i. Picklers count up from 0, so a
// gap larger than the pickle itself is no pickler's work, and within it the
// budget bounds what a gap costs.
func (m *machine) put(i int64) error {
	v, err := m.top()
	if err != nil {
		return err
	}
	if i < 0 || i > m.in.end {
		return damaged("the pickle stores value %d", i)
	}
	if i >= int64(cap(m.memo)) {
		n := max(64, i+1, 2*int64(cap(m.memo)))
		if err := m.mem.take(16 * n); err != nil {
			return err
		}
		m.memo = append(make([]any, 0, n), m.memo...)
	}
	if i >= int64(len(m.memo)) {
		m.memo = m.memo[:i+1]
	}
	m.memo[i] = v
	return nil
}

// number reads a little-endian unsigned integer; one of 8 bytes above
// MaxInt64 comes out negative.
func (m *machine) number(width int) (int64, error) {
	b, err := m.in.next(width)
	if err != nil {
		return 0, err
	}
	v := uint64(0)
	for i, c := range b {
		v |= uint64(c) << (8 * i)
	}
	return int64(v), nil
}

func (m *machine) pushNumber(width int) error {
	v, err := m.number(width)
	if err != nil {
		return err
	}
	return m.pushInt(v)
}

func (m *machine) pushInt(v int64) error {
	if v < 0 || v > 255 { // smaller ones need no memory of their own
		if err := m.mem.take(8); err != nil {
			return err
		}
	}
	return m.push(v)
}

// long reads a little-endian signed integer. One that does not fit an int64,
// such as a legacy container's magic number, stays a string of its bytes.
func (m *machine) long(width int) error {
	n, err := m.number(width)
	if err != nil {
		return err
	}
	if n > 255 {
		return damaged("an integer of %d bytes", n)
	}
	b, err := m.in.next(int(n))
	if err != nil {
		return err
	}
	if n > 8 {
		if err := m.mem.take(16 + n); err != nil {
			return err
		}
		return m.push(bigInt(b))
	}
	v := uint64(0)
	for i, c := range b {
		v |= uint64(c) << (8 * i)
	}
	if n > 0 && n < 8 && b[n-1] >= 0x80 {
		v |= ^uint64(0) << (8 * n)
	}
	return m.pushInt(int64(v))
}

// bigInt is an integer of more than 8 bytes, as they lie in the pickle.
type bigInt string

// text reads a string or bytes with a length of the given width before it.
func (m *machine) text(width int, unicode bool) error {
	n, err := m.number(width)
	if err != nil {
		return err
	}
	if n < 0 || n > m.in.left() {
		return io.ErrUnexpectedEOF
	}
	if n > shortString {
		s := span{off: m.in.pos, size: n, text: unicode}
		if err := m.mem.take(32); err != nil {
			return err
		}
		if err := m.in.skip(n); err != nil {
			return err
		}
		return m.push(s)
	}
	b, err := m.in.next(int(n))
	if err != nil {
		return err
	}
	if err := m.mem.take(24 + n); err != nil {
		return err
	}
	return m.push(string(b))
}

// line reads text up to a newline.
func (m *machine) line() (string, error) {
	var b [256]byte
	for n := range b {
		c, err := m.in.byte()
		if err != nil {
			return "", err
		}
		if c == '\n' {
			return string(b[:n]), m.mem.take(3 * int64(n+16))
		}
		b[n] = c
	}
	return "", damaged("the name of a global is longer than %d bytes", len(b))
}

func (m *machine) pushGlobal(module, name string) error {
	v, err := m.global(module, name)
	if err != nil {
		return err
	}
	return m.push(v)
}

func (m *machine) call(f, args any) (any, error) {
	fn, ok := f.(callable)
	if !ok {
		return nil, damaged("the pickle calls a %s", kind(f))
	}
	a, ok := args.(tuple)
	if !ok {
		return nil, damaged("the pickle calls a function with a %s", kind(args))
	}
	return fn(m, a)
}

func (m *machine) tuple(n int) error {
	if len(m.stack)-m.floor() < n {
		return errUnderflow
	}
	items := m.stack[len(m.stack)-n:]
	m.stack = m.stack[:len(m.stack)-n]
	return m.pushTuple(items)
}

func (m *machine) pushTuple(items []any) error {
	if err := m.mem.take(24 + 16*int64(len(items))); err != nil {
		return err
	}
	return m.push(append(tuple(nil), items...))
}

func (m *machine) newDict() (*dict, error) {
	return &dict{}, m.mem.take(24)
}

func (m *machine) appendTo(items []any) error {
	on, err := m.top()
	if err != nil {
		return err
	}
	switch l := on.(type) {
	case *list:
		return l.extend(m, items)
	case opaque:
		return nil
	}
	return damaged("the pickle appends to a %s", kind(on))
}

func (m *machine) setOn(items []any) error {
	on, err := m.top()
	if err != nil {
		return err
	}
	switch d := on.(type) {
	case *dict:
		return d.set(m, items)
	case opaque:
		return nil
	}
	return damaged("the pickle sets items of a %s", kind(on))
}

func (l *list) extend(m *machine, items []any) error {
	if need := len(l.items) + len(items); need > cap(l.items) {
		n := max(need, 2*cap(l.items))
		if err := m.mem.take(16 * int64(n)); err != nil {
			return err
		}
		l.items = append(make([]any, 0, n), l.items...)
	}
	l.items = append(l.items, items...)
	return nil
}

func (d *dict) set(m *machine, items []any) error {
	if len(items)%2 != 0 {
		return damaged("a dict has a key without a value")
	}
	if need := len(d.items) + len(items)/2; need > cap(d.items) {
		n := max(need, 2*cap(d.items))
		if err := m.mem.take(32 * int64(n)); err != nil {
			return err
		}
		d.items = append(make([]item, 0, n), d.items...)
	}
	for i := 0; i < len(items); i += 2 {
		d.items = append(d.items, item{items[i], items[i+1]})
	}
	return nil
}

// kind names a value for an error, in Python's words.
func kind(v any) string {
	switch v.(type) {
	case nil:
		return "None"
	case bool:
		return "bool"
	case int64, bigInt:
		return "int"
	case float64:
		return "float"
	case string, span:
		return "string"
	case tuple:
		return "tuple"
	case *list:
		return "list"
	case *dict:
		return "dict"
	case callable:
		return "function"
	case *view:
		return "tensor"
	case *array:
		return "array"
	}
	return "object"
}
