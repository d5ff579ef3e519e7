package calibrate

import (
	"slices"
	"testing"

	"resdet/internal/nd"
)

func TestMeans(t *testing.T) {
	var m Means
	m.Add(nd.Shape{1, 2, 1, 2}, []float32{1, 2, -10, -20})
	m.Add(nd.Shape{2, 2, 1, 1}, []float32{3, 5, 4, 6}) // two images of one pixel
	if got, want := m.Values(), []float32{2.5, -4.75}; !slices.Equal(got, want) {
		t.Errorf("means of maps %v, want %v", got, want)
	}
	var rows Means
	rows.Add(nd.Shape{3, 2}, []float32{1, 0.123456, 1, 0.123456, 1, 0.123456})
	if got, want := rows.Values(), []float32{1, 0.1235}; !slices.Equal(got, want) {
		t.Errorf("means of rows %v, want %v", got, want)
	}
}
