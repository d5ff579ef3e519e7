// Package coco reads and writes annotated images and detections: COCO's JSON,
// PASCAL VOC's XML and YOLO's text files, all as one typed [Dataset]; it finds
// what is wrong with a dataset, repairs, converts and describes it.
//
//	coco:FILE.json ──┐                       ┌─▶ Check → faults → Fix
//	voc:DIR ─────────┼─▶ Load ─▶ Dataset ────┼─▶ Convert (coco, voc, yolo)
//	yolo:DATA.yaml ──┘               │       └─▶ Describe → Stats
//	                                 ▼
//	results JSON, VOC text ──▶ []Result ─▶ Resolve ─▶ []Detection
//	JSON lines, CSV
//
// Classes are indices 0…K−1 of Dataset.Classes everywhere. COCO's category
// ids, which have holes, and VOC's twenty names become indices here and
// nowhere else, by name; [Dataset.Mapping] and [ClassMap] print how.
//
// Boxes are x, y, width, height in original pixels, continuous, float64.
//
// # Formats
//
// COCO (cocodataset.org/#format-data): one JSON object with "images" (id,
// file_name, width, height), "annotations" (id, image_id, category_id, bbox
// [x, y, width, height], area, iscrowd) and "categories" (id, name). Also read
// are ignore, difficult and truncated. Results (cocodataset.org/#format-results):
// a list of {"image_id", "category_id", "bbox", "score"}.
//
// VOC (host.robots.ox.ac.uk/pascal/VOC, development kit of 2007): one XML per
// image in Annotations, photos in JPEGImages, lists of stems in
// ImageSets/Main/SPLIT.txt. Corners are pixels counted from 1 and both inside,
// so that the box is [xmin−1, ymin−1, xmax−xmin+1, ymax−ymin+1]. Results are
// files comp4_det_SET_CLASS.txt with rows of image, score, xmin, ymin, xmax,
// ymax.
//
// YOLO (docs.ultralytics.com/datasets/detect): a data.yaml with path, train,
// val, test and names; beside each folder images a folder labels with a text
// file per photo, rows of class, centre x, centre y, width, height in fractions
// of the photo's size. A row with a polygon becomes the box around it.
package coco
