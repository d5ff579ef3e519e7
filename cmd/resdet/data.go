package main

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"resdet"
	"resdet/coco"
	"resdet/internal/weights"
)

// dataFlags choose a dataset; the commands of `data` have them.
type dataFlags struct {
	spec    string
	classes []string
	json    bool
	quiet   bool
}

func (d *dataFlags) add(f *pflag.FlagSet) {
	f.StringVarP(&d.spec, "data", "d", "", "data set: coco:FILE.json, voc:DIR or yolo:DATA.yaml, with options (required)")
	f.StringSliceVar(&d.classes, "classes", nil, "classes, by name and in this order (default: the data's own)")
	f.BoolVar(&d.json, "json", false, "JSON on standard output")
	f.BoolVarP(&d.quiet, "quiet", "q", false, "no progress bar")
}

func (d dataFlags) parse() (coco.Spec, error) {
	if d.spec == "" {
		return coco.Spec{}, usagef("--data is needed, such as --data voc:VOCdevkit,split=train")
	}
	spec, err := coco.ParseSpec(d.spec)
	if err != nil {
		return spec, usageError{err}
	}
	spec.Classes = d.classes
	return spec, nil
}

func newDataCommand(s streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "data",
		Short: "What is wrong with a data set, what is in it, and the same in another format",
		Long: `Data sets are given as one argument, with options after commas:

  coco:ANNOTATIONS.json[,images=DIR]
  voc:DIR[,split=NAME][,images=DIR][,annotations=DIR]   VOCdevkit, VOCdevkit/VOC2007, or a folder with XML
  yolo:DATA.yaml[,split=train|val|test][,within=DIR]    nothing that it names outside of DIR is read

and of the images, in byte order of file names, ,every=5 takes 0, 5, 10 …, ,not-every=5 the rest,
,first=10 the first ten.`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newDataCheckCommand(s), newDataStatsCommand(s), newDataConvertCommand(s))
	return cmd
}

type dataCheckOptions struct {
	dataFlags
	fix      string
	noPhotos bool
}

func newDataCheckCommand(s streams) *cobra.Command {
	var o dataCheckOptions
	cmd := &cobra.Command{
		Use:   "check --data SPEC",
		Short: "Find what ruins training and evaluation: file, object, and what to do",
		Long: `Decode every photo, hold every annotation against it and against the rest, and list what is wrong:
file, line, object, and what to do. With --fix a repaired copy is written into a folder of its own; the
source is never changed.

Exit status: 0 nothing found, 1 findings (also when --fix has repaired them in the copy).`,
		Example: `  resdet data check --data voc:VOCdevkit,split=train
  resdet data check --data coco:instances.json,images=photos --fix repaired`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return runDataCheck(cmd.Context(), s, o) },
	}
	f := cmd.Flags()
	o.add(f)
	f.StringVar(&o.fix, "fix", "", "write a repaired copy into this folder, which must be empty or not there")
	f.BoolVar(&o.noPhotos, "no-photos", false, "look at the annotations alone")
	return cmd
}

func runDataCheck(ctx context.Context, s streams, o dataCheckOptions) error {
	spec, err := o.parse()
	if err != nil {
		return err
	}
	bar := &stepper{s: s, what: "photos", quiet: o.quiet}
	defer bar.stop()
	r, err := coco.Check(ctx, coco.CheckConfig{Spec: spec, SkipPhotos: o.noPhotos, Step: bar.step})
	if err != nil {
		return err
	}
	bar.stop()
	var fixed *coco.Fixed
	if o.fix != "" && len(r.Faults) > 0 {
		mode := coco.CopyPhotos
		if o.noPhotos {
			mode = coco.NoPhotos
		}
		bar := &stepper{s: s, what: "copied", quiet: o.quiet}
		defer bar.stop()
		if fixed, err = r.Fix(ctx, o.fix, mode, bar.step); err != nil {
			return err
		}
		bar.stop()
	}
	out := bufio.NewWriter(s.out)
	if o.json {
		err = printJSON(out, struct {
			*coco.Report
			Fixed *coco.Fixed `json:"fixed,omitempty"`
		}{r, fixed})
	} else {
		printCheck(out, r, fixed, o.fix)
	}
	if err := cmp.Or(err, out.Flush()); err != nil {
		return err
	}
	if len(r.Faults) > 0 {
		return errReported
	}
	return nil
}

