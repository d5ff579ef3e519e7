package calibrate

import (
	"strconv"

	"resdet/internal/nd"
)

// Means are those of the channels that a layer reads. The zero value has seen
// nothing.
type Means struct {
	sums  []float64
	count int
}

// Add counts values of the shape [N C …].
func (m *Means) Add(shape nd.Shape, values []float32) {
	channels, pixels := shape[1], shape[2:].Len()
	if m.sums == nil {
		m.sums = make([]float64, channels)
	}
	for i := 0; i < len(values); i += pixels {
		sum := 0.0
		for _, v := range values[i : i+pixels] {
			sum += float64(v)
		}
		m.sums[i/pixels%channels] += sum
	}
	m.count += shape[0] * pixels
}

// Values returns the means, to four digits: they are written in a model's
// configuration, and the fifth changes nothing.
func (m *Means) Values() []float32 {
	means := make([]float32, len(m.sums))
	for c, sum := range m.sums {
		v, _ := strconv.ParseFloat(strconv.FormatFloat(sum/float64(m.count), 'g', 4, 64), 32)
		means[c] = float32(v)
	}
	return means
}
