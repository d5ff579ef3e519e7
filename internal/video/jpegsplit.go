package video

import (
	"bufio"
	"errors"
	"fmt"
	"io"
)

// maxJPEG bounds one picture of an MJPEG stream, and what may stand between
// two: 32 MiB is a 100-megapixel picture of good quality.
const maxJPEG = 32 << 20

// errBrokenJPEG is a picture in a stream that ends or begins anew in its middle.
var errBrokenJPEG = errors.New("the picture is cut off")

// jpegSplitter cuts a stream into its JPEG pictures, with anything between them:
// the headers of multipart/x-mixed-replace, or nothing. It follows the markers,
// so that thumbnails within a picture's metadata stay there.
type jpegSplitter struct {
	r   *bufio.Reader
	buf []byte // the picture
	max int
	soi bool // the start of a picture was read already
}

func newJPEGSplitter(r io.Reader) *jpegSplitter {
	return &jpegSplitter{r: bufio.NewReaderSize(r, 256<<10), max: maxJPEG}
}

// JPEG markers (ITU T.81, table B.1).
const (
	markerSOI  = 0xd8
	markerEOI  = 0xd9
	markerSOS  = 0xda
	markerRST0 = 0xd0
	markerRST7 = 0xd7
	markerTEM  = 0x01
)

// next returns the next picture, good until the next call. The error is io.EOF
// after the last one, errBrokenJPEG for a picture that is not whole (the next
// one may be), and else the reader's or that there is no picture.
func (s *jpegSplitter) next() ([]byte, error) {
	s.buf = s.buf[:0]
	if !s.soi {
		if err := s.seek(); err != nil {
			return nil, err
		}
	}
	s.soi = false
	s.buf = append(s.buf, 0xff, markerSOI)
	marker, err := s.marker()
	for {
		switch {
		case err == io.EOF:
			return nil, errBrokenJPEG
		case err != nil:
			return nil, err
		}
		switch {
		case marker == markerSOI: // another picture: this one has no end
			s.soi = true
			return nil, errBrokenJPEG
		case marker == markerEOI:
			return s.buf, nil
		case marker == markerTEM || marker >= markerRST0 && marker <= markerRST7:
			marker, err = s.marker()
		default:
			if err = s.segment(); err != nil {
				continue
			}
			if marker == markerSOS {
				marker, err = s.scan()
			} else {
				marker, err = s.marker()
			}
		}
	}
}

// seek reads up to the start of a picture: FF D8 FF.
func (s *jpegSplitter) seek() error {
	for skipped, seen := 0, 0; ; skipped++ {
		if skipped > s.max {
			return fmt.Errorf("there is no JPEG picture in %d MiB of the stream", s.max>>20)
		}
		c, err := s.r.ReadByte()
		if err != nil {
			return err
		}
		switch {
		case seen == 1 && c == markerSOI:
			next, err := s.r.Peek(1)
			if err != nil {
				return err
			}
			if next[0] == 0xff {
				return nil
			}
			seen = 0
		case c == 0xff:
			seen = 1
		default:
			seen = 0
		}
	}
}

// marker reads FF… and the marker after it.
func (s *jpegSplitter) marker() (byte, error) {
	c, err := s.byte()
	if err != nil {
		return 0, err
	}
	if c != 0xff {
		return 0, errBrokenJPEG
	}
	for c == 0xff { // any number of fill bytes
		if c, err = s.byte(); err != nil {
			return 0, err
		}
	}
	return c, nil
}

// segment reads a marker's parameters by their length.
func (s *jpegSplitter) segment() error {
	hi, err := s.byte()
	if err != nil {
		return err
	}
	lo, err := s.byte()
	if err != nil {
		return err
	}
	n := int(hi)<<8 | int(lo) - 2
	if n < 0 {
		return errBrokenJPEG
	}
	if len(s.buf)+n > s.max {
		return s.tooLarge()
	}
	at := len(s.buf)
	s.buf = append(s.buf, make([]byte, n)...)
	_, err = io.ReadFull(s.r, s.buf[at:])
	if err == io.ErrUnexpectedEOF {
		err = io.EOF
	}
	return err
}

// scan reads coded data up to the next marker: within it FF is followed by 00
// or a restart marker.
func (s *jpegSplitter) scan() (byte, error) {
	for {
		piece, err := s.r.ReadSlice(0xff)
		if len(s.buf)+len(piece) > s.max {
			return 0, s.tooLarge()
		}
		s.buf = append(s.buf, piece...)
		if err == bufio.ErrBufferFull {
			continue
		}
		if err != nil {
			return 0, err
		}
		c := byte(0xff)
		for c == 0xff {
			if c, err = s.byte(); err != nil {
				return 0, err
			}
		}
		if c != 0 && (c < markerRST0 || c > markerRST7) {
			return c, nil
		}
	}
}

func (s *jpegSplitter) byte() (byte, error) {
	c, err := s.r.ReadByte()
	if err != nil {
		return 0, err
	}
	if len(s.buf) >= s.max {
		return 0, s.tooLarge()
	}
	s.buf = append(s.buf, c)
	return c, nil
}

func (s *jpegSplitter) tooLarge() error {
	return fmt.Errorf("a JPEG picture in the stream has more than %d MiB", s.max>>20)
}
