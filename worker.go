package resdet

import (
	"context"
	"errors"
	"fmt"
	"image"
	"time"

	"resdet/internal/device"
	"resdet/internal/device/cpu"
	"resdet/internal/device/ref"
	"resdet/internal/transform"
	"resdet/roihead"
	"resdet/rpn"
)

// worker is what one call needs for itself: a device with its programs, and
// the host's scratch memory. Packed weights are shared by all workers.
type worker struct {
	cfg      *Config
	dev      device.Device
	programs programs
	proposer *rpn.Proposer
	detector *roihead.Detector
	scratch  *transform.Scratch

	views     []View
	levels    []rpn.Level
	proposals []Proposal
}

// newWorkers opens devices of equal shares of the threads.
func (d *Detector) newWorkers(opt Options) ([]*worker, error) {
	n := max(1, opt.Workers)
	opt.Threads = opt.threadsEach()
	weights := cpu.NewWeights()
	var workers []*worker
	for range n {
		dev, err := openDevice(opt, weights)
		if err != nil {
			return nil, errors.Join(err, closeWorkers(workers))
		}
		workers = append(workers, &worker{
			cfg: &d.cfg, dev: dev,
			programs: programs{cfg: &d.cfg, dev: dev, params: d.params, asking: &d.asking},
			proposer: rpn.NewProposer(d.cfg.RPN),
			detector: roihead.NewDetector(d.cfg.ROI, len(d.cfg.Classes)),
			scratch:  transform.NewScratch(opt.Threads),
		})
	}
	return workers, nil
}

func openDevice(opt Options, weights *cpu.Weights) (device.Device, error) {
	fast := cpu.Options{Threads: opt.Threads, Weights: weights, Choices: opt.Choices}
	switch opt.Device {
	case "cpu":
		return cpu.Open(fast)
	case "ref":
		return ref.Open(opt.Threads), nil
	case "":
		dev, err := cpu.Open(fast)
		if errors.Is(err, device.ErrUnsupported) {
			return ref.Open(opt.Threads), nil
		}
		return dev, err
	}
	return nil, fmt.Errorf("resdet: device %q is neither cpu nor ref", opt.Device)
}

func closeWorkers(workers []*worker) error {
	var err error
	for _, w := range workers {
		w.programs.close()
		err = errors.Join(err, w.dev.Close())
	}
	return err
}

// detect finds the objects of a batch of at least one image.
func (w *worker) detect(ctx context.Context, images []image.Image, s Settings) ([]Result, Profile, error) {
	start := time.Now()
	w.views = w.views[:0]
	for i, img := range images {
		size := img.Bounds().Size()
		if size.X < 1 || size.Y < 1 {
			return nil, Profile{}, fmt.Errorf("resdet: image %d has no pixels (%dx%d)", i, size.X, size.Y)
		}
		view, _ := w.cfg.Transform.Plan(size.X, size.Y)
		w.views = append(w.views, view)
	}
	one, err := w.programs.stage1(w.cfg.Transform.BatchShape(w.views...))
	if err != nil {
		return nil, Profile{}, err
	}
	compiled := time.Now()
	height, width := one.shape[2], one.shape[3]
	pixels := one.program.Input(0).Data()
	for i, img := range images {
		n := 3 * height * width
		if err := w.cfg.Transform.Write(pixels[i*n:][:n], height, width, img, w.views[i], w.scratch); err != nil {
			return nil, Profile{}, fmt.Errorf("resdet: image %d: %w", i, err)
		}
	}
	transformed := time.Now()
	if err := one.program.Run(ctx, nil); err != nil {
		return nil, Profile{}, err
	}
	ran1 := time.Now()
	w.levels = one.levels(w.levels[:0])
	w.proposals = w.proposer.Propose(w.proposals[:0], w.levels, w.views)
	proposed := time.Now()

	two, err := one.stage2(len(w.proposals))
	if err != nil {
		return nil, Profile{}, err
	}
	compiled2 := time.Now()
	rpn.Rois(two.program.Input(two.rois).Data(), w.proposals)
	if err := two.program.Run(ctx, one.kept); err != nil {
		return nil, Profile{}, err
	}
	ran2 := time.Now()
	results := w.results(two, s)
	end := time.Now()

	return results, Profile{
		Compile: compiled.Sub(start) + compiled2.Sub(proposed), Transform: transformed.Sub(compiled), Stage1: ran1.Sub(transformed),
		Proposals: proposed.Sub(ran1), Stage2: ran2.Sub(compiled2), Post: end.Sub(ran2), Total: end.Sub(start),
		Regions: len(w.proposals), Input: one.shape, one: one.program, two: two.program,
	}, nil
}

// results reads the head's outputs and returns to original pixels.
func (w *worker) results(two *stage2, s Settings) []Result {
	logits, deltas := two.program.Output(0).Data(), two.program.Output(1).Data()
	rows, columns := 1+len(w.cfg.Classes), len(deltas)/two.regions
	results := make([]Result, len(w.views))
	first := 0
	for i, view := range w.views {
		end := first
		for end < len(w.proposals) && w.proposals[end].Image == i {
			end++
		}
		mine := w.proposals[first:end]
		dets := w.detector.Detect(nil, view, mine, logits[first*rows:end*rows], deltas[first*columns:end*columns], s)
		props := make([]Proposal, len(mine))
		for j, p := range mine {
			props[j] = Proposal{Box: view.Undo(p.Box), Score: p.Score}
		}
		results[i] = Result{View: view, Detections: w.cfg.Transform.Undo(view, dets), Proposals: props}
		first = end
	}
	return results
}
