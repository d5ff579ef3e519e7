package weights

import (
	"io"
)

// cursor reads a stretch of a file forward through one small buffer.
type cursor struct {
	r        io.ReaderAt
	pos, end int64  // of the next byte, of the stretch
	buf      []byte // what was read; the last len(buf) − at bytes are still to come
	at       int
	store    []byte
}

const cursorBuffer = 16 << 10

func newCursor(r io.ReaderAt, from, to int64) *cursor {
	return &cursor{r: r, pos: from, end: to, store: make([]byte, min(cursorBuffer, max(to-from, 0)))}
}

// left returns how many bytes the stretch still has.
func (c *cursor) left() int64 { return c.end - c.pos }

// next returns the next n bytes, n ≤ cursorBuffer; they are good until the
// following call. At the end of the stretch it returns io.ErrUnexpectedEOF.
func (c *cursor) next(n int) ([]byte, error) {
	if int64(n) > c.left() {
		return nil, io.ErrUnexpectedEOF
	}
	if len(c.buf)-c.at < n {
		kept := copy(c.store, c.buf[c.at:])
		want := int(min(int64(len(c.store)), c.left()))
		if err := readAt(c.r, c.store[kept:want], c.pos+int64(kept)); err != nil {
			return nil, err
		}
		c.buf, c.at = c.store[:want], 0
	}
	b := c.buf[c.at : c.at+n]
	c.at += n
	c.pos += int64(n)
	return b, nil
}

// peek returns up to n of the next bytes, n ≤ cursorBuffer, without moving on;
// fewer only at the end of the stretch.
func (c *cursor) peek(n int) ([]byte, error) {
	n = int(min(int64(n), c.left()))
	b, err := c.next(n)
	if err == nil {
		c.at -= n
		c.pos -= int64(n)
	}
	return b, err
}

// byte returns the next byte.
func (c *cursor) byte() (byte, error) {
	if c.at < len(c.buf) && c.pos < c.end {
		b := c.buf[c.at]
		c.at++
		c.pos++
		return b, nil
	}
	b, err := c.next(1)
	if err != nil {
		return 0, err
	}
	return b[0], nil
}

// skip moves on by n bytes without reading them.
func (c *cursor) skip(n int64) error {
	if n < 0 || n > c.left() {
		return io.ErrUnexpectedEOF
	}
	if int64(len(c.buf)-c.at) >= n {
		c.at += int(n)
	} else {
		c.buf, c.at = nil, 0
	}
	c.pos += n
	return nil
}

// readAt fills b from offset off; a file that ends before is an
// io.ErrUnexpectedEOF.
func readAt(r io.ReaderAt, b []byte, off int64) error {
	n, err := r.ReadAt(b, off)
	if n == len(b) {
		return nil
	}
	if err == nil || err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return err
}
