package weights

import (
	"regexp"
	"strings"
)

// family is one way of naming the parameters of these networks. Ours is that
// of torchvision's detectors; a family says how its names become ours.
type family struct {
	name  string
	rules []rule
	// ignored are arrays that every checkpoint of the family has and no
	// detector wants.
	ignored *regexp.Regexp
}

// rule renames what matches. Of several names the first that the network wants
// is taken: the same classifier feeds a detector with a pyramid and one without.
type rule struct {
	from *regexp.Regexp
	to   []string
}

func rename(from string, to ...string) rule { return rule{regexp.MustCompile(from), to} }

// families are tried in this order; the one that gives most parameters is taken.
var families = []family{
	{
		name: "torchvision detector",
		rules: []rule{
			// Before torchvision 0.13 convolutions were not wrapped with their norm.
			rename(`^(backbone\.fpn\.(?:inner|layer)_blocks\.\d+)\.(weight|bias)$`, "$1.0.$2"),
			rename(`^rpn\.head\.conv\.(weight|bias)$`, "rpn.head.conv.0.0.$1"),
		},
		ignored: regexp.MustCompile(`\.num_batches_tracked$`),
	},
	{
		name: "torchvision classifier",
		rules: []rule{
			rename(`^(conv1|bn1|layer[1-4])\.`, "backbone.body.$1.", "backbone.$1.", "roi_heads.box_head.$1."),
			rename(`^features\.`, "backbone."),
			rename(`^classifier\.0\.`, "roi_heads.box_head.fc6."),
			rename(`^classifier\.3\.`, "roi_heads.box_head.fc7."),
		},
		ignored: regexp.MustCompile(`\.num_batches_tracked$|^fc\.|^classifier\.6\.`),
	},
}

// modelFile is the family of our own files: names as they are, nothing ignored.
var modelFile = family{name: "resdet"}

// wrapping are prefixes that training code puts before every name.
var wrapping = []string{"module.", "model.", "state_dict.", "_orig_mod.", "net.", "network."}

func unwrapName(key string) string {
	for again := true; again; {
		again = false
		for _, p := range wrapping {
			if rest, ok := strings.CutPrefix(key, p); ok {
				key, again = rest, true
			}
		}
	}
	return key
}

// find returns our name for the family's, if the network wants it.
func (f family) find(key string, wanted func(string) bool) (string, bool) {
	if wanted(key) {
		return key, true
	}
	for _, r := range f.rules {
		at := r.from.FindStringSubmatchIndex(key)
		if at == nil {
			continue
		}
		for _, to := range r.to {
			name := string(r.from.ExpandString(nil, to, key, at)) + key[at[1]:]
			if wanted(name) {
				return name, true
			}
		}
	}
	return "", false
}
