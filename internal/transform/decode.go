package transform

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	"image/png"
	"io"

	"github.com/disintegration/imaging"

	"resdet/internal/jpeg"
)

// What is wrong with a picture; errors of [Decode] wrap one of them, or what
// the reader returned.
var (
	ErrFormat   = errors.New("not a JPEG or PNG picture")
	ErrTooLarge = errors.New("picture is too large")
	ErrDamaged  = errors.New("picture is damaged")
)

// Limits bound what a picture from outside may cost. They are held against the
// header before anything of the picture's size is allocated.
type Limits struct {
	Bytes  int64 // size of the file
	Pixels int64 // width · height
	Memory int64 // bytes that decoding takes, the file apart; progressive JPEGs take 2 a sample more than others
}

// maxPhotoSide is JPEG's bound, for PNG too: [Scratch] grows with the width.
const maxPhotoSide = 65535

// DefaultLimits allows what cameras make: 64 MiB, 100 megapixels, and 768 MiB
// of memory (a progressive 4:4:4 JPEG of 89 megapixels, a 4:2:0 photo of 84 that
// must be turned).
func DefaultLimits() Limits { return Limits{Bytes: 64 << 20, Pixels: 100e6, Memory: 768 << 20} }

// Decode reads a JPEG or PNG picture and turns it upright as its EXIF
// orientation says. A JPEG that needs no turning comes as *image.YCbCr, so that
// [Config.Write] can interpolate its chroma itself.
//
// No other format is tried, whatever decoders the program has registered.
// Errors do not name the file: the caller knows it.
func Decode(r io.Reader, limits Limits) (image.Image, error) {
	head := make([]byte, 512)
	n, err := io.ReadFull(r, head)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return nil, fmt.Errorf("transform: %w", err)
	}
	head = head[:n]
	kind, err := known(head)
	if err != nil {
		return nil, err
	}
	rest, err := io.ReadAll(io.LimitReader(r, max(0, limits.Bytes-int64(n))+1))
	if err != nil {
		return nil, fmt.Errorf("transform: %w", err)
	}
	data := append(head, rest...)
	return decode(data, kind, limits)
}

// DecodeBytes is [Decode] of a file that is in memory: it makes no copy.
func DecodeBytes(data []byte, limits Limits) (image.Image, error) {
	kind, err := known(data)
	if err != nil {
		return nil, err
	}
	return decode(data, kind, limits)
}

// known tells the kind of a file that [Decode] takes.
func known(data []byte) (string, error) {
	kind := sniff(data[:min(512, len(data))])
	if kind != "jpeg" && kind != "png" {
		return "", fmt.Errorf("transform: %w: %s", ErrFormat, kind)
	}
	return kind, nil
}

func decode(data []byte, kind string, limits Limits) (image.Image, error) {
	h, err := inspect(data, kind, limits)
	if err != nil {
		return nil, err
	}
	var img image.Image
	if kind == "png" {
		img, err = png.Decode(bytes.NewReader(data))
		if err != nil && !h.ended {
			err = io.ErrUnexpectedEOF // whatever the decoder stumbled over first
		}
	} else {
		img, err = jpeg.Decode(data)
	}
	if err != nil {
		return nil, damaged(kind, err)
	}
	return upright(img, h.orientation), nil
}

// Info is what is known of a picture before it is decoded.
type Info struct {
	Width, Height int   // pixels as stored, before any turning
	Memory        int64 // bytes that decoding takes, the file apart
}

// Inspect reads a file's header and holds it against the limits, as [Decode]
// does before it allocates.
func Inspect(data []byte, limits Limits) (Info, error) {
	kind, err := known(data)
	if err != nil {
		return Info{}, err
	}
	h, err := inspect(data, kind, limits)
	return Info{Width: h.width, Height: h.height, Memory: h.memory}, err
}

// inspect reads the header of a file of that kind and holds it against the
// limits.
func inspect(data []byte, kind string, limits Limits) (h header, err error) {
	if int64(len(data)) > limits.Bytes {
		return h, fmt.Errorf("transform: %w: the file has more than %d bytes", ErrTooLarge, limits.Bytes)
	}
	if kind == "png" {
		h, err = pngHeader(data)
	} else {
		h, err = jpegHeader(data)
	}
	if err != nil {
		return h, damaged(kind, err)
	}
	pixels := int64(h.width) * int64(h.height)
	if h.orientation != 1 {
		h.memory += 8 * pixels // a copy in RGB and a turned one
	}
	switch {
	case max(h.width, h.height) > maxPhotoSide:
		return h, fmt.Errorf("transform: %w: %dx%d has a side of more than %d pixels", ErrTooLarge, h.width, h.height, maxPhotoSide)
	case pixels > limits.Pixels:
		return h, fmt.Errorf("transform: %w: %dx%d is more than %d megapixels", ErrTooLarge, h.width, h.height, limits.Pixels/1e6)
	case h.memory > limits.Memory:
		return h, fmt.Errorf("transform: %w: decoding %dx%d takes %d MiB, more than %d", ErrTooLarge, h.width, h.height, h.memory>>20, limits.Memory>>20)
	case int64(len(data)) < h.least:
		return h, fmt.Errorf("transform: %w: %dx%d pixels cannot be in %d bytes; it is cut off", ErrDamaged, h.width, h.height, len(data))
	}
	return h, nil
}

func damaged(kind string, err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return fmt.Errorf("transform: %w: the %s file is cut off", ErrDamaged, kind)
	}
	return fmt.Errorf("transform: %w: %w", ErrDamaged, err)
}

