package coco

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// scanner reads JSON from a stream, value by value, through one window of
// memory. It exists because encoding/json's tokens take 35 to 40 times as long
// (58 MB of instances: 5.2 s against 0.13 s), most of it for segmentations,
// which are stepped over here. What is stepped over is checked for its strings
// and for the balance of its brackets, no more.
//
// Its first error sticks; readers look at err once per element.
type scanner struct {
	r    io.Reader
	name string // for errors
	buf  []byte
	pos  int   // next byte in buf
	end  int   // bytes in buf
	base int64 // offset of buf[0] in the stream
	eof  bool
	err  error

	lines    int   // line ends before buf[counted]
	counted  int   // in buf
	lineBase int64 // offset of the current line's first byte
	scratch  []byte
	key      [24]byte // the last key of an object
	size     int64    // of the stream; 0 where it is not known
}

const (
	windowBytes = 1 << 18
	maxToken    = 1 << 20 // a string that is kept, or a number
	maxDepth    = 10000   // encoding/json's own limit
)

func newScanner(r io.Reader, name string) *scanner {
	s := &scanner{r: r, name: name, buf: make([]byte, windowBytes)}
	switch r := r.(type) {
	case interface{ Len() int }: // bytes.Reader, strings.Reader
		s.size = int64(r.Len())
	case *os.File:
		if st, err := r.Stat(); err == nil && st.Mode().IsRegular() {
			s.size = st.Size()
		}
	}
	if s.fill(0) && bytes.HasPrefix(s.buf[:s.end], []byte("\xef\xbb\xbf")) {
		s.pos = 3 // a byte order mark, as Windows' editors write it
	}
	return s
}

// fill reads more of the stream, keeping what lies from mark on, which moves
// to the window's start in any case. It reports whether anything was read.
func (s *scanner) fill(mark int) bool {
	if s.err != nil {
		return false
	}
	s.countLines(mark)
	copy(s.buf, s.buf[mark:s.end])
	s.base += int64(mark)
	s.pos -= mark
	s.end -= mark
	s.counted -= mark
	if s.eof {
		return false
	}
	if s.end == len(s.buf) {
		if len(s.buf) >= maxToken {
			s.fail("a value of more than 1 MiB")
			return false
		}
		s.buf = append(s.buf, make([]byte, len(s.buf))...)
	}
	for {
		n, err := s.r.Read(s.buf[s.end:])
		s.end += n
		if err != nil {
			s.eof = true
			if err != io.EOF {
				s.err = fmt.Errorf("coco: %s: %w", s.name, err)
			}
			return n > 0 && s.err == nil
		}
		if n > 0 {
			return true
		}
	}
}

// countLines brings the line counter up to buf[to].
func (s *scanner) countLines(to int) {
	if to <= s.counted {
		return
	}
	part := s.buf[s.counted:to]
	if n := bytes.Count(part, []byte{'\n'}); n > 0 {
		s.lines += n
		s.lineBase = s.base + int64(s.counted+bytes.LastIndexByte(part, '\n')+1)
	}
	s.counted = to
}

// line returns the line of the next value, from 1.
func (s *scanner) line() int {
	s.peek()
	s.countLines(s.pos)
	return s.lines + 1
}

// fail sets the first error, at the current position.
func (s *scanner) fail(format string, args ...any) { s.failIn("", format, args...) }

func (s *scanner) failIn(where, format string, args ...any) {
	if s.err != nil {
		return
	}
	s.countLines(s.pos)
	line := s.lines + 1
	off := s.base + int64(s.pos)
	s.err = &SyntaxError{
		File: s.name, Line: line, Column: int(off-s.lineBase) + 1, Offset: off,
		Where: where, Msg: fmt.Sprintf(format, args...),
	}
}

// within adds to an error where it happened, unless a deeper call has.
func (s *scanner) within(format string, args ...any) {
	var e *SyntaxError
	if errors.As(s.err, &e) && e.Where == "" {
		e.Where = fmt.Sprintf(format, args...)
	}
}

