package video

import (
	"bufio"
	"bytes"
	"fmt"
	"image"
	"io"
	"strconv"
	"strings"
)

// y4mMagic begins a YUV4MPEG2 stream.
const y4mMagic = "YUV4MPEG2 "

// maxHeaderLine bounds the lines of text in a Y4M stream.
const maxHeaderLine = 4096

// y4mReader reads YUV4MPEG2, uncompressed video as mjpegtools and ffmpeg write
// it: 8 bits, 4:2:0, 4:2:2, 4:4:4 or grey.
type y4mReader struct {
	r             *bufio.Reader
	width, height int
	fps           float64 // 0: not said
	ratio         image.YCbCrSubsampleRatio
	grey          bool
	luma, chroma  *[256]byte // to JFIF's full range; nil where the stream has it
}

// newY4MReader reads the stream's header. limit bounds the pixels of a frame.
func newY4MReader(r *bufio.Reader, limit int) (*y4mReader, error) {
	line, err := headerLine(r)
	if err != nil {
		return nil, fmt.Errorf("Y4M header: %w", err)
	}
	rest, ok := strings.CutPrefix(line, strings.TrimSpace(y4mMagic))
	if !ok {
		return nil, fmt.Errorf("it is not a Y4M stream: it begins with %.16q", line)
	}
	y := &y4mReader{r: r, ratio: image.YCbCrSubsampleRatio420}
	full := false
	for field := range strings.FieldsSeq(rest) {
		value := field[1:]
		switch field[0] {
		case 'W':
			y.width, err = strconv.Atoi(value)
		case 'H':
			y.height, err = strconv.Atoi(value)
		case 'F':
			y.fps, err = ratio(value)
		case 'C':
			err = y.colours(value)
		case 'X':
			full = full || strings.EqualFold(value, "COLORRANGE=FULL")
		}
		if err != nil {
			return nil, fmt.Errorf("Y4M header: field %q: %w", field, err)
		}
	}
	// The product cannot overflow: each side is checked first.
	if y.width < 1 || y.height < 1 || y.width > limit || y.height > limit || y.width*y.height > limit {
		return nil, fmt.Errorf("Y4M header: a frame of %dx%d pixels (1 to %d can be read)", y.width, y.height, limit)
	}
	if !full {
		y.luma, y.chroma = &expandLuma, &expandChroma
	}
	return y, nil
}

// colours sets the layout by its name in the header.
func (y *y4mReader) colours(name string) error {
	switch name {
	case "420", "420jpeg", "420mpeg2", "420paldv":
		y.ratio = image.YCbCrSubsampleRatio420
	case "422":
		y.ratio = image.YCbCrSubsampleRatio422
	case "444":
		y.ratio = image.YCbCrSubsampleRatio444
	case "mono":
		y.grey = true
	default:
		return fmt.Errorf("only 8-bit 420, 422, 444 and mono can be read")
	}
	return nil
}

func ratio(s string) (float64, error) {
	over, under, ok := strings.Cut(s, ":")
	n, err := strconv.Atoi(over)
	if err != nil {
		return 0, err
	}
	d := 1
	if ok {
		if d, err = strconv.Atoi(under); err != nil {
			return 0, err
		}
	}
	if n <= 0 || d <= 0 {
		return 0, nil // 0:0 means unknown
	}
	return float64(n) / float64(d), nil
}

// next reads a frame. The error is io.EOF after the last one and wraps
// [ErrCut] where the stream ends within one.
func (y *y4mReader) next() (image.Image, error) {
	line, err := headerLine(y.r)
	if err != nil {
		return nil, err
	}
	if line != "FRAME" && !strings.HasPrefix(line, "FRAME ") {
		return nil, fmt.Errorf("Y4M: %.16q instead of a frame", line)
	}
	if y.grey {
		m := image.NewGray(image.Rect(0, 0, y.width, y.height))
		return m, y.plane(m.Pix, y.luma)
	}
	m := image.NewYCbCr(image.Rect(0, 0, y.width, y.height), y.ratio)
	for i, p := range [][]byte{m.Y, m.Cb, m.Cr} {
		table := y.chroma
		if i == 0 {
			table = y.luma
		}
		if err := y.plane(p, table); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (y *y4mReader) plane(dst []byte, table *[256]byte) error {
	if _, err := io.ReadFull(y.r, dst); err != nil {
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			err = ErrCut
		}
		return fmt.Errorf("Y4M: in the middle of a frame: %w", err)
	}
	if table != nil {
		for i, v := range dst {
			dst[i] = table[v]
		}
	}
	return nil
}

// headerLine reads a line of text of bounded length.
func headerLine(r *bufio.Reader) (string, error) {
	line, err := r.ReadSlice('\n')
	if len(line) == 0 && err == io.EOF {
		return "", io.EOF
	}
	if err == io.EOF {
		return "", fmt.Errorf("in the middle of a line: %w", ErrCut)
	}
	if err != nil && err != bufio.ErrBufferFull {
		return "", err
	}
	if err != nil || len(line) > maxHeaderLine {
		return "", fmt.Errorf("a line of more than %d bytes", maxHeaderLine)
	}
	return string(bytes.TrimRight(line, "\r\n")), nil
}

// Studio range (BT.601: luma 16…235, chroma 16…240) to the full range that
// image.YCbCr has, rounded.
var expandLuma, expandChroma = func() (luma, chroma [256]byte) {
	for i := range 256 {
		luma[i] = clampByte((float64(i) - 16) * 255 / 219)
		chroma[i] = clampByte((float64(i)-128)*255/224 + 128)
	}
	return
}()

func clampByte(v float64) byte { return byte(min(max(v, 0), 255) + 0.5) }
