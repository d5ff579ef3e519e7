package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"resdet/eval"
	pages "resdet/eval/report"
)

type compareOptions struct {
	data                string
	classes             []string
	baseline, candidate string
	model               modelFlags // how models run; the path is not used
	limits              thresholdFlags
	protocol            string
	bootstrap           eval.CompareConfig
	json                bool
	report              string
	quiet               bool
	training            compareTraining
}

func newCompareCommand(s streams) *cobra.Command {
	o := compareOptions{bootstrap: eval.DefaultCompareConfig()}
	cmd := &cobra.Command{
		Use:   "compare --data SPEC --baseline A --candidate B",
		Short: "The gain of one detector over another, with its interval",
		Long: `Compare two results files, or two models that are run over the data set (FILE.safetensors, or "default" for
the built-in one): AP of each, absolute and relative gain, and the 95 % interval of the difference by a
paired bootstrap over images, over all and by class and size; beside it the gain that He et al. report for
VGG-16 → ResNet-101. With models, what each costs is listed too.

With --train both are trained first, one after the other, on the same data with the same schedule and seed, in
folders of --out; a comparison that was interrupted goes on where it stopped when it is called again. --seeds N
trains N pairs: the gain is their mean, and the bootstrap draws pairs and images. With one pair the interval
covers the choice of test images, not the noise of training. --precision is then that of the training, f32 or
bf16; what was trained is scored in f32.`,
		Example: `  resdet compare --data coco:instances.json --baseline vgg16.json --candidate resnet101.json --report gain.html
  resdet compare --data voc:VOCdevkit,split=minival --baseline default --candidate mine.safetensors
  resdet compare --train --data voc:VOCdevkit,split=trainval --val-data voc:VOCdevkit,split=test --out experiment \
      --baseline-arch vgg16 --baseline-init vgg16.pth --candidate-arch resnet101-c4 --candidate-init resnet101.pth \
      --preset he2015-voc --seeds 3`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return runCompare(cmd.Context(), s, o, cmd.Flags()) },
	}
	f := cmd.Flags()
	f.StringVarP(&o.data, "data", "d", "", "data set with the truth (required)")
	f.StringSliceVar(&o.classes, "classes", nil, "classes of the data, by name and in this order (default: its own)")
	f.StringVar(&o.baseline, "baseline", "", "results file or model to start from (required)")
	f.StringVar(&o.candidate, "candidate", "", "results file or model to measure (required)")
	f.StringVar(&o.protocol, "protocol", "coco", "coco, voc07 (11 points) or voc10 (area)")
	f.IntVar(&o.bootstrap.Samples, "samples", o.bootstrap.Samples, "of the bootstrap; 0 leaves the intervals out")
	f.Uint64Var(&o.bootstrap.Seed, "seed", o.bootstrap.Seed, "of the bootstrap")
	f.BoolVar(&o.json, "json", false, "JSON on standard output instead of tables")
	f.StringVar(&o.report, "report", "", "write a self-contained HTML page")
	o.model.addRun(f, s)
	addEvalThresholds(f, &o.limits)
	f.BoolVarP(&o.quiet, "quiet", "q", false, "no progress bar and no notes")
	o.training.add(f)
	return cmd
}

func runCompare(ctx context.Context, s streams, o compareOptions, flags *pflag.FlagSet) error {
	if o.training.on {
		return runCompareTraining(ctx, s, o, flags)
	}
	if o.training.given(flags) {
		return usagef("--train is missing: the flags of training mean nothing without it")
	}
	if o.data == "" || o.baseline == "" || o.candidate == "" {
		return usagef("--data, --baseline and --candidate are all needed")
	}
	if err := o.bootstrap.Validate(); err != nil {
		return usageError{err}
	}
	protocol, err := parseProtocol(o.protocol)
	if err != nil {
		return err
	}
	if err := checkReportPath(o.report); err != nil {
		return err
	}
	sides := [2]string{o.baseline, o.candidate}
	var files [2]chan readFile // read while the data set is read
	for i, side := range sides {
		if !isModel(side) {
			files[i] = readResults(side)[0]
		}
	}
	set, err := loadEvalSet(ctx, o.data, o.classes)
	if err != nil {
		return err
	}
	var results [2]*eval.Result
	for i, side := range sides {
		if files[i] == nil {
			results[i], err = o.runModel(ctx, s, set, protocol, side, flags)
		} else if read := <-files[i]; read.err != nil {
			err = read.err
		} else if results[i], err = set.results(protocol, side, read.results); err == nil {
			noteStrays(s.err, o.quiet, results[i])
		}
		if err != nil {
			return err
		}
	}
	c, err := eval.Compare(ctx, results[0], results[1], o.bootstrap)
	if err != nil {
		return err
	}
	return o.write(s, c)
}

