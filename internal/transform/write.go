package transform

import (
	"fmt"
	"image"
	"sync"

	"resdet/internal/det"
)

// Scratch holds what [Config.Write] needs besides its result, so that a steady
// stream of images of one size allocates nothing. It serves one Write at a
// time.
type Scratch struct {
	columns []tap // one per scaled column
	workers []*worker
	pixels  imageRows
	wait    sync.WaitGroup
}

// NewScratch returns a scratch whose Writes run on the given number of
// goroutines (at least one).
func NewScratch(threads int) *Scratch {
	s := &Scratch{workers: make([]*worker, max(1, threads))}
	for i := range s.workers {
		w := &worker{}
		w.task = func() { // made once: a go statement with arguments allocates
			defer s.wait.Done()
			w.run()
		}
		s.workers[i] = w
	}
	return s
}

// tap is where a resized column or row samples the source: between index and
// index+1, weight being the latter's share.
type tap struct {
	index  int32
	weight float32
}

// tapAt is torch's sampling position for bilinear interpolation without
// aligned corners: (i+0.5)·in/out − 0.5, clamped at 0. The ratio is float32;
// the rest is exact in float64, which is what torch's kernels come to with their
// fused instructions (rounding the position near 300 to float32 moves it by 1e-5).
func tapAt(i, in, out int) tap {
	ratio := float64(float32(in) / float32(out))
	pos := max(0, ratio*(float64(i)+0.5)-0.5)
	index := min(int(pos), in-1)
	return tap{int32(index), float32(min(1, pos-float64(index)))}
}

// rows gives a source's pixels, row by row, to several goroutines at once.
type rows interface {
	// read sets the first width elements of each plane to row y's red, green
	// and blue in levels 0…255. line is the calling goroutine's own.
	read(y int, rgb *[3][]float32, line *chroma)
}

// Write resizes img to the view's scaled size, normalises it and writes it as
// [3 height width] planes into dst, which may be a slice of a device's buffer:
// the image stands at the top left and the rest is zero (zero after
// normalisation, so that padding is the mean colour). view is [Config.Plan]'s.
//
// All is one pass: two source rows at a time become RGB levels (chroma
// interpolated as libjpeg does it), then resized columns, then one row of each
// plane. Resizing before normalising is torchvision's result but for rounding,
// both being linear.
func (c Config) Write(dst []float32, height, width int, img image.Image, view det.View, s *Scratch) error {
	size := img.Bounds().Size()
	if size.X < 1 || size.Y < 1 || size.X != view.Width || size.Y != view.Height {
		return fmt.Errorf("transform: the image is %dx%d, but its view was planned for %dx%d", size.X, size.Y, view.Width, view.Height)
	}
	s.pixels = imageRows{img, img.Bounds()}
	defer func() { s.pixels = imageRows{} }() // or the scratch would keep the image alive
	return c.write(dst, height, width, &s.pixels, view, s)
}

func (c Config) write(dst []float32, height, width int, src rows, view det.View, s *Scratch) error {
	if view.ScaledWidth < 1 || view.ScaledHeight < 1 || view.ScaledHeight > height || view.ScaledWidth > width {
		return fmt.Errorf("transform: an image of %dx%d after resizing does not fit a batch of %dx%d", view.ScaledWidth, view.ScaledHeight, width, height)
	}
	if len(dst) != 3*height*width {
		return fmt.Errorf("transform: the destination has %d elements, want 3·%d·%d", len(dst), height, width)
	}
	s.columns = resized(s.columns, view.ScaledWidth)
	for x := range s.columns {
		s.columns[x] = tapAt(x, view.Width, view.ScaledWidth)
	}

	shared := job{src: src, dst: dst, height: height, width: width, view: view, columns: s.columns}
	for plane := range 3 {
		std := float64(c.Std[plane])
		shared.gain[plane] = float32(c.Scale / std)
		shared.bias[plane] = float32(-float64(c.Mean[plane]) / std)
		shared.channel[plane] = plane
		if c.Order == BGR {
			shared.channel[plane] = 2 - plane
		}
	}
	// Neighbouring output rows share source rows, so each goroutine takes one
	// stretch of rows.
	n := min(len(s.workers), view.ScaledHeight)
	for i, w := range s.workers[:n] {
		w.job = shared
		w.from, w.to = i*view.ScaledHeight/n, (i+1)*view.ScaledHeight/n
	}
	s.wait.Add(n)
	for _, w := range s.workers[1:n] {
		go w.task()
	}
	s.workers[0].task()
	s.wait.Wait()
	var err error
	for _, w := range s.workers[:n] {
		if w.err != nil {
			err = w.err
		}
		w.job, w.err = job{}, nil
	}
	for plane := range 3 {
		clear(dst[(plane*height+view.ScaledHeight)*width : (plane+1)*height*width])
	}
	return err
}

