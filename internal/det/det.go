// Package det holds the values that flow from an image to its detections.
//
// Frames: original pixels are those of the decoded image after EXIF
// orientation; network pixels are those of the resized, padded batch. Classes
// are 0…K−1; the background exists only inside package roihead.
package det

import "resdet/internal/box"

// View says how an image stands in a batch: its original size and its size
// after resizing, before padding.
type View struct {
	Width, Height             int // original pixels
	ScaledWidth, ScaledHeight int // network pixels
}

// Undo brings a box from network pixels to original pixels: each axis has its
// own ratio original/scaled in float32 (torchvision's resize_boxes).
func (v View) Undo(b box.Box) box.Box {
	return b.Scale(float32(v.Width)/float32(v.ScaledWidth), float32(v.Height)/float32(v.ScaledHeight))
}

// Truth is an object that is known to be in an image, for training.
type Truth struct {
	Class int     // 0…K−1
	Box   box.Box // network pixels
	// Ignore marks a region that counts neither as object nor as background:
	// a crowd, or an object that was too difficult to tell.
	Ignore bool
}

// Boxes appends the boxes of objects and those to ignore.
func Boxes(objects, ignored []box.Box, truths []Truth) (o, i []box.Box) {
	for _, t := range truths {
		if t.Ignore {
			ignored = append(ignored, t.Box)
		} else {
			objects = append(objects, t.Box)
		}
	}
	return objects, ignored
}

// Do brings a box from original pixels to network pixels.
func (v View) Do(b box.Box) box.Box {
	return b.Scale(float32(v.ScaledWidth)/float32(v.Width), float32(v.ScaledHeight)/float32(v.Height))
}

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
