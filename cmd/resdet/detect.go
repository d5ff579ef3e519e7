package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"image"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"resdet"
	"resdet/coco"
	"resdet/internal/transform"
)

type detectOptions struct {
	model  modelFlags
	limits thresholdFlags
	format string
	json   bool
	out    string
	quiet  bool
}

func newDetectCommand(s streams) *cobra.Command {
	var o detectOptions
	cmd := &cobra.Command{
		Use:   "detect [--model FILE] INPUT…",
		Short: "Find the objects in images",
		Long: `Find the objects in images: JPEG and PNG files, folders of them, globs, or - for standard input.

A file that cannot be read is reported, the others are still done, and the exit status is 1.`,
		Example: `  resdet detect photo.jpg
  resdet detect --out drawn --score 0.5 photos/
  resdet detect --json --classes person,dog 'frames/*.png' > found.jsonl
  resdet detect --format coco photos/ > results.json`,
		Args: usageArgs(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runDetect(cmd.Context(), s, o, args, cmd.Flags())
		},
	}
	f := cmd.Flags()
	o.model.precision = "auto"
	o.model.add(f, s)
	o.limits.add(f)
	f.StringVarP(&o.format, "format", "f", "text", "of the results: text, json (a line per image), coco, csv, or voc (XML files, needs --out)")
	f.BoolVar(&o.json, "json", false, "the same as --format json")
	f.StringVarP(&o.out, "out", "o", "", "folder for the images with their detections drawn")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "no progress bar")
	return cmd
}

// thresholdFlags change a model's own thresholds.
type thresholdFlags struct {
	score, nms float32
	max        int
	classes    []string
}

func (t *thresholdFlags) add(f *pflag.FlagSet) {
	f.Float32Var(&t.score, "score", 0, "least score of a detection (default: the model's)")
	f.Float32Var(&t.nms, "nms", 0, "overlap above which the lesser of two of one class is dropped (default: the model's)")
	f.IntVar(&t.max, "max", 0, "most detections of an image (default: the model's)")
	f.StringSliceVar(&t.classes, "classes", nil, "only these classes, by name (default: all)")
}

// settings returns the model's settings with what the flags change.
func (t thresholdFlags) settings(f *pflag.FlagSet, d *resdet.Detector) (resdet.Settings, error) {
	s := d.Settings()
	if f.Changed("score") {
		s.Score = t.score
	}
	if f.Changed("nms") {
		s.NMS = t.nms
	}
	if f.Changed("max") {
		s.Max = t.max
	}
	switch {
	case !(s.Score >= 0 && s.Score <= 1):
		return s, usagef("--score %g is not in 0…1", s.Score)
	case !(s.NMS > 0 && s.NMS <= 1):
		return s, usagef("--nms %g is not in 0…1", s.NMS)
	case s.Max < 1:
		return s, usagef("--max %d is not positive", s.Max)
	}
	classes := d.Config().Classes
	for _, name := range t.classes {
		i := slices.IndexFunc(classes, func(c resdet.Class) bool { return c.Name == name })
		if i < 0 {
			return s, usageError{hintError{fmt.Errorf("--classes: the model does not know %q", name), "it knows " + classNames(classes)}}
		}
		s.Only = append(s.Only, i)
	}
	return s, nil
}

func classNames(classes []resdet.Class) string {
	names := make([]string, len(classes))
	for i, c := range classes {
		names[i] = c.Name
	}
	return strings.Join(names, ", ")
}

// found is an image with its detections.
type found struct {
	input      string
	img        image.Image
	detections []resdet.Detection
	decode     time.Duration
	profile    resdet.Profile
}

