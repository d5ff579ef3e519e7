package step

import (
	"fmt"
	"strconv"
	"strings"

	"resdet/internal/nn"
)

// build makes the network of both stages for a padded size and a number of
// regions, with the seam as its input "rois": [R 5]. Dropout multiplies by
// masks that are inputs, too.
func (m Model) build(images, height, width, regions int, dropout bool) (*nn.Graph, error) {
	g, err := nn.Build(func(b *nn.Builder) {
		levels := m.Backbone.Build(b, b.Input(pixelsInput, images, 3, height, width))
		logits, deltas := m.RPN.Head(b, levels)
		for i := range levels {
			b.Output(logitsOutput(i), logits[i])
			b.Output(deltasOutput(i), deltas[i])
		}
		drop := func(layer string, x nn.Value) nn.Value {
			if !dropout {
				return x
			}
			return b.Apply(layer+".dropout", nn.Mul{}, x, b.Input(layer+maskInput, b.Shape(x)...))
		}
		rois := b.Input(roisInput, regions, 5)
		scores, boxes := m.ROI.HeadWithDropout(b, m.Backbone, levels[:m.Backbone.Levels()], rois, m.Classes, drop)
		b.Output(scoresOutput, scores)
		b.Output(boxesOutput, boxes)
	})
	if err != nil {
		return nil, err
	}
	return g.With(m.Numerics), nil
}

// Names of the network's inputs and outputs.
const (
	pixelsInput  = "pixels"
	roisInput    = "rois"
	maskInput    = ".mask" // after the layer, which is in scopes
	scoresOutput = "class_logits"
	boxesOutput  = "box_regression"
)

func logitsOutput(level int) string { return fmt.Sprint("rpn_logits_", level) }
func deltasOutput(level int) string { return fmt.Sprint("rpn_deltas_", level) }

// Trainable lists the weights and biases that are learned when the first
// stages of the backbone are frozen: 0 none; 1 conv1 (conv1_1 and conv1_2 of
// VGG-16); 2 conv2_x, too (torchvision's three trainable stages,
// py-faster-rcnn's conv3 and up) … 5. Batch normalisation is always fixed: its
// statistics are those of another batch size (He et al. 2015, appendix A).
func (m Model) Trainable(frozen int) ([]string, error) {
	g, err := m.build(1, 64, 64, 1, false) // the parameters do not depend on the sizes
	if err != nil {
		return nil, err
	}
	var keys []string
	seen := map[string]bool{}
	for _, n := range g.Nodes {
		switch n.Op.(type) {
		case nn.Conv, nn.Linear:
			for _, v := range n.In[1:] {
				key := g.Nodes[v].Op.(nn.Param).Key
				if stage := Stage(key); !seen[key] && (stage == 0 || stage > frozen) {
					keys = append(keys, key)
				}
				seen[key] = true
			}
		}
	}
	return keys, nil
}

// Stage returns which stage of the backbone a parameter belongs to, 1…5 for
// conv1…conv5_x, or 0 if it is of the pyramid or a head. The stage 5 that is
// the region head of a C4 detector counts as the head.
func Stage(key string) int {
	key, ok := strings.CutPrefix(key, "backbone.")
	if !ok {
		return 0
	}
	first, _, _ := strings.Cut(strings.TrimPrefix(key, "body."), ".")
	switch {
	case first == "conv1" || first == "bn1":
		return 1
	case strings.HasPrefix(first, "layer"):
		if n, err := strconv.Atoi(first[len("layer"):]); err == nil {
			return n + 1
		}
	}
	if index, err := strconv.Atoi(first); err == nil { // VGG's layers by number
		switch {
		case index < 5:
			return 1
		case index < 10:
			return 2
		case index < 17:
			return 3
		case index < 24:
			return 4
		}
		return 5
	}
	return 0
}
