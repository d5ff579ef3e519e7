package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"resdet"
	"resdet/coco"
	"resdet/eval"
	pages "resdet/eval/report"
)

type evalOptions struct {
	data       string
	classes    []string
	detections string
	model      modelFlags
	limits     thresholdFlags
	protocol   string
	preprocess bool
	json       bool
	report     string
	quiet      bool
}

func newEvalCommand(s streams) *cobra.Command {
	var o evalOptions
	cmd := &cobra.Command{
		Use:   "eval --data SPEC [--detections FILE | --model FILE]",
		Short: "Score detections against a data set: mAP and what it was lost to",
		Long: `Score a results file, or a model that is run over the data set, by the protocol of COCO or PASCAL VOC:
AP, per class and per size, what AP was lost to (TIDE), the confusion matrix. Without --detections and
--model the built-in model is run.

SPEC is coco:FILE.json[,images=DIR], voc:DIR[,split=NAME] or yolo:DATA.yaml[,split=NAME], and then
,every=N ,not-every=N ,first=N for a part of it. Results are COCO's JSON, JSON lines of detect, CSV, or
VOC's comp4 text (file or folder). With --protocol mot, SPEC is mot:GT.txt and FILE a tracker's output in
MOT Challenge's format.`,
		Example: `  resdet eval --data coco:instances_val2017.json --detections results.json
  resdet eval --data voc:VOCdevkit/VOC2007,split=test --detections results.json --protocol voc07
  resdet eval --data voc:VOCdevkit,split=minival --report minival.html
  resdet eval --data coco:val.json,images=photos,first=100 --model model.safetensors --json`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return runEval(cmd.Context(), s, o, cmd.Flags()) },
	}
	f := cmd.Flags()
	f.StringVarP(&o.data, "data", "d", "", "data set with the truth (required)")
	f.StringSliceVar(&o.classes, "classes", nil, "classes of the data, by name and in this order (default: its own)")
	f.StringVar(&o.detections, "detections", "", "results to score, instead of running a model")
	f.StringVar(&o.protocol, "protocol", "coco", "coco, voc07 (11 points), voc10 (area) or mot (tracking)")
	f.BoolVar(&o.preprocess, "preprocess", false, "with mot: apply the benchmark's rules for distractors and classes")
	f.BoolVar(&o.json, "json", false, "JSON on standard output instead of tables")
	f.StringVar(&o.report, "report", "", "write a self-contained HTML page")
	o.model.add(f, s)
	addEvalThresholds(f, &o.limits)
	f.BoolVarP(&o.quiet, "quiet", "q", false, "no progress bar and no notes")
	return cmd
}

// addEvalThresholds adds the thresholds of a model run; --classes means the
// data's here, so the model's own filter is left out.
func addEvalThresholds(f *pflag.FlagSet, t *thresholdFlags) {
	f.Float32Var(&t.score, "score", 0, "least score of a model's detection (default: the model's)")
	f.Float32Var(&t.nms, "nms", 0, "overlap above which the lesser of two of one class is dropped (default: the model's)")
	f.IntVar(&t.max, "max", 0, "most detections of an image (default: the model's)")
}

// parseProtocol checks --protocol.
func parseProtocol(name string) (eval.Protocol, error) {
	switch p := eval.Protocol(name); p {
	case eval.COCO, eval.VOC07, eval.VOC10:
		return p, nil
	}
	return "", usagef("--protocol %q is none of coco, voc07, voc10", name)
}

func runEval(ctx context.Context, s streams, o evalOptions, flags *pflag.FlagSet) error {
	switch {
	case o.data == "":
		return usagef("--data is missing: which data set?")
	case o.detections != "" && flags.Changed("model"):
		return usagef("--detections and --model contradict each other")
	}
	if o.protocol == "mot" {
		return runEvalMOT(s, o)
	}
	protocol, err := parseProtocol(o.protocol)
	if err != nil {
		return err
	}
	if err := checkReportPath(o.report); err != nil {
		return err
	}
	set, r, err := evaluate(ctx, s, o, protocol, flags)
	if err != nil {
		return err
	}
	if o.json {
		err = printJSON(s.out, r)
	} else {
		err = printEval(s.out, r)
	}
	if o.report != "" && err == nil { // what was printed is not lost with it
		err = pages.WriteEval(o.report, r, set.open)
	}
	return err
}

// checkReportPath finds out before a long run that a report could not be
// written.
func checkReportPath(path string) error {
	if path == "" {
		return nil
	}
	dir := filepath.Dir(path)
	if info, err := os.Stat(dir); err != nil {
		return hintError{fmt.Errorf("--report: %w", err), "make the folder first"}
	} else if !info.IsDir() {
		return fmt.Errorf("--report: %s is not a folder", dir)
	}
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return fmt.Errorf("--report: %s is a folder; name the file", path)
	}
	return nil
}

// evaluate reads data and detections, or runs the model.
func evaluate(ctx context.Context, s streams, o evalOptions, protocol eval.Protocol, flags *pflag.FlagSet) (*evalSet, *eval.Result, error) {
	if o.detections != "" {
		files := readResults(o.detections) // while the data set is read
		set, err := loadEvalSet(ctx, o.data, o.classes)
		if err != nil {
			return nil, nil, err
		}
		read := <-files[0]
		if read.err != nil {
			return nil, nil, read.err
		}
		r, err := set.results(protocol, o.detections, read.results)
		if err == nil {
			noteStrays(s.err, o.quiet, r)
		}
		return set, r, err
	}
	set, err := loadEvalSet(ctx, o.data, o.classes)
	if err != nil {
		return nil, nil, err
	}
	d, err := o.model.open()
	if err != nil {
		return nil, nil, err
	}
	defer d.Close()
	settings, err := o.limits.settings(flags, d)
	if err != nil {
		return nil, nil, err
	}
	r, err := set.model(ctx, protocol, modelName(o.model.path), d, settings, o.model.threadCount(), s.err, o.quiet)
	return set, r, err
}

