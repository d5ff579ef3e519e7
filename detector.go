package resdet

import (
	"context"
	"errors"
	"fmt"
	"image"
	"io"
	"runtime"
	"slices"
	"sync"
	"time"

	"resdet/internal/box"
	"resdet/internal/det"
	"resdet/internal/device"
	"resdet/internal/nd"
	"resdet/internal/nn"
	"resdet/internal/weights"
	"resdet/roihead"
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
	// Workers is how many calls run at a time, each on an equal share of the
	// threads and at least one, with the packed weights in common; 0: one. A
	// machine of many cores finds more per second with several workers, and each
	// call takes longer.
	Workers int
	// Choices are those of trials on this machine, see [ReadChoices]; none: layers
	// are computed as a rule says.
	Choices Choices
	// Device is "cpu" (oneDNN), "ref" (plain Go, slow and exact) or "" for the
	// first of them that this build has.
	Device string
	// Precision is what the network multiplies in; "" is [F32]. The first layer and
	// those that give logits and deltas are never computed below f32. In int8 the
	// others are as the model's [Quantization] says, in bf16 those of regions and
	// of maps with a stride of 32 pixels or more, which cost one strong detection
	// in a hundred at most.
	Precision Precision
	// EveryLayer computes all others in bf16, and in int8 all that the quantization
	// names. Otherwise those stay in f32 that are faster so: 3×3 convolutions in
	// int8 on CPUs without VNNI, and in bf16 on those without AMX.
	EveryLayer bool
	// Quantization, if not nil, is used for [Int8] instead of the model's.
	Quantization *Quantization
	// ShortSide, if not 0, is used instead of the model's: images are scaled to
	// it (and to a long side in proportion) before the network, so that half of
	// it takes a quarter of the time and misses what is small.
	ShortSide int
}

// Detector is a model ready to run. Its methods may be called from any
// goroutine; [Options.Workers] calls run at a time, the others wait.
type Detector struct {
	cfg     Config
	params  Params
	file    io.Closer     // of params; may be nil
	workers []*worker     // all of them
	free    chan struct{} // one for each that is idle; closed with the detector
	closing sync.Once
	asking  sync.Mutex // held while params is asked
	// precision is never Auto.
	precision Precision

	mu      sync.Mutex // guards all below
	idle    []*worker  // the last one that worked is taken first: it knows the shapes
	profile Profile
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
	if opt.Quantization != nil {
		cfg.Quantization = opt.Quantization
		if err := cfg.Quantization.validate(); err != nil {
			return nil, err
		}
	}
	d := &Detector{cfg: cfg, params: params}
	var err error
	if d.workers, err = d.newWorkers(opt); err != nil {
		return nil, err
	}
	var layers nn.Numerics
	if d.precision, layers, err = cfg.numerics(d.workers[0].dev, opt); err != nil {
		return nil, errors.Join(err, closeWorkers(d.workers))
	}
	low, err := cfg.correct(d.workers[0].dev, params, layers)
	if err != nil {
		return nil, errors.Join(err, closeWorkers(d.workers))
	}
	for _, w := range d.workers {
		w.programs.layers, w.programs.params = layers, low
	}
	d.idle, d.free = slices.Clone(d.workers), make(chan struct{}, len(d.workers))
	for range d.workers {
		d.free <- struct{}{}
	}
	return d, nil
}

func (o Options) threads() int {
	if o.Threads > 0 {
		return o.Threads
	}
	return runtime.GOMAXPROCS(0)
}

// Close waits for calls under way and releases the model's memory. It is
// idempotent.
func (d *Detector) Close() (err error) {
	d.closing.Do(func() {
		for range d.workers {
			<-d.free
		}
		close(d.free)
		err = closeWorkers(d.workers)
		if d.file != nil {
			err = errors.Join(err, d.file.Close())
		}
	})
	return err
}

// take returns an idle worker, waiting for one if need be.
func (d *Detector) take(ctx context.Context) (*worker, error) {
	select {
	case _, open := <-d.free:
		if !open {
			return nil, ErrClosed
		}
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	last := len(d.idle) - 1
	w := d.idle[last]
	d.idle = d.idle[:last]
	return w, nil
}

// give makes a worker idle.
func (d *Detector) give(w *worker) {
	d.mu.Lock()
	d.idle = append(d.idle, w)
	d.mu.Unlock()
	d.free <- struct{}{}
}

// Config returns the model's configuration. The caller must not change what
// its slices point to.
func (d *Detector) Config() Config { return d.cfg }

// Device says what the network runs on, for reports.
func (d *Detector) Device() string {
	name := d.workers[0].dev.Name()
	if len(d.workers) > 1 {
		return fmt.Sprintf("%d × %s", len(d.workers), name)
	}
	return name
}

// Precision says what the network multiplies in, for reports: [F32], [BF16] or
// [Int8]; see [Options].
func (d *Detector) Precision() Precision { return d.precision }

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
	results, _, err := d.DetectProfiled(ctx, images, s)
	return results, err
}

// DetectProfiled is [Detector.DetectBatch] that also says where its time went.
func (d *Detector) DetectProfiled(ctx context.Context, images []image.Image, s Settings) ([]Result, Profile, error) {
	if len(images) == 0 {
		return nil, Profile{}, nil
	}
	w, err := d.take(ctx)
	if err != nil {
		return nil, Profile{}, err
	}
	defer d.give(w)
	results, p, err := w.detect(ctx, images, s)
	if err == nil {
		d.mu.Lock()
		d.profile = p
		d.mu.Unlock()
	}
	return results, p, err
}

// Prepare detects the objects of a batch once on every worker, so that no later
// call with images of these shapes waits for a compile.
func (d *Detector) Prepare(ctx context.Context, images []image.Image) error {
	var taken []*worker
	defer func() {
		for _, w := range taken {
			d.give(w)
		}
	}()
	for range d.workers {
		w, err := d.take(ctx)
		if err != nil {
			return err
		}
		taken = append(taken, w)
		if _, _, err := w.detect(ctx, images, d.Settings()); err != nil {
			return err
		}
	}
	return nil
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
// are good until the next call. With several workers, or several goroutines,
// [Detector.DetectProfiled] tells which call's it is.
func (d *Detector) Profile() Profile {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.profile
}
