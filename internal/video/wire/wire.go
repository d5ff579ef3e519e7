// Package wire is what resdet and its helper process resdet-video say to each
// other over the helper's standard input and output.
//
//	resdet ── Open ─────────────▶ resdet-video      to read
//	       ◀─ Info, Frame…, End ──                  or Failure instead of either
//
//	resdet ── Open, Frame…, End ▶ resdet-video      to write or to show
//	       ◀─ Info, …, End ───────                  or Failure, at any time
//
// Each message is a header of 40 bytes, little endian, and its payload: JSON,
// or for a Frame its pixels, 4 bytes each (red, green, blue, 255), row by row.
// Both sides hold every header against the limits below before they allocate
// or read anything: neither trusts the other, for one of them decodes files
// from strangers in C++.
package wire

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

// Limits of a message. 64 megapixels are 8K UHD twice; a text of 64 KiB holds
// the longest path several times.
const (
	MaxSide   = 16384
	MaxPixels = 64 << 20
	MaxText   = 64 << 10
	// MaxRepeat is a minute at the highest rate.
	MaxRepeat = 60 * 480

	headerSize = 40
	magic      = "rdv1" // the 1 is the protocol's version
)

// Kind says what a message is.
type Kind byte

// The kinds of messages.
const (
	KindOpen    Kind = 'O' // [Open], the first message
	KindInfo    Kind = 'I' // [Info], the answer to it
	KindFrame   Kind = 'F' // a picture
	KindEnd     Kind = 'E' // [End], the last message
	KindFailure Kind = 'X' // [Failure], the last message
)

// Mode says what the helper is to do.
type Mode string

// The helper's modes.
const (
	Read  Mode = "read"
	Write Mode = "write"
	Show  Mode = "show"
)

// Open tells the helper what to do.
type Open struct {
	Mode Mode `json:"mode"`
	// Name is a file, an address, or a window's title.
	Name string `json:"name"`
	// Camera is a device's number where Name is empty.
	Camera int `json:"camera,omitempty"`
	// Start seeks to shortly before that time; frames from there on follow.
	Start time.Duration `json:"start,omitempty"`
	// Options are key;value|key;value of libavformat.
	Options string `json:"options,omitempty"`
	// Codec is four characters; with it come the size and rate of what will be
	// written.
	Codec  string  `json:"codec,omitempty"`
	Width  int     `json:"width,omitempty"`
	Height int     `json:"height,omitempty"`
	FPS    float64 `json:"fps,omitempty"`
}

// Info describes what was opened.
type Info struct {
	Width  int     `json:"width"` // pixels of the frames that follow, upright
	Height int     `json:"height"`
	FPS    float64 `json:"fps"`    // as the file says; may be nonsense
	Frames float64 `json:"frames"` // as the file says or implies; may be nonsense
	Codec  string  `json:"codec"`
	Turned int     `json:"turned"` // degrees that the frames were rotated by
}

// End closes a stream in good order.
type End struct {
	Frames int `json:"frames"` // sent or written
	// Mats is how many native matrices are left, −1 where that is not counted
	// (build tag matprofile).
	Mats int `json:"mats"`
}

// Failure is the helper's error.
type Failure struct {
	Message string `json:"message"`
	// Codecs are those that work, where the one asked for does not.
	Codecs []string `json:"codecs,omitempty"`
}

// Header stands before each message.
type Header struct {
	Kind   Kind
	Length int // bytes of payload
	// Width and Height are a frame's, in pixels.
	Width, Height int
	// Repeat is how many times in a row a frame is to be written.
	Repeat int
	// Index and Time are a frame's number and time stamp in its source.
	Index int
	Time  time.Duration
}

// Errors of a peer that breaks the protocol wrap ErrProtocol.
var ErrProtocol = errors.New("wire: not a message of this version")

// check holds a header against the limits.
func (h Header) check() error {
	switch h.Kind {
	case KindFrame:
		if h.Width < 1 || h.Height < 1 || h.Width > MaxSide || h.Height > MaxSide || h.Width*h.Height > MaxPixels {
			return fmt.Errorf("%w: a frame of %dx%d pixels", ErrProtocol, h.Width, h.Height)
		}
		if h.Length != 4*h.Width*h.Height {
			return fmt.Errorf("%w: a frame of %dx%d pixels in %d bytes", ErrProtocol, h.Width, h.Height, h.Length)
		}
		if h.Index < 0 || h.Time < 0 || h.Repeat < 0 || h.Repeat > MaxRepeat {
			return fmt.Errorf("%w: frame %d at %v, %d times", ErrProtocol, h.Index, h.Time, h.Repeat)
		}
	case KindOpen, KindInfo, KindEnd, KindFailure:
		if h.Length < 0 || h.Length > MaxText {
			return fmt.Errorf("%w: a text of %d bytes", ErrProtocol, h.Length)
		}
	default:
		return fmt.Errorf("%w: kind %q", ErrProtocol, byte(h.Kind))
	}
	return nil
}

