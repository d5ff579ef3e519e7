// Package nd holds the dense arrays that flow between packages: a shape and
// its elements in row-major order, for images NCHW.
package nd

import (
	"fmt"
	"slices"
)

// Float is the set of element types. float32 is what models run in; float64
// serves the oracle, where rounding must not hide a mistake.
type Float interface{ float32 | float64 }

// Shape lists the extents of an array, outermost first.
type Shape []int

// Len returns the number of elements; 1 for a scalar's empty shape.
func (s Shape) Len() int {
	n := 1
	for _, d := range s {
		n *= d
	}
	return n
}

// Equal reports whether both shapes have the same extents.
func (s Shape) Equal(t Shape) bool { return slices.Equal(s, t) }

// Clone returns a copy that shares nothing with s.
func (s Shape) Clone() Shape { return slices.Clone(s) }

// String formats the shape as "[1 3 600 1000]".
func (s Shape) String() string { return fmt.Sprint([]int(s)) }

// Tensor is a dense array. Data has exactly Shape.Len() elements.
type Tensor[T Float] struct {
	Shape Shape
	Data  []T
}

// New returns a zeroed tensor of the given shape.
func New[T Float](shape ...int) *Tensor[T] {
	s := Shape(shape).Clone()
	return &Tensor[T]{Shape: s, Data: make([]T, s.Len())}
}

// Of wraps data without copying. It panics if the length does not fit the
// shape: that is a bug of the caller, not bad input.
func Of[T Float](data []T, shape ...int) *Tensor[T] {
	s := Shape(shape).Clone()
	if len(data) != s.Len() {
		panic(fmt.Sprintf("nd: %d elements do not fill shape %v", len(data), s))
	}
	return &Tensor[T]{Shape: s, Data: data}
}

// Convert returns a copy of t with elements of type U.
func Convert[U, T Float](t *Tensor[T]) *Tensor[U] {
	u := New[U](t.Shape...)
	for i, v := range t.Data {
		u.Data[i] = U(v)
	}
	return u
}
