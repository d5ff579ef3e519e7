package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"resdet"
	"resdet/coco"
	"resdet/internal/weights"
)

type importOptions struct {
	arch, config string
	family       string
	classes      []string
	classesFrom  string
	fileClasses  []string
	partial      bool
	asJSON       bool
	dtype        string
	out          string
	published    [][]byte // JSON objects that change the configuration: what is known of a published file
}

func newImportCommand(s streams) *cobra.Command {
	var o importOptions
	cmd := &cobra.Command{
		Use:   "import FILE --out MODEL.safetensors",
		Short: "Make a model file of a checkpoint and a configuration",
		Long: `Make a model file of a checkpoint and a configuration, and report what became of every tensor.

The family of the checkpoint is told by its names and printed; --family says it where that is wrong:
  torchvision-detector, torchvision-coco (the published fasterrcnn_resnet50_fpn), torchvision-classifier, timm,
  detectron2 (its zoo's .pkl), msra-pkl (its ImageNet R-50.pkl, R-101.pkl), detectron (Caffe2),
  caffe-vgg16, caffe-resnet (MSRA), caffe-detector (py-faster-rcnn's VGG16_faster_rcnn_final),
  jwyang, caffe-pth (*_caffe.pth), mmdetection, mmdetection-caffe (told from the others by "caffe" in the file's name)
The configuration is the architecture's, with the conventions of the family (colours, stride, boxes, pooling, sizes),
changed by what --config FILE says: a JSON object with the same members as "resdet weights inspect" shows of a model
file, of which any may be left out.

Unless every parameter of the network is found in its shape, and nothing else is in the file, nothing is written.
With --partial what is missing begins as in a new network: norms as identities, layers by He et al.'s initialisation.
A head for other classes keeps the rows of those that both know, by name (COCO's and VOC's names for the same thing
count as one), its scores and its box deltas. Which classes a file is for is known of model files, and of heads with 91
or 81 rows (COCO) or 21 (VOC); --file-classes says it of others.`,
		Example: `  resdet weights import fasterrcnn.pth --arch resnet50-fpn --classes-from coco --out model.safetensors
  resdet weights import fasterrcnn.pth --arch resnet50-fpn --classes-from voc --partial --out voc.safetensors
  resdet weights import resnet101.pth --arch resnet101-c4 --classes cat,dog --partial --out start.safetensors`,
		Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(_ *cobra.Command, args []string) error { return runImport(s, o, args[0]) },
	}
	f := cmd.Flags()
	o.add(f)
	f.StringVar(&o.family, "family", "", "family of the checkpoint, if its names do not tell: "+strings.Join(weights.Families(), ", "))
	return cmd
}

// add defines the flags that importing a published file has too.
func (o *importOptions) add(f *pflag.FlagSet) {
	f.StringVar(&o.arch, "arch", "", "architecture: "+strings.Join(resdet.Archs(), ", "))
	f.StringVar(&o.config, "config", "", "JSON file with what differs from the architecture's settings")
	f.StringSliceVar(&o.classes, "classes", nil, "names of the classes, in the order of the head's rows, without the background")
	f.StringVar(&o.classesFrom, "classes-from", "", "classes of a data set: voc or coco")
	f.StringSliceVar(&o.fileClasses, "file-classes", nil, "names of the classes of the checkpoint's head, or voc or coco, if it is for others")
	f.BoolVar(&o.partial, "partial", false, "write a model although tensors are missing or left over, or the head is for other classes")
	f.BoolVar(&o.asJSON, "json", false, "one JSON object instead of text")
	f.StringVar(&o.dtype, "dtype", "f32", "of the weights in the model file: f32 or f16 (half the size; norms stay f32)")
	f.StringVarP(&o.out, "out", "o", "", "model file to write")
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
	if _, err := o.configuration(nil, nil); err != nil { // before the file is looked at
		return err
	}
	if o.family != "" && !slices.Contains(weights.Families(), o.family) {
		return usagef("--family %q is none of %s", o.family, strings.Join(weights.Families(), ", "))
	}
	c, err := weights.Open(path)
	if err != nil {
		return err
	}
	defer c.Close()
	family, err := weights.FamilyOf(c, o.family)
	if err != nil {
		return err
	}
	cfg, err := o.configuration(c, family)
	if err != nil {
		return err
	}
	fileClasses, err := o.namedFileClasses()
	if err != nil {
		return err
	}
	report, mapping, err := matchClasses(c, family, cfg, fileClasses)
	if err != nil {
		return err
	}
	told := o.told(c, family, report, cfg.Arch)
	if n, _ := report.Count(weights.Matched); n == 0 || !o.partial {
		if err := report.Err(); err != nil {
			hint := fitHint(c, family, report, n)
			if n > 0 || family != nil {
				hint = told.String() + "; " + hint
			}
			return hintError{err, hint}
		}
	}
	text, err := json.Marshal(cfg)
	if err != nil {
		return err
	}
	wanted, err := cfg.Params()
	if err != nil {
		return err
	}
	if err := weights.Save(o.out, text, wanted, report, dtype); err != nil {
		return err
	}
	if o.asJSON {
		return importJSON(s.out, c, o.out, report, mapping, told)
	}
	if err := importText(s.out, c, o.out, report, mapping); err != nil {
		return err
	}
	return told.write(s.out)
}

