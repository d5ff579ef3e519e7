package eval

// numAreas is the number of area ranges under COCO.
const numAreas = 4

// Names of the area ranges, and of the sizes in [Result.PerSize].
var areaNames = [numAreas]string{"all", "small", "medium", "large"}

// areaRanges are in square pixels, both ends included: an object of exactly
// 32² is small and medium.
var areaRanges = [numAreas][2]float64{{0, 1e5 * 1e5}, {0, 32 * 32}, {32 * 32, 96 * 96}, {96 * 96, 1e5 * 1e5}}

// maxDets are the numbers of detections per image and class that count.
var maxDets = [3]int{1, 10, 100}

// spacing1 is np.spacing(1), which pycocotools adds to the denominator.
const spacing1 = 2.220446049250313e-16

// linspace returns what np.linspace(start, stop, n) does, to the last bit:
// i·step + start without fusing, and stop itself at the end.
func linspace(start, stop float64, n int) []float64 {
	step := (stop - start) / float64(n-1)
	out := make([]float64, n)
	for i := range out {
		out[i] = float64(float64(i)*step) + start
	}
	out[n-1] = stop
	return out
}

var (
	cocoOverlaps = linspace(0.5, 0.95, 10) // IoU thresholds
	cocoRecalls  = linspace(0, 1, 101)     // recall points
	vocRecalls   = vocPoints()
)

// Indices into cocoOverlaps.
const (
	at50 = 0
	at75 = 5
)

// vocPoints returns np.arange(0, 1.1, 0.1): i·0.1 in float64, of which 0.3,
// 0.6 and 0.7 are a hair above the decimal, so that a recall of 3/10 does not
// reach the fourth point.
func vocPoints() []float64 {
	step := 0.1
	out := make([]float64, 11)
	for i := range out {
		out[i] = float64(i) * step
	}
	return out
}

// overlaps returns the IoU thresholds, at most 16: rows keep a bit for each.
func (p Protocol) overlaps() []float64 {
	if p == COCO {
		return cocoOverlaps
	}
	return []float64{0.5}
}

// areas returns the number of area ranges that are evaluated.
func (p Protocol) areas() int {
	if p == COCO {
		return numAreas
	}
	return 1
}

// points returns the recall points at which precision is averaged; nil for
// the area under the whole curve.
func (p Protocol) points() []float64 {
	switch p {
	case COCO:
		return cocoRecalls
	case VOC07:
		return vocRecalls
	}
	return nil
}

// counts reports whether t is an object to be found in area range a.
func (p Protocol) counts(t *Truth, a int) bool {
	if p == COCO {
		return !t.Crowd && t.Area >= areaRanges[a][0] && t.Area <= areaRanges[a][1]
	}
	return !t.Difficult
}
