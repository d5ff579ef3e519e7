package main

import (
	"cmp"
	"context"
	"fmt"
	"image"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"resdet"
	"resdet/coco"
	"resdet/eval"
	"resdet/internal/transform"
)

// evalSet is a data set in eval's terms. Images are numbered in the order of
// their ids, which is the order in which pycocotools takes them.
type evalSet struct {
	data    *coco.Dataset
	arg     string
	classes []eval.Class
	order   []int // by eval's image id: index in data.Images
	number  []int // the inverse
	truths  [][]eval.Truth
}

func loadEvalSet(ctx context.Context, arg string, classes []string) (*evalSet, error) {
	spec, err := coco.ParseSpec(arg)
	if err != nil {
		return nil, usageError{err}
	}
	spec.Classes = classes
	data, err := coco.Load(ctx, spec)
	if err != nil {
		return nil, err
	}
	return newEvalSet(data, arg), nil
}

// newEvalSet returns a data set that was loaded; reports call it arg.
func newEvalSet(data *coco.Dataset, arg string) *evalSet {
	s := &evalSet{data: data, arg: arg, order: make([]int, len(data.Images)), number: make([]int, len(data.Images))}
	for _, c := range data.Classes {
		s.classes = append(s.classes, eval.Class{Name: c.Name, ID: c.ID})
	}
	for i := range s.order {
		s.order[i] = i
	}
	slices.SortStableFunc(s.order, func(a, b int) int { return coco.CompareIDs(data.Images[a].ID, data.Images[b].ID) })
	s.truths = make([][]eval.Truth, len(s.order))
	for n, i := range s.order {
		s.number[i] = n
		objects := data.Images[i].Objects
		truths := make([]eval.Truth, len(objects))
		for j, o := range objects {
			truths[j] = eval.Truth{
				ID: o.ID, Class: o.Class, Box: eval.Box(o.Box), Area: o.Area, Crowd: o.Crowd, Ignore: o.Ignore, Difficult: o.Difficult,
			}
		}
		s.truths[n] = truths
	}
	return s
}

func (s *evalSet) evaluator(p eval.Protocol) (*eval.Evaluator, error) {
	cfg := eval.DefaultConfig()
	cfg.Protocol, cfg.Classes = p, s.classes
	return eval.New(cfg)
}

// results evaluates what a results file holds.
func (s *evalSet) results(p eval.Protocol, file string, found []coco.Result) (*eval.Result, error) {
	e, err := s.evaluator(p)
	if err != nil {
		return nil, err
	}
	resolved, err := s.data.Resolve(found)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	// Detections by image, each image's in the file's order.
	starts := make([]int, len(s.order)+1)
	for i := range resolved.Detections {
		starts[s.number[resolved.Detections[i].Image]+1]++
	}
	for n := range s.order {
		starts[n+1] += starts[n]
	}
	dets := make([]eval.Detection, len(resolved.Detections))
	next := slices.Clone(starts)
	for i := range resolved.Detections {
		d := &resolved.Detections[i]
		n := s.number[d.Image]
		dets[next[n]] = eval.Detection{Class: d.Class, Score: d.Score, Box: eval.Box(d.Box)}
		next[n]++
	}
	e.AddStrays(eval.Strays{UnknownImages: resolved.OtherImages, UnknownClasses: resolved.OtherClasses})

	var wg sync.WaitGroup
	var at atomic.Int64
	errs := make([]error, runtime.GOMAXPROCS(0))
	for w := range errs {
		wg.Go(func() {
			for n := at.Add(1) - 1; n < int64(len(s.order)); n = at.Add(1) - 1 {
				if err := e.Add(n, s.truths[n], dets[starts[n]:starts[n+1]]); err != nil {
					errs[w] = err
					return
				}
			}
		})
	}
	wg.Wait()
	if err := cmp.Or(errs...); err != nil {
		return nil, err
	}
	r, err := e.Result()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	r.Settings.Data, r.Settings.Detections = s.arg, file
	return r, nil
}