// told is what is known of the code base that a file comes from.
type told struct {
	Family string            `json:"family,omitempty"` // as --family has it; "" if none is known
	By     string            `json:"told_by"`          // "names", "flag", "table" of published files, or "fit": of all names those that fit most
	Sets   []json.RawMessage `json:"sets"`             // what it changes in the configuration
	Notes  []string          `json:"notes"`            // what it does that the model cannot

	title string // of the names
}

func (o importOptions) told(c *weights.Checkpoint, family *weights.Family, report *weights.Report, arch string) told {
	t := told{By: "names", Sets: []json.RawMessage{}, Notes: []string{}, title: report.Family}
	switch {
	case family == nil:
		t.By = "fit"
		return t
	case o.published != nil:
		t.By = "table"
	case o.family != "":
		t.By = "flag"
	}
	t.Family = family.Name
	for _, set := range family.Settings(c, arch) {
		t.Sets = append(t.Sets, json.RawMessage(strings.Join(strings.Fields(set), "")))
	}
	t.Notes = append(t.Notes, family.Notes(c)...)
	return t
}

func (t told) String() string {
	switch t.By {
	case "names":
		return "family " + t.Family + ", told by its names"
	case "flag":
		return "family " + t.Family + ", as --family says"
	case "table":
		return "family " + t.Family + ", as it is published"
	}
	return "its names tell no family; those of a " + t.title + " fit most"
}

func (t told) write(w io.Writer) error {
	fmt.Fprintln(w, t)
	for _, set := range t.Sets {
		fmt.Fprintf(w, "  sets %s\n", set)
	}
	for _, note := range t.Notes {
		fmt.Fprintf(w, "note: %s\n", note)
	}
	return nil
}

func importText(w io.Writer, c *weights.Checkpoint, out string, report *weights.Report, mapping *classMapping) error {
	if err := report.WriteTable(w); err != nil {
		return err
	}
	if mapping != nil {
		if err := mapping.write(w); err != nil {
			return err
		}
	}
	fmt.Fprintf(w, "\n%s (%s, names of a %s) → %s: %s\n", c.Name, c.Format, report.Family, out, report.Summary())
	missing, _ := report.Count(weights.Missing)
	misshapen, _ := report.Count(weights.Misshapen)
	if n := missing + misshapen; n > 0 {
		fmt.Fprintf(w, "%d parameters begin as in a new network: train the model before you use it\n", n)
	} else if mapping != nil {
		if fresh := mapping.fresh(); len(fresh) > 0 {
			fmt.Fprintf(w, "the rows of %s begin as in a new network: the model finds them once it is trained\n", weights.Printable(strings.Join(fresh, ", ")))
		}
	}
	return nil
}

// imported is what import says of a file.
type imported struct {
	File      string `json:"file"`
	Container string `json:"container"`
	told
	Names   string             `json:"names"` // whose they are: "torchvision detector"
	Out     string             `json:"out"`
	Counts  map[string]counted `json:"counts"` // by status
	Tensors []importedTensor   `json:"tensors"`
	Classes *classMapping      `json:"classes,omitempty"` // of a head for other classes
}

type counted struct {
	Tensors    int   `json:"tensors"`
	Parameters int64 `json:"parameters"`
}

type importedTensor struct {
	Status string `json:"status"`
	Key    string `json:"key,omitempty"` // the network's
	Shape  []int  `json:"shape,omitempty"`
	From   string `json:"from,omitempty"` // the file's
	Have   []int  `json:"have,omitempty"`
}

