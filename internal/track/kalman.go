package track

// The filter's weights: deviations are fractions of the box's height, but for
// the aspect ratio, which has deviations of its own (Wojke et al. 2017, as in
// ByteTrack's kalman_filter.py).
const (
	positionWeight = 1. / 20
	velocityWeight = 1. / 160
	aspectDev      = 1e-2 // of the first state and of the process
	aspectSpeedDev = 1e-5
	aspectNoise    = 1e-1 // of a measured aspect ratio
)

// axis is a Kalman filter of one quantity and its velocity, time step 1. Of
// the original's 8×8 covariance nothing but these four 2×2 blocks is ever
// different from zero: motion couples a quantity with its own velocity only,
// and all noise is diagonal.
type axis struct {
	pos, vel   float64
	pp, pv, vv float64 // covariance
}

func newAxis(pos, posDev, velDev float64) axis {
	return axis{pos: pos, pp: posDev * posDev, vv: velDev * velDev}
}

func (a *axis) predict(posDev, velDev float64) {
	a.pos += a.vel
	a.pp += a.pv + (a.pv + a.vv) + posDev*posDev
	a.pv += a.vv
	a.vv += velDev * velDev
}

func (a *axis) update(measured, dev float64) {
	s := a.pp + dev*dev
	gainPos, gainVel := a.pp/s, a.pv/s
	d := measured - a.pos
	a.pos += d * gainPos
	a.vel += d * gainVel
	a.pp -= gainPos * s * gainPos
	a.pv -= gainPos * s * gainVel
	a.vv -= gainVel * s * gainVel
}

// filter is the state of a box: its centre, its aspect ratio (width/height)
// and its height, with velocities in units per frame.
type filter struct{ x, y, aspect, height axis }

func newFilter(b Box) filter {
	x, y, a, h := measure(b)
	pos, vel := 2*positionWeight*h, 10*velocityWeight*h
	return filter{
		x:      newAxis(x, pos, vel),
		y:      newAxis(y, pos, vel),
		aspect: newAxis(a, aspectDev, aspectSpeedDev),
		height: newAxis(h, pos, vel),
	}
}

// predict moves the state one frame on. The noise is that of the height
// before the move.
func (f *filter) predict() {
	h := f.height.pos
	f.x.predict(positionWeight*h, velocityWeight*h)
	f.y.predict(positionWeight*h, velocityWeight*h)
	f.aspect.predict(aspectDev, aspectSpeedDev)
	f.height.predict(positionWeight*h, velocityWeight*h)
}

// update corrects the state by a measured box.
func (f *filter) update(b Box) {
	x, y, a, h := measure(b)
	dev := positionWeight * f.height.pos
	f.x.update(x, dev)
	f.y.update(y, dev)
	f.aspect.update(a, aspectNoise)
	f.height.update(h, dev)
}

// box is the state as corners.
func (f *filter) box() Box {
	w, h := f.aspect.pos*f.height.pos, f.height.pos
	x, y := f.x.pos-w/2, f.y.pos-h/2
	return Box{x, y, x + w, y + h}
}

func measure(b Box) (x, y, aspect, height float64) {
	w, h := b.X1-b.X0, b.Y1-b.Y0
	return b.X0 + w/2, b.Y0 + h/2, w / h, h
}
