package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"resdet"
	"resdet/coco"
	"resdet/internal/calibrate"
	"resdet/internal/transform"
	"resdet/internal/weights"
)

type quantizeOptions struct {
	model  modelFlags
	data   string
	check  string
	out    string
	images int
	probes int
	method string
	keep   string
	match  float64
	json   bool
	quiet  bool
}

func newQuantizeCommand(s streams) *cobra.Command {
	var o quantizeOptions
	cmd := &cobra.Command{
		Use:   "quantize [--model FILE] --data SPEC --out FILE",
		Short: "Calibrate a model for int8 on a hundred photos",
		Long: `Make a model that also runs in int8 (--precision int8), from photos of what it will see; no labels are looked at.

What every layer reads is counted over the photos, and a scale chosen from it; what rounding its weights adds on average
is taken off its bias. Then each layer is run in int8 alone, and in bf16 alone, and it is measured what that does to the
detections. Layers stay in bf16 or f32, those first whose time buys most, all on maps of one stride together, until
--match of the detections above 0.5 are still found (same class, IoU of 0.9 or more). What reads the image and what gives
logits and deltas is never in int8.

The model written is one file as any other: the same weights, and what was found in its configuration. Without
--precision int8 it computes what it computed before.`,
		Example: `  resdet quantize --data voc:photos --out model-int8.safetensors
  resdet quantize --model resnet101.safetensors --data coco:train.json,images=photos --out int8.safetensors --match 0.9
  resdet eval --model int8.safetensors --precision int8 --data voc:VOCdevkit,split=minival --protocol voc07`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return runQuantize(cmd.Context(), s, o) },
	}
	f := cmd.Flags()
	f.StringVarP(&o.model.path, "model", "m", "", "model file (default: the one built in)")
	o.model.precision = string(resdet.F32)
	f.IntVar(&o.model.threads, "threads", 0, "threads of the network (default: all that the process may use)")
	f.StringVar(&o.model.device, "device", "", "cpu (oneDNN) or ref (plain Go); default: the faster one that is there")
	f.StringVarP(&o.data, "data", "d", "", "photos to calibrate on, a data set (required)")
	f.StringVar(&o.check, "check", "", "data set on whose photos int8 is held against f32 at the end (default: those of --data)")
	f.StringVarP(&o.out, "out", "o", "", "model file to write (required)")
	f.IntVar(&o.images, "images", 100, "photos to calibrate on, evenly from --data")
	f.IntVar(&o.probes, "probes", 16, "photos of them on which each layer is measured alone; 0: none is, and layers of fine maps leave int8 first")
	f.StringVar(&o.method, "method", string(calibrate.MSE), "of choosing scales: mse (least error), percentile (99.99 % of the values) or absmax")
	f.StringVar(&o.keep, "keep", string(resdet.Auto), "where layers that lose too much in int8 may stay: f32, bf16 (then f32 if that loses too much, and on CPUs without), or auto: bf16 if this CPU has it")
	f.Float64Var(&o.match, "match", 0.97, "part of the strong detections that must still be found")
	f.BoolVar(&o.json, "json", false, "JSON on standard output instead of tables")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "no progress bar")
	return cmd
}

// quantized is the report of a quantisation.
type quantized struct {
	Model   string           `json:"model"`
	Out     string           `json:"out"`
	Device  string           `json:"device"`
	Data    string           `json:"data"`
	Images  int              `json:"images"`
	Method  calibrate.Method `json:"method"`
	Probes  int              `json:"probes"`
	Wanted  float64          `json:"match_wanted"`
	Tries   []quantizeTry    `json:"tries"` // on the images
	Checked string           `json:"checked"`
	Check   quantizeTry      `json:"check"`
	Layers  []quantizedLayer `json:"layers"` // in order of use
}

