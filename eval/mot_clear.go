package eval

import (
	"fmt"
	"math"

	"resdet/internal/assign"
)

// clearMOT computes CLEAR MOT and the identity metrics of frames with all
// rows of both files.
func clearMOT(frames []motFrame, opt MOTOptions) (MOTResult, error) {
	object := func(r MOTRow) bool { return r.Confidence >= 1 }
	dropped := func(motFrame) []bool { return nil }
	if opt.Preprocess {
		object = func(r MOTRow) bool { return r.Confidence >= 0.99 && r.Class == 1 }
		dropped = dropDistractors
	}
	s := newMOTScorer()
	for _, f := range keepMOT(frames, object, dropped) {
		s.add(f)
	}
	return s.result()
}

// dropDistractors says which predictions go because they match a distractor,
// or an object marked as invisible. The rest of a frame's rows of such a
// prediction's id go with it.
func dropDistractors(f motFrame) []bool {
	if len(f.gt) == 0 || len(f.pred) == 0 {
		return nil
	}
	ids := map[int]bool{}
	for i, j := range motPairs(motDistances(f), len(f.gt), len(f.pred)) {
		if j >= 0 && (distractor(f.gt[i].Class) || f.gt[i].Visibility < 0) {
			ids[f.pred[j].ID] = true
		}
	}
	drop := make([]bool, len(f.pred))
	for j, r := range f.pred {
		drop[j] = ids[r.ID]
	}
	return drop
}

// motObject is what is remembered of a true identity.
type motObject struct {
	boxes, matched int
	// pred is the id that it was last matched with, in frame last; 0 if never.
	pred, last int
	occurred   bool // in a frame before this one

	missed  bool // its last box was missed
	pending int  // fragmentations that count if it is matched once more
}

// motScorer goes through the frames in order.
type motScorer struct {
	res     MOTResult
	objects map[int]*motObject
	before  int         // the frame before this one that had a row
	matched map[int]int // by predicted id: the object that an assignment gave it last
	known   map[int]bool
	sum     float64 // of the matches' distances

	// For the identities: frames of each id, and how often two ids overlap.
	trueFrames, predFrames int
	common                 map[[2]int]int
}

func newMOTScorer() *motScorer {
	return &motScorer{objects: map[int]*motObject{}, matched: map[int]int{}, known: map[int]bool{}, common: map[[2]int]int{}}
}

func (s *motScorer) add(f motFrame) {
	s.res.Frames++
	s.res.Objects += len(f.gt)
	s.res.Predictions += len(f.pred)
	distance := motDistances(f)
	s.count(f, distance)
	usedGT, usedPred := make([]bool, len(f.gt)), make([]bool, len(f.pred))
	n := len(f.pred)

	// Carry over what was matched in the frame before. If an id is twice in
	// this frame, the first row has it.
	for i, g := range f.gt {
		o := s.objects[g.ID]
		if o.last == 0 || o.last != s.before {
			continue
		}
		j := 0
		for j < n && (usedPred[j] || f.pred[j].ID != o.pred) {
			j++
		}
		if j == n || math.IsNaN(distance[i*n+j]) {
			continue
		}
		usedGT[i], usedPred[j] = true, true
		s.match(o, f.number, distance[i*n+j])
		s.known[o.pred] = true
	}

	// Assign the rest.
	if len(f.gt) > 0 && n > 0 {
		for i := range f.gt {
			for j := range f.pred {
				if usedGT[i] || usedPred[j] {
					distance[i*n+j] = math.NaN()
				}
			}
		}
		for i, j := range motPairs(distance, len(f.gt), n) {
			if j < 0 {
				continue
			}
			o, object, id := s.objects[f.gt[i].ID], f.gt[i].ID, f.pred[j].ID
			if o.last != 0 && o.pred != id && o.occurred {
				s.res.Switches++
				if !s.known[id] {
					s.res.Ascends++
				}
			}
			if other, ok := s.matched[id]; ok && other != object {
				s.res.Transfers++
				if o.last == 0 {
					s.res.Migrates++
				}
			}
			usedGT[i], usedPred[j] = true, true
			o.pred = id
			s.match(o, f.number, distance[i*n+j])
			s.known[id], s.matched[id] = true, object
		}
	}

	for i, g := range f.gt {
		if usedGT[i] {
			continue
		}
		s.res.Misses++
		if o := s.objects[g.ID]; o.last != 0 && !o.missed {
			o.missed = true
			o.pending++
		}
	}
	for _, used := range usedPred {
		if !used {
			s.res.FalsePositives++
		}
	}
	for _, g := range f.gt {
		s.objects[g.ID].occurred = true
	}
	s.before = f.number
}

