package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"resdet/internal/weights"
)

func newWeightsCommand(s streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "weights",
		Short: "Look into checkpoints, make model files of them, and give models to other programs",
		Long: `Look into checkpoints, make model files of them, and give models to other programs.

Read are .pth in both containers of PyTorch, safetensors, .pkl of detectron2's and Detectron's zoos, and .caffemodel.
No pickle is ever executed.`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newInspectCommand(s), newImportCommand(s), newExportCommand(s), newFetchCommand(s))
	return cmd
}

func newInspectCommand(s streams) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "inspect FILE",
		Short: "List what a checkpoint or a model file holds",
		Example: `  resdet weights inspect fasterrcnn.pth
  resdet weights inspect --json model.safetensors`,
		Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(_ *cobra.Command, args []string) error {
			c, err := weights.Open(args[0])
			if err != nil {
				return err
			}
			defer c.Close()
			if asJSON {
				return inspectJSON(s.out, c)
			}
			return inspectText(s.out, c)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "one JSON object instead of text")
	return cmd
}

// inspection is what inspect says of a file.
type inspection struct {
	File       string            `json:"file"`
	Container  string            `json:"container"`
	Family     string            `json:"family,omitempty"` // of a checkpoint, as its names tell
	Bytes      int64             `json:"bytes"`
	Parameters int64             `json:"parameters"`
	Metadata   map[string]string `json:"metadata,omitempty"`
	Config     json.RawMessage   `json:"config,omitempty"` // of a model file
	Tensors    []inspected       `json:"tensors"`
}

type inspected struct {
	Key        string `json:"key"`
	Shape      []int  `json:"shape"`
	DType      string `json:"dtype"`
	Parameters int64  `json:"parameters"`
}

func inspect(c *weights.Checkpoint) inspection {
	r := inspection{File: c.Name, Container: c.Format, Bytes: c.Size(), Tensors: make([]inspected, len(c.Tensors))}
	for i, t := range c.Tensors {
		n := int64(t.Shape.Len())
		r.Tensors[i] = inspected{t.Key, t.Shape, t.DType.String(), n}
		r.Parameters += n
	}
	if f, err := weights.FamilyOf(c, ""); err == nil && f != nil {
		r.Family = f.Name
	}
	r.Metadata = c.Metadata
	if config, err := c.Config(); err == nil && json.Valid(config) {
		r.Config = config
		r.Metadata = maps.Clone(c.Metadata)
		delete(r.Metadata, weights.ConfigKey)
	}
	return r
}

func inspectJSON(w io.Writer, c *weights.Checkpoint) error {
	return encodeJSON(w, inspect(c))
}

// longArray is one of 32 numbers or more: the means of a quantised model are
// thousands, a line each.
var longArray = regexp.MustCompile(`\[(\s*-?[0-9][0-9.eE+-]*,){31,}\s*-?[0-9][0-9.eE+-]*\s*\]`)

func inspectText(w io.Writer, c *weights.Checkpoint) error {
	r := inspect(c)
	fmt.Fprintf(w, "%s: %s, %d bytes, %d tensors, %s parameters\n", r.File, r.Container, r.Bytes, len(r.Tensors), weights.Short(r.Parameters))
	if r.Family != "" {
		fmt.Fprintf(w, "family: %s\n", r.Family)
	}
	for _, k := range slices.Sorted(maps.Keys(r.Metadata)) {
		fmt.Fprintf(w, "metadata %q: %q\n", k, r.Metadata[k])
	}
	if r.Config != nil {
		pretty, err := json.MarshalIndent(r.Config, "", "  ")
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "configuration: %s\n", longArray.ReplaceAllStringFunc(string(pretty), func(array string) string {
			return fmt.Sprintf("[… %d numbers]", 1+strings.Count(array, ","))
		}))
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "KEY\tSHAPE\tTYPE\tPARAMETERS\n")
	for _, x := range r.Tensors {
		fmt.Fprintf(t, "%s\t%v\t%s\t%d\n", weights.Printable(x.Key), x.Shape, x.DType, x.Parameters)
	}
	return t.Flush()
}
