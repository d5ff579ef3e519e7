package resdet

import (
	"context"
	"errors"
	"fmt"
	"image"
	"io"
	"runtime"
	"sync"
	"time"

	"resdet/internal/box"
	"resdet/internal/det"
	"resdet/internal/device"
	"resdet/internal/device/cpu"
	"resdet/internal/device/ref"
	"resdet/internal/nd"
	"resdet/internal/transform"
	"resdet/internal/weights"
	"resdet/roihead"
	"resdet/rpn"
)

// Names of other packages' types that stand in this one's signatures.
type (
	// Detection is an object found: Class indexes [Config.Classes], Box is in
	// original pixels (of the image as given), best scores come first.
	Detection = det.Detection
	// Proposal is a region that the first stage thinks may hold an object.
	Proposal = det.Proposal
	// View says how an image was scaled for the network.
	View = det.View
	// Settings are the thresholds of one call; start from [Detector.Settings].
	Settings = roihead.Settings
	// Params gives parameters by key and shape, in row-major order.
	Params = device.Params
	// Box is a rectangle [X0,X1)×[Y0,Y1) in continuous pixels.
	Box = box.Box
	// Shape lists an array's extents, outermost first.
	Shape = nd.Shape
	// Step is one kernel of the network with the time of its last run.
	Step = device.Step
)

// Options say how a model is run. The zero value is the best that the machine
// has.
type Options struct {
	// Threads is how many threads the network runs on; 0: GOMAXPROCS.
	Threads int
	// Device is "cpu" (oneDNN), "ref" (plain Go, slow and exact) or "" for the
	// first of them that this build has.
	Device string
	// ShortSide, if not 0, is used instead of the model's: images are scaled to
	// it (and to a long side in proportion) before the network, so that half of
	// it takes a quarter of the time and misses what is small.
	ShortSide int
}

// Detector is a model ready to run. Its methods may be called from any
// goroutine; calls on one Detector take turns, each using all its threads.
type Detector struct {
	cfg    Config
	params Params
	file   io.Closer // of params; may be nil
	dev    device.Device

	mu       sync.Mutex // guards all below
	closed   bool
	programs programs
	proposer *rpn.Proposer
	detector *roihead.Detector
	scratch  *transform.Scratch
	profile  Profile

	views     []View
	levels    []rpn.Level
	proposals []Proposal
}

// Open reads a model file and prepares it. The error names the file; where its
// parameters are not those of its configuration, it lists which.
func Open(path string, opt Options) (*Detector, error) {
	c, err := weights.Open(path)
	if err != nil {
		return nil, err
	}
	return open(c, opt)
}

// open prepares a model whose configuration stands in its file's metadata.
func open(c *weights.Checkpoint, opt Options) (*Detector, error) {
	d, err := newFromFile(c, opt)
	if err != nil {
		c.Close()
		return nil, err
	}
	d.file = c
	return d, nil
}

func newFromFile(c *weights.Checkpoint, opt Options) (*Detector, error) {
	text, err := c.Config()
	if err != nil {
		return nil, err
	}
	cfg, err := ParseConfig(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.Name, err)
	}
	wanted, err := cfg.Params()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.Name, err)
	}
	if err := c.Fit(wanted); err != nil {
		return nil, err
	}
	d, err := New(cfg, c, opt)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.Name, err)
	}
	return d, nil
}

// New prepares a network from its configuration and parameters, which must be
// all of cfg.Params(). params is used until the Detector is closed.
func New(cfg Config, params Params, opt Options) (*Detector, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if opt.ShortSide != 0 {
		t := &cfg.Transform
		t.LongSide = max(opt.ShortSide, t.LongSide*opt.ShortSide/t.ShortSide)
		t.ShortSide = opt.ShortSide
		if err := t.Validate(); err != nil {
			return nil, err
		}
	}
	dev, err := openDevice(opt)
	if err != nil {
		return nil, err
	}
	return &Detector{
		cfg: cfg, params: params, dev: dev,
		programs: programs{cfg: cfg, dev: dev, params: params},
		proposer: rpn.NewProposer(cfg.RPN),
		detector: roihead.NewDetector(cfg.ROI, len(cfg.Classes)),
		scratch:  transform.NewScratch(opt.threads()),
	}, nil
}

func (o Options) threads() int {
	if o.Threads > 0 {
		return o.Threads
	}
	return runtime.GOMAXPROCS(0)
}

func openDevice(opt Options) (device.Device, error) {
	switch opt.Device {
	case "cpu":
		return cpu.Open(cpu.Options{Threads: opt.threads()})
	case "ref":
		return ref.Open(opt.threads()), nil
	case "":
		dev, err := cpu.Open(cpu.Options{Threads: opt.threads()})
		if errors.Is(err, device.ErrUnsupported) {
			return ref.Open(opt.threads()), nil
		}
		return dev, err
	}
	return nil, fmt.Errorf("resdet: device %q is neither cpu nor ref", opt.Device)
}

// Close releases the model's memory. It is idempotent.
func (d *Detector) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil
	}
	d.closed = true
	d.programs.close()
	err := d.dev.Close()
	if d.file != nil {
		err = errors.Join(err, d.file.Close())
	}
	return err
}

