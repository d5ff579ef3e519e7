// Copyright 2009 The Go Authors. All rights reserved.
// Use of this source code is governed by a BSD-style
// license that can be found in the LICENSE file.

// Package jpeg decodes JPEG files to the samples that libjpeg-turbo's default
// decoder gives, bit for bit.
//
//	file ─ segments ─ scan: Huffman codes ─▶ coefficients ─ idct ─▶ planes of samples ─▶ image
//
// It descends from Go's image/jpeg, which is right within the standard's
// tolerance but rounds its inverse transform otherwise: a level here or there,
// enough for a detector to choose another of two boxes that overlap (3 % of a
// default model's detections; none with these samples).
//
// Differences to image/jpeg besides the rounding: a file comes as a byte slice;
// a baseline file may lack its end marker; what a file lacks (tables, scans) is
// an error, not grey; four components without Adobe's marker are inverted CMYK,
// as Pillow takes them; it is about twice as fast. The package does not register
// itself with package image. It makes no attempt at concealing damage.
//
// JPEG is ITU-T T.81, https://www.w3.org/Graphics/JPEG/itu-t81.pdf; section
// numbers below are its.
package jpeg

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"io"
)

// Header is what a file tells before its picture.
type Header struct {
	Width, Height int    // pixels as stored, both at least 1
	Memory        int64  // bytes that [Decode] allocates, but for some 50 kB
	EXIF          []byte // the first EXIF segment, from its TIFF header on, within the file's bytes; nil if there is none
}

// ReadHeader reads what stands before the picture: its cost does not depend on
// the size that the file claims. A file that ends too early gives an error that
// wraps [io.ErrUnexpectedEOF].
func ReadHeader(data []byte) (Header, error) {
	d := &decoder{bits: bits{data: data}}
	if err := d.segments(true); err != nil {
		return Header{}, err
	}
	return Header{Width: d.width, Height: d.height, Memory: d.memory(), EXIF: d.exif}, nil
}

// Decode returns the picture: *image.Gray, *image.YCbCr, *image.RGBA for files
// that store red, green and blue, or *image.CMYK. It allocates what
// [Header].Memory says, so a caller with untrusted files reads the header first;
// its time is bounded by the file's length and, in progressive files, by 200
// passes over the picture.
//
// A file that ends too early gives an error that wraps [io.ErrUnexpectedEOF]; a
// sequential one that lacks nothing but its end marker is taken, as libjpeg
// does. Not so a progressive one, which may lack its finer scans.
func Decode(data []byte) (image.Image, error) {
	d := &decoder{bits: bits{data: data}}
	if err := d.segments(false); err != nil {
		return nil, err
	}
	return d.picture()
}

// component is one colour, specified in section B.2.2.
type component struct {
	id            byte
	h, v          int // sampling factors
	table         byte
	quant         *[64]int32 // nil before the first scan; natural order
	width, height int        // in blocks: those that a scan of this component alone holds
	across        int        // in blocks: those that are stored of a row, whole units of all components
	pix           []byte
	stride        int
	coefs         []block // of progressive files
}

const maxComponents = 4

// Markers, table B.1.
const (
	sof0  = 0xc0 // start of frame: baseline
	sof1  = 0xc1 // … extended sequential
	sof2  = 0xc2 // … progressive
	dht   = 0xc4 // Huffman tables
	rst0  = 0xd0 // restarts
	rst7  = 0xd7
	soi   = 0xd8 // start of image
	eoi   = 0xd9 // end of image
	sos   = 0xda // start of scan
	dqt   = 0xdb // quantization tables
	dri   = 0xdd // restart interval
	app0  = 0xe0 // application data: JFIF
	app1  = 0xe1 // … EXIF
	app14 = 0xee // … Adobe
	app15 = 0xef
	com   = 0xfe
)

// natural leads from zig-zag order to natural order, row by row.
var natural = [64]uint8{
	0, 1, 8, 16, 9, 2, 3, 10,
	17, 24, 32, 25, 18, 11, 4, 5,
	12, 19, 26, 33, 40, 48, 41, 34,
	27, 20, 13, 6, 7, 14, 21, 28,
	35, 42, 49, 56, 57, 50, 43, 36,
	29, 22, 15, 23, 30, 37, 44, 51,
	58, 59, 52, 45, 38, 31, 39, 46,
	53, 60, 61, 54, 47, 55, 62, 63,
}

