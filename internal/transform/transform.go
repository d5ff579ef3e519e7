// Package transform leads from files to the network's input and from its
// detections back to the picture.
//
//	bytes ─ Decode ─ image ─ Write ─▶ [N 3 H W] ─ network ─ Undo ─▶ detections ─ Draw ─▶ picture
//	                        Plan: how the image will stand in the batch
//
// Everything that decides results is torchvision 0.14's GeneralizedRCNNTransform
// and Pillow's reading of files, so that a model scores here what it scores
// there: sizes, sampling positions, chroma, rounding.
//
// Shapes: N images, 3 channels, H and W in network pixels.
package transform
