package train

import (
	"math"
	"reflect"
	"strings"
	"testing"

	"resdet/internal/nd"
	"resdet/internal/nn"
	"resdet/internal/train/data"
	"resdet/internal/train/schedule"
	"resdet/internal/train/solver"
)

func TestPresets(t *testing.T) {
	for _, name := range Presets() {
		for _, k := range []Kind{{}, {VGG: true}, {Pyramid: true}} {
			for _, images := range []int{1, 7, 5011} {
				p, err := NewPreset(name, k, images)
				if err != nil {
					t.Fatal(err)
				}
				if err := p.Validate(); err != nil {
					t.Errorf("%s for %+v and %d images: %v", name, k, images, err)
				}
				if !k.Pyramid && !p.Losses.Anchors.DropCrossing {
					t.Errorf("%s for %+v keeps anchors that cross the border", name, k)
				}
				if k.VGG != (p.Losses.Dropout > 0) {
					t.Errorf("%s for %+v has a dropout of %g", name, k, p.Losses.Dropout)
				}
			}
		}
	}
	if _, err := NewPreset("detectron", Kind{}, 1); err == nil || !strings.Contains(err.Error(), "torchvision") {
		t.Errorf("error %v, want the names that there are", err)
	}
}

// What the presets say is what is published: Ren et al. 2015 (section 3.3), He
// et al. 2015 (appendix A), py-faster-rcnn's config.py, faster_rcnn_end2end.yml
// and solvers, torchvision's references/detection/README.md for 8 GPUs of 2
// images.
func TestPresetsArePublished(t *testing.T) {
	const coco = 118_287 // images of train2017
	epoch := (coco + 1) / 2
	for name, want := range map[string]struct {
		rate                float64
		decay               []int
		steps, warmup       int
		images              int // of a step
		weightDecay         float64
		regions             int
		pre, post           int // proposals
		boxBeta             float64
		shortSide, longSide int
		biases              float64
		newLayers           string
	}{
		"he2015-voc":          {0.001, []int{60_000}, 80_000, 0, 1, 5e-4, 128, 12000, 2000, 1, 600, 1000, 1, Paper},
		"he2015-coco":         {0.001, []int{240_000}, 320_000, 0, 8, 5e-4, 128, 12000, 2000, 1, 600, 1000, 1, Paper},
		"py-faster-rcnn-voc":  {0.001, []int{50_000}, 70_000, 0, 2, 5e-4, 128, 12000, 2000, 1, 600, 1000, 2, Paper},
		"py-faster-rcnn-coco": {0.001, []int{350_000}, 490_000, 0, 2, 5e-4, 128, 12000, 2000, 1, 600, 1000, 2, Paper},
		"torchvision":         {0.02 / 8, []int{16 * epoch, 22 * epoch}, 26 * epoch, 1000, 2, 1e-4, 512, 12000, 2000, 1. / 9, 0, 0, 1, Torchvision},
	} {
		p, err := NewPreset(name, Kind{VGG: true}, coco)
		if err != nil {
			t.Fatal(err)
		}
		got := want
		got.rate, got.decay, got.steps, got.warmup = p.Schedule.Rate, p.Schedule.Decay, p.Schedule.Steps, p.Schedule.Warmup.Steps
		got.images, got.weightDecay, got.regions = p.Data.Batch*p.Accumulate, p.Solver.Decay, p.Losses.Regions.Batch
		got.pre, got.post, got.boxBeta = p.Losses.PreNMS, p.Losses.PostNMS, p.Losses.BoxBeta
		got.shortSide, got.longSide, got.newLayers = p.ShortSide, p.LongSide, p.NewLayers
		got.biases = 1
		if g := p.Solver.Groups; len(g) == 1 && g[0].Match == "*.bias" && g[0].Decay == nil {
			got.biases = *g[0].Rate
		} else if len(g) > 0 {
			t.Errorf("%s: groups %+v", name, g)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s:\n got %+v\nwant %+v", name, got, want)
		}
		// What all of them share.
		r, a := p.Losses.Regions, p.Losses.Anchors
		if r.Fraction != 0.25 || r.Foreground != 0.5 || r.BackgroundHigh != 0.5 || r.BackgroundLow != 0 {
			t.Errorf("%s: regions %+v", name, r)
		}
		if a.Batch != 256 || a.Fraction != 0.5 || a.Low != 0.3 || a.High != 0.7 || p.Losses.RPNBeta != 1./9 {
			t.Errorf("%s: anchors %+v", name, a)
		}
		if p.Solver.Kind != solver.SGD || p.Solver.Momentum != 0.9 || p.Solver.Clip != 0 || p.Schedule.Factor != 0.1 || p.FrozenStages != 2 {
			t.Errorf("%s: %+v, %d stages are frozen", name, p.Solver, p.FrozenStages)
		}
		if p.Losses.Dropout != 0.5 || p.Data.Augment.Flip != 0.5 {
			t.Errorf("%s: dropout %g, %+v", name, p.Losses.Dropout, p.Data)
		}
		// py-faster-rcnn has no difficult objects (USE_DIFF False), COCO none anyway.
		if drops := p.Data.Difficult == data.Drop; drops != (name != "torchvision") {
			t.Errorf("%s: difficult objects: %s", name, p.Data.Difficult)
		}
	}
	// A pyramid has 2000 anchors of a level, also those that cross the border.
	if p, err := NewPreset("torchvision", Kind{Pyramid: true}, coco); err != nil || p.Losses.PreNMS != 2000 || p.Losses.Anchors.DropCrossing {
		t.Errorf("torchvision's pyramid: %v, %+v", err, p.Losses)
	}
}

