package video

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"resdet/internal/transform"
)

// damagedInARow is how many undecodable pictures one after another a stream
// may have before it is given up.
const damagedInARow = 50

// clock gives time stamps to sources that have none.
type clock struct {
	live  bool
	fps   float64
	begin time.Time
}

// at is the time of frame index that came at the time arrived.
func (c *clock) at(index int, arrived time.Time) time.Duration {
	if !c.live {
		return time.Duration(float64(index) / c.fps * float64(time.Second))
	}
	if c.begin.IsZero() {
		c.begin = arrived
	}
	return arrived.Sub(c.begin)
}

// newMJPEG is a source of the JPEG pictures of a stream, one after another or
// as multipart/x-mixed-replace. close ends reads of r.
func newMJPEG(ctx context.Context, r io.Reader, close func() error, info Info, o Options) (*pump, error) {
	split := newJPEGSplitter(r)
	info.Codec = "MJPG"
	info.FPS = o.rate()
	time0 := clock{live: info.Live, fps: info.FPS}
	index, bad := 0, 0
	read := func() (*Frame, error) {
		data, err := split.next()
		switch {
		case err == io.EOF && index == 0:
			return nil, fmt.Errorf("video: %s: %w", info.Name, ErrEmpty)
		case err == io.EOF:
			return nil, err
		case err != nil && err != errBrokenJPEG:
			return nil, fmt.Errorf("video: %s: %w", info.Name, err)
		}
		f := &Frame{Index: index, Arrived: time.Now()}
		f.Time = time0.at(index, f.Arrived)
		index++
		if err == nil {
			f.Image, err = transform.Decode(bytes.NewReader(data), o.Limits)
		}
		if err != nil {
			if bad++; bad >= damagedInARow {
				return nil, fmt.Errorf("video: %s: %d pictures in a row could not be decoded, the last: %w", info.Name, bad, err)
			}
			return nil, &DamagedError{f.Index, err}
		}
		bad = 0
		return f, nil
	}
	return newPeeked(ctx, info, o, read, close)
}

// newPeeked is a pump whose first whole frame was read already, so that its
// size is known. What was wrong with those before it comes from Next.
func newPeeked(ctx context.Context, info Info, o Options, read func() (*Frame, error), close func() error) (*pump, error) {
	var queue []pumped
	p := newPump(info, o.OpenTimeout, read, close)
	for {
		f, err := p.Next(ctx)
		if _, damaged := err.(*DamagedError); err != nil && !damaged {
			p.Close()
			if err == io.EOF && len(queue) > 0 {
				err = fmt.Errorf("video: %s: none of its %d frames can be decoded; %w", info.Name, len(queue), queue[0].err)
			}
			return nil, err
		}
		queue = append(queue, pumped{f, err})
		if err == nil {
			b := f.Image.Bounds()
			p.info.Width, p.info.Height = b.Dx(), b.Dy()
			break
		}
	}
	p.timeout = o.ReadTimeout
	p.peeked = queue
	return p, nil
}

// newY4M is a source of a YUV4MPEG2 stream.
func newY4M(r *bufio.Reader, close func() error, info Info, o Options) (*pump, error) {
	y, err := newY4MReader(r, int(o.Limits.Pixels))
	if err != nil {
		close()
		return nil, fmt.Errorf("video: %s: %w", info.Name, err)
	}
	info.Width, info.Height, info.Codec = y.width, y.height, "Y4M"
	rate, said := sensibleRate(y.fps)
	if !said {
		rate = o.rate()
	}
	info.FPS = rate
	time0 := clock{live: info.Live, fps: info.FPS}
	index := 0
	return newPump(info, o.ReadTimeout, func() (*Frame, error) {
		m, err := y.next()
		switch {
		case err == io.EOF && index == 0:
			return nil, fmt.Errorf("video: %s: %w", info.Name, ErrEmpty)
		case err == io.EOF:
			return nil, err
		case err != nil:
			return nil, fmt.Errorf("video: %s: after %d frames: %w", info.Name, index, err)
		}
		f := &Frame{Index: index, Arrived: time.Now(), Image: m}
		f.Time = time0.at(index, f.Arrived)
		index++
		return f, nil
	}, close), nil
}

// newFolder is a source of the numbered pictures of a folder.
func newFolder(ctx context.Context, dir string, o Options) (*pump, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("video: %w", err)
	}
	var names []string
	for _, e := range entries {
		switch strings.ToLower(filepath.Ext(e.Name())) {
		case ".jpg", ".jpeg", ".png":
			if !e.IsDir() {
				names = append(names, e.Name())
			}
		}
	}
	if len(names) == 0 {
		return nil, &HintError{fmt.Errorf("video: %s: %w", dir, ErrEmpty), "frames are files of the folder whose names end with .jpg, .jpeg or .png; they are taken by their numbers"}
	}
	slices.SortFunc(names, naturalLess)
	info := Info{Name: dir, FPS: o.rate(), Frames: len(names), Codec: "pictures"}
	time0 := clock{fps: info.FPS}
	index := 0
	return newPeeked(ctx, info, o, func() (*Frame, error) {
		if index == len(names) {
			return nil, io.EOF
		}
		f := &Frame{Index: index, Time: time0.at(index, time.Time{}), Arrived: time.Now()}
		index++
		img, err := decodeFile(filepath.Join(dir, names[f.Index]), o.Limits)
		if err != nil {
			return nil, &DamagedError{f.Index, err}
		}
		f.Image = img
		return f, nil
	}, func() error { return nil })
}

func decodeFile(name string, limits transform.Limits) (image.Image, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	img, err := transform.Decode(file, limits)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return img, nil
}

// What a stream is, by its first bytes.
const (
	streamY4M   = "y4m"
	streamMJPEG = "mjpeg"
	streamOther = ""
)

// sniff looks at the first bytes of a stream without taking them.
func sniff(r *bufio.Reader) (string, error) {
	head, err := r.Peek(len(y4mMagic))
	if len(head) == 0 {
		if err == nil || err == io.EOF {
			err = ErrEmpty
		}
		return streamOther, err
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return streamOther, err
	}
	switch text := string(head); {
	case text == y4mMagic:
		return streamY4M, nil
	case strings.HasPrefix(text, "\xff\xd8\xff"), strings.HasPrefix(text, "--"), strings.HasPrefix(text, "\r\n--"):
		return streamMJPEG, nil
	}
	return streamOther, nil
}
