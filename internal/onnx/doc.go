// Package onnx writes a detector as one ONNX model that holds all of it: from
// an image of any size to boxes in that image's pixels.
//
//	image [3 H W] ─ transform ─▶ pixels ─ stage 1 ─▶ RPN outputs ─ proposals ─▶ regions
//	                                         └────── features ─ stage 2 ◀───────┘
//	                                                       └─ detections ─▶ boxes, labels, scores
//
// The network's two graphs are data (package nn) and are translated node by
// node (network.go). What is plain Go between and behind them in the detector
// is a few dozen of ONNX's own operations here, in the same order and float32
// (image.go, proposals.go, detections.go): the same anchors are chosen, ties
// fall the same way, and suppression compares the same numbers.
//
// The model's interface is that of torchvision's exporter: input "image" is
// float32 [3 H W], RGB in 0…1, of any height and width; outputs are "boxes"
// [D 4] (x0 y0 x1 y1 in the image's pixels, best first), "labels" [D] (the
// classes' ids in their data) and "scores" [D]. It is one image: there is no
// batch.
//
// The file is protobuf, written by hand (proto.go): a dozen messages of
// onnx.proto, whose field numbers stand beside their use. Parameters are
// streamed, one in memory at a time; models beyond protobuf's 2 GB keep them
// in a second file.
package onnx
