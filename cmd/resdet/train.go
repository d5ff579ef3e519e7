package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"resdet"
	"resdet/internal/train"
	"resdet/internal/train/checkpoint"
	"resdet/internal/train/data"
)

type trainOptions struct {
	data, val string
	classes   []string
	out       string
	config    string
	choice    trainFlags
	threads   int
	device    string
	resume    bool
	preview   bool
	uncheck   bool
	json      bool
	quiet     bool
	splitSeed uint64     // of the images that are held out; 0: the run's seed
	broken    unreadable // photos to leave out, where they are known already
}

func newTrainCommand(s streams) *cobra.Command {
	var o trainOptions
	cmd := &cobra.Command{
		Use:   "train --data SPEC --out DIR",
		Short: "Train a detector on your own photos, from a detector or a backbone trained elsewhere",
		Long: `Train a detector. Without more than --data and --out it starts from the built-in model, holds out a fifth of
the images to score itself on, and chooses input size and schedule by the data; before the first step it says
what that will take, as measured on three batches.

DIR then holds model.safetensors, which detect and serve open as it is, report.html, curves.svg, pictures of
the validation set with detections, recipe.yaml (everything that was chosen, for --config), metrics.jsonl and
TensorBoard's event file. While it runs, checkpoint.safetensors there is all that --resume needs: a run that
was interrupted or killed ends with the same weights as one that was not.

--config FILE is YAML: preset, arch, init, model (what differs from the architecture's settings), and the
recipe; scripts/recipes has examples. Flags go before the file, the file before the preset.
Architectures: ` + strings.Join(resdet.Archs(), " ") + `
Presets: ` + strings.Join(train.Presets(), " "),
		Example: `  resdet train --data voc:photos --out run
  resdet train --data voc:photos --out run --preview
  resdet train --data coco:train.json,images=photos --val-data coco:val.json,images=photos --out run \
      --arch resnet101-c4 --init resnet101.pth --preset he2015-coco
  resdet train --data voc:VOCdevkit,split=train --val-data voc:VOCdevkit,split=minival --out run \
      --config scripts/recipes/voc-short.yaml`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return runTrain(cmd.Context(), s, o, cmd.Flags()) },
	}
	f := cmd.Flags()
	o.addData(f)
	f.StringVar(&o.choice.arch, "arch", "", "architecture (default: that of the weights to start from)")
	f.StringVar(&o.choice.init, "init", "", "weights to start from: a model, a checkpoint of a detector or a backbone, none, or default, the built-in model (default without --arch)")
	o.addRun(f)
	f.BoolVar(&o.resume, "resume", false, "go on with the run in DIR")
	f.BoolVar(&o.preview, "preview", false, "write 16 augmented images with their boxes to DIR/preview, and stop")
	f.BoolVar(&o.json, "json", false, "the outcome as JSON on standard output")
	return cmd
}

// addData adds the flags that say what is trained on, and where results go.
func (o *trainOptions) addData(f *pflag.FlagSet) {
	f.StringVarP(&o.data, "data", "d", "", "data set to train on (required)")
	f.StringVar(&o.val, "val-data", "", "data set to score on, or none (default: a fifth of the images)")
	f.StringSliceVar(&o.classes, "classes", nil, "classes, by name and in this order (default: the data's own)")
	f.StringVarP(&o.out, "out", "o", "", "folder of the run (required)")
	f.StringVar(&o.config, "config", "", "YAML file with what differs from the preset and the architecture")
}

// addRun adds the flags that say how.
func (o *trainOptions) addRun(f *pflag.FlagSet) {
	o.choice.add(f)
	f.IntVar(&o.threads, "threads", 0, "threads of the network (default: all that the process may use)")
	f.StringVar(&o.device, "device", "", "cpu (oneDNN) or ref (plain Go, very slow); default: the faster one that is there")
	f.BoolVar(&o.uncheck, "no-check", false, "do not check photos and annotations first")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "errors only")
}

