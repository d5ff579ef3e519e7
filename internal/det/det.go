// Package det holds the values that flow from an image to its detections.
//
// Frames: original pixels are those of the decoded image after EXIF
// orientation; network pixels are those of the resized, padded batch. Classes
// are 0…K−1; the background exists only inside package roihead.
package det

import "resdet/internal/box"

// View says how an image stands in a batch: its original size and its size
// after resizing, before padding. Network = original · ScaleX, ScaleY.
type View struct {
	Width, Height             int // original pixels
	ScaledWidth, ScaledHeight int // network pixels
}

// ScaleX returns network pixels per original pixel along x.
func (v View) ScaleX() float32 { return float32(v.ScaledWidth) / float32(v.Width) }

// ScaleY returns network pixels per original pixel along y.
func (v View) ScaleY() float32 { return float32(v.ScaledHeight) / float32(v.Height) }

// Proposal is a region that may hold an object, in network pixels.
type Proposal struct {
	Image int // index in the batch
	Box   box.Box
	Score float32 // objectness after the sigmoid
}

// Detection is an object found. Package roihead gives boxes in network
// pixels; everything after transform's Undo is in original pixels.
type Detection struct {
	Class int // 0…K−1
	Score float32
	Box   box.Box
}
