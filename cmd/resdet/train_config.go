package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/spf13/pflag"

	"resdet"
	"resdet/coco"
	"resdet/internal/train"
	"resdet/internal/weights"
)

// trainFile is what --config may hold. What it does not say is the preset's,
// or the architecture's.
type trainFile struct {
	// Preset is the recipe to start from; "" chooses by the data.
	Preset string `json:"preset"`
	Arch   string `json:"arch"`
	// Init is a model, a checkpoint, "none", or "default", the built-in model.
	Init string `json:"init"`
	// Model is what differs from the architecture's settings.
	Model *resdet.Config `json:"model"`
	// Archs is what further differs for some architectures, so that one file
	// serves a comparison.
	Archs        map[string]archFile `json:"archs"`
	train.Recipe `yaml:",inline"`
}

// archFile is what differs for one architecture.
type archFile struct {
	Init  string         `json:"init"`
	Model *resdet.Config `json:"model"`
}

// readTrainFile reads --config; nil if there is none.
func readTrainFile(path string) (*train.Document, error) {
	if path == "" {
		return nil, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, 1<<20))
	if err != nil {
		return nil, err
	}
	d, err := train.ParseYAML(path, text)
	if err != nil {
		return nil, err
	}
	return d, d.Check(&trainFile{})
}

// trainFlags are the flags that override the configuration.
type trainFlags struct {
	arch, init, preset string
	seed               uint64
	steps, batch       int
	rate               float64
	precision          string
}

func (t *trainFlags) add(f *pflag.FlagSet) {
	f.StringVar(&t.preset, "preset", "", "recipe: "+strings.Join(train.Presets(), ", ")+" (default: chosen by the data)")
	f.Uint64Var(&t.seed, "seed", 1, "of everything random")
	f.IntVar(&t.steps, "steps", 0, "changes of the weights (default: the recipe's)")
	f.IntVar(&t.batch, "batch", 0, "images that go through the network together (default: the recipe's)")
	f.Float64Var(&t.rate, "rate", 0, "learning rate (default: the recipe's)")
	f.StringVar(&t.precision, "precision", "", "f32, or bf16 where the CPU has it: operands of convolutions and matrix products are rounded, sums and weights stay f32 (default: the recipe's, f32)")
}

// What --init may be besides a file.
const (
	builtIn   = "default"
	noWeights = "none"
)

// trainPlan is a run as it was decided before anything was computed.
type trainPlan struct {
	cfg     resdet.Config
	recipe  train.Recipe
	initial string // the file's name, or one of builtIn and noWeights
	source  *weights.Checkpoint
	family  *weights.Family // of the source; nil: not known
	report  *weights.Report
	classes *classMapping
}

func (p *trainPlan) close() {
	if p.source != nil {
		p.source.Close()
	}
}

// planTraining decides everything from the flags, the file and the data.
func planTraining(o trainFlags, flags *pflag.FlagSet, file string, d *trainData) (_ *trainPlan, err error) {
	doc, err := readTrainFile(file)
	if err != nil {
		return nil, err
	}
	var head trainFile
	if doc != nil {
		if err := doc.Decode(&head); err != nil {
			return nil, err
		}
	}
	p := &trainPlan{}
	defer func() {
		if err != nil {
			p.close()
		}
	}()
	arch := first(o.arch, head.Arch)
	p.initial = first(o.init, head.Archs[arch].Init, head.Init)
	if p.initial == "" && arch != "" {
		return nil, usagef("--arch %s needs --init FILE, the weights to start from, or --init none", arch)
	}
	p.initial = first(p.initial, builtIn)
	if err := p.openInitial(); err != nil {
		return nil, err
	}
	if err := p.configure(arch, doc, d); err != nil {
		return nil, err
	}
	if err := p.choose(first(o.preset, head.Preset), doc, d); err != nil {
		return nil, err
	}
	for name, set := range map[string]func(){
		"seed":  func() { p.recipe.Seed = o.seed },
		"steps": func() { p.setSteps(o.steps) },
		"batch": func() { p.recipe.Data.Batch = o.batch },
		"rate":  func() { p.recipe.Schedule.Rate = o.rate },

		"precision": func() { p.recipe.Precision = resdet.Precision(o.precision) },
	} {
		if flags.Changed(name) {
			set()
		}
	}
	if err := errors.Join(p.recipe.Validate(), p.cfg.Validate()); err != nil {
		if file != "" {
			err = fmt.Errorf("%s: %w", file, err)
		}
		return nil, err
	}
	if p.recipe.Evaluate.Patience > 0 && d.val == nil {
		return nil, hintError{errors.New("evaluate.patience: without a validation set nothing tells when to stop"), "give --val-data SPEC, or set patience: 0"}
	}
	return p, p.match()
}

