package main

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"resdet"
)

// exportFormats are what export writes.
var exportFormats = []string{"safetensors", "onnx"}

type exportOptions struct {
	format, out string
	asJSON      bool
}

func newExportCommand(s streams) *cobra.Command {
	var o exportOptions
	cmd := &cobra.Command{
		Use:   "export [MODEL.safetensors] --format safetensors|onnx --out FILE",
		Short: "Write a model for other programs: torchvision, ONNX Runtime",
		Long: `Write a model, or the built-in one, for other programs.

safetensors has the parameters in float32 under torchvision's names, the background's row first: torchvision loads them
with strict=True into a detector that is built with the same settings. What its constructors must be told (stride, eps,
anchors, order of channels, mean …) stands in the file's metadata under "resdet", as "resdet weights inspect" shows;
scripts/torchvision-detector.py builds the detector from it.

onnx is the whole detector in one model of opset 16: input "image", float32 [3 height width], RGB in 0…1, of any size;
outputs "boxes" (x0 y0 x1 y1 in the image's pixels, best first), "labels" (class ids) and "scores", with the model's own
thresholds. The metadata has the classes' names by id under "names". Parameters beyond 2 GB go to FILE.data.`,
		Example: `  resdet weights export model.safetensors --format onnx --out model.onnx
  resdet weights export model.safetensors --format safetensors --out torchvision.safetensors`,
		Args: usageArgs(cobra.MaximumNArgs(1)),
		RunE: func(_ *cobra.Command, args []string) error {
			return runExport(s, o, strings.Join(args, "")) // none: the built-in model
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.format, "format", "", "safetensors (torchvision's names) or onnx (the whole detector); default: by FILE's extension")
	f.StringVarP(&o.out, "out", "o", "", "file to write")
	f.BoolVar(&o.asJSON, "json", false, "one JSON object instead of text")
	return cmd
}

// exported is what export says of the file it wrote.
type exported struct {
	Format  string `json:"format"`
	Out     string `json:"out"`
	Bytes   int64  `json:"bytes"`
	Arch    string `json:"arch"`
	Classes int    `json:"classes"`
	// Notes are settings that torchvision's detector must be given.
	Notes []string `json:"notes"`
}

func runExport(s streams, o exportOptions, path string) error {
	if o.out == "" {
		return usagef("--out says where the file goes")
	}
	if o.format == "" {
		o.format = o.out[strings.LastIndexByte(o.out, '.')+1:]
	}
	if !slices.Contains(exportFormats, o.format) {
		return usagef("--format %q is none of %s", o.format, strings.Join(exportFormats, ", "))
	}
	d, err := modelFlags{precision: "f32"}.openPath(path)
	if err != nil {
		return err
	}
	defer d.Close()
	cfg := d.Config()
	r := exported{Format: o.format, Out: o.out, Arch: cfg.Arch, Classes: len(cfg.Classes), Notes: []string{}}
	if o.format == "onnx" {
		err = d.WriteONNX(o.out)
	} else {
		err = d.WriteSafetensors(o.out)
		r.Notes = append(r.Notes, torchvisionNotes(cfg)...)
	}
	if err != nil {
		return err
	}
	info, err := os.Stat(o.out)
	if err != nil {
		return err
	}
	r.Bytes = info.Size()
	if o.asJSON {
		return encodeJSON(s.out, r)
	}
	fmt.Fprintf(s.out, "%s: %s, %s with %d classes, %d bytes\n", r.Out, r.Format, r.Arch, r.Classes, r.Bytes)
	for _, n := range r.Notes {
		fmt.Fprintf(s.out, "torchvision: %s\n", n)
	}
	return nil
}

// torchvisionNotes lists what a detector of torchvision's must be told beside
// the weights and what its constructors take by name, or else it computes
// something else without a word.
func torchvisionNotes(cfg resdet.Config) []string {
	var notes []string
	add := func(differs bool, format string, args ...any) {
		if differs {
			notes = append(notes, fmt.Sprintf(format, args...))
		}
	}
	t, b, pool := cfg.Transform, cfg.Backbone, cfg.ROI.Pool
	scale := float32(1 / (255 * t.Scale)) // torchvision's images are in 0…1
	add(t.Order == "BGR", "images in BGR, or the first convolution's input channels the other way round")
	add(true, "image_mean %v, image_std %v", times(t.Mean, scale), times(t.Std, scale))
	add(t.PadMultiple != 32, "transform.size_divisible %d", t.PadMultiple)
	add(b.StrideIn1x1, "the stride of layer2…layer4 on conv1 of their first block, not on conv2")
	add(b.Family == "resnet" && b.NormEps != 1e-5, "eps %g in every norm", b.NormEps)
	add(b.CeilPool, "max pooling that rounds sizes up (ceil_mode)")
	add(t.RoundSize, "sizes of scaled images that are rounded to the nearest pixel")
	add(cfg.RPN.Boxes != "" || cfg.ROI.Boxes != "", "boxes whose corners belong to them: its box coder and suppression have no such setting")
	add(len(cfg.RPN.Anchors.Bases) > 0, "anchors of their own (%v): pass them as cell_anchors", cfg.RPN.Anchors.Bases)
	add(cfg.RPN.Channels != 0, "an RPN head of %d channels", cfg.RPN.Channels)
	add(pool.Kind == "max", "torchvision.ops.RoIPool instead of RoIAlign")
	add(pool.Aligned, "RoIAlign with aligned=True")
	add(!cfg.RPN.Anchors.Round, "anchors that are not rounded to whole pixels")
	add(!cfg.RPN.Anchors.GridStride, "anchors as far apart as the level's stride, not as ⌊image/grid⌋")
	return notes
}

func times(v [3]float32, by float32) [3]float32 { return [3]float32{v[0] * by, v[1] * by, v[2] * by} }
