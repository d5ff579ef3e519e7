package eval

// The limits of TIDE (Bolya et al. 2020, tidecv's defaults).
const (
	causeForeground = 0.5
	causeBackground = 0.1
	causeMaxDets    = 100
)

// Causes explain what AP was lost to, in the terms of TIDE (Bolya et al.,
// "TIDE: A General Toolbox for Identifying Object Detection Errors", 2020).
type Causes struct {
	// AP is TIDE's own at IoU 0.5, before any fix: 101 recall points, the best
	// 100 detections of an image whatever their class.
	AP     Value   `json:"AP50"`
	Errors []Cause `json:"errors"` // in TIDE's order: Cls Loc Both Dupe Bkg Miss
}

// Cause is one kind of mistake and what it costs.
type Cause struct {
	Name        string `json:"name"` // TIDE's short name
	Description string `json:"description"`
	Fix         string `json:"fix"`
	Count       int    `json:"count"`
	// Cost is AP after fixing all mistakes of this kind, and no others, minus
	// AP before; never below 0. Costs do not add up to 1 − AP.
	Cost Value `json:"delta_ap"`
}

// kind is a kind of mistake; its value indexes kinds.
type kind int

const (
	kindCls kind = iota
	kindLoc
	kindBoth
	kindDupe
	kindBkg
	kindMiss
	kindNone // a true positive
)

var kinds = [kindNone]Cause{
	kindCls:  {Name: "Cls", Description: "right place (IoU ≥ 0.5), wrong class", Fix: "give it the object's class; of several for one object the best stays"},
	kindLoc:  {Name: "Loc", Description: "right class, poor box (0.1 ≤ IoU ≤ 0.5)", Fix: "give it the object's box; of several for one object the best stays"},
	kindBoth: {Name: "Both", Description: "wrong class and poor box", Fix: "remove it"},
	kindDupe: {Name: "Dupe", Description: "right, but a better detection has the object already", Fix: "remove it"},
	kindBkg:  {Name: "Bkg", Description: "there is no object (IoU ≤ 0.1 with every one)", Fix: "remove it"},
	kindMiss: {Name: "Miss", Description: "an object that no detection found, nor would after fixing Cls or Loc", Fix: "do not count the object"},
}

// finding is a detection with the kind of its mistake.
type finding struct {
	score float64
	class int32
	kind  kind
	// fixed is the class in which it becomes a true positive when its mistake
	// is corrected; −1 if it is removed.
	fixed int32
}

// findings are those of one image, with the classes of the objects missed.
type findings struct {
	dets   []finding
	misses []int32
}

// causes classifies every detection and re-evaluates with each kind fixed.
func causes(cfg Config, images []*Image) *Causes {
	found := make([]findings, len(images))
	const chunk = 64 // images per task
	parallel((len(images)+chunk-1)/chunk, func(i int) {
		var f finder
		for n := i * chunk; n < min(len(images), (i+1)*chunk); n++ {
			found[n] = f.find(cfg, images[n])
		}
	})

	byClass := make([][]finding, len(cfg.Classes))
	fixedInto := make([][]finding, len(cfg.Classes)) // those that another class gains
	objects := make([]int, len(cfg.Classes))
	misses := make([]int, len(cfg.Classes))
	c := &Causes{Errors: append([]Cause(nil), kinds[:]...)}
	for n, img := range images {
		for i := range img.Truths {
			if t := &img.Truths[i]; cfg.Protocol.counts(t, 0) {
				objects[t.Class]++
			}
		}
		for _, d := range found[n].dets {
			byClass[d.class] = append(byClass[d.class], d)
			if d.fixed >= 0 && d.fixed != d.class {
				fixedInto[d.fixed] = append(fixedInto[d.fixed], d)
			}
			if d.kind != kindNone {
				c.Errors[d.kind].Count++
			}
		}
		for _, k := range found[n].misses {
			misses[k]++
			c.Errors[kindMiss].Count++
		}
	}

	var ap [kindNone + 1][]Value // kindNone: nothing is fixed
	for k := range ap {
		ap[k] = make([]Value, len(cfg.Classes))
	}
	parallel(len(cfg.Classes), func(class int) {
		all := append(byClass[class], fixedInto[class]...)
		sortFindings(all)
		var s steps
		for k := range ap {
			ap[k][class] = fixedAP(&s, all, int32(class), kind(k), objects[class], misses[class])
		}
	})
	c.AP = mean(ap[kindNone])
	for k := range c.Errors {
		c.Errors[k].Cost = Absent()
		if c.AP.Present() {
			// Below 0 only by the recall points' grid, as in TIDE.
			c.Errors[k].Cost = max(mean(ap[k])-c.AP, 0)
		}
	}
	return c
}

// tidePoints are x/100, which is not quite pycocotools' x·0.01.
var tidePoints = func() []float64 {
	out := make([]float64, 101)
	for i := range out {
		out[i] = float64(i) / 100
	}
	return out
}()

// fixedAP returns the AP of a class with the mistakes of one kind fixed. all
// are the findings of the class and those that Cls fixes bring into it.
func fixedAP(s *steps, all []finding, class int32, fixed kind, objects, misses int) Value {
	if objects == 0 {
		return Absent()
	}
	if fixed == kindMiss {
		objects -= misses
	}
	if objects == 0 {
		return 0 // TIDE's; every object was missed
	}
	s.total, s.precision = s.total[:0], s.precision[:0]
	hits, total := 0, 0
	for _, d := range all {
		switch {
		case d.kind == fixed && fixed != kindNone: // its mistake is fixed
			if d.fixed == class {
				hits++
				total++
				s.precision = append(s.precision, float64(hits)/float64(total))
			}
		case d.class != class: // not fixed: it stays in its own class
		case d.kind == kindNone:
			hits++
			total++
			s.precision = append(s.precision, float64(hits)/float64(total))
		default:
			total++
		}
	}
	return Value(s.average(tidePoints, objects, false).ap)
}