type decoder struct {
	bits
	width, height         int
	comps                 []component // len is 0 before the frame's header
	baseline, progressive bool
	unitsX, unitsY        int // minimum coded units of scans of several components
	restart               int // units between restarts, 0 for none
	scans                 int

	jfif, adobe bool
	transform   byte // Adobe's: 0 for RGB and CMYK
	exif        []byte

	huffman  [2][4]huffman // of DC and of AC coefficients
	quant    [4][64]int32  // natural order
	hasQuant [4]bool

	img image.Image // *image.Gray or *image.YCbCr; the fourth component apart
}

// segments goes through the file: to its end or, for the header, to its first
// scan.
func (d *decoder) segments(header bool) error {
	if len(d.data) < 2 {
		return errCut
	}
	if d.data[0] != 0xff || d.data[1] != soi {
		return fail("the file does not begin with a JPEG's marker")
	}
	d.at = 2
	for {
		marker := d.next()
		switch {
		case marker == 0: // the file's end
			if header || d.progressive || d.missing() >= 0 {
				return errCut
			}
			return nil
		case marker == eoi:
			return nil
		case marker >= rst0 && marker <= rst7:
			continue // some encoders write one after the last unit
		}
		if len(d.data)-d.at < 2 {
			return errCut
		}
		n := int(binary.BigEndian.Uint16(d.data[d.at:]))
		if n < 2 {
			return fail("segment %#x has length %d", marker, n)
		}
		if n > len(d.data)-d.at {
			return errCut
		}
		body := d.data[d.at+2 : d.at+n]
		d.at += n

		var err error
		switch {
		case marker == sof0 || marker == sof1 || marker == sof2:
			d.baseline, d.progressive = marker == sof0, marker == sof2
			err = d.frame(body)
		case marker == sos && header:
			if len(d.comps) == 0 {
				return fail("a scan comes before the frame's header")
			}
			return nil
		case marker == sos:
			err = d.scan(body)
		case marker == dht && !header:
			err = d.huffmanTables(body)
		case marker == dqt && !header:
			err = d.quantTables(body)
		case marker == dri && !header:
			if len(body) != 2 {
				return fail("the restart interval has %d bytes, want 2", len(body))
			}
			d.restart = int(binary.BigEndian.Uint16(body))
		case marker == app0 && d.img == nil:
			d.jfif = bytes.HasPrefix(body, []byte("JFIF\x00"))
		case marker == app1:
			if tiff, ok := bytes.CutPrefix(body, []byte("Exif\x00\x00")); ok && d.exif == nil {
				d.exif = tiff
			}
		case marker == app14 && d.img == nil:
			if len(body) >= 12 && string(body[:5]) == "Adobe" {
				d.adobe, d.transform = true, body[11]
			}
		case marker == dht || marker == dqt || marker == dri || marker >= app0 && marker <= app15 || marker == com:
		case marker >= 0xc3 && marker <= 0xcf:
			return fail("%s is not supported", frameKind(marker))
		default:
			return fail("unknown segment %#x", marker)
		}
		if err != nil {
			return err
		}
	}
}

func frameKind(marker byte) string {
	switch {
	case marker >= 0xc8:
		return "arithmetic coding"
	case marker == 0xc3:
		return "lossless coding"
	}
	return "hierarchical coding"
}

// next goes past the next marker and returns it, 0 at the file's end. What
// stands before it is skipped, as libjpeg does: fill bytes, and what remains of
// a scan.
func (d *decoder) next() byte {
	for {
		i := bytes.IndexByte(d.data[d.at:], 0xff)
		if i < 0 || d.at+i+1 >= len(d.data) {
			d.at = len(d.data)
			return 0
		}
		d.at += i + 1
		if m := d.data[d.at]; m != 0 && m != 0xff {
			d.at++
			return m
		}
	}
}

// errCut is of files that end too early.
var errCut = fmt.Errorf("jpeg: the file is cut off: %w", io.ErrUnexpectedEOF)

func fail(format string, args ...any) error {
	return errors.New("jpeg: " + fmt.Sprintf(format, args...))
}

