package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/pflag"

	"resdet/eval"
	"resdet/internal/train"
	"resdet/internal/train/checkpoint"
	"resdet/internal/train/data"
)

// compareTraining are the flags of `compare --train`.
type compareTraining struct {
	on    bool
	run   trainOptions // of both sides but for arch and init
	arch  [2]string
	init  [2]string
	seeds int
}

// sideNames are the two sides' folders and flags.
var sideNames = [2]string{"baseline", "candidate"}

// maxSeeds bounds the pairs; nobody has time for more.
const maxSeeds = 100

func (c *compareTraining) add(f *pflag.FlagSet) {
	f.BoolVar(&c.on, "train", false, "train both, then compare them")
	f.StringVar(&c.run.val, "val-data", "", "with --train: data set to score on (default: a fifth of the images)")
	f.StringVarP(&c.run.out, "out", "o", "", "with --train: folder of the runs")
	f.StringVar(&c.run.config, "config", "", "with --train: YAML file of both, as for train")
	f.StringVar(&c.run.choice.preset, "preset", "", "with --train: recipe of both (default: chosen by the data)")
	f.IntVar(&c.run.choice.steps, "steps", 0, "with --train: changes of the weights (default: the recipe's)")
	f.IntVar(&c.seeds, "seeds", 1, "with --train: pairs to train, each with another seed")
	for i, side := range sideNames {
		f.StringVar(&c.arch[i], side+"-arch", "", "with --train: architecture of the "+side)
		f.StringVar(&c.init[i], side+"-init", "", "with --train: weights that the "+side+" starts from, or none")
	}
}

// given reports whether any flag of training was given.
func (c *compareTraining) given(flags *pflag.FlagSet) bool {
	return slices.ContainsFunc([]string{
		"val-data", "out", "config", "preset", "steps", "seeds", "baseline-arch", "baseline-init", "candidate-arch", "candidate-init",
	}, flags.Changed)
}

// runCompareTraining trains the pairs, or goes on with them, and compares.
func runCompareTraining(ctx context.Context, s streams, o compareOptions, flags *pflag.FlagSet) error {
	t := o.training
	switch {
	case o.data == "" || t.run.out == "":
		return usagef("--data and --out are both needed with --train")
	case t.arch[0] == "" || t.arch[1] == "" || t.init[0] == "" || t.init[1] == "":
		return usagef("--baseline-arch, --candidate-arch, --baseline-init and --candidate-init are all needed with --train")
	case o.baseline != "" || o.candidate != "":
		return usagef("--baseline and --candidate name what is trained already; --train trains both")
	case t.seeds < 1 || t.seeds > maxSeeds:
		return usagef("--seeds %d is not in 1…%d", t.seeds, maxSeeds)
	case t.run.val == noValidation:
		return usagef("--val-data none: a comparison needs images to score on")
	}
	if err := o.bootstrap.Validate(); err != nil {
		return usageError{err}
	}
	if err := checkReportPath(o.report); err != nil {
		return err
	}
	t.run.data, t.run.classes, t.run.quiet, t.run.resume = o.data, o.classes, o.quiet, true
	t.run.threads, t.run.device = o.model.threads, o.model.device
	t.run.choice.precision = o.model.precision
	if err := t.sameRecipe(ctx, flags); err != nil {
		return err
	}
	if err := t.check(ctx, s, flags); err != nil {
		return err
	}
	var pairs []eval.Pair
	for n := range t.seeds {
		pair := eval.Pair{Name: fmt.Sprintf("seed %d", n+1)}
		for side, to := range []**eval.Result{&pair.Baseline, &pair.Candidate} {
			run := t.side(side, n)
			if !o.quiet {
				fmt.Fprintf(s.err, "resdet: %s, %s: %s from %s\n", pair.Name, sideNames[side], t.arch[side], t.init[side])
			}
			r, err := t.trained(ctx, s, run, flags, eval.Protocol(o.protocol), flags.Changed("protocol"))
			if err != nil {
				return fmt.Errorf("%s, %s: %w", pair.Name, sideNames[side], err)
			}
			r.Settings.Detections = fmt.Sprintf("%s from %s, trained here", t.arch[side], filepath.Base(t.init[side]))
			*to = r
		}
		pairs = append(pairs, pair)
	}
	c, err := eval.ComparePairs(ctx, pairs, o.bootstrap)
	if err != nil {
		return err
	}
	if o.report == "" {
		o.report = filepath.Join(t.run.out, reportFile)
	}
	return o.write(s, c)
}