func importJSON(w io.Writer, c *weights.Checkpoint, out string, report *weights.Report, mapping *classMapping, told told) error {
	r := imported{File: c.Name, Container: c.Format, told: told, Names: report.Family, Out: out, Counts: map[string]counted{}, Classes: mapping}
	for s := weights.Matched; s <= weights.Ignored; s++ {
		n, elements := report.Count(s)
		r.Counts[s.String()] = counted{n, elements}
	}
	for _, row := range report.Rows {
		r.Tensors = append(r.Tensors, importedTensor{row.Status.String(), row.Key, row.Want, row.From, row.Have})
	}
	return encodeJSON(w, r)
}

// namedFileClasses is what --file-classes says; nil: nothing.
func (o importOptions) namedFileClasses() ([]resdet.Class, error) {
	switch {
	case o.fileClasses == nil:
		return nil, nil
	case len(o.fileClasses) == 1 && o.fileClasses[0] == "voc":
		return classesOf(coco.VOCClasses()), nil
	case len(o.fileClasses) == 1 && o.fileClasses[0] == "coco":
		return classesOf(coco.COCOClasses()), nil
	case slices.Contains(o.fileClasses, ""):
		return nil, usagef("--file-classes has an empty name")
	}
	return classesOf(coco.NamedClasses(o.fileClasses)), nil
}

// configuration is the architecture's, with what the checkpoint's family does
// differently, the configuration file's changes and the classes. family may be
// nil.
func (o importOptions) configuration(c *weights.Checkpoint, family *weights.Family) (resdet.Config, error) {
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
	if err := applyFamily(&cfg, c, family); err != nil {
		return none, err
	}
	for _, known := range o.published {
		if err := cfg.Merge(known); err != nil {
			return none, err
		}
	}
	if changes != nil {
		if err := cfg.Merge(changes); err != nil {
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

// applyFamily changes a configuration to what the checkpoint's family does
// differently; nil: nothing.
func applyFamily(cfg *resdet.Config, c *weights.Checkpoint, family *weights.Family) error {
	if family == nil {
		return nil
	}
	for _, s := range family.Settings(c, cfg.Arch) {
		if err := cfg.Merge([]byte(s)); err != nil {
			return fmt.Errorf("family %s: %w", family.Name, err)
		}
	}
	return nil
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
func fitHint(c *weights.Checkpoint, f *weights.Family, r *weights.Report, matched int) string {
	misshapen, _ := r.Count(weights.Misshapen)
	missing, _ := r.Count(weights.Missing)
	byClass, _ := r.Count(weights.ByClass)
	if missing+misshapen == 0 && byClass > 0 {
		return "--partial carries over the head's rows of classes with the same names"
	}
	if arch, rows := archOf(c, f, r); rows == cocoRows {
		return fmt.Sprintf("its tensors are those of %s for COCO, with a row for every id up to 90: --arch %s --classes-from coco", arch, arch)
	} else if arch != "" {
		return fmt.Sprintf("its tensors are those of %s with %d classes and the background", arch, rows-1)
	}
	const partial = "--partial takes what fits; the rest begins as in a new network, to be trained"
	switch {
	case matched == 0:
		return "the names are not known; resdet weights inspect lists them"
	case misshapen > 0:
		return "are --arch, --config and the classes those of the checkpoint? " + partial
	}
	return partial
}

// cocoRows are those of torchvision's heads for COCO: one for every id up to
// the largest, and the background's.
const cocoRows = 91

// archOf returns the architecture whose parameters are exactly the
// checkpoint's, and the rows of its class scores; "" if there is none.
func archOf(c *weights.Checkpoint, f *weights.Family, r *weights.Report) (string, int) {
	scores := slices.IndexFunc(r.Rows, func(row weights.Row) bool {
		return row.Key == headScores && len(row.Have) == 1 && row.Have[0] > 1
	})
	if scores < 0 {
		return "", 0
	}
	rows := r.Rows[scores].Have[0]
	names := make([]string, min(rows-1, 20_000))
	for i := range names {
		names[i] = fmt.Sprint(i)
	}
	for _, arch := range resdet.Archs() {
		cfg, err := resdet.NewConfig(arch, resdet.IndexedClasses(names...))
		if err != nil || applyFamily(&cfg, c, f) != nil {
			continue
		}
		if r, err := match(c, f, cfg); err == nil && r.Err() == nil {
			return arch, rows
		}
	}
	return "", 0
}
