//go:build opencv && cgo

// Command resdet-video owns OpenCV for resdet: it decodes and encodes video and
// shows windows, one job a process, and speaks package wire over its standard
// input and output. OpenCV takes 0.2 s and 90 MB to load and ends the process
// when it throws; here that costs one video and nothing else.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"resdet/internal/video/wire"
)

// The main thread owns the capture, the writer or the window: OpenCV's are
// bound to the thread that made them.
func init() { runtime.LockOSThread() }

func main() {
	// A Ctrl-C reaches the whole group of processes, but it is resdet that
	// decides what becomes of a half-written file. When resdet goes, the pipes end.
	signal.Ignore(syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	// No other backends: they read more formats than are wanted (numbered
	// pictures, pipelines given as names).
	os.Setenv("OPENCV_VIDEOIO_PRIORITY_LIST", "FFMPEG,V4L2")

	in, out := wire.NewReader(os.Stdin), wire.NewWriter(os.Stdout)
	switch err := serve(in, out).(type) {
	case nil:
	case failure:
		out.Text(wire.KindFailure, err.Failure)
		os.Exit(1)
	default:
		out.Text(wire.KindFailure, wire.Failure{Message: err.Error()})
		os.Exit(1)
	}
}

// failure is an error with more to say than its text.
type failure struct{ wire.Failure }

func (f failure) Error() string { return f.Message }

// serve does the one job that the first message asks for.
func serve(in *wire.Reader, out *wire.Writer) error {
	h, err := in.Next()
	if err == io.EOF {
		return errors.New("started without a job: resdet-video is started by resdet")
	}
	if err != nil {
		return err
	}
	if h.Kind != wire.KindOpen {
		return fmt.Errorf("the first message is %q instead of an order", byte(h.Kind))
	}
	var o wire.Open
	if err := in.Text(&o); err != nil {
		return err
	}
	switch o.Mode {
	case wire.Read:
		return read(o, out)
	case wire.Write:
		return write(o, in, out)
	case wire.Show:
		return show(o, in, out)
	}
	return fmt.Errorf("the order %q is unknown", o.Mode)
}
