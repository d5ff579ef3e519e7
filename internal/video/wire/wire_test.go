package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"
	"time"
)

func TestMessages(t *testing.T) {
	var buf bytes.Buffer
	w := NewWriter(&buf)
	pixels := []byte("aaaabbbbccccddddeeeeffff")
	sent := Header{Width: 3, Height: 2, Repeat: 7, Index: 1 << 40, Time: 90 * time.Hour}
	if err := errors.Join(w.Text(KindOpen, Open{Mode: Read, Name: "a b.mp4"}), w.Frame(sent, pixels), w.Text(KindEnd, End{Frames: 1})); err != nil {
		t.Fatal(err)
	}
	r := NewReader(&buf)
	h, err := r.Next()
	var o Open
	if err != nil || h.Kind != KindOpen || r.Text(&o) != nil || o.Mode != Read || o.Name != "a b.mp4" {
		t.Fatal(h, o, err)
	}
	h, err = r.Next()
	sent.Kind, sent.Length = KindFrame, len(pixels)
	if err != nil || h != sent {
		t.Fatalf("frame %+v, %v; want %+v", h, err, sent)
	}
	if _, err := r.Next(); err == nil {
		t.Error("a message was read although the one before it was not")
	}
	got := make([]byte, h.Length)
	if err := r.Pixels(got[1:]); err == nil {
		t.Error("pixels went into a buffer of another size")
	}
	if err := r.Pixels(got); err != nil || !bytes.Equal(got, pixels) {
		t.Errorf("pixels %q, %v", got, err)
	}
	h, err = r.Next()
	var e End
	if err != nil || h.Kind != KindEnd || r.Text(&e) != nil || e.Frames != 1 {
		t.Error(h, e, err)
	}
	if _, err := r.Next(); err != io.EOF {
		t.Errorf("after the last message: %v", err)
	}
}

// header is a message's header with one field set to v.
func header(kind Kind, set map[int]uint64) []byte {
	b := make([]byte, headerSize)
	copy(b, magic)
	b[4] = byte(kind)
	for at, v := range set {
		if at >= 24 {
			binary.LittleEndian.PutUint64(b[at:], v)
		} else {
			binary.LittleEndian.PutUint32(b[at:], uint32(v))
		}
	}
	return b
}

func TestLies(t *testing.T) {
	for name, b := range map[string][]byte{
		"another version":      append([]byte("rdv0"), header(KindEnd, nil)[4:]...),
		"unknown kind":         header('?', nil),
		"long text":            header(KindInfo, map[int]uint64{8: MaxText + 1}),
		"negative text":        header(KindInfo, map[int]uint64{8: 1 << 31}),
		"empty frame":          header(KindFrame, nil),
		"frame without height": header(KindFrame, map[int]uint64{12: 10}),
		"wrong length":         header(KindFrame, map[int]uint64{8: 396, 12: 10, 16: 10}),
		"wide":                 header(KindFrame, map[int]uint64{8: 4 * (MaxSide + 1), 12: MaxSide + 1, 16: 1}),
		"large":                header(KindFrame, map[int]uint64{8: 1 << 30, 12: MaxSide, 16: MaxSide}),
		"negative side":        header(KindFrame, map[int]uint64{8: 4, 12: 1<<32 - 1, 16: 1<<32 - 1}),
		"negative time":        header(KindFrame, map[int]uint64{8: 4, 12: 1, 16: 1, 32: 1 << 63}),
		"negative index":       header(KindFrame, map[int]uint64{8: 4, 12: 1, 16: 1, 24: 1 << 63}),
		"many repetitions":     header(KindFrame, map[int]uint64{8: 4, 12: 1, 16: 1, 20: MaxRepeat + 1}),
	} {
		if _, err := NewReader(bytes.NewReader(b)).Next(); !errors.Is(err, ErrProtocol) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := NewReader(strings.NewReader(magic)).Next(); err != io.ErrUnexpectedEOF {
		t.Errorf("half a header: %v", err)
	}
	r := NewReader(bytes.NewReader(header(KindFrame, map[int]uint64{8: 4, 12: 1, 16: 1})))
	if _, err := r.Next(); err != nil || r.Pixels(make([]byte, 4)) != io.ErrUnexpectedEOF {
		t.Errorf("a header without its pixels: %v", err)
	}
	w := NewWriter(io.Discard)
	if err := w.Frame(Header{Width: 2, Height: 2}, make([]byte, 15)); !errors.Is(err, ErrProtocol) {
		t.Errorf("writing too few pixels: %v", err)
	}
	if err := w.Text(KindOpen, Open{Name: strings.Repeat("x", MaxText)}); !errors.Is(err, ErrProtocol) {
		t.Errorf("writing a long text: %v", err)
	}
}

func FuzzReader(f *testing.F) {
	var buf bytes.Buffer
	w := NewWriter(&buf)
	w.Text(KindInfo, Info{Width: 2, Height: 1, FPS: 25})
	w.Frame(Header{Width: 2, Height: 1, Index: 3, Time: time.Second}, make([]byte, 8))
	w.Text(KindFailure, Failure{Message: "no", Codecs: []string{"avc1"}})
	f.Add(buf.Bytes())
	f.Add(header(KindFrame, map[int]uint64{8: 1 << 28, 12: 8192, 16: 8192}))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := NewReader(bytes.NewReader(b))
		for {
			h, err := r.Next()
			if err != nil {
				return
			}
			if h.Kind != KindFrame {
				var v struct{}
				if r.Text(&v) != nil {
					return
				}
				continue
			}
			if h.Width*h.Height > MaxPixels || h.Length > 4*MaxPixels {
				t.Fatalf("passed: %+v", h)
			}
			if h.Length > len(b) { // cannot be there; do not allocate it here
				return
			}
			if r.Pixels(make([]byte, h.Length)) != nil {
				return
			}
		}
	})
}
