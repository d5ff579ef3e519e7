package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"resdet"
	"resdet/coco"
	"resdet/internal/weights"
)

type importOptions struct {
	arch, config string
	classes      []string
	classesFrom  string
	partial      bool
	dtype        string
	out          string
}

func newImportCommand(s streams) *cobra.Command {
	var o importOptions
	cmd := &cobra.Command{
		Use:   "import FILE --out MODEL.safetensors",
		Short: "Make a model file of a checkpoint and a configuration",
		Long: `Make a model file of a checkpoint and a configuration, and report what became of every tensor.

Names are those of torchvision's detectors (of any version) or of its classifiers, whose layers become the backbone.
The configuration is the architecture's, changed by what --config FILE says: a JSON object with the same members as
"resdet weights inspect" shows of a model file, of which any may be left out.

Unless every parameter of the network is found in its shape, and nothing else is in the file, nothing is written.
With --partial what is missing begins as in a new network: norms as identities, layers by He et al.'s initialisation.`,
		Example: `  resdet weights import fasterrcnn.pth --arch resnet50-fpn --classes-from coco --out model.safetensors
  resdet weights import resnet101.pth --arch resnet101-c4 --classes cat,dog --partial --out start.safetensors`,
		Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(_ *cobra.Command, args []string) error { return runImport(s, o, args[0]) },
	}
	f := cmd.Flags()
	f.StringVar(&o.arch, "arch", "", "architecture: "+strings.Join(resdet.Archs(), ", "))
	f.StringVar(&o.config, "config", "", "JSON file with what differs from the architecture's settings")
	f.StringSliceVar(&o.classes, "classes", nil, "names of the classes, in the order of the head's rows, without the background")
	f.StringVar(&o.classesFrom, "classes-from", "", "classes of a data set: voc or coco")
	f.BoolVar(&o.partial, "partial", false, "write a model although tensors are missing or left over")
	f.StringVar(&o.dtype, "dtype", "f32", "of the weights in the model file: f32 or f16 (half the size; norms stay f32)")
	f.StringVarP(&o.out, "out", "o", "", "model file to write")
	return cmd
}

func runImport(s streams, o importOptions, path string) error {
	dtypes := map[string]weights.DType{"f32": weights.F32, "f16": weights.F16}
	dtype, ok := dtypes[o.dtype]
	switch {
	case !ok:
		return usagef("--dtype %q is neither f32 nor f16", o.dtype)
	case o.out == "":
		return usagef("--out says where the model file goes")
	}
	cfg, err := o.configuration()
	if err != nil {
		return err
	}
	c, err := weights.Open(path)
	if err != nil {
		return err
	}
	defer c.Close()
	wanted, err := cfg.Params()
	if err != nil {
		return err
	}
	ids := make([]int, len(cfg.Classes))
	for i, class := range cfg.Classes {
		ids[i] = class.ID
	}
	report := weights.Match(c, wanted, ids)
	if n, _ := report.Count(weights.Matched); n == 0 || !o.partial {
		if err := report.Err(); err != nil {
			return hintError{err, fitHint(c, report, n)}
		}
	}
	text, err := json.Marshal(cfg)
	if err != nil {
		return err
	}
	if err := weights.Save(o.out, text, wanted, report, dtype); err != nil {
		return err
	}
	if err := report.WriteTable(s.out); err != nil {
		return err
	}
	fmt.Fprintf(s.out, "\n%s (%s, names of a %s) → %s: %s\n", path, c.Format, report.Family, o.out, report.Summary())
	missing, _ := report.Count(weights.Missing)
	misshapen, _ := report.Count(weights.Misshapen)
	if n := missing + misshapen; n > 0 {
		fmt.Fprintf(s.out, "%d parameters begin as in a new network: train the model before you use it\n", n)
	}
	return nil
}