// side returns one side's run of pair n.
func (t *compareTraining) side(side, n int) trainOptions {
	run := t.run
	run.choice.arch, run.choice.init, run.choice.seed = t.arch[side], t.init[side], uint64(n+1)
	run.out = filepath.Join(t.run.out, fmt.Sprintf("seed-%d", n+1), sideNames[side])
	run.splitSeed = 1 // all are scored on the same images
	return run
}

// trained returns what one side scores, after it was trained. A run that was
// finished before is only scored.
func (t *compareTraining) trained(ctx context.Context, s streams, run trainOptions, flags *pflag.FlagSet, protocol eval.Protocol, asked bool) (*eval.Result, error) {
	_, done := os.Stat(filepath.Join(run.out, modelFile))
	if done != nil || !checkpoint.Exists(filepath.Join(run.out, train.CheckpointFile)) {
		run.json = false
		if _, err := train1(ctx, s, run, t.flags(flags)); err != nil {
			return nil, err
		}
	}
	d, plan, err := t.plan(ctx, run, flags)
	if err != nil {
		return nil, err
	}
	defer plan.close()
	if !asked {
		protocol = eval.Protocol(plan.recipe.Evaluate.Protocol)
	}
	m := modelFlags{threads: run.threads, device: run.device, precision: "f32"}
	det, err := m.openPath(filepath.Join(run.out, modelFile))
	if err != nil {
		return nil, err
	}
	defer det.Close()
	return newEvalSet(d.val, d.valArg).model(ctx, protocol, filepath.Join(run.out, modelFile), det, det.Settings(), m.threadCount(), s.err, run.quiet)
}

// flags are those of train that were given.
func (t *compareTraining) flags(given *pflag.FlagSet) *pflag.FlagSet {
	f := pflag.NewFlagSet("train", pflag.ContinueOnError)
	var unused trainFlags
	unused.add(f)
	mark := func(name string) {
		if flag := f.Lookup(name); flag != nil {
			flag.Changed = true
		}
	}
	mark("seed")
	for _, name := range []string{"steps", "precision"} {
		if given.Changed(name) {
			mark(name)
		}
	}
	return f
}

// plan reads the data, less the photos that are to be left out, and decides one
// side's run.
func (t *compareTraining) plan(ctx context.Context, run trainOptions, flags *pflag.FlagSet) (*trainData, *trainPlan, error) {
	d, err := loadTrainData(ctx, run.data, run.val, run.classes, run.splitSeed)
	if err != nil {
		return nil, nil, err
	}
	plan, err := planTraining(run.choice, t.flags(flags), run.config, d)
	if err != nil {
		return nil, nil, err
	}
	if err := d.leaveOut(run.broken); err != nil {
		plan.close()
		return nil, nil, err
	}
	return d, plan, nil
}

// check looks at the data once for all runs, unless all that the first of them
// would have been told is known: it is there, and no photo can be left out.
func (t *compareTraining) check(ctx context.Context, s streams, flags *pflag.FlagSet) error {
	d, plan, err := t.plan(ctx, t.side(0, 0), flags)
	if err != nil {
		return err
	}
	defer plan.close()
	corrupt := plan.recipe.Data.Corrupt
	if corrupt == data.Skip || !checkpoint.Exists(filepath.Join(t.side(0, 0).out, train.CheckpointFile)) {
		if t.run.broken, err = d.check(ctx, s, corrupt, t.run.quiet); err != nil {
			return err
		}
	}
	t.run.uncheck = true
	return nil
}

// sameRecipe plans both sides before anything is trained, and refuses to
// compare what would be trained differently.
func (t *compareTraining) sameRecipe(ctx context.Context, flags *pflag.FlagSet) error {
	var texts [2]string
	for side := range texts {
		_, plan, err := t.plan(ctx, t.side(side, 0), flags)
		if err != nil {
			return fmt.Errorf("%s: %w", sideNames[side], err)
		}
		plan.close()
		r := plan.recipe
		text, err := json.Marshal([]any{r.Schedule, r.Solver, r.Data, r.Accumulate, r.Evaluate, r.Precision})
		if err != nil {
			return err
		}
		texts[side] = string(text)
	}
	if texts[0] != texts[1] {
		return hintError{
			fmt.Errorf("baseline and candidate would be trained by different schedules"),
			"a gain needs one schedule for both: choose it with --preset or --config",
		}
	}
	return nil
}
