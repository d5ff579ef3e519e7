// Package train trains a detector: recipes and their presets, the loop with
// its checkpoints and logs, and what new layers begin with.
//
//	data.Set ─ Loader ▶ Batch ─ Network.Step ▶ losses, gradients ─ solver ▶ weights
//	                              (package step)        │
//	          every so often: log, evaluate, checkpoint ◀┘
//
// The loop knows neither the network nor how it is evaluated: it is given a
// [Network] and a function. What a run's numbers are follows from its recipe,
// its data and the machine alone, so that a run which was killed and resumed
// ends with the weights of one that was not.
package train

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"gorgonia.org/gorgonia"

	"resdet/internal/nn"
	"resdet/internal/train/data"
	"resdet/internal/train/schedule"
	"resdet/internal/train/solver"
	"resdet/internal/train/step"
)

// Network is what is trained.
type Network interface {
	// Step computes the losses of a batch and adds their gradients to those of
	// the parameters. What is random in it follows from the batch's seed.
	Step(ctx context.Context, b *data.Batch) (step.Losses, error)
	// ValueGrads returns the trainable parameters, always the same in the same
	// order. They are named dense float32 tensors.
	ValueGrads() []gorgonia.ValueGrad
}

// Recipe is how a network is trained. Start from a [Preset].
type Recipe struct {
	// Seed decides everything random: the order of the images, their changes,
	// the anchors and regions that are sampled, new layers.
	Seed uint64 `json:"seed"`
	// FrozenStages is how many stages of the backbone are not trained, from the
	// first on: 2 are conv1 and layer1 of a ResNet, conv1 and conv2 of VGG-16.
	FrozenStages int `json:"frozen_stages"`
	// NewLayers says what layers begin with that the initial weights lack:
	// "paper" or "torchvision"; see [NewLayer].
	NewLayers string `json:"new_layers"`
	// Precision is what convolutions and matrix products round their operands to,
	// forward and backward: f32, the default, or bf16. Sums, and the weights that
	// are stepped on, are float32.
	Precision nn.Precision `json:"precision"`
	// Accumulate is how many batches make one step.
	Accumulate int             `json:"accumulate"`
	Data       data.Config     `json:"data"`
	Losses     step.Config     `json:"losses"`
	Solver     solver.Config   `json:"solver"`
	Schedule   schedule.Config `json:"schedule"`
	Evaluate   Evaluate        `json:"evaluate"`
	// Save is how many steps lie between checkpoints, Log between lines of the
	// log.
	Save int `json:"save"`
	Log  int `json:"log"`
	// Output is the type of the weights in the model file: f32 or f16.
	Output string `json:"output"`
}

// Evaluate says when the network is scored on the validation set. It always is
// after the last step.
type Evaluate struct {
	// Every is how many steps lie between two evaluations; 0: only the last.
	Every int `json:"every"`
	// Patience ends the run after so many evaluations in a row that were not
	// better than the best; 0: never.
	Patience int `json:"patience"`
	// Protocol is that of the score: coco, voc07 or voc10.
	Protocol string `json:"protocol"`
	// Last takes the weights of the last step for the model, instead of those of
	// the best evaluation.
	Last bool `json:"last"`
}

// What new layers begin with.
const (
	Paper       = "paper"
	Torchvision = "torchvision"
)

// DefaultRecipe returns what all presets share. It has no learning rate and
// no number of steps.
func DefaultRecipe() Recipe {
	return Recipe{
		Seed: 1, FrozenStages: 2, NewLayers: Paper, Precision: nn.F32, Accumulate: 1, Save: 500, Log: 20, Output: "f32",
		Data: data.DefaultConfig(), Losses: step.DefaultConfig(), Solver: solver.DefaultConfig(),
		Schedule: schedule.Config{Kind: schedule.Steps, Factor: 0.1},
		Evaluate: Evaluate{Protocol: "voc10"},
	}.normal()
}

// normal makes lists that are not there empty ones, which are what a file can
// say: a recipe that was written and read again is the same.
func (r Recipe) normal() Recipe {
	if r.Data.Augment.ShortSides == nil {
		r.Data.Augment.ShortSides = []int{}
	}
	if r.Solver.Groups == nil {
		r.Solver.Groups = []solver.Group{}
	}
	if r.Schedule.Decay == nil {
		r.Schedule.Decay = []int{}
	}
	return r
}

// maxRate is the largest learning rate that anybody trains a detector with:
// torchvision's 0.02 for 16 images is the largest in use, at 256 images by the
// linear rule it would be 0.32.
const maxRate = 0.5

// Validate reports everything that cannot work.
func (r Recipe) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf("train: "+format, args...)) }
	if r.FrozenStages < 0 || r.FrozenStages > 5 {
		bad("frozen_stages %d are not in 0…5", r.FrozenStages)
	}
	if r.NewLayers != Paper && r.NewLayers != Torchvision {
		bad("new_layers is %q, want paper or torchvision", r.NewLayers)
	}
	if r.Precision != nn.F32 && r.Precision != nn.BF16 {
		bad("precision is %q, want f32 or bf16", r.Precision)
	}
	if r.Accumulate < 1 || r.Accumulate > 4096 {
		bad("accumulate %d is not in 1…4096", r.Accumulate)
	}
	if r.Save < 1 || r.Log < 1 {
		bad("save %d and log %d are numbers of steps from 1", r.Save, r.Log)
	}
	if r.Evaluate.Every < 0 || r.Evaluate.Patience < 0 {
		bad("evaluate: every %d and patience %d must not be negative", r.Evaluate.Every, r.Evaluate.Patience)
	}
	if r.Evaluate.Patience > 0 && r.Evaluate.Every == 0 {
		bad("evaluate: patience needs every, the number of steps between evaluations")
	}
	if !slices.Contains([]string{"coco", "voc07", "voc10"}, r.Evaluate.Protocol) {
		bad("evaluate: protocol is %q, want coco, voc07 or voc10", r.Evaluate.Protocol)
	}
	if r.Output != "f32" && r.Output != "f16" {
		bad("output is %q, want f32 or f16", r.Output)
	}
	if r.Schedule.Rate > maxRate {
		bad("schedule: a rate of %g explodes: detectors are trained with 0.0005 to 0.02, and none with more than %g", r.Schedule.Rate, maxRate)
	}
	return errors.Join(append(errs, r.Data.Validate(), r.Losses.Validate(), r.Solver.Validate(), r.Schedule.Validate())...)
}