func TestRecipeValidate(t *testing.T) {
	good := recipe()
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Recipe){
		"frozen":     func(r *Recipe) { r.FrozenStages = 9 },
		"new layers": func(r *Recipe) { r.NewLayers = "xavier" },
		"precision":  func(r *Recipe) { r.Precision = nn.Int8 },
		"accumulate": func(r *Recipe) { r.Accumulate = 0 },
		"save":       func(r *Recipe) { r.Save = 0 },
		"patience":   func(r *Recipe) { r.Evaluate.Every, r.Evaluate.Patience = 0, 3 },
		"protocol":   func(r *Recipe) { r.Evaluate.Protocol = "voc12" },
		"output":     func(r *Recipe) { r.Output = "int8" },
		"rate":       func(r *Recipe) { r.Schedule.Rate = 3 },
		"data":       func(r *Recipe) { r.Data.Batch = 0 },
		"losses":     func(r *Recipe) { r.Losses.PreNMS = 0 },
		"solver":     func(r *Recipe) { r.Solver.Kind = "rmsprop" },
		"schedule":   func(r *Recipe) { r.Schedule.Kind = schedule.Constant; r.Schedule.Steps = 0 },
	} {
		r := recipe()
		change(&r)
		if r.Validate() == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// file is a configuration file as the command line has it.
type file struct {
	Preset string `json:"preset"`
	Recipe `yaml:",inline"`
	Archs  map[string]Recipe `json:"archs"`
}

func TestYAML(t *testing.T) {
	r := file{Recipe: recipe()}
	two := 2.0
	r.Solver.Groups = []solver.Group{{Match: "*", Rate: &two}}
	d, err := ParseYAML("recipe.yaml", []byte(`
preset: torchvision
seed: 18446744073709551615
solver:
  momentum: 0.8
  groups:
    - match: "*.bias"
      decay: 0
schedule: {rate: 1e-3, decay: [10, 20]}   # flow style
losses:
  anchors:
    drop_crossing: true
archs:
  vgg16:
    save: 11
`))
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Check(&r); err != nil {
		t.Fatal(err)
	}
	if err := d.Decode(&r); err != nil {
		t.Fatal(err)
	}
	if r.Seed != math.MaxUint64 || r.Solver.Momentum != 0.8 || r.Schedule.Rate != 1e-3 || len(r.Schedule.Decay) != 2 || !r.Losses.Anchors.DropCrossing {
		t.Errorf("decoded %+v", r)
	}
	if r.Solver.Kind != solver.SGD || r.Solver.Decay != 1e-4 || r.Losses.Anchors.Batch != 256 || r.Schedule.Steps != 40 || r.Data.Batch != 2 {
		t.Errorf("what the file does not say has changed: %+v", r)
	}
	if g := r.Solver.Groups; len(g) != 1 || g[0].Match != "*.bias" || g[0].Rate != nil || *g[0].Decay != 0 {
		t.Errorf("groups %+v", g)
	}
	if err := d.Decode(&r.Recipe, "archs", "vgg16"); err != nil || r.Save != 11 || r.Solver.Momentum != 0.8 {
		t.Errorf("a part decoded over the rest: %v, %+v", err, r)
	}
	if err := d.Decode(&r.Recipe, "archs", "resnet"); err != nil || r.Save != 11 {
		t.Errorf("a part that is not there: %v, %+v", err, r)
	}
}

func TestYAMLErrors(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"solver:\n  momentun: 0.9\n", `recipe.yaml:2:3: unknown key "momentun" in solver; did you mean "momentum"?`},
		{"schedul: {}\n", `recipe.yaml:1:1: unknown key "schedul"; did you mean "schedule"?`},
		{"solver:\n  groups:\n    - match: x\n      lr: 3\n", `recipe.yaml:4:7: unknown key "lr" in solver.groups[0]; it knows decay, match, rate`},
		{"archs:\n  vgg16:\n    sead: 3\n", `recipe.yaml:3:5: unknown key "sead" in archs.vgg16; did you mean "seed"?`},
		{"solver: {momentum: high}\n", "cannot unmarshal"},
		{"solver: [\n", "recipe.yaml"},
		{"seed: 1\n---\nseed: 2\n", "2 documents"},
		{"seed: 1\nseed: 2\n", "seed"},
	} {
		var r file
		d, err := ParseYAML("recipe.yaml", []byte(c.text))
		if err == nil {
			err = d.Check(&r)
		}
		if err == nil {
			err = d.Decode(&r)
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: error %v, want %q", c.text, err, c.want)
		}
	}
	d, err := ParseYAML("empty.yaml", nil)
	if err != nil {
		t.Fatal(err)
	}
	r := file{Recipe: recipe()}
	if err := d.Check(&r); err != nil {
		t.Error(err)
	}
	if err := d.Decode(&r); err != nil || r.Seed != 7 {
		t.Errorf("an empty file: %v", err)
	}
}