// sniff tells a file's kind by its first bytes: "jpeg", "png", or what to tell
// the user that it is.
func sniff(head []byte) string {
	for _, k := range []struct{ magic, kind string }{
		{"\xff\xd8\xff", "jpeg"},
		{"\x89PNG\r\n\x1a\n", "png"},
		{"GIF8", "it is a GIF; convert it to PNG"},
		{"BM", "it is a BMP; convert it to PNG"},
		{"II*\x00", "it is a TIFF; convert it to PNG"},
		{"MM\x00*", "it is a TIFF; convert it to PNG"},
		{"%PDF", "it is a PDF"},
	} {
		if bytes.HasPrefix(head, []byte(k.magic)) {
			return k.kind
		}
	}
	switch {
	case len(head) == 0:
		return "the file is empty"
	case len(head) >= 12 && string(head[:4]) == "RIFF" && string(head[8:12]) == "WEBP":
		return "it is a WebP; convert it to PNG"
	case len(head) >= 12 && string(head[4:8]) == "ftyp":
		return "it is a " + printable(head[8:12]) + " file (HEIC, AVIF or a video)"
	}
	for _, b := range head {
		if b < ' ' && b != '\n' && b != '\r' && b != '\t' {
			return fmt.Sprintf("it begins with the bytes % x", head[:min(4, len(head))])
		}
	}
	return "it is text"
}

func printable(b []byte) string {
	return string(bytes.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, b))
}

// header is what must be known of a picture before decoding it.
type header struct {
	width, height int
	memory        int64 // bytes that the decoder allocates
	least         int64 // bytes that so many pixels take at the very least
	orientation   int   // EXIF's, 1…8
	ended         bool  // a PNG's end is there
}

func pngHeader(data []byte) (header, error) {
	c, err := png.DecodeConfig(bytes.NewReader(data))
	if err != nil {
		return header{}, err
	}
	h := header{width: c.Width, height: c.Height, orientation: 1}
	pixels := int64(c.Width) * int64(c.Height)
	// DecodeConfig has read IHDR: it is there and makes sense.
	depth, colour, interlaced := int64(data[24]), data[25], data[28] != 0
	const grey, rgb, palette, greyAlpha = 0, 2, 3, 4
	channels := map[byte]int64{grey: 1, rgb: 3, palette: 1, greyAlpha: 2}[colour]
	if channels == 0 {
		channels = 4
	}
	h.least = pixels * channels * depth / 8 / 1032 // deflate shrinks at most 1,032 times
	transparent := false
	for rest := data[8:]; len(rest) >= 12; {
		n := int64(rest[0])<<24 | int64(rest[1])<<16 | int64(rest[2])<<8 | int64(rest[3])
		if n > int64(len(rest)-12) {
			break
		}
		switch string(rest[4:8]) {
		case "eXIf":
			h.orientation = orientation(rest[8 : 8+n])
		case "tRNS":
			transparent = true
		case "IEND":
			h.ended = true
		}
		rest = rest[12+n:]
	}
	switch { // what Go makes of it
	case colour == palette || colour == grey && !transparent:
		h.memory = pixels * max(1, depth/8)
	case depth == 16:
		h.memory = pixels * 8
	default:
		h.memory = pixels * 4
	}
	if interlaced {
		h.memory *= 2 // each pass is decoded apart
	}
	return h, nil
}

func jpegHeader(data []byte) (header, error) {
	c, err := jpeg.ReadHeader(data)
	if err != nil {
		return header{}, err
	}
	return header{
		width: c.Width, height: c.Height, memory: c.Memory, orientation: orientation(c.EXIF),
		// Each block of 64 samples has a code of at least one bit for its first
		// coefficient; only luma is sure to have one for every 64 pixels.
		least: int64(c.Width) * int64(c.Height) / 64 / 8,
	}, nil
}

// orientation finds tag 0x0112 in the first directory of a TIFF structure; 1,
// upright, where there is none or it is damaged.
func orientation(tiff []byte) int {
	if len(tiff) < 8 {
		return 1
	}
	var at func(b []byte, n int) int
	switch string(tiff[:4]) {
	case "II*\x00":
		at = func(b []byte, n int) (v int) {
			for i := n - 1; i >= 0; i-- {
				v = v<<8 | int(b[i])
			}
			return v
		}
	case "MM\x00*":
		at = func(b []byte, n int) (v int) {
			for i := range n {
				v = v<<8 | int(b[i])
			}
			return v
		}
	default:
		return 1
	}
	dir := at(tiff[4:], 4)
	if dir < 8 || dir > len(tiff)-2 {
		return 1
	}
	entries := tiff[dir+2:]
	for range at(tiff[dir:], 2) {
		if len(entries) < 12 {
			return 1
		}
		const short = 3
		if at(entries, 2) == 0x0112 && at(entries[2:], 2) == short {
			if o := at(entries[8:], 2); o >= 1 && o <= 8 {
				return o
			}
			return 1
		}
		entries = entries[12:]
	}
	return 1
}

// upright undoes the turning and mirroring that EXIF's orientation names.
func upright(img image.Image, orientation int) image.Image {
	if orientation == 1 {
		return img
	}
	m := opaque(img) // first, so that chroma is interpolated along the stored axes
	switch orientation {
	case 2:
		return imaging.FlipH(m)
	case 3:
		return imaging.Rotate180(m)
	case 4:
		return imaging.FlipV(m)
	case 5:
		return imaging.Transpose(m)
	case 6:
		return imaging.Rotate270(m)
	case 7:
		return imaging.Transverse(m)
	case 8:
		return imaging.Rotate90(m)
	}
	return img
}