func printCheck(w io.Writer, r *coco.Report, fixed *coco.Fixed, dir string) {
	total := 0
	for _, f := range r.Faults {
		total += f.Count
		fmt.Fprintf(w, "%v\n", f)
		if f.Fix != "" {
			fmt.Fprintf(w, "    → %s\n", f.Fix)
		}
	}
	if total > 0 {
		fmt.Fprintln(w)
		tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		for _, k := range slices.Sorted(maps.Keys(r.Counts)) {
			fmt.Fprintf(tw, "%s\t%d\n", k, r.Counts[k])
		}
		tw.Flush()
	}
	fmt.Fprintf(w, "%s: %s (%d without objects), %s, %s: ", r.Dataset, plural(r.Images, "image"), r.Empty, plural(r.Objects, "object"), classCount(r.Classes))
	switch {
	case total == 0:
		fmt.Fprintln(w, "nothing wrong")
	default:
		fmt.Fprintln(w, plural(total, "finding"))
	}
	switch {
	case fixed != nil:
		fmt.Fprintf(w, "repaired copy: %s: %s, %s\n", fixed.Data, plural(fixed.Images, "image"), plural(fixed.Objects, "object"))
		for _, l := range fixed.Lost {
			fmt.Fprintf(w, "not in the copy: %s\n", l)
		}
	case dir != "":
		fmt.Fprintf(w, "nothing to repair: %s was not written\n", dir)
	}
}

func classCount(n int) string {
	if n == 1 {
		return "1 class"
	}
	return fmt.Sprintf("%d classes", n)
}

type dataStatsOptions struct {
	dataFlags
	model, arch string
	mapping     bool
}

func newDataStatsCommand(s streams) *cobra.Command {
	var o dataStatsOptions
	cmd := &cobra.Command{
		Use:   "stats --data SPEC",
		Short: "Objects by class and size, boxes per image, and how well a model's anchors cover them",
		Example: `  resdet data stats --data voc:VOCdevkit,split=train
  resdet data stats --data coco:instances.json --arch resnet50-fpn --json`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return runDataStats(cmd.Context(), s, o) },
	}
	f := cmd.Flags()
	o.add(f)
	f.StringVarP(&o.model, "model", "m", "", "measure the coverage of this model's anchors")
	f.StringVar(&o.arch, "arch", "", "measure the coverage of this architecture's anchors (default resnet101-c4)")
	f.BoolVar(&o.mapping, "mapping", false, "print each class's index, its id in the data, and its name, and nothing else")
	return cmd
}

func runDataStats(ctx context.Context, s streams, o dataStatsOptions) error {
	spec, err := o.parse()
	if err != nil {
		return err
	}
	if o.model != "" && o.arch != "" {
		return usagef("--model and --arch exclude each other")
	}
	cfg, err := anchorConfig(o.model, o.arch)
	if err != nil {
		return err
	}
	d, err := coco.Load(ctx, spec)
	if err != nil {
		return err
	}
	if o.mapping {
		_, err := io.WriteString(s.out, d.Mapping())
		return err
	}
	anchors := anchorsOf(cfg)
	stats, err := d.Describe(&anchors)
	if err != nil {
		return err
	}
	out := bufio.NewWriter(s.out)
	if o.json {
		err = printJSON(out, struct {
			Data string `json:"data"`
			Arch string `json:"arch"`
			coco.Stats
		}{spec.String(), cfg.Arch, stats})
	} else {
		printStats(out, spec, cfg.Arch, stats)
	}
	return cmp.Or(err, out.Flush())
}