// write prints a comparison, and writes the page that was asked for.
func (o compareOptions) write(s streams, c *eval.Comparison) error {
	var err error
	if o.json {
		err = printJSON(s.out, c)
	} else {
		err = printCompare(s.out, c)
	}
	if o.report != "" && err == nil {
		err = pages.WriteCompare(o.report, c)
	}
	return err
}

// isModel tells models from results files.
func isModel(side string) bool {
	return side == "default" || strings.HasSuffix(strings.ToLower(side), ".safetensors")
}

func (o compareOptions) runModel(ctx context.Context, s streams, set *evalSet, p eval.Protocol, side string, flags *pflag.FlagSet) (*eval.Result, error) {
	if side == "default" {
		side = ""
	}
	d, err := o.model.openPath(side)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	settings, err := o.limits.settings(flags, d)
	if err != nil {
		return nil, err
	}
	return set.model(ctx, p, modelName(side), d, settings, o.model.threadCount(), s.err, o.quiet)
}

// signed writes a gain in points.
func signed(v eval.Value) string {
	if !v.Present() {
		return "n/a"
	}
	return fmt.Sprintf("%+.1f", 100*float64(v))
}

func interval(i eval.Interval) string {
	if !i.Present() {
		return ""
	}
	return fmt.Sprintf("%s … %s", signed(i.Lo), signed(i.Hi))
}

func relative(v eval.Value) string {
	if !v.Present() {
		return "n/a"
	}
	return fmt.Sprintf("%+.1f %%", 100*float64(v))
}

func printCompare(out io.Writer, c *eval.Comparison) error {
	w := bufio.NewWriter(out)
	fmt.Fprintf(w, "%s, %d images, %d objects\nbaseline   %s\ncandidate  %s\n%s\n\n", c.Data, c.Images, c.Objects, c.BaselineFrom, c.CandidateFrom,
		strings.Join(c.Settings.Stamp(c.Protocol), "; "))
	fmt.Fprintf(w, "%s  %s → %s   gain %s points, %s", c.Metric, percent(c.Baseline, c.Objects), percent(c.Candidate, c.Objects), signed(c.Gain), relative(c.Relative))
	if c.CI95.Present() {
		fmt.Fprintf(w, "   95 %% interval of the gain: %s points\n", interval(c.CI95))
		what := "images"
		if len(c.Pairs) > 1 {
			what = "pairs and images"
		}
		fmt.Fprintf(w, "(paired bootstrap over %s, %d samples, seed %d)\n", what, c.Samples, c.Seed)
	} else {
		fmt.Fprintln(w)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	if len(c.Pairs) > 0 {
		fmt.Fprintf(w, "%s\n", c.Covers)
		fmt.Fprintf(t, "\npair\tbaseline\tcandidate\tgain\trelative\t95 %% (images)\t\n")
		for _, p := range c.Pairs {
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t\n", p.Name, percent(p.Baseline, p.Objects), percent(p.Candidate, p.Objects), signed(p.Gain.Gain), relative(p.Relative), interval(p.CI95))
		}
		t.Flush()
	}
	rows := func(what string, gains []eval.Gain) {
		if len(gains) == 0 {
			return
		}
		fmt.Fprintf(t, "\n%s\tbaseline\tcandidate\tgain\trelative\t95 %%\tobjects\t\n", what)
		for _, g := range gains {
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%d\t\n", g.Class+g.Size, percent(g.Baseline, g.Objects), percent(g.Candidate, g.Objects), signed(g.Gain), relative(g.Relative), interval(g.CI95), g.Objects)
		}
		t.Flush()
	}
	rows("class", c.PerClass)
	rows("size", c.PerSize)
	if c.Cost != nil {
		fmt.Fprintf(t, "\ncost\tparameters\tGMAC\tms per image\tpeak MB\t\n")
		for _, m := range []*eval.ModelRun{c.Cost.Baseline, c.Cost.Candidate} {
			if m == nil {
				fmt.Fprintf(t, "results file\tn/a\tn/a\tn/a\tn/a\t\n")
				continue
			}
			fmt.Fprintf(t, "%s\t%.1f M\t%.1f\t%.1f\t%.0f\t\n", m.Arch, float64(m.Parameters)/1e6, m.GMAC, m.Millis, m.PeakMB)
		}
		t.Flush()
	}
	fmt.Fprintf(w, "\nthe paper's own figures, not measured here (%s):\n", c.Paper.Source)
	for _, p := range c.Paper.Rows {
		fmt.Fprintf(t, "%s\t%s\t%s\t→ %s\t%+.1f\t%+.0f %%\t\n", p.Dataset, p.Metric, eval.Value(p.Baseline).Percent(1), eval.Value(p.Candidate).Percent(1), 100*p.Gain, 100*p.Relative)
	}
	t.Flush()
	return w.Flush()
}
