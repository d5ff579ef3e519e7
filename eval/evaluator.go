package eval

import (
	"errors"
	"fmt"
	"slices"
	"sync"
)

// Evaluator collects images and evaluates them. Its methods may be called from
// any goroutine; the result does not depend on the order of the calls.
type Evaluator struct {
	cfg      Config
	matchers sync.Pool

	mu     sync.Mutex // guards all below
	images []*Image
	seen   map[int64]bool
	strays Strays
	ran    bool // detections are those of a detector that ran here
}

// Image is what was added of one image, with its matches.
type Image struct {
	ID         int64
	Truths     []Truth
	Detections []Detection
	Proposals  []Box // regions of a first stage, best first; usually none

	rows []Row // by class, best first
}

// New returns an Evaluator without images.
func New(cfg Config) (*Evaluator, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg.Classes = slices.Clone(cfg.Classes)
	e := &Evaluator{cfg: cfg, seen: map[int64]bool{}}
	e.matchers.New = func() any { return newMatcher(cfg.Protocol) }
	return e, nil
}

// Add matches the detections of an image with its truths. The id orders the
// images, which decides between equal scores. The order of the detections of
// one image decides likewise, so give them in the results file's order. The
// slices are copied. Boxes and scores must be finite; an error names the
// image and the index.
func (e *Evaluator) Add(id int64, truths []Truth, dets []Detection) error {
	return e.AddProposals(id, truths, dets, nil)
}

// AddProposals is Add with the regions of a first stage, best first, for
// [Result.ProposalRecall].
func (e *Evaluator) AddProposals(id int64, truths []Truth, dets []Detection, proposals []Box) error {
	if err := e.check(id, truths, dets, proposals); err != nil {
		return err
	}
	img := &Image{ID: id, Truths: slices.Clone(truths), Detections: slices.Clone(dets), Proposals: slices.Clone(proposals)}
	m := e.matchers.Get().(*matcher)
	img.rows = m.match(img)
	e.matchers.Put(m)

	e.mu.Lock()
	defer e.mu.Unlock()
	if e.seen[id] {
		return fmt.Errorf("eval: image %d was added twice; give all its detections at once", id)
	}
	e.seen[id] = true
	e.images = append(e.images, img)
	return nil
}

func (e *Evaluator) check(id int64, truths []Truth, dets []Detection, proposals []Box) error {
	classes := len(e.cfg.Classes)
	for i := range truths {
		switch t := &truths[i]; {
		case t.Class < 0 || t.Class >= classes:
			return fmt.Errorf("eval: image %d: truth %d: class %d is not in 0…%d", id, i, t.Class, classes-1)
		case !t.Box.finite() || t.Area-t.Area != 0:
			return fmt.Errorf("eval: image %d: truth %d: box %v, area %v: not finite", id, i, t.Box, t.Area)
		}
	}
	for i := range dets {
		switch d := &dets[i]; {
		case d.Class < 0 || d.Class >= classes:
			return fmt.Errorf("eval: image %d: detection %d: class %d is not in 0…%d", id, i, d.Class, classes-1)
		case !d.Box.finite():
			return fmt.Errorf("eval: image %d: detection %d: box %v is not finite", id, i, d.Box)
		case d.Score-d.Score != 0:
			return fmt.Errorf("eval: image %d: detection %d: score %v is not finite", id, i, d.Score)
		}
	}
	for i := range proposals {
		if !proposals[i].finite() {
			return fmt.Errorf("eval: image %d: proposal %d: box %v is not finite", id, i, proposals[i])
		}
	}
	return nil
}

// Result evaluates what was added so far. It is an error if nothing can match
// ([MismatchError] says why), and if there are no images. A detector that
// [Evaluator.Run] ran may find nothing; that is a score of 0.
func (e *Evaluator) Result() (*Result, error) {
	e.mu.Lock()
	images := slices.Clone(e.images)
	strays, ran := e.strays, e.ran
	e.mu.Unlock()
	if len(images) == 0 {
		return nil, errors.New("eval: no images were added")
	}
	slices.SortFunc(images, func(a, b *Image) int {
		if a.ID < b.ID {
			return -1
		}
		return 1 // ids differ
	})
	if err := diagnose(e.cfg, images, strays, ran); err != nil {
		return nil, err
	}
	return newResult(e.cfg, images, strays), nil
}
