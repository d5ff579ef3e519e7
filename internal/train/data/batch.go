package data

import (
	"resdet/internal/det"
	"resdet/internal/nd"
)

// Batch is what one pass through the network trains on.
type Batch struct {
	// Pixels are the images as the network takes them, padded with zeros.
	Pixels *nd.Tensor[float32] // [N 3 H W]
	// Views says how each image stands in the batch.
	Views []det.View
	// Truths are the objects of each image, in network pixels. An image may have
	// none.
	Truths [][]det.Truth
	// Names of the images, for messages.
	Names []string
	// Seed decides everything random that happens to the batch in the network:
	// sampling, dropout. It follows from the run's seed and the batch's number.
	Seed uint64
	// Skipped tells of photos that could not be read, in whose place others
	// stand.
	Skipped []error
}
