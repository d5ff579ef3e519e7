package weights_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"resdet"
	"resdet/backbone"
	"resdet/internal/formula"
	"resdet/internal/nd"
	"resdet/internal/weights"
)

// named opens a file with a case's names and shapes, without its numbers.
func named(t *testing.T, tt familyCase) *weights.Checkpoint {
	t.Helper()
	head, data, err := safetensorsHead(tt.arrays(t), tt.notes)
	if err != nil {
		t.Fatal(err)
	}
	size := int64(len(head) + data)
	c, err := weights.OpenReader(tt.file, hollow(head, size), size)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Every array of every published family is for a parameter of its shape, or is
// known to be for none, at every depth.
func TestFamilies(t *testing.T) {
	if testing.Short() {
		t.Skip("names are the same in every build")
	}
	cases := slices.Concat(detectors, backbones)
	for _, more := range []struct {
		of, arch string
		depth    map[string]int
	}{
		{"torchvision ResNet-101", "resnet50-c4", depth50}, {"torchvision ResNet-101", "resnet152-fpn", depth152}, {"timm ResNet-50", "resnet101-fpn", depth101},
		{"Detectron R50-FPN", "resnet101-fpn", depth101}, {"jwyang R101 for COCO", "resnet152-c4", depth152},
		{"mmdetection 2.x R50-FPN", "resnet101-fpn", depth101}, {"mmdetection 3.x caffe R50-FPN", "resnet101-fpn", depth101},
	} {
		tt := cases[slices.IndexFunc(cases, func(c familyCase) bool { return c.name == more.of })]
		tt.name, tt.arch, tt.letters = tt.name+" as "+more.arch, more.arch, maps.Clone(tt.letters)
		maps.Copy(tt.letters, more.depth)
		cases = append(cases, tt)
	}
	for _, tt := range cases {
		t.Run(tt.name, func(t *testing.T) {
			_, report := imported(t, tt, named(t, tt))
			if tt.classes == 0 { // a backbone: the rest of the detector is new
				backboneRows(t, report)
			} else if err := report.Err(); err != nil {
				t.Error(err)
			}
		})
	}
}

// leaves are the members of a configuration that have no members of their own.
func leaves(t *testing.T, c resdet.Config) map[string]any {
	t.Helper()
	c.Classes = nil
	text, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	var tree map[string]any
	if err := json.Unmarshal(text, &tree); err != nil {
		t.Fatal(err)
	}
	out := map[string]any{}
	var walk func(prefix string, m map[string]any)
	walk = func(prefix string, m map[string]any) {
		for k, v := range m {
			if sub, ok := v.(map[string]any); ok {
				walk(prefix+k+".", sub)
			} else {
				out[prefix+k] = v
			}
		}
	}
	walk("", tree)
	return out
}

// ofLeaves is the configuration of such members.
func ofLeaves(t *testing.T, all map[string]any, classes []resdet.Class) resdet.Config {
	t.Helper()
	tree := map[string]any{}
	for path, v := range all {
		m, parts := tree, strings.Split(path, ".")
		for _, p := range parts[:len(parts)-1] {
			if m[p] == nil {
				m[p] = map[string]any{}
			}
			m = m[p].(map[string]any)
		}
		m[parts[len(parts)-1]] = v
	}
	tree["classes"] = classes
	text, err := json.Marshal(tree)
	if err != nil {
		t.Fatal(err)
	}
	c, err := resdet.ParseConfig(text)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// trained gives formula's numbers as training leaves them where that matters
// to conventions: variances so small that eps counts, and filters for pixels of
// their size.
type trained struct {
	formula.Params
	pixels float64 // their deviation
}

func (p trained) Param(key string, shape nd.Shape) ([]float32, error) {
	v, err := p.Params.Param(key, shape)
	factor := float32(1)
	switch {
	case strings.HasSuffix(key, ".running_var"):
		factor = 0x1p-12
	case len(shape) == 1 && strings.HasSuffix(key, ".weight"): // a norm's
		factor = 0x1p-6
	case strings.HasSuffix(key, "conv1.weight") && shape[1] == 3:
		factor = float32(1 / p.pixels)
	}
	for i := range v {
		v[i] *= factor
	}
	return v, err
}

// small is a network with the conventions of a large one: two stages of a
// ResNet-50 under a narrow pyramid of as many levels as there are anchors for,
// up to three, and a narrow head.
func small(c resdet.Config) resdet.Config {
	levels := min(len(c.RPN.Anchors.Sizes), 3)
	c.Arch, c.Classes = "resnet50-fpn", c.Classes[:20]
	c.Backbone.Family, c.Backbone.Depth = "resnet", 50
	if levels == 1 {
		c.Backbone.FPN = &backbone.FPN{Stages: []int{3}, Channels: 24}
	} else {
		c.Backbone.FPN = &backbone.FPN{Stages: []int{2, 3}, Channels: 24, Top: "pool"}
	}
	c.RPN.Anchors.Sizes = c.RPN.Anchors.Sizes[:levels]
	if len(c.RPN.Anchors.Bases) > levels {
		c.RPN.Anchors.Bases = c.RPN.Anchors.Bases[:levels]
	}
	c.ROI.Kind, c.ROI.Hidden = "mlp", 64
	c.RPN.PreNMS, c.RPN.PostNMS, c.ROI.Score = 120, 30, 0.015
	return c
}

// hidden says why a setting cannot show in the small network, which then must
// not differ at all: what does differ is no noise. "" if it can.
func hidden(path string, c resdet.Config) string {
	switch path {
	case "transform.max_size":
		return "the photo's long side is within both"
	case "roi.min_size":
		return "nothing is that small"
	case "rpn.min_size":
		if c.RPN.MinSize < 1 {
			return "nothing is that small"
		}
	case "rpn.anchors.round":
		if len(c.RPN.Anchors.Bases) > 0 {
			return "multiples of a base are whole pixels"
		}
	case "rpn.anchors.grid_stride":
		if c.Transform.PadMultiple%32 == 0 {
			return "sizes are multiples of every stride"
		}
	case "roi.pool.sampling":
		if c.ROI.Pool.Kind == "max" {
			return "RoIPool samples nothing"
		}
	}
	return ""
}

// Whatever a family sets matters: with any one of its conventions as our own
// networks have it, a detector finds something else. What several families set
// alike is turned around once.
func TestConventionsMatter(t *testing.T) {
	if testing.Short() {
		t.Skip("many small networks")
	}
	seen := map[string]bool{} // in networks with a pyramid and without
	for _, tt := range slices.Concat(detectors, backbones) {
		t.Run(tt.name, func(t *testing.T) {
			cfg, _ := imported(t, tt, named(t, tt))
			theirs, ours := leaves(t, small(cfg)), leaves(t, small(base(t, tt)))
			paths := maps.Clone(theirs)
			maps.Copy(paths, ours)
			maps.DeleteFunc(paths, func(path string, _ any) bool {
				turn := fmt.Sprint(len(cfg.RPN.Anchors.Sizes), path, theirs[path], ours[path], hidden(path, cfg))
				defer func() { seen[turn] = true }()
				return reflect.DeepEqual(theirs[path], ours[path]) || seen[turn] ||
					path == "rpn.channels" // which the file's shapes tell
			})
			if len(paths) == 0 {
				t.Skip("nothing that another family does not set")
			}
			params := trained{pixels: 1}
			if cfg.Transform.Scale == 1 {
				params.pixels = 57
			}
			classes := cfg.Classes[:20]
			want := outcome(t, ofLeaves(t, theirs, classes), params)
			if len(want.Detections) < 5 {
				t.Fatalf("%d detections: the network tells nothing", len(want.Detections))
			}
			for _, path := range slices.Sorted(maps.Keys(paths)) {
				turned := maps.Clone(theirs)
				if turned[path] = ours[path]; ours[path] == nil {
					delete(turned, path)
				}
				d, why := distance(outcome(t, ofLeaves(t, turned, classes), params), want), hidden(path, cfg)
				t.Logf("%s %v instead of %v: %.2g %s", path, ours[path], theirs[path], d, why)
				switch {
				case why == "" && d < different:
					t.Errorf("%s %v instead of %v changes nothing (%g)", path, ours[path], theirs[path], d)
				case why != "" && d > same:
					t.Errorf("%s %v instead of %v changes %g, although %s", path, ours[path], theirs[path], d, why)
				}
			}
		})
	}
}