func first(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}

// setSteps changes the length of the schedule, and what is in it likewise.
func (p *trainPlan) setSteps(n int) {
	s := &p.recipe.Schedule
	for i, d := range s.Decay {
		s.Decay[i] = max(1, int(int64(d)*int64(n)/int64(max(s.Steps, 1))))
	}
	if n > 0 {
		s.Decay = slices.Compact(slices.DeleteFunc(s.Decay, func(d int) bool { return d >= n }))
	}
	s.Warmup.Steps = min(s.Warmup.Steps, max(n-1, 0))
	s.Steps = n
}

// openInitial opens the weights to start from.
func (p *trainPlan) openInitial() (err error) {
	switch p.initial {
	case noWeights:
	case builtIn:
		p.source, err = weights.OpenString("the built-in model", resdet.DefaultFile())
	default:
		p.source, err = weights.Open(p.initial)
	}
	if p.source != nil && err == nil {
		p.family, err = weights.FamilyOf(p.source, "")
	}
	return err
}

// configure decides the detector's configuration: the architecture's, or that
// of the model to start from, with the file's changes and the data's classes.
func (p *trainPlan) configure(arch string, doc *train.Document, d *trainData) error {
	var text []byte
	if p.source != nil {
		text, _ = p.source.Config() // a checkpoint has none
	}
	switch {
	case arch != "":
		cfg, err := resdet.NewConfig(arch, resdet.IndexedClasses("object"))
		if err != nil {
			return usageError{err}
		}
		p.cfg = cfg
		if text != nil { // the same network, set up as that model has it
			if own, err := resdet.ParseConfig(text); err == nil && own.Arch == arch {
				p.cfg = own
			}
		}
	case text != nil:
		cfg, err := resdet.ParseConfig(text)
		if err != nil {
			return fmt.Errorf("%s: %w", p.source.Name, err)
		}
		p.cfg = cfg
	default:
		return usagef("--arch is needed to start from %s: one of %s", p.source.Name, strings.Join(resdet.Archs(), ", "))
	}
	if text == nil && p.source != nil { // a checkpoint: as its family does it
		if err := applyFamily(&p.cfg, p.source, p.family); err != nil {
			return err
		}
	}
	provenance := p.cfg.Provenance
	p.cfg.Classes, p.cfg.Provenance = nil, resdet.Provenance{}
	if doc != nil {
		for _, path := range [][]string{{"model"}, {"archs", p.cfg.Arch, "model"}} {
			if err := doc.Decode(&p.cfg, path...); err != nil {
				return err
			}
		}
	}
	p.cfg.Provenance.License = first(p.cfg.Provenance.License, provenance.License)
	classes := classesOf(d.train.Classes)
	if len(p.cfg.Classes) > 0 && !slices.EqualFunc(p.cfg.Classes, classes, func(a, b resdet.Class) bool { return a.Name == b.Name }) {
		return hintError{
			fmt.Errorf("model.classes lists %s, %s has %s", listClasses(p.cfg.Classes), d.trainArg, listClasses(classes)),
			"leave model.classes out, or choose with --classes",
		}
	}
	p.cfg.Classes = classes
	return nil
}

func listClasses(classes []resdet.Class) string {
	const most = 6
	var names []string
	for _, c := range classes[:min(most, len(classes))] {
		names = append(names, c.Name)
	}
	if len(classes) > most {
		names = append(names, "…")
	}
	return fmt.Sprintf("%d (%s)", len(classes), strings.Join(names, ", "))
}