func TestNewLayer(t *testing.T) {
	deviation := func(v []float32) float64 {
		var sum float64
		for _, x := range v {
			sum += float64(x) * float64(x)
		}
		return math.Sqrt(sum / float64(len(v)))
	}
	shape := nd.Shape{64, 256}
	for _, c := range []struct {
		key, style string
		want       float64
	}{
		{"rpn.head.cls_logits.weight", Paper, 0.01},
		{"roi_heads.box_predictor.bbox_pred.weight", Paper, 0.001},
		{"roi_heads.box_predictor.bbox_pred.weight", Torchvision, 1 / math.Sqrt(3*256)},
		{"roi_heads.box_head.fc6.weight", Torchvision, 1 / math.Sqrt(3*256)},
		{"backbone.fpn.inner_blocks.0.0.weight", Torchvision, 1 / math.Sqrt(256)},
		{"rpn.head.cls_logits.weight", Torchvision, 0.01},
	} {
		v := NewLayer(c.key, shape, 256, c.style, 3)
		if got := deviation(v); math.Abs(got-c.want) > 0.05*c.want {
			t.Errorf("%s %s: deviation %g, want %g", c.key, c.style, got, c.want)
		}
		if v[5] == NewLayer(c.key, shape, 256, c.style, 4)[5] {
			t.Errorf("%s %s: two seeds give one layer", c.key, c.style)
		}
	}
	if b := NewLayer("roi_heads.box_head.fc6.bias", nd.Shape{64}, 256, Torchvision, 1); deviation(b) == 0 {
		t.Error("torchvision's biases are not 0")
	}
}