// job is what all goroutines of one Write share.
type job struct {
	src           rows
	dst           []float32 // [3 height width]
	height, width int
	view          det.View
	columns       []tap
	channel       [3]int     // the source channel of each plane
	gain, bias    [3]float32 // level·gain + bias is the normalised value
}

// worker writes the rows from…to−1 of a job.
type worker struct {
	job
	from, to int
	task     func()
	err      error
	line     chroma
	source   [3][]float32    // one source row: levels
	across   [2][3][]float32 // two source rows resized along x: levels; row y is in y&1
	held     [2]int          // which rows those are
}

func (w *worker) run() {
	defer func() {
		if r := recover(); r != nil { // an image.Image of the caller's that breaks its promises
			w.err = fmt.Errorf("transform: reading the image's pixels: %v", r)
		}
	}()
	for c := range 3 {
		// One more than a row, so that index+1 exists for the last column.
		w.source[c] = resized(w.source[c], w.view.Width+1)
		w.across[0][c] = resized(w.across[0][c], w.view.ScaledWidth)
		w.across[1][c] = resized(w.across[1][c], w.view.ScaledWidth)
	}
	w.held = [2]int{-1, -1}
	for y := w.from; y < w.to; y++ {
		t := tapAt(y, w.view.Height, w.view.ScaledHeight)
		above := w.row(int(t.index))
		below := above
		if int(t.index)+1 < w.view.Height && t.weight > 0 {
			below = w.row(int(t.index) + 1)
		}
		for plane := range 3 {
			start := (plane*w.height + y) * w.width
			out := w.dst[start : start+w.width]
			c, gain := w.channel[plane], w.gain[plane]
			blend(out[:w.view.ScaledWidth], above[c], below[c], gain*(1-t.weight), gain*t.weight, w.bias[plane])
			clear(out[w.view.ScaledWidth:])
		}
	}
}

// row returns source row y resized along x.
func (w *worker) row(y int) *[3][]float32 {
	out := &w.across[y&1]
	if w.held[y&1] == y {
		return out
	}
	w.held[y&1] = y
	n := w.view.Width
	w.src.read(y, &w.source, &w.line)
	for c := range 3 {
		w.source[c][n] = w.source[c][n-1]
	}
	interpolate(out, &w.source, w.columns)
	return out
}

// interpolate resizes three rows along x.
func interpolate(out, in *[3][]float32, columns []tap) {
	r, g, b := in[0], in[1], in[2]
	g, b = g[:len(r)], b[:len(r)]
	outR, outG, outB := out[0][:len(columns)], out[1][:len(columns)], out[2][:len(columns)]
	for x, t := range columns {
		i := int(t.index)
		j := i + 1
		if uint(i) >= uint(len(r)) || uint(j) >= uint(len(r)) {
			return // never: columns were made for this width; it spares the loop its other checks
		}
		r0, g0, b0 := r[i], g[i], b[i]
		outR[x] = r0 + (r[j]-r0)*t.weight
		outG[x] = g0 + (g[j]-g0)*t.weight
		outB[x] = b0 + (b[j]-b0)*t.weight
	}
}

// blend sets out to above·ka + below·kb + bias.
func blend(out, above, below []float32, ka, kb, bias float32) {
	above, below = above[:len(out)], below[:len(out)]
	for len(out) >= 4 && len(above) >= 4 && len(below) >= 4 {
		out[0] = above[0]*ka + below[0]*kb + bias
		out[1] = above[1]*ka + below[1]*kb + bias
		out[2] = above[2]*ka + below[2]*kb + bias
		out[3] = above[3]*ka + below[3]*kb + bias
		out, above, below = out[4:], above[4:], below[4:]
	}
	for i := range out {
		out[i] = above[i]*ka + below[i]*kb + bias
	}
}

// resized returns a slice of length n, buf if it is large enough.
func resized[T any](buf []T, n int) []T {
	if cap(buf) < n {
		return make([]T, n)
	}
	return buf[:n]
}