func runTrain(ctx context.Context, s streams, o trainOptions, flags *pflag.FlagSet) error {
	if o.data == "" || o.out == "" {
		return usagef("--data and --out are both needed")
	}
	outcome, err := train1(ctx, s, o, flags)
	if err != nil || outcome == nil {
		return err
	}
	if o.json {
		return printJSON(s.out, outcome)
	}
	fmt.Fprintf(s.out, "%s\n", outcome)
	return nil
}

// trainOutcome is what a finished run says.
type trainOutcome struct {
	Model    string             `json:"model"`
	Steps    int                `json:"steps"`
	Stopped  bool               `json:"stopped_early"`
	BestStep int                `json:"step_of_the_model"`
	Seconds  float64            `json:"seconds"`
	Data     string             `json:"data"`
	ValData  string             `json:"validation_data,omitempty"`
	Protocol string             `json:"protocol,omitempty"`
	Scores   map[string]float64 `json:"scores,omitempty"`
}

func (o *trainOutcome) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: the weights of step %d of %d", o.Model, o.BestStep, o.Steps)
	if o.Stopped {
		b.WriteString(", where evaluations were no longer better")
	}
	for _, name := range slices.Sorted(maps.Keys(o.Scores)) {
		fmt.Fprintf(&b, "\n%s on %s: %.1f (%s)", name, o.ValData, 100*o.Scores[name], o.Protocol)
	}
	return b.String()
}

// train1 makes one run, or goes on with it. The outcome is nil if there was
// nothing to train.
func train1(ctx context.Context, s streams, o trainOptions, flags *pflag.FlagSet) (*trainOutcome, error) {
	if o.splitSeed == 0 {
		o.splitSeed = o.choice.seed
	}
	d, err := loadTrainData(ctx, o.data, o.val, o.classes, o.splitSeed)
	if err != nil {
		return nil, err
	}
	plan, err := planTraining(o.choice, flags, o.config, d)
	if err != nil {
		return nil, err
	}
	defer plan.close()
	t, err := newTraining(s, o, d, plan)
	if err != nil {
		return nil, err
	}
	defer t.close()
	if o.preview {
		if err := t.load(); err != nil {
			return nil, err
		}
		return nil, t.preview(ctx)
	}
	if err := t.openDevice(); err != nil {
		return nil, err
	}
	resume, err := t.prepareFolder()
	if err != nil {
		return nil, err
	}
	// A run that is resumed goes on without the photos that it was begun without.
	if skip := plan.recipe.Data.Corrupt == data.Skip; !o.uncheck && (!resume || skip) {
		if o.broken, err = d.check(ctx, s, plan.recipe.Data.Corrupt, o.quiet); err != nil {
			return nil, err
		}
	}
	if err := d.leaveOut(o.broken); err != nil {
		return nil, err
	}
	if err := t.load(); err != nil {
		return nil, err
	}
	if err := t.open(resume); err != nil {
		return nil, err
	}
	outcome, err := t.run(ctx)
	if err != nil {
		return nil, t.explain(err)
	}
	return outcome, nil
}

// prepareFolder makes the run's folder, and reports whether there is a run in
// it to go on with.
func (t *training) prepareFolder() (resume bool, err error) {
	o := t.o
	there := checkpoint.Exists(filepath.Join(o.out, train.CheckpointFile))
	switch {
	case there && !o.resume:
		return false, hintError{fmt.Errorf("%s holds a run already", o.out), "--resume goes on with it; otherwise choose another --out"}
	case !there && o.resume:
		t.note("%s holds no run yet: it begins", o.out)
	}
	if err := os.MkdirAll(o.out, 0o777); err != nil {
		return false, err
	}
	return there, nil
}

// explain adds to an error what the user can do.
func (t *training) explain(err error) error {
	if errors.Is(err, context.Canceled) && checkpoint.Exists(filepath.Join(t.o.out, train.CheckpointFile)) {
		t.note("the run is saved; resdet train … --resume goes on with it")
	}
	return err
}
