// Package eval measures detections against truths by the protocols of COCO and
// PASCAL VOC, says what AP was lost to, and compares two detectors with an
// interval of the difference.
//
//	images ─Add: match▶ rows (image, truth, detection, IoU, score)
//	                     ├─ accumulate ▶ curves ▶ metrics, per class, per size
//	                     ├─ galleries of mistakes
//	                     └─ Compare ▶ paired bootstrap over images ▶ intervals
//	images ─▶ confusion matrix, causes (TIDE), proposal recall
//
// Images may be added in any order from any goroutine; the result is the same.
// One matching pass per image yields the rows from which the figures derive.
// Figures are values: printing them is the caller's, and package
// [resdet/eval/report] makes a page of them. Fractions are fractions (0.272),
// and what cannot be measured is absent: NaN in Go, null in JSON, never −1.
//
// # Protocol coco
//
// Source: COCOeval of pycocotools 2.0 (cocodataset/cocoapi,
// PythonAPI/pycocotools/cocoeval.py) and bbIou in common/maskApi.c, for boxes.
// For each class, area range (all; small ≤ 32²; medium; large ≥ 96² square
// pixels) and IoU threshold 0.5, 0.55 … 0.95, the best 100 detections of each
// image in order of score take the free truth with the largest IoU that is at
// least the threshold. AP is the mean of the interpolated precision at recall
// 0, 0.01 … 1, averaged over thresholds and over the classes that have
// objects; AR is the mean recall reached with 1, 10 or 100 detections. Crowd
// regions and objects outside the range count neither way, nor do detections
// that match them or that are unmatched and outside the range. Difficult
// objects are ordinary. QUIRKS.md lists what is reproduced to the last bit,
// with the test of each.
//
// # Protocols voc07 and voc10
//
// Source: VOCevaldet.m of the PASCAL VOC development kit (Everingham et al.,
// "The PASCAL Visual Object Classes (VOC) Challenge", IJCV 2010), as
// py-faster-rcnn's voc_eval.py has it. A detection looks at the one truth it
// overlaps most; IoU (pixels inclusive: every extent has +1) must be strictly
// greater than 0.5; a second detection of one object is false; difficult
// objects are left out, with the detections on them. voc07 averages the
// interpolated precision at recall i×0.1, i = 0 … 10; voc10 takes the area
// under the interpolated curve. Boxes are COCO's [x, y, w, h]; corners are
// (x+1, y+1, x+w, y+h) on both sides.
//
// # Causes
//
// Source: Bolya et al., "TIDE: A General Toolbox for Identifying Object
// Detection Errors" (ECCV 2020) and tidecv 1.0. The order of the tests is part
// of the definition and stands at [Causes]; what differs from tidecv: AP is
// averaged over the classes that have objects, and equal scores stay in the
// order of the images after a fix.
package eval