// configuration is the architecture's, with the file's changes and the classes.
func (o importOptions) configuration() (resdet.Config, error) {
	var none resdet.Config
	var changes []byte
	if o.config != "" {
		f, err := os.Open(o.config)
		if err != nil {
			return none, err
		}
		defer f.Close()
		if changes, err = io.ReadAll(io.LimitReader(f, 1<<20)); err != nil {
			return none, err
		}
	}
	arch, err := o.architecture(changes)
	if err != nil {
		return none, err
	}
	cfg, err := resdet.NewConfig(arch, resdet.IndexedClasses("object"))
	if err != nil {
		return none, usageError{err}
	}
	cfg.Classes = nil
	if changes != nil {
		d := json.NewDecoder(bytes.NewReader(changes))
		d.DisallowUnknownFields()
		if err := d.Decode(&cfg); err != nil {
			return none, fmt.Errorf("%s: %w", o.config, err)
		}
	}
	switch {
	case o.classesFrom != "" && o.classes != nil:
		return none, usagef("--classes and --classes-from exclude each other")
	case o.classesFrom == "voc":
		cfg.Classes = classesOf(coco.VOCClasses())
	case o.classesFrom == "coco":
		cfg.Classes = classesOf(coco.COCOClasses())
	case o.classesFrom != "":
		return none, usagef("--classes-from %q is neither voc nor coco", o.classesFrom)
	case o.classes != nil:
		cfg.Classes = classesOf(coco.NamedClasses(o.classes))
	case cfg.Classes == nil:
		return none, usagef("--classes or --classes-from says what the model finds")
	}
	if err := cfg.Validate(); err != nil {
		if o.config != "" {
			err = fmt.Errorf("%s: %w", o.config, err)
		}
		return none, err
	}
	return cfg, nil
}

// architecture is --arch or what the configuration file says.
func (o importOptions) architecture(changes []byte) (string, error) {
	var named struct{ Arch string }
	if changes != nil {
		if err := json.Unmarshal(changes, &named); err != nil {
			return "", fmt.Errorf("%s: %w", o.config, err)
		}
	}
	switch {
	case o.arch == "" && named.Arch == "":
		return "", usagef("--arch is needed: one of %s", strings.Join(resdet.Archs(), ", "))
	case o.arch != "" && named.Arch != "" && o.arch != named.Arch:
		return "", usagef("--arch %s, but %s is for %s", o.arch, o.config, named.Arch)
	case o.arch != "":
		return o.arch, nil
	}
	return named.Arch, nil
}

func classesOf(classes []coco.Class) []resdet.Class {
	out := make([]resdet.Class, len(classes))
	for i, c := range classes {
		out[i] = resdet.Class{Name: c.Name, ID: c.ID}
	}
	return out
}

// fitHint says what may help with a checkpoint that does not fit.
func fitHint(c *weights.Checkpoint, r *weights.Report, matched int) string {
	scores := slices.IndexFunc(r.Rows, func(row weights.Row) bool {
		return row.Key == "roi_heads.box_predictor.cls_score.bias" && len(row.Have) == 1 && row.Have[0] > 1
	})
	if scores >= 0 {
		names := make([]string, min(r.Rows[scores].Have[0]-1, 20_000))
		for i := range names {
			names[i] = fmt.Sprint(i)
		}
		for _, arch := range resdet.Archs() {
			cfg, err := resdet.NewConfig(arch, resdet.IndexedClasses(names...))
			if err != nil {
				continue
			}
			if wanted, err := cfg.Params(); err == nil && weights.Match(c, wanted, nil).Err() == nil {
				return fmt.Sprintf("its tensors are those of %s with %d classes and the background", arch, len(names))
			}
		}
	}
	if matched == 0 {
		return "the names are not known; resdet weights inspect lists them"
	}
	const partial = "--partial takes what fits; the rest begins as in a new network, to be trained"
	if n, _ := r.Count(weights.Misshapen); n > 0 {
		return "are --arch, --config and the classes those of the checkpoint? " + partial
	}
	return partial
}