// quantizedLayer is a layer that may be in int8.
type quantizedLayer struct {
	Layer     string           `json:"layer"`
	Precision resdet.Precision `json:"precision"`
	Signed    bool             `json:"signed"`
	Largest   float32          `json:"largest"` // magnitude that it read
	Limit     float32          `json:"limit"`   // beyond which values are cut off
	FLOPs     int64            `json:"flops"`   // for a photo
	Loss      float64          `json:"loss"`    // with this layer alone in int8; 0 without probes
	Part      float64          `json:"match"`
	LossBF16  float64          `json:"loss_bf16"` // with this layer alone in bf16, where it may be
}

// quantizeTry is what remains of the detections with so many layers kept out of
// int8.
type quantizeTry struct {
	Kept    int     `json:"kept"`
	Images  int     `json:"images"`
	Strong  int     `json:"strong"` // of both networks
	Matched int     `json:"matched"`
	Part    float64 `json:"match"`
	Loss    float64 `json:"loss"`
}

func runQuantize(ctx context.Context, s streams, o quantizeOptions) error {
	method, err := calibrate.ParseMethod(o.method)
	switch {
	case err != nil:
		return usagef("--method %q is none of mse, percentile, absmax", o.method)
	case o.data == "":
		return usagef("--data is missing: photos of what the model will see")
	case o.out == "":
		return usagef("--out says where the model file goes")
	case o.images < 1 || o.images > 10000:
		return usagef("--images %d: give 1 to 10000", o.images)
	case o.probes < 0:
		return usagef("--probes %d is negative", o.probes)
	case o.keep != string(resdet.F32) && o.keep != string(resdet.BF16) && o.keep != string(resdet.Auto):
		return usagef("--keep %q is none of f32, bf16, auto", o.keep)
	case !(o.match >= 0 && o.match <= 1):
		return usagef("--match %g is not from 0 to 1", o.match)
	case o.model.threads < 0:
		return usagef("--threads %d is negative", o.model.threads)
	}
	q, err := openQuantizer(ctx, s.err, o)
	if err != nil {
		return err
	}
	defer q.close()
	r, err := q.run(ctx, method)
	if err != nil {
		return err
	}
	if o.json {
		return printJSON(s.out, r)
	}
	return r.print(s.out)
}

// quantizer is a model that is being quantised.
type quantizer struct {
	o       quantizeOptions
	errw    io.Writer
	file    *weights.Checkpoint
	cfg     resdet.Config // of the model, without a quantisation
	d       *resdet.Detector
	photos  []photoFile
	check   []photoFile
	found   [][]resdet.Detection // of photos, in f32
	work    map[string]int64     // FLOPs of layers, for the first photo
	bf16    bool                 // layers may stay in it
	three   map[string]bool      // layers of 3×3 filters
	largest map[string]float32
	means   map[string][]float32 // of the channels that layers read
}

// photoFile is a photo that is decoded when it is needed: a hundred at once
// would be 200 MB.
type photoFile struct{ name, path string }

func (p photoFile) open() (image.Image, error) {
	f, err := os.Open(p.path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	img, err := transform.Decode(f, transform.DefaultLimits())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p.name, err)
	}
	return img, nil
}

func openQuantizer(ctx context.Context, errw io.Writer, o quantizeOptions) (_ *quantizer, err error) {
	q := &quantizer{o: o, errw: errw, largest: map[string]float32{}, means: map[string][]float32{}, three: map[string]bool{}}
	if q.photos, err = photoFiles(ctx, o.data, o.images); err != nil {
		return nil, err
	}
	if o.check != "" {
		if q.check, err = photoFiles(ctx, o.check, 0); err != nil {
			return nil, err
		}
	}
	if q.d, err = o.model.openWith(o.model.options()); err != nil { // with all its checks
		return nil, err
	}
	if q.file, err = openModelFile(o.model.path); err != nil {
		return nil, errors.Join(err, q.d.Close())
	}
	q.cfg = q.d.Config()
	q.cfg.Quantization = nil
	if err = q.prepare(ctx); err != nil {
		q.close()
		return nil, err
	}
	return q, nil
}