// more estimates how many elements are still to come when n have been read, by
// their size so far; what is allocated for them is bounded by the stream's
// size.
func (s *scanner) more(n int) int {
	done := s.base + int64(s.pos)
	if left := s.size - done; n > 0 && left > 0 && done > 0 {
		return int(float64(n) * float64(left) / float64(done) * 1.02)
	}
	return 0
}

// peek steps over white space and returns the next byte without taking it; 0
// at the end of the stream or after an error.
func (s *scanner) peek() byte {
	if s.err != nil {
		return 0
	}
	for {
		for s.pos < s.end {
			switch c := s.buf[s.pos]; c {
			case ' ', '\n', '\r', '\t':
				s.pos++
			default:
				return c
			}
		}
		if !s.fill(s.pos) {
			return 0
		}
	}
}

// take steps over the next byte, which must be c.
func (s *scanner) take(c byte) bool {
	got := s.peek()
	if got != c || s.err != nil {
		s.unexpected(fmt.Sprintf("%q", c))
		return false
	}
	s.pos++
	return true
}

// unexpected fails with what was found in place of want.
func (s *scanner) unexpected(want string) {
	if s.err != nil {
		return
	}
	c := s.peek()
	switch {
	case s.err != nil:
	case c == 0 && s.pos >= s.end:
		s.fail("the file ends where %s should be", want)
	default:
		s.fail("%q where %s should be", c, want)
	}
}

// array calls f for each element, which f must consume.
func (s *scanner) array(f func(i int)) {
	if !s.take('[') {
		return
	}
	if s.peek() == ']' {
		s.pos++
		return
	}
	for i := 0; s.err == nil; i++ {
		f(i)
		switch s.peek() {
		case ',':
			s.pos++
		case ']':
			s.pos++
			return
		default:
			s.unexpected("',' or ']'")
		}
	}
}

// object calls f for each key, whose value f must consume. The key is valid
// only until f reads on.
func (s *scanner) object(f func(key []byte)) {
	if !s.take('{') {
		return
	}
	if s.peek() == '}' {
		s.pos++
		return
	}
	for s.err == nil {
		if s.peek() != '"' {
			s.unexpected("a key")
			return
		}
		key := s.str()
		// The window may move at the colon. No key that anybody asks for is
		// longer than this.
		if len(key) <= len(s.key) {
			key = s.key[:copy(s.key[:], key)]
		} else {
			key = nil
		}
		if !s.take(':') {
			return
		}
		f(key)
		switch s.peek() {
		case ',':
			s.pos++
		case '}':
			s.pos++
			return
		default:
			s.unexpected("',' or '}'")
		}
	}
}

// str reads a string; the bytes are valid until the next call.
func (s *scanner) str() []byte {
	if s.peek() != '"' || s.err != nil {
		s.unexpected("a string")
		return nil
	}
	start := s.pos
	i := start + 1
	escaped := false
	for {
		for i < s.end {
			switch c := s.buf[i]; {
			case c == '"':
				raw := s.buf[start+1 : i]
				s.pos = i + 1
				if !escaped {
					return raw
				}
				return s.unescape(raw)
			case c == '\\':
				escaped = true
				i++ // whatever follows, it does not end the string
			case c < ' ':
				s.pos = i
				s.fail("control character %q in a string", c)
				return nil
			}
			i++
		}
		i -= start
		if !s.fill(start) {
			s.pos = s.end
			s.fail("the file ends inside a string")
			return nil
		}
		start = 0
	}
}