// Config returns the model's configuration. The caller must not change what
// its slices point to.
func (d *Detector) Config() Config { return d.cfg }

// Device says what the network runs on, for reports.
func (d *Detector) Device() string { return d.dev.Name() }

// Settings returns the model's own thresholds, to be changed for
// [Detector.DetectBatch].
func (d *Detector) Settings() Settings { return d.cfg.ROI.Settings() }

// Result is what was found in one image.
type Result struct {
	View       View
	Detections []Detection
	// Proposals of the first stage in original pixels, best first; their Image
	// is 0.
	Proposals []Proposal
}

// Detect finds the objects of an image with the model's own thresholds. It
// returns ctx's error when ctx ends first.
func (d *Detector) Detect(ctx context.Context, img image.Image) ([]Detection, error) {
	res, err := d.DetectBatch(ctx, []image.Image{img}, d.Settings())
	if err != nil {
		return nil, err
	}
	return res[0].Detections, nil
}

// ErrClosed is returned by methods of a closed Detector.
var ErrClosed = errors.New("resdet: the detector is closed")

// DetectBatch finds the objects of several images at once. Each is scaled on
// its own and padded to the largest, as in torchvision, so images of one shape
// belong together.
func (d *Detector) DetectBatch(ctx context.Context, images []image.Image, s Settings) ([]Result, error) {
	if len(images) == 0 {
		return nil, nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil, ErrClosed
	}
	start := time.Now()
	d.views = d.views[:0]
	for i, img := range images {
		size := img.Bounds().Size()
		if size.X < 1 || size.Y < 1 {
			return nil, fmt.Errorf("resdet: image %d has no pixels (%dx%d)", i, size.X, size.Y)
		}
		view, _ := d.cfg.Transform.Plan(size.X, size.Y)
		d.views = append(d.views, view)
	}
	one, err := d.programs.stage1(d.cfg.Transform.BatchShape(d.views...))
	if err != nil {
		return nil, err
	}
	compiled := time.Now()
	height, width := one.shape[2], one.shape[3]
	pixels := one.program.Input(0).Data()
	for i, img := range images {
		n := 3 * height * width
		if err := d.cfg.Transform.Write(pixels[i*n:][:n], height, width, img, d.views[i], d.scratch); err != nil {
			return nil, fmt.Errorf("resdet: image %d: %w", i, err)
		}
	}
	transformed := time.Now()
	if err := one.program.Run(ctx, nil); err != nil {
		return nil, err
	}
	ran1 := time.Now()
	d.levels = one.levels(d.levels[:0])
	d.proposals = d.proposer.Propose(d.proposals[:0], d.levels, d.views)
	proposed := time.Now()

	two, err := one.stage2(len(d.proposals))
	if err != nil {
		return nil, err
	}
	compiled2 := time.Now()
	rpn.Rois(two.program.Input(two.rois).Data(), d.proposals)
	if err := two.program.Run(ctx, one.kept); err != nil {
		return nil, err
	}
	ran2 := time.Now()
	results := d.results(two, s)
	end := time.Now()

	d.profile = Profile{
		Compile: compiled.Sub(start) + compiled2.Sub(proposed), Transform: transformed.Sub(compiled), Stage1: ran1.Sub(transformed),
		Proposals: proposed.Sub(ran1), Stage2: ran2.Sub(compiled2), Post: end.Sub(ran2), Total: end.Sub(start),
		Regions: len(d.proposals), Input: one.shape, one: one.program, two: two.program,
	}
	return results, nil
}

// results reads the head's outputs and returns to original pixels.
func (d *Detector) results(two *stage2, s Settings) []Result {
	logits, deltas := two.program.Output(0).Data(), two.program.Output(1).Data()
	rows := 1 + len(d.cfg.Classes)
	results := make([]Result, len(d.views))
	first := 0
	for i, view := range d.views {
		end := first
		for end < len(d.proposals) && d.proposals[end].Image == i {
			end++
		}
		mine := d.proposals[first:end]
		dets := d.detector.Detect(nil, view, mine, logits[first*rows:end*rows], deltas[4*first*rows:4*end*rows], s)
		props := make([]Proposal, len(mine))
		for j, p := range mine {
			props[j] = Proposal{Box: view.Undo(p.Box), Score: p.Score}
		}
		results[i] = Result{View: view, Detections: d.cfg.Transform.Undo(view, dets), Proposals: props}
		first = end
	}
	return results
}

// Profile says where the time of a DetectBatch call went.
type Profile struct {
	Compile   time.Duration // programs for a new shape; 0 once they are known
	Transform time.Duration // pixels → the network's input
	Stage1    time.Duration // backbone and RPN head
	Proposals time.Duration // decoding and NMS on the host
	Stage2    time.Duration // region head
	Post      time.Duration // softmax, decoding and NMS on the host
	Total     time.Duration
	Regions   int   // proposals that went into stage 2
	Input     []int // [N 3 H W], padded

	one, two device.Program
}

// Steps returns the kernels of both stages with their times in that call.
func (p Profile) Steps() (stage1, stage2 []Step) {
	if p.one == nil {
		return nil, nil
	}
	return p.one.Steps(), p.two.Steps()
}

// Profile returns where the time of the last successful call went. Its Steps
// are good until the next call.
func (d *Detector) Profile() Profile {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.profile
}
