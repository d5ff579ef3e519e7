package transform

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	"image/jpeg"
	"image/png"
	"io"
	"strings"

	"github.com/disintegration/imaging"
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
	Memory int64 // bytes that decoding takes, the file apart; progressive JPEGs take 4 a sample more than others
}

// maxPhotoSide is JPEG's bound, for PNG too: [Scratch] grows with the width.
const maxPhotoSide = 65535

// DefaultLimits allows what cameras make: 64 MiB, 100 megapixels, and 768 MiB
// of memory (a progressive 4:2:0 JPEG of 100 megapixels, an upright 4:2:0 photo
// of 84 that must be turned).
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
	kind := sniff(head)
	if kind != "jpeg" && kind != "png" {
		return nil, fmt.Errorf("transform: %w: %s", ErrFormat, kind)
	}
	rest, err := io.ReadAll(io.LimitReader(r, max(0, limits.Bytes-int64(n))+1))
	if err != nil {
		return nil, fmt.Errorf("transform: %w", err)
	}
	data := append(head, rest...)
	if int64(len(data)) > limits.Bytes {
		return nil, fmt.Errorf("transform: %w: the file has more than %d bytes", ErrTooLarge, limits.Bytes)
	}

	var h header
	if kind == "png" {
		h, err = pngHeader(data)
	} else {
		h, err = jpegHeader(data)
	}
	if err != nil {
		return nil, damaged(kind, err)
	}
	pixels := int64(h.width) * int64(h.height)
	if h.orientation != 1 {
		h.memory += 8 * pixels // a copy in RGB and a turned one
	}
	switch {
	case max(h.width, h.height) > maxPhotoSide:
		return nil, fmt.Errorf("transform: %w: %dx%d has a side of more than %d pixels", ErrTooLarge, h.width, h.height, maxPhotoSide)
	case pixels > limits.Pixels:
		return nil, fmt.Errorf("transform: %w: %dx%d is more than %d megapixels", ErrTooLarge, h.width, h.height, limits.Pixels/1e6)
	case h.memory > limits.Memory:
		return nil, fmt.Errorf("transform: %w: decoding %dx%d takes %d MiB, more than %d", ErrTooLarge, h.width, h.height, h.memory>>20, limits.Memory>>20)
	case h.scans > maxScans:
		return nil, fmt.Errorf("transform: %w: a progressive JPEG of more than %d scans", ErrDamaged, maxScans)
	case int64(len(data)) < h.least:
		return nil, fmt.Errorf("transform: %w: %dx%d pixels cannot be in %d bytes; it is cut off", ErrDamaged, h.width, h.height, len(data))
	}

	var img image.Image
	switch {
	case kind == "png":
		img, err = png.Decode(bytes.NewReader(data))
	case h.progressive:
		img, err = jpeg.Decode(bytes.NewReader(data))
	default:
		// A picture that is whole but for its end marker is taken, as libjpeg
		// does. Not so a progressive one, which may lack its finer scans.
		img, err = jpeg.Decode(io.MultiReader(bytes.NewReader(data), strings.NewReader(endOfImage)))
	}
	if err != nil {
		if !h.ended {
			err = io.ErrUnexpectedEOF // whatever the decoder stumbled over first
		}
		return nil, damaged(kind, err)
	}
	return upright(img, h.orientation), nil
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
	memory        int64 // bytes that Go's decoder allocates
	least         int64 // bytes that so many pixels take at the very least
	orientation   int   // EXIF's, 1…8
	progressive   bool
	scans         int  // of a progressive file
	ended         bool // the file's end is there
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

const (
	startOfScan = "\xff\xda"
	endOfImage  = "\xff\xd9"
	// maxScans bounds the time that a progressive file may take: a scan of 200
	// bytes costs a pass over all coefficients. Encoders make about ten.
	maxScans = 200
)

func jpegHeader(data []byte) (header, error) {
	c, err := jpeg.DecodeConfig(bytes.NewReader(data))
	if err != nil {
		return header{}, err
	}
	h := header{width: c.Width, height: c.Height, orientation: 1, ended: bytes.HasSuffix(data, []byte(endOfImage))}
	pixels := int64(c.Width) * int64(c.Height)
	// Each block of 64 samples has a code of at least one bit for its first
	// coefficient; only luma is sure to have one for every 64 pixels.
	h.least = pixels / 64 / 8
	for at := 2; at+4 <= len(data); {
		if data[at] != 0xff {
			at++ // Go's decoder skips what stands between segments
			continue
		}
		marker := data[at+1]
		if marker == 0xff || marker == 0 || marker == 0x01 || marker >= 0xd0 && marker <= 0xd8 { // filling; without a length
			at++
			continue
		}
		n := int(data[at+2])<<8 | int(data[at+3])
		if marker == 0xda || marker == 0xd9 || n < 2 || at+2+n > len(data) { // the picture itself, the end, or nonsense
			break
		}
		body := data[at+4 : at+2+n]
		switch {
		case marker >= 0xc0 && marker <= 0xc2:
			h.progressive = marker == 0xc2
			if h.progressive {
				h.scans = bytes.Count(data, []byte(startOfScan)) // in coded data only 0 or a restart follows 0xff
			}
			h.memory = jpegMemory(body, c.Width, c.Height, h.progressive)
		case marker == 0xe1 && bytes.HasPrefix(body, []byte("Exif\x00\x00")):
			h.orientation = orientation(body[6:])
		}
		at += 2 + n
	}
	if h.memory == 0 {
		h.memory = pixels * 16 // where our walk found less than Go's: assume the worst
	}
	return h, nil
}

// jpegMemory returns what Go's decoder allocates for a frame: a byte a sample,
// four more for a progressive file's coefficients, and eight a pixel where there
// are four components.
func jpegMemory(frame []byte, width, height int, progressive bool) int64 {
	if len(frame) < 6 || len(frame) < 6+3*int(frame[5]) {
		return 0
	}
	n := int(frame[5])
	maxH, maxV, samples := 1, 1, 0
	for i := range n {
		hv := frame[6+3*i+1]
		h, v := int(hv>>4), int(hv&15)
		maxH, maxV, samples = max(maxH, h), max(maxV, v), samples+h*v
	}
	units := int64((width+8*maxH-1)/(8*maxH)) * int64((height+8*maxV-1)/(8*maxV))
	memory := units * int64(samples) * 64
	if progressive {
		memory *= 5
	}
	if n == 4 {
		memory += 8 * int64(width) * int64(height)
	}
	return memory
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
