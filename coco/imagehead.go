package coco

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	_ "image/jpeg" // registers the formats that are read
	_ "image/png"
	"io"
	"os"
)

// maxPixels bounds the photos that are decoded: twice what Pillow warns of,
// where Pillow itself refuses (DecompressionBombError).
const maxPixels = 178_956_970

// imageHead is what a photo's header says.
type imageHead struct {
	format        string
	width, height int // upright: after EXIF's orientation
	orientation   int // EXIF's 1…8
}

// swapped reports whether the orientation exchanges width and height.
func (h imageHead) swapped() bool { return h.orientation >= 5 }

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
	// What is read on the way to the size holds the EXIF segment, which
	// stands before it.
	var seen bytes.Buffer
	c, _, err := image.DecodeConfig(io.TeeReader(io.LimitReader(r, 16<<20), &seen))
	if err != nil {
		return h, err
	}
	if c.Width <= 0 || c.Height <= 0 {
		return h, fmt.Errorf("its size is %d×%d", c.Width, c.Height)
	}
	h.width, h.height = c.Width, c.Height
	if h.format == "jpeg" {
		h.orientation, _ = exifOrientation(seen.Bytes())
	}
	if h.swapped() {
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
// DC-008, 4.6.4, tag 0x0112) and the offset of its two bytes. It is 1 where
// there is none.
func exifOrientation(b []byte) (orientation, offset int) {
	for i := 2; i+4 <= len(b) && b[i] == 0xff; {
		marker, n := b[i+1], int(binary.BigEndian.Uint16(b[i+2:]))
		if marker == 0xff { // fill byte
			i++
			continue
		}
		if marker == 0xda || n < 2 {
			break
		}
		seg := b[i+4 : min(i+2+n, len(b))]
		if marker == 0xe1 && bytes.HasPrefix(seg, []byte("Exif\x00\x00")) {
			if o, at := tiffOrientation(seg[6:]); o != 0 {
				return o, i + 4 + 6 + at
			}
			break
		}
		i += 2 + n
	}
	return 1, 0
}

// tiffOrientation looks the orientation up in the first directory of EXIF's
// TIFF structure; 0 if there is none.
func tiffOrientation(t []byte) (orientation, offset int) {
	if len(t) < 8 {
		return 0, 0
	}
	var order binary.ByteOrder = binary.LittleEndian
	if t[0] == 'M' {
		order = binary.BigEndian
	}
	dir := int64(order.Uint32(t[4:]))
	if dir+2 > int64(len(t)) {
		return 0, 0
	}
	n := int(order.Uint16(t[dir:]))
	for k := range n {
		e := dir + 2 + 12*int64(k)
		if e+12 > int64(len(t)) {
			break
		}
		if order.Uint16(t[e:]) == 0x0112 {
			if o := int(order.Uint16(t[e+8:])); o >= 1 && o <= 8 {
				return o, int(e) + 8
			}
			break
		}
	}
	return 0, 0
}
