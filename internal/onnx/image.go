package onnx

import "resdet/internal/transform"

// picture is an image on its way through the model. Its sizes are lists
// [height width].
type picture struct {
	pixels   string // [1 3 H W], the network's input
	original string // size of the image, float32
	scaled   string // size after resizing, float32
	padded   string // H and W, int64
}

// image brings the image [3 H W] (RGB, 0…1) to the network's size, as
// transform.Config.Plan and Write do.
func (g *graph) image(c transform.Config, image string) picture {
	g.scope = "transform"
	size := g.extents(image, 1, 3)
	p := picture{original: g.cast(size, float32s)}
	scaled := g.max(g.cast(g.op("Floor", of(g.scale(c, size))), int64s), g.vector(1))
	p.scaled = g.cast(scaled, float32s)

	x := g.unsqueeze(image, 0)
	if c.Order == transform.BGR {
		x = g.gather(x, g.vector(2, 1, 0), 1)
	}
	x = g.op("Resize", of(x, "", "", g.concat(0, g.vector(1, 3), scaled)), attr{"mode", "linear"}, attr{"coordinate_transformation_mode", "half_pixel"})
	var gain, bias []float32
	for i := range 3 {
		std := float64(c.Std[i])
		gain = append(gain, float32(255*c.Scale/std)) // the input is levels/255
		bias = append(bias, float32(-float64(c.Mean[i])/std))
	}
	x = g.sum(g.mul(x, g.floats([]int{1, 3, 1, 1}, gain...)), g.floats([]int{1, 3, 1, 1}, bias...))

	multiple := g.vector(int64(c.PadMultiple))
	p.padded = g.mul(g.div(g.sum(scaled, g.vector(int64(c.PadMultiple-1))), multiple), multiple)
	p.pixels = g.op("Pad", of(x, g.concat(0, g.vector(0, 0, 0, 0, 0, 0), g.sub(p.padded, scaled))))
	return p
}

// scale returns the size [2] to be rounded down, in float64. The quotients are
// taken of lists, of which the extremes are chosen: a number divided by a list
// is approximate in ONNX Runtime (times the list's reciprocals), which can be
// a pixel of the size.
func (g *graph) scale(c transform.Config, size string) string {
	extreme := func(reduce, x string) string { return g.op(reduce, of(x), attr{"axes", list(0)}, attr{"keepdims", 1}) }
	exact := g.cast(size, float64s)
	if c.RoundSize {
		to := func(side int) string {
			return g.div(g.constant(float64s, []int{2}, littleEndian([]float64{float64(side), float64(side)})), exact)
		}
		scale := g.min(extreme("ReduceMax", to(c.ShortSide)), extreme("ReduceMin", to(c.LongSide)))
		return g.sum(g.mul(exact, scale), g.constant(float64s, nil, littleEndian([]float64{0.5})))
	}
	inverse := g.div(g.floats([]int{2}, 1, 1), g.cast(size, float32s))
	short := g.mul(extreme("ReduceMax", inverse), g.float(float32(c.ShortSide)))
	long := g.mul(extreme("ReduceMin", inverse), g.float(float32(c.LongSide)))
	return g.mul(exact, g.cast(g.min(short, long), float64s))
}

// across turns a size [height width] round.
func (g *graph) across(size string) string { return g.gather(size, g.vector(1, 0), 0) }