// model runs a detector over the data set and evaluates what it finds.
func (s *evalSet) model(ctx context.Context, p eval.Protocol, name string, d *resdet.Detector, settings resdet.Settings, threads int, errw io.Writer, quiet bool) (*eval.Result, error) {
	e, err := s.evaluator(p)
	if err != nil {
		return nil, err
	}
	cfg := d.Config()
	theirs := make([]coco.Class, len(cfg.Classes))
	for i, c := range cfg.Classes {
		theirs[i] = coco.Class{Name: c.Name, ID: c.ID}
	}
	classes, err := coco.MapClasses(theirs, s.data.Classes)
	if err != nil {
		return nil, hintError{fmt.Errorf("%s and %s: %w", name, s.arg, err), "evaluate on data with some of the model's classes, or train on this data"}
	}
	run := eval.ModelRun{
		Model: name, Arch: cfg.Arch, Device: d.Device(), Precision: string(d.Precision()), Threads: threads,
		Score: decimal(settings.Score), NMS: decimal(settings.NMS), MaxDets: settings.Max, Classes: len(cfg.Classes),
	}
	var missing []string
	for i, k := range classes.Index {
		if k >= 0 {
			run.Mapped++
		} else {
			missing = append(missing, cfg.Classes[i].Name)
		}
	}
	if len(missing) > 0 && !quiet {
		fmt.Fprintf(errw, "resdet: %d of the model's %d classes are not in the data and are left out: %s\n", len(missing), len(cfg.Classes), strings.Join(missing, ", "))
	}
	params, err := cfg.Params()
	if err != nil {
		return nil, err
	}
	for _, p := range params {
		n := int64(1)
		for _, size := range p.Shape {
			n *= int64(size)
		}
		run.Parameters += n
	}

	photos := make([]eval.Photo, len(s.order))
	for n, i := range s.order {
		im := &s.data.Images[i]
		photos[n] = eval.Photo{ID: int64(n), Name: im.File, Truths: s.truths[n], Open: func() (image.Image, error) { return s.photo(im) }}
	}
	debug.FreeOSMemory() // of an earlier model
	resetPeak()
	m := &meteredDetector{d: d, settings: settings}
	bar := newProgress(errw, "images", len(photos), quiet)
	err = e.Run(ctx, m, photos, classes.Index, bar.step)
	bar.stop()
	if err != nil {
		return nil, err
	}
	r, err := e.Result()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	run.PeakMB, run.GMAC, run.Millis = peakMB(), m.gmac(), m.median()
	r.Settings.Data, r.Settings.Detections, r.Settings.Model = s.arg, name, &run
	return r, nil
}

// decimal is the decimal that a float32 was given as: 0.05, not 0.0500000007.
func decimal(v float32) float64 {
	d, err := strconv.ParseFloat(strconv.FormatFloat(float64(v), 'g', -1, 32), 64)
	if err != nil {
		return float64(v)
	}
	return d
}

// photo decodes an image of the data set.
func (s *evalSet) photo(im *coco.Image) (image.Image, error) {
	if im.Path == "" {
		return nil, hintError{fmt.Errorf("the photo is not to be found"), "say where the photos are: --data …,images=DIR"}
	}
	f, err := os.Open(im.Path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return transform.Decode(f, transform.DefaultLimits())
}

// meteredDetector notes what each image costs.
type meteredDetector struct {
	d        *resdet.Detector
	settings resdet.Settings
	times    []time.Duration
	flops    int64
}

func (m *meteredDetector) Detect(ctx context.Context, img image.Image) ([]eval.Found, error) {
	found, _, err := m.DetectProposals(ctx, img)
	return found, err
}

func (m *meteredDetector) DetectProposals(ctx context.Context, img image.Image) ([]eval.Found, []eval.Box, error) {
	res, err := m.d.DetectBatch(ctx, []image.Image{img}, m.settings)
	if err != nil {
		return nil, nil, err
	}
	p := m.d.Profile()
	m.times = append(m.times, p.Total-p.Compile)
	one, two := p.Steps()
	for _, s := range append(slices.Clip(one), two...) {
		m.flops += s.FLOPs
	}
	proposals := make([]eval.Box, len(res[0].Proposals))
	for i, x := range res[0].Proposals {
		x0, y0 := float64(x.Box.X0), float64(x.Box.Y0)
		proposals[i] = eval.Box{X: x0, Y: y0, W: float64(x.Box.X1) - x0, H: float64(x.Box.Y1) - y0}
	}
	return res[0].Detections, proposals, nil
}

// gmac is the mean per image; one multiply-accumulate is two operations.
func (m *meteredDetector) gmac() float64 {
	return float64(m.flops) / 2 / 1e9 / float64(max(len(m.times), 1))
}

func (m *meteredDetector) median() float64 {
	if len(m.times) == 0 {
		return 0
	}
	slices.Sort(m.times)
	return milliseconds(m.times[len(m.times)/2])
}