// anchorConfig returns the configuration whose anchors are measured: a model
// file's, without its weights, or an architecture's.
func anchorConfig(model, arch string) (resdet.Config, error) {
	if model == "" {
		cfg, err := resdet.NewConfig(cmp.Or(arch, "resnet101-c4"), resdet.IndexedClasses("object"))
		if err != nil {
			return cfg, usageError{err}
		}
		return cfg, nil
	}
	c, err := weights.Open(model)
	if err != nil {
		return resdet.Config{}, err
	}
	defer c.Close()
	b, err := c.Config()
	if err != nil {
		return resdet.Config{}, err
	}
	return resdet.ParseConfig(b)
}

// anchorsOf takes from a configuration what coverage depends on.
func anchorsOf(cfg resdet.Config) coco.Anchors {
	a := coco.Anchors{ShortSide: cfg.Transform.ShortSide, LongSide: cfg.Transform.LongSide}
	for _, r := range cfg.RPN.Anchors.Ratios {
		a.Ratios = append(a.Ratios, float64(r))
	}
	strides := cfg.Backbone.Strides()
	for i, sizes := range cfg.RPN.Anchors.Sizes {
		l := coco.AnchorLevel{Stride: strides[i]}
		for _, v := range sizes {
			l.Sizes = append(l.Sizes, float64(v))
		}
		a.Levels = append(a.Levels, l)
	}
	return a
}

