package eval

import (
	"context"
	"fmt"
	"image"

	"resdet/internal/det"
)

// Found is a detection as a detector gives it: class in the detector's own
// order, corners in pixels of the image.
type Found = det.Detection

// Detector is what [Evaluator.Run] needs of a detector.
type Detector interface {
	Detect(ctx context.Context, img image.Image) ([]Found, error)
}

// Proposer is a Detector that also tells the regions of its first stage, best
// first.
type Proposer interface {
	Detector
	DetectProposals(ctx context.Context, img image.Image) (found []Found, proposals []Box, err error)
}

// Photo is an image to detect on, with its truths.
type Photo struct {
	ID     int64
	Name   string // for errors
	Truths []Truth
	Open   func() (image.Image, error)
}

// Run detects on the photos one after the other and adds them; the next photo
// is opened meanwhile. classes gives for each of the detector's classes the
// data set's, or −1 for those that it does not have: their detections are left
// out. step, if not nil, is called after each photo.
func (e *Evaluator) Run(ctx context.Context, d Detector, photos []Photo, classes []int, step func()) error {
	e.mu.Lock()
	e.ran = true
	e.mu.Unlock()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type opened struct {
		img image.Image
		err error
	}
	ahead := make(chan opened, 1)
	go func() {
		for i := range photos {
			img, err := photos[i].Open()
			select {
			case ahead <- opened{img, err}:
			case <-ctx.Done():
				return
			}
		}
	}()
	for i := range photos {
		p := &photos[i]
		var next opened
		select {
		case next = <-ahead:
		case <-ctx.Done():
			return ctx.Err()
		}
		if next.err != nil {
			return fmt.Errorf("eval: %s: %w", p.Name, next.err)
		}
		found, proposals, err := detect(ctx, d, next.img)
		if err != nil {
			return fmt.Errorf("eval: %s: %w", p.Name, err)
		}
		dets := make([]Detection, 0, len(found))
		for _, f := range found {
			if f.Class < 0 || f.Class >= len(classes) {
				return fmt.Errorf("eval: %s: the detector found class %d, but has %d classes", p.Name, f.Class, len(classes))
			}
			if k := classes[f.Class]; k >= 0 {
				dets = append(dets, Detection{k, float64(f.Score), Box{
					float64(f.Box.X0), float64(f.Box.Y0), float64(f.Box.X1) - float64(f.Box.X0), float64(f.Box.Y1) - float64(f.Box.Y0),
				}})
			}
		}
		if err := e.AddProposals(p.ID, p.Truths, dets, proposals); err != nil {
			return err
		}
		if step != nil {
			step()
		}
	}
	return nil
}

func detect(ctx context.Context, d Detector, img image.Image) ([]Found, []Box, error) {
	if p, ok := d.(Proposer); ok {
		return p.DetectProposals(ctx, img)
	}
	found, err := d.Detect(ctx, img)
	return found, nil, err
}
