//go:build opencv && cgo

package main

import (
	"fmt"
	"image/color"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"gocv.io/x/gocv"

	"resdet/internal/video/wire"
)

// codecs are those that were tried with Debian's OpenCV, by the file's ending,
// the best first. Others are not handed to OpenCV: it would silently write
// another codec than the one asked for.
var codecs = map[string][]string{
	".mp4": {"avc1", "mp4v"},
	".avi": {"MJPG"},
}

// checkEvery is after how many frames the free space is looked at.
const checkEvery = 8

// reserve is the free space at which a file is closed. Without the index, which
// is written at the close, an mp4 is lost: 64 bytes a frame are generous. Before
// it comes what the encoder still holds: x264 some 50 frames of at most 0.4
// bytes a pixel (noise).
func reserve(frames, width, height int) uint64 {
	return 1<<20 + 64*uint64(frames) + 20*uint64(width)*uint64(height)
}

// write encodes the frames that come in until End, or until the pipe ends, so
// that the file plays even when resdet was killed.
func write(o wire.Open, in *wire.Reader, out *wire.Writer) (err error) {
	if o.Width < 1 || o.Height < 1 || o.Width > wire.MaxSide-1 || o.Height > wire.MaxSide-1 || o.Width*o.Height > wire.MaxPixels {
		return fmt.Errorf("%dx%d pixels cannot be encoded", o.Width, o.Height)
	}
	if !(o.FPS > 0 && o.FPS <= 1000) {
		return fmt.Errorf("%v frames per second cannot be encoded", o.FPS)
	}
	// 4:2:0 needs even sides; OpenCV would cut the last column and row.
	width, height := o.Width+o.Width%2, o.Height+o.Height%2
	writer, err := create(o.Name, o.Codec, o.FPS, width, height)
	if err != nil {
		return err
	}
	defer func() {
		if writer != nil {
			writer.Close()
		}
	}()
	if err := out.Text(wire.KindInfo, wire.Info{Width: width, Height: height, FPS: o.FPS, Codec: o.Codec}); err != nil {
		return err
	}

	// Frames are read into native memory: gocv would keep pointers to Go's.
	rgba := gocv.NewMatWithSize(o.Height, o.Width, gocv.MatTypeCV8UC4)
	defer func() { rgba.Close() }()
	bgr, padded := gocv.NewMat(), gocv.NewMat()
	defer func() { bgr.Close(); padded.Close() }()
	pixels, err := rgba.DataPtrUint8()
	if err != nil {
		return err
	}

	frames := 0
	full := error(nil)
	asked := false
loop:
	for full == nil {
		h, err := in.Next()
		switch {
		case err == io.EOF: // resdet has died: save what is there
			break loop
		case err != nil:
			return err
		case h.Kind == wire.KindEnd:
			asked = true
			var end wire.End
			if err := in.Text(&end); err != nil {
				return err
			}
			break loop
		case h.Kind != wire.KindFrame || h.Width != o.Width || h.Height != o.Height:
			return fmt.Errorf("message %q of %dx%d pixels, the file has %dx%d", byte(h.Kind), h.Width, h.Height, o.Width, o.Height)
		}
		if err := in.Pixels(pixels); err != nil {
			return err
		}
		gocv.CvtColor(rgba, &bgr, gocv.ColorRGBAToBGR)
		picture := bgr
		if width != o.Width || height != o.Height {
			gocv.CopyMakeBorder(bgr, &padded, 0, height-o.Height, 0, width-o.Width, gocv.BorderReplicate, color.RGBA{})
			picture = padded
		}
		for range max(1, h.Repeat) {
			if err := writer.Write(picture); err != nil {
				return err
			}
			frames++
			if frames%checkEvery == 1 {
				if free, known := freeSpace(o.Name); known && free < reserve(frames, width, height) {
					full = fmt.Errorf("the disk is full: the file was closed after %d frames", frames)
					break
				}
			}
		}
	}
	writer.Close()
	writer = nil
	if err := verify(o.Name, frames); err != nil {
		return err
	}
	if full != nil {
		return full
	}
	if !asked {
		return nil
	}
	for _, m := range []*gocv.Mat{&rgba, &bgr, &padded} {
		m.Close()
		*m = gocv.NewMat() // for the deferred Close
	}
	return out.Text(wire.KindEnd, wire.End{Frames: frames, Mats: openMats(3)})
}

// create opens a file for writing, or says which codecs there are.
func create(name, codec string, fps float64, width, height int) (*gocv.VideoWriter, error) {
	ext := strings.ToLower(filepath.Ext(name))
	if slices.Contains(codecs[ext], codec) {
		w, err := gocv.VideoWriterFile(name, codec, fps, width, height, true)
		if err != nil {
			return nil, err
		}
		if w.IsOpened() {
			return w, nil
		}
		w.Close()
	}
	there := working(ext)
	if slices.Contains(there, codec) {
		return nil, fmt.Errorf("the file cannot be written with codec %s, %dx%d pixels, %v frames per second", codec, width, height, fps)
	}
	return nil, failure{wire.Failure{Message: fmt.Sprintf("codec %q for %s files is not there", codec, ext), Codecs: there}}
}

// working returns the codecs that this OpenCV can write into such a file.
func working(ext string) []string {
	dir, err := os.MkdirTemp("", "resdet-video")
	if err != nil {
		return nil
	}
	defer os.RemoveAll(dir)
	var there []string
	for _, codec := range codecs[ext] {
		w, err := gocv.VideoWriterFile(filepath.Join(dir, "probe"+ext), codec, 25, 64, 64, true)
		if err != nil {
			continue
		}
		if w.IsOpened() {
			there = append(there, codec)
		}
		w.Close()
	}
	return there
}

// verify reads the finished file's own count of frames: OpenCV does not say
// when a write failed.
func verify(name string, frames int) error {
	if frames == 0 {
		return nil
	}
	capture, err := open(wire.Open{Name: name})
	if err != nil {
		return fmt.Errorf("%d frames were written, but the file cannot be read back: the disk is full or failing", frames)
	}
	defer capture.Close()
	if there := size(capture.Get(gocv.VideoCaptureFrameCount)); there < frames {
		return fmt.Errorf("%d frames were written, but the file holds %d: the disk is full or failing", frames, there)
	}
	return nil
}