func runDetect(ctx context.Context, s streams, o detectOptions, args []string, flags *pflag.FlagSet) error {
	if o.json {
		if flags.Changed("format") && o.format != "json" {
			return usagef("--json and --format %s contradict each other", o.format)
		}
		o.format = "json"
	}
	if !slices.Contains(detectFormats, o.format) {
		return usagef("--format %q is none of %s", o.format, strings.Join(detectFormats, ", "))
	}
	if o.format == "voc" && o.out == "" {
		return usagef("--format voc writes files: it needs --out DIR")
	}
	inputs, wrong := expandInputs(args)
	if err := checkTargets(inputs, o.format, o.out); err != nil {
		return err
	}
	if len(inputs) == 0 && len(wrong) == 1 {
		return wrong[0]
	}
	d, err := o.model.open()
	if err != nil {
		return err
	}
	defer d.Close()
	settings, err := o.limits.settings(flags, d)
	if err != nil {
		return err
	}
	if o.out != "" {
		if err := os.MkdirAll(o.out, 0o777); err != nil {
			return err
		}
	}

	bar := newProgress(s.err, "images", len(inputs), o.quiet)
	stdout := bufio.NewWriterSize(bar.above(s.out), 1<<16)
	write := newDetectWriter(o.format, stdout, d.Config().Classes, o.out)
	failed := 0
	fail := func(err error) {
		failed++
		bar.printError(err)
	}
	for _, err := range wrong {
		fail(err)
	}
	// The next image is decoded while the network works on this one.
	for next := range decodeAhead(ctx, s, inputs) {
		if next.err != nil {
			fail(next.err)
			bar.step()
			continue
		}
		res, err := d.DetectBatch(ctx, []image.Image{next.img}, settings)
		if err != nil {
			if ctx.Err() != nil {
				break
			}
			fail(fmt.Errorf("%s: %w", next.input, err))
			bar.step()
			continue
		}
		f := found{next.input, next.img, res[0].Detections, next.took, d.Profile()}
		if err := write.image(f); err != nil {
			bar.stop()
			return err
		}
		if o.out != "" {
			if err := drawTo(o.out, f, d.Config().Classes); err != nil {
				fail(err)
			}
		}
		bar.step()
		if err := stdout.Flush(); err != nil { // results appear as they come
			bar.stop()
			return err
		}
	}
	bar.stop()
	if err := errors.Join(write.end(), stdout.Flush()); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if failed > 0 {
		if n := len(inputs) + len(wrong); n > 1 {
			printError(s.err, fmt.Errorf("%d of %d images failed", failed, n))
		}
		return errReported
	}
	return nil
}

// decoded is an input's image or why there is none.
type decoded struct {
	input string
	img   image.Image
	took  time.Duration
	err   error
}

// decodeAhead decodes the inputs in order, one ahead of its reader. The
// channel closes after the last, or when ctx ends.
func decodeAhead(ctx context.Context, s streams, inputs []string) <-chan decoded {
	ch := make(chan decoded, 1)
	go func() {
		defer close(ch)
		for _, input := range inputs {
			start := time.Now()
			img, err := decodeInput(s, input)
			select {
			case ch <- decoded{input, img, time.Since(start), err}:
			case <-ctx.Done():
				return
			}
		}
	}()
	return ch
}

func decodeInput(s streams, input string) (image.Image, error) {
	if input == "-" {
		img, err := transform.Decode(s.in, transform.DefaultLimits())
		if err != nil {
			return nil, fmt.Errorf("standard input: %w", err)
		}
		return img, nil
	}
	f, err := os.Open(input)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	img, err := transform.Decode(f, transform.DefaultLimits())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", input, err)
	}
	return img, nil
}

// result is a detection as coco's writers want it.
func result(imageID string, d resdet.Detection, classes []resdet.Class) coco.Result {
	b := d.Box
	return coco.Result{
		Image: imageID, Class: classes[d.Class].Name, ClassID: classes[d.Class].ID, Score: float64(d.Score),
		Box: coco.BoxFromCorners(float64(b.X0), float64(b.Y0), float64(b.X1), float64(b.Y1)),
	}
}