func (s *scanner) unescape(raw []byte) []byte {
	out := s.scratch[:0]
	for i := 0; i < len(raw); i++ {
		if raw[i] != '\\' {
			out = append(out, raw[i])
			continue
		}
		i++
		switch c := raw[i]; c {
		case '"', '\\', '/':
			out = append(out, c)
		case 'b':
			out = append(out, '\b')
		case 'f':
			out = append(out, '\f')
		case 'n':
			out = append(out, '\n')
		case 'r':
			out = append(out, '\r')
		case 't':
			out = append(out, '\t')
		case 'u':
			r, ok := hex4(raw[i+1:])
			if !ok {
				s.fail(`\u without four hexadecimal digits in a string`)
				return nil
			}
			i += 4
			if utf16.IsSurrogate(r) {
				r2, ok := rune(0), false
				if i+2 < len(raw) && raw[i+1] == '\\' && raw[i+2] == 'u' {
					r2, ok = hex4(raw[i+3:])
				}
				if pair := utf16.DecodeRune(r, r2); ok && pair != utf8.RuneError {
					r = pair
					i += 6
				} else {
					r = utf8.RuneError
				}
			}
			out = utf8.AppendRune(out, r)
		default:
			s.fail(`unknown escape \%c in a string`, c)
			return nil
		}
	}
	s.scratch = out
	return out
}

func hex4(b []byte) (rune, bool) {
	if len(b) < 4 {
		return 0, false
	}
	v, err := strconv.ParseUint(string(b[:4]), 16, 16)
	return rune(v), err == nil
}

// wordByte marks the bytes of numbers and of true, false, null, NaN, Infinity.
var wordByte = func() (t [256]bool) {
	for _, c := range []byte("+-.0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") {
		t[c] = true
	}
	return t
}()

// word reads a number or a literal; the bytes are valid until the next call.
func (s *scanner) word() []byte {
	s.peek()
	start := s.pos
	for {
		for s.pos < s.end {
			if !wordByte[s.buf[s.pos]] {
				return s.buf[start:s.pos]
			}
			s.pos++
		}
		more := s.fill(start)
		if s.err != nil {
			return nil
		}
		if !more {
			return s.buf[:s.end]
		}
		start = 0
	}
}

// pow10 are the powers of ten that float64 holds exactly.
var pow10 = [...]float64{
	1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11,
	1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
}

// number reads a number. NaN and the infinities, which Python writes, are
// returned as such: the caller knows what they spoil. A number in quotes and
// null are not numbers.
func (s *scanner) number() float64 {
	w := s.word()
	if s.err != nil {
		return 0
	}
	v, ok := parseNumber(w)
	if !ok {
		s.pos -= len(w)
		if len(w) == 0 {
			s.unexpected("a number")
		} else {
			s.fail("%q is not a number", clip(w))
		}
	}
	return v
}

// parseNumber is strconv.ParseFloat with a short way for numbers of up to 15
// digits, where mantissa and power of ten are exact in float64 and their
// quotient is rounded once, hence right (Clinger 1990).
func parseNumber(w []byte) (float64, bool) {
	i, neg := 0, false
	if len(w) > 0 && w[0] == '-' {
		neg = true
		i = 1
	}
	var m uint64
	digits, frac := 0, -1 // frac: digits after the point, −1 before it
	for ; i < len(w); i++ {
		c := w[i] - '0'
		switch {
		case c <= 9:
			m = m*10 + uint64(c)
			digits++
			if frac >= 0 {
				frac++
			}
		case w[i] == '.' && frac < 0:
			frac = 0
		default:
			return parseSlow(w)
		}
	}
	if digits == 0 {
		return 0, false
	}
	if digits > 15 {
		// The loop has seen that it is digits and a point.
		v, err := strconv.ParseFloat(string(w), 64)
		return v, err == nil || errors.Is(err, strconv.ErrRange)
	}
	v := float64(m) / pow10[max(frac, 0)]
	if neg {
		v = -v
	}
	return v, true
}

func parseSlow(w []byte) (float64, bool) {
	switch string(w) {
	case "NaN", "nan":
		return math.NaN(), true
	case "Infinity", "inf", "Inf":
		return math.Inf(1), true
	case "-Infinity", "-inf", "-Inf":
		return math.Inf(-1), true
	}
	for _, c := range w {
		if (c < '0' || c > '9') && c != '.' && c != 'e' && c != 'E' && c != '+' && c != '-' {
			return 0, false // ParseFloat takes hexadecimal and underscores, too
		}
	}
	v, err := strconv.ParseFloat(string(w), 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) {
		return 0, false
	}
	return v, true // 1e999 is +Inf, and reported as infinite
}