func (s *motScorer) match(o *motObject, frame int, distance float64) {
	s.res.Detections++
	s.sum += distance
	o.matched++
	o.last = frame
	s.res.Fragmentations += o.pending
	o.missed, o.pending = false, 0
}

// count notes which ids are in the frame and which of them overlap. An id
// counts once a frame, an overlap as often as it occurs (py-motmetrics).
func (s *motScorer) count(f motFrame, distance []float64) {
	seen := make(map[int]bool, len(f.gt))
	for _, g := range f.gt {
		o := s.objects[g.ID]
		if o == nil {
			o = &motObject{}
			s.objects[g.ID] = o
		}
		o.boxes++
		seen[g.ID] = true
	}
	s.trueFrames += len(seen)
	clear(seen)
	for _, p := range f.pred {
		seen[p.ID] = true
	}
	s.predFrames += len(seen)
	for i, g := range f.gt {
		for j, p := range f.pred {
			if d := distance[i*len(f.pred)+j]; d == d {
				s.common[[2]int{g.ID, p.ID}]++
			}
		}
	}
}

func (s *motScorer) result() (MOTResult, error) {
	r := s.res
	r.UniqueObjects = len(s.objects)
	for _, o := range s.objects {
		switch share := float64(o.matched) / float64(o.boxes); {
		case share >= 0.8:
			r.MostlyTracked++
		case share >= 0.2:
			r.PartiallyTracked++
		default:
			r.MostlyLost++
		}
	}
	shared, err := mostCommon(s.common)
	if err != nil {
		return MOTResult{}, err
	}
	r.IDFN, r.IDFP = s.trueFrames-shared, s.predFrames-shared
	r.IDTP = r.Objects - r.IDFN

	objects, found := float64(r.Objects), float64(r.Detections)
	r.MOTA = 1 - ratio(float64(r.Misses+r.Switches+r.FalsePositives), objects)
	r.MOTP = ratio(s.sum, found)
	r.Precision = ratio(found, found+float64(r.FalsePositives))
	r.Recall = ratio(found, objects)
	r.IDP = ratio(float64(r.IDTP), float64(r.IDTP+r.IDFP))
	r.IDR = ratio(float64(r.IDTP), float64(r.IDTP+r.IDFN))
	r.IDF1 = ratio(float64(2*r.IDTP), float64(r.Objects+r.Predictions))
	return r, nil
}

// mostCommon returns the greatest total of common boxes that a one-to-one
// assignment of identities can have. Identities that have nothing in common,
// directly or through others, are assigned apart, which keeps matrices small.
func mostCommon(common map[[2]int]int) (int, error) {
	next := map[int][]int{} // predicted ids of a true one
	back := map[int][]int{}
	for p := range common {
		next[p[0]] = append(next[p[0]], p[1])
		back[p[1]] = append(back[p[1]], p[0])
	}
	done := make(map[int]bool, len(next))
	total := 0
	for first := range next {
		if done[first] {
			continue
		}
		done[first] = true
		rows, cols := map[int]int{first: 0}, map[int]int{} // index of an id in the group's matrix
		var pairs [][2]int
		for queue := []int{first}; len(queue) > 0; queue = queue[1:] {
			for _, col := range next[queue[0]] {
				pairs = append(pairs, [2]int{queue[0], col})
				if _, ok := cols[col]; ok {
					continue
				}
				cols[col] = len(cols)
				for _, row := range back[col] {
					if !done[row] {
						done[row] = true
						rows[row] = len(rows)
						queue = append(queue, row)
					}
				}
			}
		}
		if len(rows) > maxMOTCells/len(cols) {
			return 0, fmt.Errorf("eval: mot: %d objects and %d predicted ids overlap in one group, too many to assign", len(rows), len(cols))
		}
		cost := make([]float64, len(rows)*len(cols))
		for _, p := range pairs {
			cost[rows[p[0]]*len(cols)+cols[p[1]]] = -float64(common[p])
		}
		for i, j := range assign.Min(cost, len(rows), len(cols)) {
			if j >= 0 {
				total -= int(cost[i*len(cols)+j])
			}
		}
	}
	return total, nil
}