// prepare finds out, before the long part, whether this CPU can do it.
func (q *quantizer) prepare(ctx context.Context) error {
	params, err := q.cfg.Params()
	if err != nil {
		return err
	}
	for _, p := range params {
		q.three[strings.TrimSuffix(p.Key, ".weight")] = len(p.Shape) == 4 && p.Shape[2] == 3 && p.Shape[3] == 3
	}
	if _, err := q.try(ctx, &resdet.Quantization{}, nil, nil); err != nil {
		return err
	}
	return q.checkBF16()
}

// checkBF16 finds out whether layers may stay in bf16.
func (q *quantizer) checkBF16() error {
	if q.o.keep == string(resdet.F32) {
		return nil
	}
	options := q.o.model.options()
	options.Precision = resdet.BF16
	d, err := resdet.New(q.cfg, q.file, options)
	if lacks := (*resdet.PrecisionError)(nil); q.o.keep == string(resdet.Auto) && errors.As(err, &lacks) {
		return nil
	}
	if err != nil {
		return err
	}
	q.bf16 = true
	return d.Close()
}

func (q *quantizer) close() {
	q.d.Close()
	q.file.Close()
}

// photoFiles lists n photos of a data set, or all for 0, evenly spread.
func photoFiles(ctx context.Context, arg string, n int) ([]photoFile, error) {
	spec, err := coco.ParseSpec(arg)
	if err != nil {
		return nil, usageError{err}
	}
	data, err := coco.Load(ctx, spec)
	if err != nil {
		return nil, err
	}
	var all []photoFile
	for _, im := range data.Images {
		if im.Path != "" {
			all = append(all, photoFile{im.File, im.Path})
		}
	}
	if len(all) == 0 {
		return nil, hintError{fmt.Errorf("%s: there are no photos", arg), "say where the photos are: --data …,images=DIR"}
	}
	return spread(all, n), nil
}

// spread returns n of all, evenly, or all if there are no more or n is 0.
func spread[T any](all []T, n int) []T {
	if n == 0 || n >= len(all) {
		return all
	}
	some := make([]T, n)
	for i := range some {
		some[i] = all[i*len(all)/n]
	}
	return some
}

// openModelFile opens a model's file, or that of the built-in model.
func openModelFile(path string) (*weights.Checkpoint, error) {
	if path == "" {
		return weights.OpenString("the default model", resdet.DefaultFile())
	}
	return weights.Open(path)
}

func (q *quantizer) run(ctx context.Context, method calibrate.Method) (*quantized, error) {
	numbers, err := q.calibrate(ctx, method)
	if err != nil {
		return nil, err
	}
	r := &quantized{
		Model: modelName(q.o.model.path), Out: q.o.out, Device: q.d.Device(), Data: q.o.data, Images: len(q.photos), Method: method,
		Probes: min(q.o.probes, len(q.photos)), Wanted: q.o.match,
	}
	names, err := q.cfg.Layers()
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		l := quantizedLayer{Layer: name, Precision: resdet.F32, FLOPs: q.work[name], Part: 1}
		if n, ok := numbers[name]; ok { // else it read nothing but zeros: there is no scale for it
			steps := float32(255)
			if n.Signed {
				steps = 127
			}
			l.Precision, l.Signed, l.Largest, l.Limit = n.Precision, n.Signed, q.largest[name], n.Scale*steps
		}
		r.Layers = append(r.Layers, l)
	}
	if err := q.probe(ctx, r, numbers); err != nil {
		return nil, err
	}
	quantization, err := q.choose(ctx, r, numbers)
	if err != nil {
		return nil, err
	}
	r.Checked = r.Data
	if q.check != nil {
		if r.Check, err = q.try(ctx, quantization, q.check, nil); err != nil {
			return nil, err
		}
		r.Checked = q.o.check
	}
	return r, q.write(quantization)
}

