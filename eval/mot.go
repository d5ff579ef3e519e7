package eval

import (
	"errors"
	"fmt"
	"math"
)

// MOTRow is one box of one frame in the MOT Challenge's text format, of the
// ground truth or of a tracker.
type MOTRow struct {
	Frame int // from 1
	ID    int
	Box   Box // in the file's pixels; both files have the same origin
	// Confidence of a ground-truth row is 1, or 0 where the row is not to be
	// scored; that of a tracker's row does not matter.
	Confidence float64
	// Class is 1…13 in MOT16 and later (1 pedestrian, 2 person on a vehicle, 3
	// car, … 7 static person, 8 distractor, … 12 reflection, 13 crowd), −1
	// where the file has none. A tracker's does not matter.
	Class int
	// Visibility is the visible share, −1 where the file has none.
	Visibility float64
}

// MOTOptions says which rows are scored.
type MOTOptions struct {
	// Preprocess applies the benchmark's rules: predictions that match a
	// distractor (classes 2, 7, 8, 12) in the ground truth of all classes are
	// dropped, and then only pedestrians (class 1) of confidence 1 are objects.
	// Without it the objects are all rows of confidence 1 and more.
	Preprocess bool
}

// MOTResult holds the tracking metrics of one sequence: CLEAR MOT (Bernardin
// and Stiefelhagen 2008), identities (Ristani et al. 2016) and HOTA (Luiten et
// al. 2021). Boxes match at an IoU of 0.5 and more; ratios are in [0, 1], but
// for MOTA, which may be negative. What would be divided by zero is absent.
// The JSON keys are those of py-motmetrics.
//
// The first two equal py-motmetrics 1.2.0 with a later change of its authors:
// a pair is carried over to the next frame, before anything is assigned, only
// if it was matched in the frame just before, and not however long ago. Then
// as many pairs as possible are made, at the least total distance 1 − IoU.
type MOTResult struct {
	Frames int `json:"num_frames"` // frames with at least one row

	MOTA Value `json:"mota"` // 1 − (misses + false positives + switches) / objects
	MOTP Value `json:"motp"` // mean distance 1 − IoU of the matches: 0 is best
	IDF1 Value `json:"idf1"`
	IDP  Value `json:"idp"`
	IDR  Value `json:"idr"`

	// Boxes under the one-to-one assignment of predicted to true identities
	// that has the most boxes in common.
	IDTP int `json:"idtp"`
	IDFP int `json:"idfp"`
	IDFN int `json:"idfn"`

	Switches       int `json:"num_switches"`       // matches with another id than the object's last
	Fragmentations int `json:"num_fragmentations"` // matched → missed, between an object's first and last match

	// Objects by the share of their boxes that is matched: from 0.8, from 0.2,
	// and below.
	MostlyTracked    int `json:"mostly_tracked"`
	PartiallyTracked int `json:"partially_tracked"`
	MostlyLost       int `json:"mostly_lost"`

	FalsePositives int   `json:"num_false_positives"`
	Misses         int   `json:"num_misses"`
	Detections     int   `json:"num_detections"`     // matches, switches included
	Objects        int   `json:"num_objects"`        // boxes of the ground truth
	Predictions    int   `json:"num_predictions"`    // boxes of the tracker
	UniqueObjects  int   `json:"num_unique_objects"` // ids of the ground truth
	Precision      Value `json:"precision"`
	Recall         Value `json:"recall"`

	Transfers int `json:"num_transfer"` // matches of an id with another object than its last
	Ascends   int `json:"num_ascend"`   // switches to an id never matched before
	Migrates  int `json:"num_migrate"`  // transfers to an object never matched before

	// HOTA is nil where an id occurs twice in a frame, which TrackEval
	// refuses; HOTAError then says where.
	HOTA      *HOTAResult `json:"hota"`
	HOTAError string      `json:"hota_error,omitempty"`
}

// HOTAResult holds the higher order tracking accuracy (Luiten et al. 2021) and
// its parts, equal to TrackEval: means over the overlaps 0.05, 0.10, … 0.95.
// The JSON keys are TrackEval's.
type HOTAResult struct {
	HOTA  float64 `json:"HOTA"` // √(DetA·AssA) at each overlap
	DetA  float64 `json:"DetA"`
	AssA  float64 `json:"AssA"`
	DetRe float64 `json:"DetRe"`
	DetPr float64 `json:"DetPr"`
	AssRe float64 `json:"AssRe"`
	AssPr float64 `json:"AssPr"`
	LocA  float64 `json:"LocA"`    // mean IoU of the matches
	OWTA  float64 `json:"OWTA"`    // √(DetRe·AssA)
	HOTA0 float64 `json:"HOTA(0)"` // at 0.05
	LocA0 float64 `json:"LocA(0)"` // at 0.05

	Alpha [hotaOverlaps]float64 `json:"HOTA_alpha"` // HOTA at each overlap
}

// MOT scores a tracker's rows against the ground truth of one sequence. Rows
// may come in any order of frames; within a frame their order decides only
// between equal overlaps. The slices are not changed.
//
// It returns an error for a row that is not finite or has a frame below 1, for
// preprocessing with a class outside 1…13, and where a frame or a group of
// identities is too large to be assigned in memory.
func MOT(gt, pred []MOTRow, opt MOTOptions) (MOTResult, error) {
	if err := errors.Join(checkMOT("ground truth", gt), checkMOT("predictions", pred)); err != nil {
		return MOTResult{}, err
	}
	if opt.Preprocess {
		for _, r := range gt {
			if r.Class < 1 || r.Class > 13 {
				return MOTResult{}, fmt.Errorf("eval: mot: ground truth: frame %d, id %d: class %d is none of MOT Challenge's 1 to 13; score without preprocessing", r.Frame, r.ID, r.Class)
			}
		}
	}
	all := groupMOT(gt, pred)
	for _, f := range all {
		if len(f.gt) > maxMOTCells/max(1, len(f.pred)) {
			return MOTResult{}, fmt.Errorf("eval: mot: frame %d: %d objects and %d predictions are too many for one frame", f.number, len(f.gt), len(f.pred))
		}
	}
	res, err := clearMOT(all, opt)
	if err != nil {
		return MOTResult{}, err
	}
	if err := uniqueMOT(all); err != nil {
		res.HOTAError = err.Error()
		return res, nil
	}
	res.HOTA = hota(all, opt)
	return res, nil
}

// maxMOTCells bounds a matrix of pairs: 2²⁵ of them are 256 MiB. The largest
// sequence of MOT20 needs 4 million for its identities.
const maxMOTCells = 1 << 25

func checkMOT(what string, rows []MOTRow) error {
	for _, r := range rows {
		if r.Frame < 1 {
			return fmt.Errorf("eval: mot: %s: id %d: frame %d: frames count from 1", what, r.ID, r.Frame)
		}
		if !r.Box.finite() || math.IsNaN(r.Confidence) {
			return fmt.Errorf("eval: mot: %s: frame %d, id %d: box %v, confidence %v: not finite", what, r.Frame, r.ID, r.Box, r.Confidence)
		}
	}
	return nil
}

func ratio(a, b float64) Value {
	if b == 0 {
		return Absent()
	}
	return Value(a / b)
}