func printStats(w io.Writer, spec coco.Spec, arch string, st coco.Stats) {
	fmt.Fprintf(w, "%s: %s (%d without objects), %s, %s", spec, plural(st.Images, "image"), st.Empty, plural(st.Objects, "object"), classCount(len(st.Classes)))
	for _, n := range []struct {
		n    int
		what string
	}{{st.Crowd, "crowd"}, {st.Difficult, "difficult"}, {st.Truncated, "truncated"}} {
		if n.n > 0 {
			fmt.Fprintf(w, ", %d %s", n.n, n.what)
		}
	}
	fmt.Fprint(w, "\n\n")
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(tw, "class\tid\tobjects\timages\tsmall\tmedium\tlarge\t")
	for _, c := range st.Classes {
		fmt.Fprintf(tw, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t\n", c.Class, c.ID, c.Objects, c.Images, c.Small, c.Medium, c.Large)
	}
	fmt.Fprintf(tw, "all\t\t%d\t%d\t%d\t%d\t%d\t\n", st.Objects, st.Images-st.Empty, st.Small, st.Medium, st.Large)
	tw.Flush()
	fmt.Fprintln(w, "small: area below 32², medium: below 96², in original pixels")
	fmt.Fprintln(w)
	tw = tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(tw, "\tleast\t5 %\tmedian\tmean\t95 %\tmost\t")
	for _, r := range []struct {
		name string
		s    coco.Spread
	}{
		{"boxes per image", st.PerImage}, {"image width", st.ImageWidth}, {"image height", st.ImageHeight},
		{"box side (√area)", st.BoxSide}, {"box height / width", st.BoxAspect}, {"box side / image side", st.BoxInImage},
	} {
		fmt.Fprintf(tw, "%s\t%.4g\t%.4g\t%.4g\t%.4g\t%.4g\t%.4g\t\n", r.name, r.s.Min, r.s.P5, r.s.Median, r.s.Mean, r.s.P95, r.s.Max)
	}
	tw.Flush()
	fmt.Fprint(w, "most frequent sizes:")
	for _, z := range st.Sizes[:min(len(st.Sizes), 5)] {
		fmt.Fprintf(w, "  %d×%d (%d)", z.Width, z.Height, z.Images)
	}
	fmt.Fprintln(w)
	if st.Anchors == nil {
		return
	}
	fmt.Fprintf(w, "\nanchors of %s, short side %d, long side at most %d: best overlap of each box with any\n", arch, st.Anchors.Anchors.ShortSide, st.Anchors.Anchors.LongSide)
	tw = tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(tw, "boxes\tobjects\tmean IoU\t≥ 0.5\t≥ 0.7\t")
	for _, r := range st.Anchors.Rows {
		if r.Objects == 0 {
			fmt.Fprintf(tw, "%s\t0\tn/a\tn/a\tn/a\t\n", r.Size)
			continue
		}
		fmt.Fprintf(tw, "%s\t%d\t%.3f\t%.1f %%\t%.1f %%\t\n", r.Size, r.Objects, *r.Mean, 100**r.At50, 100**r.At70)
	}
	tw.Flush()
}

type dataConvertOptions struct {
	dataFlags
	to, out, split, photos string
}

func newDataConvertCommand(s streams) *cobra.Command {
	var o dataConvertOptions
	cmd := &cobra.Command{
		Use:   "convert --data SPEC --to coco|voc|yolo --out DIR",
		Short: "Write a data set in another format, and say what that format cannot hold",
		Long: `Write a data set as COCO (annotations/instances_SPLIT.json, photos in SPLIT), VOC (Annotations, JPEGImages,
ImageSets/Main/SPLIT.txt) or YOLO (data.yaml, images/SPLIT, labels/SPLIT). Further splits of the same set
may go into the same folder; nothing that is there is overwritten.`,
		Example: `  resdet data convert --data voc:VOCdevkit,split=train --to yolo --out voc-yolo`,
		Args:    usageArgs(cobra.NoArgs),
		RunE:    func(cmd *cobra.Command, _ []string) error { return runDataConvert(cmd.Context(), s, o) },
	}
	f := cmd.Flags()
	o.add(f)
	f.StringVar(&o.to, "to", "", "coco, voc or yolo (required)")
	f.StringVarP(&o.out, "out", "o", "", "folder to write into (required)")
	f.StringVar(&o.split, "split", "", "name of the split that is written (default: the source's, or train)")
	f.StringVar(&o.photos, "photos", string(coco.CopyPhotos), "copy, link (hard links where possible) or none")
	return cmd
}

func runDataConvert(ctx context.Context, s streams, o dataConvertOptions) error {
	spec, err := o.parse()
	if err != nil {
		return err
	}
	switch {
	case o.to == "" || o.out == "":
		return usagef("--to and --out are needed")
	case !slices.Contains([]coco.Format{coco.FormatCOCO, coco.FormatVOC, coco.FormatYOLO}, coco.Format(o.to)):
		return usagef("--to %q is none of coco, voc, yolo", o.to)
	case !slices.Contains([]coco.PhotoMode{coco.CopyPhotos, coco.LinkPhotos, coco.NoPhotos}, coco.PhotoMode(o.photos)):
		return usagef("--photos %q is none of copy, link, none", o.photos)
	}
	d, err := coco.Load(ctx, spec)
	if err != nil {
		return err
	}
	bar := &stepper{s: s, what: "photos", quiet: o.quiet}
	defer bar.stop()
	c, err := coco.Convert(ctx, d, coco.ConvertConfig{
		To: coco.Format(o.to), Dir: o.out, Split: o.split, Photos: coco.PhotoMode(o.photos), Step: bar.step,
	})
	if err != nil {
		return err
	}
	bar.stop()
	if o.json {
		return printJSON(s.out, c)
	}
	fmt.Fprintf(s.out, "%s: %s, %s, %s\n", c.Data, plural(c.Images, "image"), plural(c.Objects, "object"), plural(c.Photos, "photo"))
	for _, l := range c.Lost {
		fmt.Fprintf(s.out, "lost: %s\n", l)
	}
	return nil
}

// stepper shows the progress of a step that tells its total as it goes, from
// any goroutine.
type stepper struct {
	s     streams
	what  string
	quiet bool
	mu    sync.Mutex
	bar   *progress
}

func (p *stepper) step(_, total int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bar == nil {
		p.bar = newProgress(p.s.err, p.what, total, p.quiet)
	}
	p.bar.step()
}

// stop ends the bar; a second call does nothing.
func (p *stepper) stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bar != nil {
		p.bar.stop()
		p.bar = nil
	}
}
