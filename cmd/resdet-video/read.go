//go:build opencv && cgo

package main

import (
	"errors"
	"fmt"
	"math"
	"os"
	"time"

	"gocv.io/x/gocv"

	"resdet/internal/video/wire"
)

// Properties of cv::VideoCapture that gocv v0.31 has no name for.
const (
	propOrientation = gocv.VideoCaptureProperties(48) // degrees anticlockwise, from the file
	propAutoRotate  = gocv.VideoCaptureProperties(49)
)

// seekMargin is how far before the wanted time decoding begins: seeking ends
// up to a few frames off where the rate varies.
const seekMargin = 3 * time.Second

// picture is a decoded frame, its pixels in native memory.
type picture struct {
	mat   gocv.Mat
	index int
	time  time.Duration
}

// read decodes a video and sends its frames: one thread decodes into one
// matrix while another sends the other.
func read(o wire.Open, out *wire.Writer) error {
	os.Setenv("OPENCV_FFMPEG_CAPTURE_OPTIONS", o.Options)
	capture, err := open(o)
	if err != nil {
		return err
	}
	defer func() { capture.Close() }()
	capture.Set(propAutoRotate, 0) // see upright

	info := wire.Info{
		Width: size(capture.Get(gocv.VideoCaptureFrameWidth)), Height: size(capture.Get(gocv.VideoCaptureFrameHeight)),
		FPS: finite(capture.Get(gocv.VideoCaptureFPS)), Frames: finite(capture.Get(gocv.VideoCaptureFrameCount)),
		Codec: fourCC(capture.Get(gocv.VideoCaptureFOURCC)), Turned: size(capture.Get(propOrientation)),
	}
	if info.Width*info.Height > wire.MaxPixels || info.Width > wire.MaxSide || info.Height > wire.MaxSide {
		return fmt.Errorf("the video has %dx%d pixels, more than %d a side or %d megapixels", info.Width, info.Height, wire.MaxSide, wire.MaxPixels>>20)
	}
	first := 0
	if o.Start > 2*seekMargin && info.FPS > 0 {
		capture.Set(gocv.VideoCapturePosMsec, float64((o.Start - seekMargin).Milliseconds()))
		first = max(0, int(finite(capture.Get(gocv.VideoCapturePosFrames))))
	}

	raw := gocv.NewMat()
	defer raw.Close()
	if !capture.Read(&raw) || raw.Empty() {
		return fmt.Errorf("no frame of it could be decoded (codec %q, %dx%d pixels)", info.Codec, info.Width, info.Height)
	}
	if info.Turned %= 360; info.Turned < 0 {
		info.Turned += 360
	}
	info.Width, info.Height = raw.Cols(), raw.Rows()
	if info.Turned == 90 || info.Turned == 270 {
		info.Width, info.Height = info.Height, info.Width
	}
	turned := gocv.NewMat()
	defer func() { turned.Close() }()
	if err := out.Text(wire.KindInfo, info); err != nil {
		return err
	}

	free := make(chan gocv.Mat, 2)
	for range cap(free) {
		free <- gocv.NewMat()
	}
	ready := make(chan picture)
	sent := make(chan error, 1)
	go func() {
		var err error
		for p := range ready {
			if err == nil {
				err = send(out, p)
			}
			free <- p.mat
		}
		sent <- err
	}()

	frames := 0
	for ok := true; ok && !raw.Empty(); ok = capture.Read(&raw) {
		p := picture{mat: <-free, index: first + frames, time: stamp(capture)}
		if err = toRGBA(upright(raw, &turned, info.Turned), &p.mat); err != nil {
			free <- p.mat
			break
		}
		ready <- p
		frames++
	}
	close(ready)
	if sendErr := <-sent; err == nil {
		err = sendErr
	}
	for range cap(free) {
		m := <-free
		m.Close()
	}
	if err != nil {
		return err
	}
	return out.Text(wire.KindEnd, wire.End{Frames: frames, Mats: openMats(2)})
}

// open opens what o names; gocv returns a capture also where that failed.
func open(o wire.Open) (*gocv.VideoCapture, error) {
	var capture *gocv.VideoCapture
	var err error
	if o.Name == "" {
		capture, err = gocv.VideoCaptureDeviceWithAPI(o.Camera, gocv.VideoCaptureV4L2)
	} else {
		capture, err = gocv.VideoCaptureFileWithAPI(o.Name, gocv.VideoCaptureFFmpeg)
	}
	if err != nil || !capture.IsOpened() {
		if capture != nil {
			capture.Close()
		}
		if o.Name == "" {
			return nil, errors.New("it cannot be opened: it is not there, or busy")
		}
		return nil, errors.New("it cannot be opened as a video")
	}
	return capture, nil
}

// upright turns a frame as the file says. OpenCV 4.6 would do it the wrong way
// round: the angle is libavutil's, counted anticlockwise, and it turns clockwise.
func upright(raw gocv.Mat, turned *gocv.Mat, angle int) gocv.Mat {
	switch angle {
	case 90:
		gocv.Rotate(raw, turned, gocv.Rotate90CounterClockwise)
	case 180:
		gocv.Rotate(raw, turned, gocv.Rotate180Clockwise)
	case 270:
		gocv.Rotate(raw, turned, gocv.Rotate90Clockwise)
	default:
		return raw
	}
	return *turned
}

func send(out *wire.Writer, p picture) error {
	pixels, err := p.mat.DataPtrUint8()
	if err != nil {
		return err
	}
	return out.Frame(wire.Header{Width: p.mat.Cols(), Height: p.mat.Rows(), Index: p.index, Time: p.time}, pixels)
}

// toRGBA converts what a capture gives; anything but bytes would make OpenCV
// throw.
func toRGBA(raw gocv.Mat, dst *gocv.Mat) error {
	if raw.Cols() < 1 || raw.Rows() < 1 || raw.Cols() > wire.MaxSide || raw.Rows() > wire.MaxSide || raw.Cols()*raw.Rows() > wire.MaxPixels {
		return fmt.Errorf("a frame has %dx%d pixels", raw.Cols(), raw.Rows())
	}
	switch raw.Type() {
	case gocv.MatTypeCV8UC3:
		gocv.CvtColor(raw, dst, gocv.ColorBGRToRGBA)
	case gocv.MatTypeCV8UC4:
		gocv.CvtColor(raw, dst, gocv.ColorBGRAToRGBA)
	case gocv.MatTypeCV8UC1:
		gocv.CvtColor(raw, dst, gocv.ColorGrayToBGRA)
	default:
		return fmt.Errorf("frames are of OpenCV's type %d instead of 8-bit colour", int(raw.Type()))
	}
	return nil
}

// stamp is the time of the frame read last; 0 where the stream has none.
func stamp(c *gocv.VideoCapture) time.Duration {
	ms := finite(c.Get(gocv.VideoCapturePosMsec))
	return time.Duration(max(0, ms) * float64(time.Millisecond))
}

// finite bounds a property, for streams report nonsense: NaN, infinities,
// negative counts.
func finite(v float64) float64 {
	if math.IsNaN(v) {
		return 0
	}
	return min(max(v, -1e12), 1e12)
}

func size(v float64) int { return int(finite(v)) }

// fourCC is the codec's four characters, those that can be printed.
func fourCC(v float64) string {
	code := uint32(int64(finite(v)))
	var text []byte
	for i := range 4 {
		if c := byte(code >> (8 * i)); c > ' ' && c < 0x7f {
			text = append(text, c)
		}
	}
	return string(text)
}