// Reader reads messages. It is for one goroutine.
type Reader struct {
	r    io.Reader
	head [headerSize]byte
	left int // payload of the last header that was not read yet
}

// NewReader returns a reader of r, which is read in large pieces: a buffer
// would only copy.
func NewReader(r io.Reader) *Reader { return &Reader{r: r} }

// Next returns the next message's header. Its payload must be read by
// [Reader.Text] or [Reader.Pixels] before the next call. The error is io.EOF at
// the end of the stream, wraps io.ErrUnexpectedEOF within a message, and wraps
// [ErrProtocol] where it makes no sense.
func (r *Reader) Next() (Header, error) {
	if r.left != 0 {
		return Header{}, fmt.Errorf("wire: %d bytes of the last message were not read", r.left)
	}
	if _, err := io.ReadFull(r.r, r.head[:]); err != nil {
		return Header{}, err
	}
	b := r.head[:]
	if string(b[:4]) != magic {
		return Header{}, fmt.Errorf("%w: it begins with %q", ErrProtocol, b[:4])
	}
	u32 := func(at int) int { return int(int32(binary.LittleEndian.Uint32(b[at:]))) }
	i64 := func(at int) int64 { return int64(binary.LittleEndian.Uint64(b[at:])) }
	h := Header{
		Kind: Kind(b[4]), Length: u32(8), Width: u32(12), Height: u32(16), Repeat: u32(20),
		Index: int(i64(24)), Time: time.Duration(i64(32)),
	}
	if err := h.check(); err != nil {
		return Header{}, err
	}
	r.left = h.Length
	return h, nil
}

// Pixels reads a frame's pixels into dst, of the header's Length.
func (r *Reader) Pixels(dst []byte) error {
	if len(dst) != r.left {
		return fmt.Errorf("wire: a frame of %d bytes does not fit %d", r.left, len(dst))
	}
	return r.payload(dst)
}

// Text decodes the payload of any other message into v.
func (r *Reader) Text(v any) error {
	if r.left > MaxText {
		return fmt.Errorf("%w: a frame where a text was to be", ErrProtocol)
	}
	text := make([]byte, r.left)
	if err := r.payload(text); err != nil {
		return err
	}
	if err := json.Unmarshal(text, v); err != nil {
		return fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	return nil
}

func (r *Reader) payload(dst []byte) error {
	if _, err := io.ReadFull(r.r, dst); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return err
	}
	r.left = 0
	return nil
}

// Writer writes messages. It is for one goroutine.
type Writer struct {
	w    io.Writer
	head [headerSize]byte
}

// NewWriter returns a writer to w.
func NewWriter(w io.Writer) *Writer { return &Writer{w: w} }

// Frame writes a picture of h.Width × h.Height; Kind and Length are set here.
func (w *Writer) Frame(h Header, pixels []byte) error {
	h.Kind, h.Length = KindFrame, len(pixels)
	return w.message(h, pixels)
}

// Text writes v as JSON.
func (w *Writer) Text(kind Kind, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("wire: %w", err)
	}
	return w.message(Header{Kind: kind, Length: len(text)}, text)
}

func (w *Writer) message(h Header, payload []byte) error {
	if err := h.check(); err != nil {
		return err
	}
	b := w.head[:]
	clear(b)
	copy(b, magic)
	b[4] = byte(h.Kind)
	for i, v := range [...]int{h.Length, h.Width, h.Height, h.Repeat} {
		binary.LittleEndian.PutUint32(b[8+4*i:], uint32(int32(v)))
	}
	binary.LittleEndian.PutUint64(b[24:], uint64(h.Index))
	binary.LittleEndian.PutUint64(b[32:], uint64(h.Time))
	if _, err := w.w.Write(b); err != nil {
		return err
	}
	_, err := w.w.Write(payload)
	return err
}
