package transform

import (
	"image"
	"math"
)

// Picture is the inverse of [Config.Write] but for the resizing: it returns
// the image of width × height network pixels that stands at the top left of
// planes [3 H W], whose rows are planeWidth long, as a picture for people.
func (c Config) Picture(planes []float32, planeWidth, width, height int) *image.RGBA {
	out := image.NewRGBA(image.Rect(0, 0, width, height))
	size := len(planes) / 3
	for channel := range 3 {
		plane := channel
		if c.Order == BGR {
			plane = 2 - channel
		}
		gain, bias := float64(c.Std[plane])/c.Scale, float64(c.Mean[plane])/c.Scale
		for y := range height {
			row := planes[plane*size+y*planeWidth:][:width]
			pix := out.Pix[y*out.Stride:]
			for x, v := range row {
				pix[4*x+channel] = uint8(math.Round(min(255, max(0, float64(v)*gain+bias))))
				pix[4*x+3] = 255
			}
		}
	}
	return out
}
