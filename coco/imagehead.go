package coco

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"image/jpeg"
	"image/png"
	"io"
	"os"
)

// imageHead is what a photo's header says. Everything here follows
// transform.Decode, which gives pictures upright.
type imageHead struct {
	format        string
	width, height int // upright: after EXIF's orientation
	orientation   int // EXIF's 1…8
}

// stored returns the size before EXIF's orientation.
func (h imageHead) stored() (width, height int) {
	if h.orientation >= 5 {
		return h.height, h.width
	}
	return h.width, h.height
}

// errUnsupported marks a photo in a format that is not read.
var errUnsupported = errors.New("format is not read")

// readHead reads a photo's format, size and orientation without decoding it.
func readHead(path string) (imageHead, error) {
	f, err := os.Open(path)
	if err != nil {
		return imageHead{}, err
	}
	defer f.Close()
	return decodeHead(bufio.NewReaderSize(f, 16<<10))
}

func decodeHead(r *bufio.Reader) (imageHead, error) {
	magic, err := r.Peek(12)
	if err != nil && len(magic) == 0 {
		return imageHead{}, errors.New("the file is empty")
	}
	h := imageHead{orientation: 1}
	if h.format = sniff(magic); h.format != "jpeg" && h.format != "png" {
		if h.format == "" {
			return h, errors.New("neither JPEG nor PNG")
		}
		return h, fmt.Errorf("%s: %w; convert it to JPEG or PNG", h.format, errUnsupported)
	}
	// What is read on the way to the size holds JPEG's EXIF segment, which
	// stands before it.
	var seen bytes.Buffer
	in := io.TeeReader(io.LimitReader(r, 16<<20), &seen)
	decode := jpeg.DecodeConfig
	if h.format == "png" {
		decode = png.DecodeConfig
	}
	c, err := decode(in)
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return h, fmt.Errorf("the %s file is cut off", h.format)
	}
	if err != nil {
		return h, err
	}
	if c.Width <= 0 || c.Height <= 0 {
		return h, fmt.Errorf("its size is %d×%d", c.Width, c.Height)
	}
	h.width, h.height = c.Width, c.Height
	if h.format == "jpeg" {
		h.orientation = exifOrientation(seen.Bytes())
	} else {
		h.orientation = pngOrientation(io.MultiReader(&seen, r))
	}
	if h.orientation >= 5 {
		h.width, h.height = h.height, h.width
	}
	return h, nil
}

// sniff names an image format by its first bytes.
func sniff(b []byte) string {
	switch {
	case bytes.HasPrefix(b, []byte("\xff\xd8\xff")):
		return "jpeg"
	case bytes.HasPrefix(b, []byte("\x89PNG\r\n\x1a\n")):
		return "png"
	case bytes.HasPrefix(b, []byte("GIF8")):
		return "GIF"
	case bytes.HasPrefix(b, []byte("BM")):
		return "BMP"
	case bytes.HasPrefix(b, []byte("II*\x00")), bytes.HasPrefix(b, []byte("MM\x00*")):
		return "TIFF"
	case len(b) >= 12 && string(b[:4]) == "RIFF" && string(b[8:12]) == "WEBP":
		return "WebP"
	case len(b) >= 12 && string(b[4:8]) == "ftyp":
		return "HEIF"
	}
	return ""
}

// exifOrientation finds the orientation in a JPEG's EXIF segment (CIPA
// DC-008, 4.6.4, tag 0x0112); 1 where there is none.
func exifOrientation(b []byte) int {
	for i := 2; i+4 <= len(b); {
		if b[i] != 0xff || b[i+1] == 0xff {
			i++
			continue
		}
		n := int(binary.BigEndian.Uint16(b[i+2:]))
		if b[i+1] == 0xda || n < 2 || i+2+n > len(b) {
			break
		}
		if seg := b[i+4 : i+2+n]; b[i+1] == 0xe1 && bytes.HasPrefix(seg, []byte("Exif\x00\x00")) {
			return tiffOrientation(seg[6:])
		}
		i += 2 + n
	}
	return 1
}

// pngOrientation looks for an eXIf chunk before the pixels.
func pngOrientation(r io.Reader) int {
	var head [8]byte
	if _, err := io.ReadFull(r, head[:]); err != nil { // the signature
		return 1
	}
	for {
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return 1
		}
		n := int64(binary.BigEndian.Uint32(head[:]))
		switch string(head[4:]) {
		case "IDAT", "IEND":
			return 1
		case "eXIf":
			b, err := io.ReadAll(io.LimitReader(r, min(n, 1<<20)))
			if err != nil {
				return 1
			}
			return tiffOrientation(b)
		}
		if _, err := io.CopyN(io.Discard, r, n+4); err != nil {
			return 1
		}
	}
}

// tiffOrientation looks the orientation up in the first directory of EXIF's
// TIFF structure; 1 if there is none.
func tiffOrientation(t []byte) int {
	if len(t) < 8 {
		return 1
	}
	var order binary.ByteOrder = binary.LittleEndian
	switch string(t[:4]) {
	case "II*\x00":
	case "MM\x00*":
		order = binary.BigEndian
	default:
		return 1
	}
	dir := int64(order.Uint32(t[4:]))
	if dir < 8 || dir+2 > int64(len(t)) {
		return 1
	}
	const short = 3
	for k := range int64(order.Uint16(t[dir:])) {
		e := dir + 2 + 12*k
		if e+12 > int64(len(t)) {
			break
		}
		if order.Uint16(t[e:]) == 0x0112 && order.Uint16(t[e+2:]) == short {
			if o := int(order.Uint16(t[e+8:])); o >= 1 && o <= 8 {
				return o
			}
			break
		}
	}
	return 1
}