// frame reads the frame's header, section B.2.2.
func (d *decoder) frame(b []byte) error {
	if len(d.comps) != 0 {
		return fail("the file has two frame headers")
	}
	if len(b) < 6 || len(b) != 6+3*int(b[5]) {
		return fail("the frame's header has %d bytes", len(b))
	}
	if b[0] != 8 {
		return fail("samples of %d bits are not supported, only of 8", b[0])
	}
	d.height, d.width = int(binary.BigEndian.Uint16(b[1:])), int(binary.BigEndian.Uint16(b[3:]))
	if d.width == 0 || d.height == 0 {
		return fail("a size of %dx%d is not supported", d.width, d.height)
	}
	n := int(b[5])
	if n != 1 && n != 3 && n != 4 {
		return fail("%d colour components are not supported", n)
	}
	comps := make([]component, n)
	for i := range comps {
		c := &comps[i]
		*c = component{id: b[6+3*i], h: int(b[7+3*i] >> 4), v: int(b[7+3*i] & 15), table: b[8+3*i]}
		for _, other := range comps[:i] {
			if c.id == other.id {
				return fail("two components are called %d", c.id)
			}
		}
		if c.table > 3 {
			return fail("component %d wants quantization table %d", c.id, c.table)
		}
	}
	if n == 1 {
		comps[0].h, comps[0].v = 1, 1 // section A.2.2: one block after the other, whatever the factors
	}
	if !supported(comps) {
		return fail("sampling factors %v are not supported", factors(comps))
	}
	h, v := comps[0].h, comps[0].v // the largest
	d.unitsX, d.unitsY = ceilDiv(d.width, 8*h), ceilDiv(d.height, 8*v)
	for i := range comps {
		c := &comps[i]
		c.width, c.height = ceilDiv(d.width*c.h, 8*h), ceilDiv(d.height*c.v, 8*v)
		c.across = d.unitsX * c.h
	}
	d.comps = comps
	return nil
}

// supported tells whether package image has a type for the sampling factors.
func supported(comps []component) bool {
	hv := func(i int) int { return comps[i].h<<4 | comps[i].v }
	switch len(comps) {
	case 1:
		return true
	case 4:
		return (hv(0) == 0x11 || hv(0) == 0x22) && hv(1) == 0x11 && hv(2) == 0x11 && hv(3) == hv(0)
	}
	if hv(1) != hv(2) || comps[1].h == 0 || comps[1].v == 0 || comps[0].h%comps[1].h != 0 || comps[0].v%comps[1].v != 0 {
		return false
	}
	_, ok := ratios[[2]int{comps[0].h / comps[1].h, comps[0].v / comps[1].v}]
	return ok && comps[0].h <= 4 && comps[0].v <= 4
}

var ratios = map[[2]int]image.YCbCrSubsampleRatio{
	{1, 1}: image.YCbCrSubsampleRatio444,
	{1, 2}: image.YCbCrSubsampleRatio440,
	{2, 1}: image.YCbCrSubsampleRatio422,
	{2, 2}: image.YCbCrSubsampleRatio420,
	{4, 1}: image.YCbCrSubsampleRatio411,
	{4, 2}: image.YCbCrSubsampleRatio410,
}

func factors(comps []component) (s []string) {
	for _, c := range comps {
		s = append(s, fmt.Sprintf("%dx%d", c.h, c.v))
	}
	return s
}

func ceilDiv(a, b int) int { return (a + b - 1) / b }

// quantTables reads quantization tables, section B.2.4.1.
func (d *decoder) quantTables(b []byte) error {
	for len(b) > 0 {
		wide, table := b[0]>>4, b[0]&15
		if wide > 1 || table > 3 {
			return fail("quantization table %d of precision %d is unknown", table, wide)
		}
		size := 64 << wide
		if len(b) < 1+size {
			return fail("a quantization table has %d bytes, want %d", len(b)-1, size)
		}
		for i, to := range natural {
			if wide == 1 {
				d.quant[table][to] = int32(binary.BigEndian.Uint16(b[1+2*i:]))
			} else {
				d.quant[table][to] = int32(b[1+i])
			}
		}
		d.hasQuant[table] = true
		b = b[1+size:]
	}
	return nil
}
