// Package loss has the losses of Faster R-CNN with their gradients: the
// smooth L1 distance of box deltas, the binary cross entropy of objectness and
// the cross entropy of classes (Girshick 2015, equations 1–3). Sums are
// float64, whatever the element type, so that their order does not matter.
package loss

import (
	"math"

	"resdet/internal/nd"
)

// SmoothL1 returns Σ l(x−y) with l(d) = d²/(2·beta) below beta and |d|−beta/2
// above, and adds scale·∂/∂x to grad unless that is nil. beta is 1/9 in
// torchvision's RPN and region head (σ² = 9 in py-faster-rcnn's RPN).
func SmoothL1[T nd.Float](x, y []T, beta float64, grad []T, scale float64) float64 {
	var sum float64
	for i := range x {
		d := float64(x[i]) - float64(y[i])
		g := math.Copysign(1, d)
		if a := math.Abs(d); a < beta {
			sum += d * d / (2 * beta)
			g = d / beta
		} else {
			sum += a - beta/2
		}
		if grad != nil {
			grad[i] += T(scale * g)
		}
	}
	return sum
}

// BinaryCrossEntropy returns Σ −y·log σ(x) − (1−y)·log(1−σ(x)) of logits x and
// targets y in [0, 1], and adds scale·∂/∂x to grad unless that is nil. The
// caller divides by the count.
func BinaryCrossEntropy[T nd.Float](x, y []T, grad []T, scale float64) float64 {
	var sum float64
	for i := range x {
		v, t := float64(x[i]), float64(y[i])
		e := math.Exp(-math.Abs(v)) // never overflows
		sum += max(v, 0) - v*t + math.Log1p(e)
		if grad != nil {
			p := 1 / (1 + e)
			if v < 0 {
				p = e / (1 + e)
			}
			grad[i] += T(scale * (p - t))
		}
	}
	return sum
}

// CrossEntropy returns Σ −log softmax(row)[label] of logits [R K], one label a
// row, and adds scale·∂/∂logits to grad unless that is nil. The caller divides
// by the count.
func CrossEntropy[T nd.Float](logits []T, labels []int, grad []T, scale float64) float64 {
	if len(labels) == 0 {
		return 0
	}
	k := len(logits) / len(labels)
	var sum float64
	for r, label := range labels {
		row := logits[r*k:][:k]
		top := math.Inf(-1)
		for _, v := range row {
			top = max(top, float64(v))
		}
		var z float64
		for _, v := range row {
			z += math.Exp(float64(v) - top)
		}
		sum += math.Log(z) + top - float64(row[label])
		if grad == nil {
			continue
		}
		for i, v := range row {
			p := math.Exp(float64(v)-top) / z
			if i == label {
				p--
			}
			grad[r*k+i] += T(scale * p)
		}
	}
	return sum
}