// clip shortens what is quoted in an error.
func clip(w []byte) []byte { return w[:min(len(w), 40)] }

// integer reads an integer; 3.0 is one.
func (s *scanner) integer() int64 {
	w := s.word()
	if s.err != nil {
		return 0
	}
	if v, err := strconv.ParseInt(string(w), 10, 64); err == nil {
		return v
	}
	if v, ok := parseNumber(w); ok && v == math.Trunc(v) && math.Abs(v) < 1<<53 {
		return int64(v)
	}
	s.pos -= len(w)
	if len(w) == 0 {
		s.unexpected("an integer")
	} else {
		s.fail("%q is not an integer", clip(w))
	}
	return 0
}

// flag reads 0, 1, true, false or null.
func (s *scanner) flag() bool {
	w := s.word()
	switch string(w) {
	case "0", "false", "null", "0.0":
		return false
	case "1", "true", "1.0":
		return true
	}
	if s.err != nil {
		return false
	}
	if v, ok := parseNumber(w); ok && !math.IsNaN(v) {
		return v != 0
	}
	s.pos -= len(w)
	if len(w) == 0 {
		s.unexpected("0 or 1")
	} else {
		s.fail("%q is neither 0 nor 1", clip(w))
	}
	return false
}

// null takes a null if one is next.
func (s *scanner) null() bool {
	if s.peek() != 'n' {
		return false
	}
	w := s.word()
	if s.err == nil && string(w) != "null" {
		s.pos -= len(w)
		s.fail("%q is not a value", clip(w))
	}
	return s.err == nil
}

// skipByte marks the bytes at which skip has something to do.
var skipByte = [256]bool{'"': true, '[': true, ']': true, '{': true, '}': true}

// skip steps over a value of any kind and size.
func (s *scanner) skip() {
	switch c := s.peek(); c {
	case '"':
		s.pos++
		s.skipString()
		return
	case '[', '{':
	default:
		w := s.word()
		if s.err != nil {
			return
		}
		if _, ok := parseNumber(w); !ok {
			switch string(w) {
			case "true", "false", "null":
			default:
				s.pos -= len(w)
				s.unexpected("a value")
			}
		}
		return
	}
	depth := 0
	for {
		buf, i := s.buf[:s.end], s.pos
		for i < len(buf) {
			c := buf[i]
			i++
			if !skipByte[c] {
				continue
			}
			switch c {
			case '"':
				s.pos = i
				if s.skipString(); s.err != nil {
					return
				}
				buf, i = s.buf[:s.end], s.pos
			case '[', '{':
				if depth++; depth > maxDepth {
					s.pos = i
					s.fail("nested more than %d deep", maxDepth)
					return
				}
			default:
				if depth--; depth == 0 {
					s.pos = i
					return
				}
			}
		}
		s.pos = i
		if !s.fill(s.pos) {
			s.fail("the file ends inside a list or an object")
			return
		}
	}
}

// skipString steps over the rest of a string.
func (s *scanner) skipString() {
	for {
		for s.pos < s.end {
			k := bytes.IndexByte(s.buf[s.pos:s.end], '"')
			stop := s.end
			if k >= 0 {
				stop = s.pos + k
			}
			b := bytes.IndexByte(s.buf[s.pos:stop], '\\')
			if b < 0 {
				s.pos = stop
				if k >= 0 {
					s.pos++
					return
				}
				break
			}
			s.pos += b + 1
			if s.pos == s.end && !s.fill(s.pos) {
				break
			}
			s.pos++ // the escaped byte
		}
		if !s.fill(s.pos) {
			s.fail("the file ends inside a string")
			return
		}
	}
}

// finish fails if anything but white space follows.
func (s *scanner) finish() {
	if s.peek(); s.err == nil && s.pos < s.end {
		s.unexpected("the end of the file")
	}
}
