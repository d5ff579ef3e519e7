package train

import (
	"fmt"
	"slices"
	"strings"

	"resdet/internal/train/data"
	"resdet/internal/train/schedule"
	"resdet/internal/train/solver"
)

// Kind is what a preset must know of a network.
type Kind struct {
	// Pyramid says that there are several levels of features.
	Pyramid bool
	// VGG says that the head is fc6 and fc7 with dropout.
	VGG bool
}

// Preset is a recipe with the input size that belongs to it.
type Preset struct {
	Recipe
	// ShortSide and LongSide are the transform's; 0: the model's.
	ShortSide, LongSide int
}

// presets by name. n is the number of images.
var presets = map[string]func(k Kind, n int) Preset{
	"torchvision":         torchvision,
	"py-faster-rcnn-voc":  func(k Kind, _ int) Preset { return pyFasterRCNN(k, 50_000, 70_000) },
	"py-faster-rcnn-coco": func(k Kind, _ int) Preset { return pyFasterRCNN(k, 350_000, 490_000) },
	"he2015-voc":          func(k Kind, _ int) Preset { return he(k, 1, 60_000, 80_000) },
	"he2015-coco":         func(k Kind, _ int) Preset { return he(k, 8, 240_000, 320_000) },
}

// Presets lists the names that [NewPreset] knows.
func Presets() []string {
	var names []string
	for name := range presets {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// NewPreset returns a published recipe for a network and a number of images:
//
//   - "torchvision": references/detection/README.md: 26 epochs, the rate
//     divided by 10 after 16 and 22, warm-up over 1000 steps; 0.02 for 16 images
//     a step, by the linear rule 0.0025 for 2.
//   - "py-faster-rcnn-voc", "py-faster-rcnn-coco": its end-to-end solvers: one
//     image at a time, two a step, biases at twice the rate, 600×1000.
//   - "he2015-voc", "he2015-coco": He et al. 2015, appendix A, with Ren et al.'s
//     settings for VOC and 8 images a step for COCO, joint instead of in turns.
func NewPreset(name string, k Kind, images int) (Preset, error) {
	make, ok := presets[name]
	if !ok {
		return Preset{}, fmt.Errorf("train: preset %q is none of %s", name, strings.Join(Presets(), ", "))
	}
	return make(k, max(images, 1)), nil
}

// ForKind returns the recipe with what differs between kinds of networks
// whatever the preset: on a single level the anchors that cross the image's
// border are left out, without which VGG-16 and C4 train to far less on VOC
// (Ren et al. 2015, section 3.3), and proposals are 12000 before suppression
// and 2000 after it; VGG's fc6 and fc7 drop half of their outputs.
func (r Recipe) ForKind(k Kind) Recipe {
	if !k.Pyramid {
		r.Losses.Anchors.DropCrossing = true
		r.Losses.PreNMS, r.Losses.PostNMS = 12000, 2000
	}
	if k.VGG {
		r.Losses.Dropout = 0.5
	}
	return r
}

func torchvision(k Kind, n int) Preset {
	r := DefaultRecipe().ForKind(k)
	r.NewLayers = Torchvision
	r.Solver.Clip = 0
	epoch := (n + r.Data.Batch - 1) / r.Data.Batch
	r.Schedule.Rate = 0.02 / 16 * float64(r.Data.Batch)
	r.Schedule.Steps, r.Schedule.Decay = 26*epoch, []int{16 * epoch, 22 * epoch}
	r.Schedule.Warmup = schedule.Warmup{Steps: min(1000, 26*epoch-1), From: 0.001}
	r.Evaluate.Every = max(epoch, r.Schedule.Steps/20) // a handful of photos makes an epoch of a few steps
	return Preset{Recipe: r}
}

func pyFasterRCNN(k Kind, decay, steps int) Preset {
	r := DefaultRecipe().ForKind(k)
	r.Data.Batch, r.Accumulate, r.Data.Difficult = 1, 2, data.Drop
	r.Losses.Anchors.DropCrossing = true
	r.Losses.PreNMS, r.Losses.PostNMS = 12000, 2000
	r.Losses.Regions.Batch = 128
	r.Losses.BoxBeta = 1
	r.Solver.Decay, r.Solver.Clip = 5e-4, 0
	twice := 2.0
	r.Solver.Groups = []solver.Group{{Match: "*.bias", Rate: &twice}}
	r.Schedule.Rate, r.Schedule.Steps, r.Schedule.Decay = 0.001, steps, []int{decay}
	r.Evaluate.Every = steps / 10
	return Preset{r, 600, 1000}
}

func he(k Kind, images, decay, steps int) Preset {
	p := pyFasterRCNN(k, decay, steps)
	p.Accumulate = images
	p.Solver.Groups = []solver.Group{}
	return p
}
