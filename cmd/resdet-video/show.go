//go:build opencv && cgo

package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"

	"gocv.io/x/gocv"

	"resdet/internal/video/wire"
)

// Keys that close a window.
const (
	keyEscape = 27
	keyQuit   = 'q'
)

// show displays the frames that come in until End or until the window is
// closed, which it answers with End.
func show(o wire.Open, in *wire.Reader, out *wire.Writer) error {
	if runtime.GOOS == "linux" && os.Getenv("DISPLAY") == "" && os.Getenv("WAYLAND_DISPLAY") == "" {
		return errors.New("there is no display to show a window on (DISPLAY is not set)") // the toolkit would abort
	}
	window := gocv.NewWindow(o.Name)
	defer window.Close()
	if err := out.Text(wire.KindInfo, wire.Info{}); err != nil {
		return err
	}

	// The window's thread must answer the window system also while no frame
	// comes, so another one reads. The two matrices go back and forth.
	free, ready := make(chan gocv.Mat, 2), make(chan gocv.Mat)
	failed := make(chan error, 1)
	free <- gocv.NewMat()
	free <- gocv.NewMat()
	go func() { failed <- receive(in, free, ready) }()
	bgr := gocv.NewMat()
	defer bgr.Close()
	shown := 0
	for {
		select {
		case err := <-failed:
			if err != nil {
				return err
			}
			return out.Text(wire.KindEnd, wire.End{Frames: shown, Mats: -1})
		case m := <-ready:
			gocv.CvtColor(m, &bgr, gocv.ColorRGBAToBGR)
			if shown == 0 {
				window.ResizeWindow(min(bgr.Cols(), 1600), min(bgr.Rows(), 1600*bgr.Rows()/bgr.Cols()))
			}
			window.IMShow(bgr)
			free <- m
			shown++
		default:
		}
		key := window.WaitKey(5)
		closed := shown > 0 && window.GetWindowProperty(gocv.WindowPropertyVisible) < 1
		if key == keyEscape || key == keyQuit || closed {
			return out.Text(wire.KindEnd, wire.End{Frames: shown, Mats: -1})
		}
	}
}

// receive reads frames into native memory until End or the end of the pipe.
func receive(in *wire.Reader, free, ready chan gocv.Mat) error {
	for {
		h, err := in.Next()
		if err == io.EOF || err == nil && h.Kind == wire.KindEnd {
			return nil
		}
		if err != nil {
			return err
		}
		if h.Kind != wire.KindFrame {
			return fmt.Errorf("message %q instead of a frame", byte(h.Kind))
		}
		m := <-free
		if m.Cols() != h.Width || m.Rows() != h.Height {
			m.Close()
			m = gocv.NewMatWithSize(h.Height, h.Width, gocv.MatTypeCV8UC4)
		}
		pixels, err := m.DataPtrUint8()
		if err != nil {
			return err
		}
		if err := in.Pixels(pixels); err != nil {
			return err
		}
		ready <- m
	}
}
