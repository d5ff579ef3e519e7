package transform

import (
	"image"
	"image/color"
	"testing"
)

func TestPictureUndoesWrite(t *testing.T) {
	img := image.NewRGBA(image.Rect(0, 0, 7, 5))
	for i := range 35 {
		img.SetRGBA(i%7, i/7, color.RGBA{uint8(7 * i), uint8(255 - 5*i), uint8(3 * i), 255})
	}
	for _, order := range []Order{RGB, BGR} {
		c := DefaultConfig()
		c.Order, c.ShortSide, c.LongSide, c.PadMultiple = order, 5, 7, 4
		view, shape := c.Plan(7, 5)
		planes := make([]float32, shape.Len())
		if err := c.Write(planes, shape[2], shape[3], img, view, NewScratch(1)); err != nil {
			t.Fatal(err)
		}
		got := c.Picture(planes, shape[3], view.ScaledWidth, view.ScaledHeight)
		if got.Rect != img.Rect || string(got.Pix) != string(img.Pix) {
			t.Errorf("%s: the picture differs", order)
		}
	}
}