// calibrate counts what every layer reads on the photos, and notes what the
// network finds there in f32.
func (q *quantizer) calibrate(ctx context.Context, method calibrate.Method) (map[string]resdet.Numbers, error) {
	histograms, means := map[string]*calibrate.Histogram{}, map[string]*calibrate.Means{}
	bar := newProgress(q.errw, "photos", len(q.photos), q.o.quiet)
	defer bar.stop()
	for _, p := range q.photos {
		img, err := p.open()
		if err != nil {
			return nil, err
		}
		found, err := q.d.Detect(ctx, img)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", p.name, err)
		}
		q.found = append(q.found, found)
		err = q.d.Observe(ctx, img, func(layer string, shape resdet.Shape, values []float32) error {
			if histograms[layer] == nil {
				histograms[layer], means[layer] = new(calibrate.Histogram), new(calibrate.Means)
			}
			means[layer].Add(shape, values)
			if err := histograms[layer].Add(values); err != nil {
				return fmt.Errorf("layer %s: %w", layer, err)
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("%s: %w", p.name, err)
		}
		if q.work == nil {
			p := q.d.Profile()
			if q.work, err = q.cfg.LayerFLOPs(p.Input[2], p.Input[3], p.Regions); err != nil {
				return nil, err
			}
		}
		bar.step()
	}
	numbers := map[string]resdet.Numbers{}
	for layer, h := range histograms {
		q.largest[layer] = h.Largest()
		if n, ok := h.Numbers(method); ok {
			numbers[layer], q.means[layer] = n, means[layer].Values()
		}
	}
	if len(numbers) == 0 {
		return nil, errors.New("no layer of the model may be computed in int8")
	}
	return numbers, nil
}

// probe measures what each layer in int8 alone, and in bf16 alone, does to the
// detections.
func (q *quantizer) probe(ctx context.Context, r *quantized, numbers map[string]resdet.Numbers) error {
	if r.Probes == 0 {
		return nil
	}
	at := make([]int, len(q.photos))
	for i := range at {
		at[i] = i
	}
	var photos []photoFile
	var found [][]resdet.Detection
	for _, i := range spread(at, r.Probes) {
		photos, found = append(photos, q.photos[i]), append(found, q.found[i])
	}
	bar := newProgress(q.errw, "layers", len(r.Layers), q.o.quiet)
	defer bar.stop()
	for i := range r.Layers {
		l := &r.Layers[i]
		if l.Precision == resdet.Int8 {
			alone := func(n resdet.Numbers) (quantizeTry, error) {
				return q.try(ctx, &resdet.Quantization{Layers: map[string]resdet.Numbers{l.Layer: n}, Means: q.means}, photos, found)
			}
			t, err := alone(numbers[l.Layer])
			if err != nil {
				return err
			}
			l.Loss, l.Part = t.Loss, t.Part
			if q.bf16 {
				if t, err = alone(resdet.Numbers{Precision: resdet.BF16}); err != nil {
					return err
				}
				l.LossBF16 = t.Loss
			}
		}
		bar.step()
	}
	return nil
}

// move takes layers out of int8, or out of bf16 later.
type move struct {
	layers []int // of the report
	to     resdet.Precision
	price  float64 // time for the loss that it undoes
}

// moves lists those that lead from all layers in int8 to none, the cheapest first.
// Layers that compute on maps of the same stride go together, and those of regions
// do: of layers here and there in int8 every second one would have to round what
// it reads first. Their losses count squared, for those of many layers add up as
// noise does: of the built-in model's stages in bf16 2.3, 0.9, 1.0, 0.8 and 0.5 %
// make 3.0 %.
func (q *quantizer) moves(layers []quantizedLayer) ([]move, error) {
	strides, err := q.cfg.LayerStrides()
	if err != nil {
		return nil, err
	}
	groups := map[int][]int{}
	for i, l := range layers {
		if l.Precision == resdet.Int8 {
			groups[strides[l.Layer]] = append(groups[strides[l.Layer]], i)
		}
	}
	var all []move
	for _, stride := range slices.Sorted(maps.Keys(groups)) {
		group := groups[stride]
		var inF32, inBF16, inInt8, lost, left float64 // times, and losses squared
		for _, i := range group {
			l := layers[i]
			inF32 += q.time(l.Layer, resdet.F32)
			inBF16 += q.time(l.Layer, resdet.BF16)
			inInt8 += q.time(l.Layer, resdet.Int8)
			lost += l.Loss * l.Loss
			left += l.LossBF16 * l.LossBF16
		}
		first, second := (inBF16-inInt8)/(lost-left), (inF32-inBF16)/left
		if q.bf16 && left < lost && first < second {
			all = append(all, move{group, resdet.BF16, first}, move{group, resdet.F32, second})
		} else {
			all = append(all, move{group, resdet.F32, (inF32 - inInt8) / lost})
		}
	}
	slices.SortStableFunc(all, func(a, b move) int { return cmp.Compare(a.price, b.price) })
	return all, nil
}

// time is about what a layer takes, in GFLOP of products in f32, by any CPU's
// rates: 430, 900 and 1,850 GFLOP/s in the three precisions on Zen 5, and 1,300
// for 3×3 filters in f32, by Winograd, for which bf16 is of no use without AMX.
func (q *quantizer) time(layer string, p resdet.Precision) float64 {
	per := map[resdet.Precision]float64{resdet.F32: 1, resdet.BF16: 0.5, resdet.Int8: 0.25}[p]
	if q.three[layer] {
		per = min(per, 0.35)
	}
	return per * float64(q.work[layer]) / 1e9
}

// choose returns the quantisation with the fewest moves with which enough
// detections match, and notes it in the report.
func (q *quantizer) choose(ctx context.Context, r *quantized, numbers map[string]resdet.Numbers) (*resdet.Quantization, error) {
	all, err := q.moves(r.Layers)
	if err != nil {
		return nil, err
	}
	tries := map[int]quantizeTry{}
	after := func(n int) []quantizedLayer {
		layers := slices.Clone(r.Layers)
		for _, m := range all[:n] {
			for _, i := range m.layers {
				layers[i].Precision = m.to
			}
		}
		return layers
	}
	n, _, err := fewest(len(all), func(n int) (bool, error) {
		if n == len(all) {
			return true, nil // in float32
		}
		t, err := q.try(ctx, q.quantization(numbers, after(n)), q.photos, q.found)
		r.Tries, tries[n] = append(r.Tries, t), t
		return t.Part >= q.o.match, err
	})
	if err != nil {
		return nil, err
	}
	layers := after(n)
	if !slices.ContainsFunc(layers, func(l quantizedLayer) bool { return l.Precision == resdet.Int8 }) {
		return nil, hintError{
			fmt.Errorf("no layer can be in int8 with %.1f %% of the detections matched", 100*q.o.match),
			"try another --method, more --images, or a lower --match",
		}
	}
	r.Layers, r.Check = layers, tries[n]
	return q.quantization(numbers, r.Layers), nil
}

// fewest returns the least number from 0 to most that is enough, as far as more
// is never worse: it tries 0, 1, 2, 4, 8 …, and then halves the last step.
func fewest(most int, enough func(int) (bool, error)) (n int, found bool, err error) {
	low := -1 // is not enough
	for high := 0; ; high = min(most, max(1, 2*high)) {
		ok, err := enough(high)
		if err != nil {
			return 0, false, err
		}
		if ok {
			n = high
			break
		}
		if low = high; high == most {
			return 0, false, nil
		}
	}
	for n-low > 1 {
		middle := (low + n) / 2
		ok, err := enough(middle)
		if err != nil {
			return 0, false, err
		}
		if ok {
			n = middle
		} else {
			low = middle
		}
	}
	return n, true, nil
}

// quantization has the layers as they are in the report.
func (q *quantizer) quantization(numbers map[string]resdet.Numbers, layers []quantizedLayer) *resdet.Quantization {
	r := &resdet.Quantization{Method: q.o.method, Data: q.o.data, Images: len(q.photos), Layers: map[string]resdet.Numbers{}, Means: map[string][]float32{}}
	for _, l := range layers {
		switch l.Precision {
		case resdet.Int8:
			r.Layers[l.Layer], r.Means[l.Layer] = numbers[l.Layer], q.means[l.Layer]
		case resdet.BF16:
			r.Layers[l.Layer] = resdet.Numbers{Precision: resdet.BF16}
		}
	}
	return r
}

// try holds the model quantised so against what it finds in f32, found if that
// is known.
func (q *quantizer) try(ctx context.Context, z *resdet.Quantization, photos []photoFile, found [][]resdet.Detection) (quantizeTry, error) {
	t := quantizeTry{Kept: len(q.work), Images: len(photos)}
	for _, n := range z.Layers {
		if n.Precision == resdet.Int8 {
			t.Kept--
		}
	}
	cfg := q.cfg
	cfg.Quantization = z
	options := q.o.model.options()
	options.Precision = resdet.Int8
	options.EveryLayer = true // the model will run on other CPUs, too
	low, err := resdet.New(cfg, q.file, options)
	if err != nil {
		return t, err
	}
	defer low.Close()
	var a calibrate.Agreement
	for i, p := range photos {
		img, err := p.open()
		if err != nil {
			return t, err
		}
		var reference []resdet.Detection
		if found != nil {
			reference = found[i]
		} else if reference, err = q.d.Detect(ctx, img); err != nil {
			return t, fmt.Errorf("%s: %w", p.name, err)
		}
		other, err := low.Detect(ctx, img)
		if err != nil {
			return t, fmt.Errorf("%s: %w", p.name, err)
		}
		a.Add(reference, other)
	}
	t.Strong, t.Matched, t.Part, t.Loss = a.Strong, a.Matched, a.Part(), a.Loss()
	return t, nil
}

// write stores the model with its quantisation, its weights as they were.
func (q *quantizer) write(z *resdet.Quantization) error {
	cfg := q.cfg
	cfg.Quantization = z
	text, err := json.Marshal(cfg)
	if err != nil {
		return err
	}
	wanted, err := cfg.Params()
	if err != nil {
		return err
	}
	dtype := weights.F16
	for _, p := range wanted {
		if t := q.file.Tensor(p.Key); len(p.Shape) > 1 && t != nil && t.DType != weights.F16 {
			dtype = weights.F32
		}
	}
	return weights.Save(q.o.out, text, wanted, q.file, dtype)
}

func (r *quantized) print(out io.Writer) error {
	w := bufio.NewWriter(out)
	fmt.Fprintf(w, "%s on %s, %d photos of %s, %s\n\n", r.Model, r.Device, r.Images, r.Data, r.Method)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "layer\tprecision\tlargest\tlimit\tGFLOP\tint8 alone loses\tmatched\tbf16 alone loses\n")
	for _, l := range r.Layers {
		sign := ""
		if l.Signed {
			sign = "±"
		}
		loss, part, half := "", "", ""
		if r.Probes > 0 && l.Limit > 0 {
			loss, part = fmt.Sprintf("%.2f %%", 100*l.Loss), fmt.Sprintf("%.1f %%", 100*l.Part)
		}
		if l.LossBF16 > 0 {
			half = fmt.Sprintf("%.2f %%", 100*l.LossBF16)
		}
		fmt.Fprintf(t, "%s\t%s\t%s%.3g\t%s%.3g\t%.2f\t%s\t%s\t%s\n", l.Layer, l.Precision, sign, l.Largest, sign, l.Limit, float64(l.FLOPs)/1e9, loss, part, half)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	in := map[resdet.Precision]int{}
	for _, l := range r.Layers {
		in[l.Precision]++
	}
	fmt.Fprintf(w, "\n%d of %d layers in int8, %d in bf16; what reads the image and what gives logits and deltas stays in f32\n", in[resdet.Int8], len(r.Layers), in[resdet.BF16])
	for _, try := range r.Tries {
		fmt.Fprintf(w, "%d kept: %s\n", try.Kept, try)
	}
	fmt.Fprintf(w, "on %s: %s\n%s\n", r.Checked, r.Check, r.Out)
	return w.Flush()
}

func (t quantizeTry) String() string {
	return fmt.Sprintf("%.1f %% of %d detections above 0.5 match, loss %.2f %%, %d photos", 100*t.Part, t.Strong, 100*t.Loss, t.Images)
}