func modelName(path string) string {
	if path == "" {
		return "the built-in model"
	}
	return path
}

// readFile is a results file that was read, or why it was not.
type readFile struct {
	results []coco.Result
	err     error
}

// readResults reads results files in the background, one channel for each.
func readResults(paths ...string) []chan readFile {
	out := make([]chan readFile, len(paths))
	for i, path := range paths {
		out[i] = make(chan readFile, 1)
		go func() {
			results, err := coco.ReadResultsFile(path)
			out[i] <- readFile{results, err}
		}()
	}
	return out
}

// noteStrays tells of detections that could not be used.
func noteStrays(w io.Writer, quiet bool, r *eval.Result) {
	if quiet {
		return
	}
	if n := r.Settings.UnknownImages; n > 0 {
		fmt.Fprintf(w, "resdet: %s: %s left out: of images that the data does not have\n", r.Settings.Detections, plural(n, "detection"))
	}
	if n := r.Settings.UnknownClasses; n > 0 {
		fmt.Fprintf(w, "resdet: %s: %s left out: of classes that the data does not have\n", r.Settings.Detections, plural(n, "detection"))
	}
}

func printJSON(w io.Writer, v any) error {
	b := bufio.NewWriter(w)
	enc := json.NewEncoder(b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", " ")
	if err := enc.Encode(v); err != nil {
		return err
	}
	return b.Flush()
}

// percent writes a figure for people; objects says why it may be absent.
func percent(v eval.Value, objects int) string {
	if !v.Present() {
		return fmt.Sprintf("n/a (%d objects)", objects)
	}
	return v.Percent(1)
}

func printEval(out io.Writer, r *eval.Result) error {
	w := bufio.NewWriter(out)
	objects := 0
	for _, c := range r.PerClass {
		objects += c.Objects
	}
	fmt.Fprintf(w, "%s, %d images, %d objects, %d classes\n%s\n", r.Settings.Data, len(r.Images), objects, len(r.Classes), r.Settings.Detections)
	if m := r.Settings.Model; m != nil {
		fmt.Fprintf(w, "%s on %s, %s, %d threads; score ≥ %.3g, NMS %.3g, at most %d per image; %.1f ms per image\n", m.Arch, m.Device, m.Precision, m.Threads, m.Score, m.NMS, m.MaxDets, m.Millis)
	}
	fmt.Fprintf(w, "%s\n\n", strings.Join(r.Settings.Stamp(r.Protocol), "; "))

	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	sizes := map[string]int{"APs": 0, "ARs": 0, "APm": 1, "ARm": 1, "APl": 2, "ARl": 2}
	for i, m := range r.Metrics {
		n := objects
		if a, ok := sizes[m.Name]; ok {
			n = r.PerSize[a].Objects
		}
		fmt.Fprintf(t, "%s\t%s\t", m.Name, percent(m.Value, n))
		if i%3 == 2 || i == len(r.Metrics)-1 {
			fmt.Fprintln(t)
		}
	}
	t.Flush()

	header := func(first string, m eval.Metrics) {
		fmt.Fprintf(t, "\n%s\t", first)
		for _, x := range m {
			fmt.Fprintf(t, "%s\t", x.Name)
		}
		fmt.Fprintf(t, "objects\t\n")
	}
	row := func(name string, m eval.Metrics, objects int) {
		fmt.Fprintf(t, "%s\t", name)
		for i, x := range m {
			if i == 0 {
				fmt.Fprintf(t, "%s\t", percent(x.Value, objects))
			} else {
				fmt.Fprintf(t, "%s\t", x.Value.Percent(1))
			}
		}
		fmt.Fprintf(t, "%d\t\n", objects)
	}
	header("class", r.PerClass[0].Metrics)
	for _, c := range r.PerClass {
		row(c.Class.Name, c.Metrics, c.Objects)
	}
	t.Flush()
	if len(r.PerSize) > 0 {
		header("size", r.PerSize[0].Metrics)
		for _, c := range r.PerSize {
			row(c.Size, c.Metrics, c.Objects)
		}
		t.Flush()
	}
	c := r.Causes()
	left := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(left, "\nlost to\tAP50\tcount\t\n")
	for _, e := range c.Errors {
		fmt.Fprintf(left, "%s\t%s\t%d\t%s\n", e.Name, percent(e.Cost, objects), e.Count, e.Description)
	}
	left.Flush()
	if p := r.ProposalRecall(); p != nil {
		fmt.Fprintf(w, "\nproposals: AR@100 %s, AR@300 %s, AR@1000 %s; %.0f per image\n", percent(p.AR100, objects), percent(p.AR300, objects), percent(p.AR1000, objects), p.PerImage)
	}
	return w.Flush()
}

// open returns a photo of the data set for a report.
func (s *evalSet) open(img *eval.Image) (pages.Photo, error) {
	im := &s.data.Images[s.order[img.ID]]
	p := pages.Photo{Name: im.File}
	if im.Path == "" {
		return p, nil
	}
	var err error
	p.Image, err = s.photo(im)
	return p, err
}

var _ eval.Proposer = (*meteredDetector)(nil)
var _ eval.Detector = (*resdet.Detector)(nil)