// choose decides the recipe: the preset's or one for the data, with the file's
// changes.
func (p *trainPlan) choose(preset string, doc *train.Document, d *trainData) error {
	kind := train.Kind{Pyramid: p.cfg.Backbone.FPN != nil, VGG: p.cfg.Backbone.Family == "vgg"}
	var chosen train.Preset
	if preset == "" {
		chosen = train.Automatic(kind, p.facts(d.train))
	} else {
		var err error
		if chosen, err = train.NewPreset(preset, kind, len(d.train.Images)); err != nil {
			return usageError{err}
		}
	}
	if d.train.Format == coco.FormatCOCO {
		chosen.Evaluate.Protocol = "coco"
	}
	if p.initial == noWeights { // nothing in it is worth being kept
		chosen.FrozenStages = 0
	}
	if chosen.ShortSide > 0 && !doc.Has("model", "transform", "min_size") && !doc.Has("archs", p.cfg.Arch, "model", "transform", "min_size") {
		p.cfg.Transform.ShortSide, p.cfg.Transform.LongSide = chosen.ShortSide, chosen.LongSide
	}
	p.recipe = chosen.Recipe
	if doc == nil {
		return nil
	}
	if err := doc.Decode(&p.recipe); err != nil {
		return err
	}
	// A shorter schedule than the preset's keeps what fits of it.
	if doc.Has("schedule", "steps") && !doc.Has("schedule", "decay") {
		n := p.recipe.Schedule.Steps
		p.recipe.Schedule.Steps = chosen.Schedule.Steps
		p.setSteps(n)
	}
	return nil
}

// detector reports whether the initial weights are a detector's, not only a
// backbone's.
func (p *trainPlan) detector() bool {
	return p.source != nil && slices.ContainsFunc(p.source.Tensors, func(t weights.Tensor) bool {
		return strings.HasPrefix(t.Key, "rpn.head.")
	})
}

// match finds the network's parameters in the initial weights.
func (p *trainPlan) match() error {
	if p.source == nil {
		return nil
	}
	var err error
	if p.report, p.classes, err = matchClasses(p.source, p.family, p.cfg, nil); err != nil {
		return err
	}
	if n, _ := p.report.Count(weights.Matched); n == 0 {
		return hintError{fmt.Errorf("%s has nothing that %s could begin with", p.source.Name, p.cfg.Arch), fitHint(p.source, p.family, p.report, 0)}
	}
	return nil
}

// resolved is the configuration with everything in it, as --config reads it.
func (p *trainPlan) resolved() ([]byte, error) {
	model := p.cfg
	model.Provenance, model.Classes = resdet.Provenance{}, nil // both follow from the data
	return yaml.MarshalWithOptions(struct {
		Arch         string        `json:"arch"`
		Init         string        `json:"init,omitempty"`
		Model        resdet.Config `json:"model"`
		train.Recipe `yaml:",inline"`
	}{p.cfg.Arch, p.initial, model, p.recipe}, yaml.Indent(2))
}

// recipeJSON is the recipe for the model's provenance.
func (p *trainPlan) recipeJSON() (json.RawMessage, error) { return json.Marshal(p.recipe) }

// facts says about a data set and the initial weights what a recipe depends on.
func (p *trainPlan) facts(d *coco.Dataset) train.Facts {
	f := train.Facts{
		Images: len(d.Images), Objects: d.Objects(), Classes: len(d.Classes),
		Scratch: p.initial == noWeights, Detector: p.detector(), ShortSide: p.cfg.Transform.ShortSide,
	}
	for i := range d.Images {
		im := &d.Images[i]
		short := float64(min(im.Width, im.Height))
		if short <= 0 {
			continue
		}
		f.ShortSides = append(f.ShortSides, short)
		for _, o := range im.Objects {
			f.Sizes = append(f.Sizes, min(o.Box.W, o.Box.H)/short)
		}
	}
	return f
}
