package train

import (
	"time"

	"resdet/internal/train/step"
)

// window sums what the next line of the log is the mean of.
type window struct {
	sum    step.Losses
	norms  float64
	steps  int
	images int
	time   time.Duration
}

func (w *window) add(l step.Losses, norm float64, images int, t time.Duration) {
	w.sum = add(w.sum, l, 1)
	w.norms += norm
	w.steps++
	w.images += images
	w.time += t
}

func (w *window) losses() step.Losses { return add(step.Losses{}, w.sum, 1/float64(max(w.steps, 1))) }
func (w *window) norm() float64       { return w.norms / float64(max(w.steps, 1)) }

// add returns a + f·b.
func add(a, b step.Losses, f float64) step.Losses {
	return step.Losses{
		Classifier: a.Classifier + f*b.Classifier, Box: a.Box + f*b.Box, Objectness: a.Objectness + f*b.Objectness, RPNBox: a.RPNBox + f*b.RPNBox,
	}
}
