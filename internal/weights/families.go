package weights

import (
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// Family is a kind of published checkpoint: how its names become ours, which
// are those of torchvision's detectors, how its arrays are arranged, and what
// the networks it comes from do differently.
type Family struct {
	// Name is what the command line calls it, Title what people do.
	Name, Title string

	// marks each match a name in every file of the family; rows, if not 0, is
	// how many rows the array found by the last has.
	marks []*regexp.Regexp
	rows  int
	// file matches the file's own name, for what the keys do not tell.
	file *regexp.Regexp

	// rewrites are applied one after the other. Names that then are those of a
	// classifier's body get a detector's prefix, unless whole says that the family
	// has its own.
	rewrites []rewrite
	whole    bool
	// ignored are names of arrays that no detector wants.
	ignored *regexp.Regexp

	// backgroundLast: the background is the last row of the class scores and has
	// no box deltas.
	backgroundLast bool
	// sizeMajor: the anchors of a cell go through all ratios of the first size,
	// then of the second; ours through all sizes of the first ratio.
	sizeMajor bool
	// pairs: the RPN scores background and object, all backgrounds first; a
	// softmax of the two is the sigmoid of their difference.
	pairs bool
	// sums: batch norms hold sums of means and variances, the number that
	// divides them in blob 2 of the layer (Caffe).
	sums bool
	// affine: norms are a scale and a shift only; means are 0 and variances 1.
	affine bool

	settings []setting
}

// setting changes a configuration as a JSON object with the members that
// differ; where it has conditions, only if all hold.
type setting struct {
	arch string // the architecture's name ends with it
	key  string // the file has an array of this name
	rows int    // with so many rows
	not  string // and none of this name
	meta string // or the file says so: "name=value"
	json string
	note string // instead: what a model cannot be told
}

type rewrite struct {
	from *regexp.Regexp
	to   string
}

func re(patterns ...string) []*regexp.Regexp {
	var out []*regexp.Regexp
	for _, p := range patterns {
		out = append(out, regexp.MustCompile(p))
	}
	return out
}

// rewriting compiles pairs of a pattern and what replaces it.
func rewriting(pairs ...string) []rewrite {
	var out []rewrite
	for i := 0; i < len(pairs); i += 2 {
		out = append(out, rewrite{regexp.MustCompile(pairs[i]), pairs[i+1]})
	}
	return out
}

// numbered repeats a pair for numbers: "%d" of the pattern counts from first,
// that of the replacement from start in steps.
func numbered(from, to string, first, last, start int) []rewrite {
	var out []rewrite
	for i := first; i <= last; i++ {
		out = append(out, rewriting(fmt.Sprintf(from, i), fmt.Sprintf(to, start+i-first))...)
	}
	return out
}

// stages are res2…res5 of detectron2 and the Caffes: torchvision's layer1…layer4.
var stages = numbered(`^res%d\.`, "layer%d.", 2, 5, 1)

// body is what a ResNet's names begin with in torchvision's classifiers. A
// detector's have one of the prefixes before that.
var (
	body     = regexp.MustCompile(`^(conv1|bn1|layer[1-4])\.`)
	prefixes = []string{"backbone.body.", "backbone.", "roi_heads.box_head."}
)

// vggLayers are Caffe's names of VGG-16's convolutions and torchvision's
// places of them in its nn.Sequential.
var vggLayers = func() []rewrite {
	var out []rewrite
	place := 0
	for block, n := range []int{2, 2, 3, 3, 3} {
		for i := range n {
			out = append(out, rewriting(fmt.Sprintf(`^conv%d_%d\.`, block+1, i+1), fmt.Sprintf("backbone.%d.", place))...)
			place += 2 // the convolution and its ReLU
		}
		place++ // the pooling
	}
	return out
}()

// What networks of other code bases are fed, and how they are put together.
const (
	pyImage  = `"channel_order":"BGR","scale":1,"mean":[102.9801,115.9465,122.7717],"std":[1,1,1]`
	d2Image  = `"channel_order":"BGR","scale":1,"mean":[103.53,116.28,123.675],"std":[1,1,1]`
	pySize   = `"min_size":600,"max_size":1000,"size_divisible":1,"round_size":true`
	plain    = `"round":false,"grid_stride":false`
	agnostic = `{"roi":{"class_agnostic":true}}`
)

// families are tried in this order: the first whose marks are all found.
var families = []*Family{
	{
		Name: "torchvision-coco", Title: "torchvision COCO detector",
		marks: re(`^rpn\.head\.`, `^backbone\.fpn\.`, `^roi_heads\.box_predictor\.cls_score\.bias$`), rows: 91,
		rewrites: torchvisionOld, whole: true,
		ignored:  regexp.MustCompile(`\.num_batches_tracked$`),
		settings: []setting{{json: `{"backbone":{"norm_eps":0}}`}},
	},
	{
		Name: "torchvision-detector", Title: "torchvision detector",
		marks:    re(`^rpn\.head\.`, `^backbone\.`),
		rewrites: torchvisionOld, whole: true,
		ignored: regexp.MustCompile(`\.num_batches_tracked$`),
	},
	{
		Name: "caffe-pth", Title: "Caffe backbone in torchvision's names",
		marks: re(`^(layer1\.0\.conv1|features\.0)\.weight$`), file: regexp.MustCompile(`(?i)caffe`),
		rewrites: torchvisionClassifier,
		ignored:  regexp.MustCompile(`\.num_batches_tracked$|^fc\.|^classifier\.6\.`),
		settings: []setting{
			{json: `{"transform":{` + pyImage + `}}`},
			{key: "conv1.weight", json: `{"backbone":{"stride_in_1x1":true,"ceil_pool":true}}`},
		},
	},
	{
		Name: "torchvision-classifier", Title: "torchvision classifier",
		marks:    re(`^(layer1\.0\.conv1|features\.0)\.weight$`),
		rewrites: torchvisionClassifier,
		ignored:  regexp.MustCompile(`\.num_batches_tracked$|^fc\.|^classifier\.6\.`),
	},
	{
		Name: "timm", Title: "timm classifier", // the same names
		rewrites: torchvisionClassifier,
		ignored:  regexp.MustCompile(`\.num_batches_tracked$|^fc\.`),
	},
	{
		Name: "detectron2", Title: "detectron2 detector",
		marks: re(`^backbone\.(bottom_up\.)?stem\.conv1\.weight$`),
		rewrites: slices.Concat(rewriting(
			`^backbone\.(?:bottom_up\.)?stem\.`, "",
			`^(?:backbone\.(?:bottom_up\.)?|roi_heads\.)(res[2-5]\.)`, "$1",
			`^conv1\.norm\.`, "bn1.",
			`\.conv([123])\.norm\.`, ".bn$1.",
			`\.shortcut\.norm\.`, ".downsample.1.",
			`\.shortcut\.`, ".downsample.0.",
			`^proposal_generator\.rpn_head\.conv\.`, "rpn.head.conv.0.0.",
			`^proposal_generator\.rpn_head\.objectness_logits\.`, "rpn.head.cls_logits.",
			`^proposal_generator\.rpn_head\.anchor_deltas\.`, "rpn.head.bbox_pred.",
			`^roi_heads\.box_head\.fc1\.`, "roi_heads.box_head.fc6.",
			`^roi_heads\.box_head\.fc2\.`, "roi_heads.box_head.fc7.",
		), stages,
			numbered(`^backbone\.fpn_lateral%d\.`, "backbone.fpn.inner_blocks.%d.0.", 2, 5, 0),
			numbered(`^backbone\.fpn_output%d\.`, "backbone.fpn.layer_blocks.%d.0.", 2, 5, 0)),
		ignored:        regexp.MustCompile(`^pixel_(mean|std)$|anchor_generator\.cell_anchors\.|\.num_batches_tracked$`),
		backgroundLast: true, sizeMajor: true,
		settings: []setting{
			{json: `{"transform":{` + d2Image + `,"min_size":800,"max_size":1333,"round_size":true},"backbone":{"stride_in_1x1":true},
				"rpn":{"anchors":{` + plain + `},"post_nms":1000},"roi":{"pool":{"sampling":0,"aligned":true}}}`},
			{arch: "-c4", json: `{"transform":{"size_divisible":1},"rpn":{"pre_nms":6000}}`},
			{key: "roi_heads.box_predictor.bbox_pred.bias", rows: 4, json: agnostic},
		},
	},
	{
		Name: "detectron", Title: "Detectron (Caffe2) detector",
		marks:    re(`^conv_rpn(_fpn2)?_w$`, `^conv1_w$`),
		rewrites: caffe2,
		ignored:  regexp.MustCompile(`_momentum$|^conv1_b$`),
		affine:   true,
		settings: []setting{
			{json: `{"transform":{` + pyImage + `,"min_size":800,"max_size":1333,"round_size":true},
				"backbone":{"stride_in_1x1":true,"norm_eps":0},
				"rpn":{"anchors":{` + plain + `},"post_nms":1000,"min_size":0,"boxes":"detectron"},"roi":{"min_size":0,"boxes":"detectron"}}`},
			{arch: "-c4", json: `{"transform":{"size_divisible":1},"rpn":{"anchors":{"bases":[16]},"pre_nms":6000},"roi":{"pool":{"sampling":0}}}`},
			{arch: "-fpn", json: `{"rpn":{"anchors":{"bases":[4,8,16,32,64]}}}`},
			{key: "bbox_pred_b", rows: 4, json: agnostic},
		},
	},
	{
		Name: "msra-pkl", Title: "MSRA ResNet in Caffe2's names",
		marks:    re(`^res2_0_branch2a_w$`, `^conv1_w$`),
		rewrites: caffe2,
		ignored:  regexp.MustCompile(`_momentum$|^conv1_b$|^(fc1000|pred)_[wb]$`),
		affine:   true,
		settings: []setting{
			{json: `{"transform":{` + d2Image + `},"backbone":{"stride_in_1x1":true}}`},
			{key: "res_conv1_bn_s", not: "res_conv1_bn_rm", json: `{"backbone":{"norm_eps":0}}`},
		},
	},
	{
		Name: "caffe-detector", Title: "py-faster-rcnn detector",
		marks: re(`^rpn_conv/3x3\.0$`, `^conv1_1\.0$`),
		rewrites: slices.Concat(vggLayers, rewriting(
			`^rpn_conv/3x3\.`, "rpn.head.conv.0.0.",
			`^rpn_cls_score\.`, "rpn.head.cls_logits.",
			`^rpn_bbox_pred\.`, "rpn.head.bbox_pred.",
			`^(fc[67]\.)`, "roi_heads.box_head.$1",
			`^((?:cls_score|bbox_pred)\.)`, "roi_heads.box_predictor.$1",
		), caffeBlobs),
		pairs: true,
		settings: []setting{
			{json: `{"transform":{` + pyImage + `,` + pySize + `},"backbone":{"ceil_pool":true},
				"rpn":{"anchors":{"bases":[16],` + plain + `},"pre_nms":6000,"post_nms":300,"min_size":16,"boxes":"caffe"},
				"roi":{"pool":{"kind":"max","size":7},"box_weights":[1,1,1,1],"nms":0.3,"min_size":0,"boxes":"caffe"}}`},
			{key: "rpn_cls_score.1", rows: 24, json: `{"rpn":{"anchors":{"sizes":[[64,128,256,512]]}}}`},
		},
	},
	{
		Name: "caffe-vgg16", Title: "Caffe VGG-16",
		marks:    re(`^conv1_1\.0$`, `^conv5_3\.0$`),
		rewrites: slices.Concat(vggLayers, rewriting(`^(fc[67]\.)`, "roi_heads.box_head.$1"), caffeBlobs),
		ignored:  regexp.MustCompile(`^fc8\.`),
		settings: []setting{{json: `{"transform":{` + pyImage + `},"backbone":{"ceil_pool":true}}`}},
	},
	{
		Name: "caffe-resnet", Title: "Caffe ResNet",
		marks: re(`^res2a_branch2a\.0$`, `^bn_conv1\.0$`),
		rewrites: slices.Concat(rewriting(
			`^bn_conv1\.0$`, "bn1.running_mean",
			`^bn_conv1\.1$`, "bn1.running_var",
			`^scale_conv1\.`, "bn1.",
			`^(res|bn|scale)([2-5])b(\d+)_`, "$1$2.$3.", // ResNet-101, 152: b1, b2 …
		), letters, rewriting(
			`^res([2-5]\.\d+)\.branch1\.`, "res$1.downsample.0.",
			`^bn([2-5]\.\d+)\.branch1\.0$`, "res$1.downsample.1.running_mean",
			`^bn([2-5]\.\d+)\.branch1\.1$`, "res$1.downsample.1.running_var",
			`^scale([2-5]\.\d+)\.branch1\.`, "res$1.downsample.1.",
			`\.branch2a\.`, ".branch1.",
			`\.branch2b\.`, ".branch2.",
			`\.branch2c\.`, ".branch3.",
			`^res([2-5]\.\d+)\.branch([123])\.`, "res$1.conv$2.",
			`^bn([2-5]\.\d+)\.branch([123])\.0$`, "res$1.bn$2.running_mean",
			`^bn([2-5]\.\d+)\.branch([123])\.1$`, "res$1.bn$2.running_var",
			`^scale([2-5]\.\d+)\.branch([123])\.`, "res$1.bn$2.",
		), stages, caffeBlobs),
		ignored:  regexp.MustCompile(`^fc1000\.`),
		sums:     true,
		settings: []setting{{json: `{"transform":{` + pyImage + `},"backbone":{"stride_in_1x1":true,"ceil_pool":true,"norm_eps":1e-5}}`}},
	},
	{
		Name: "jwyang", Title: "jwyang ResNet detector",
		marks: re(`^RCNN_base\.4\.0\.conv1\.weight$`, `^RCNN_rpn\.`),
		rewrites: slices.Concat(rewriting(
			`^RCNN_base\.0\.`, "conv1.",
			`^RCNN_base\.1\.`, "bn1.",
			`^RCNN_top\.0\.`, "layer4.",
		), numbered(`^RCNN_base\.%d\.`, "layer%d.", 4, 6, 1), jwyang),
		ignored: regexp.MustCompile(`\.num_batches_tracked$`),
		pairs:   true,
		settings: append([]setting{
			{json: `{"backbone":{"stride_in_1x1":true,"ceil_pool":true},"rpn":{"channels":512},"roi":{"pool":{"size":7}}}`},
		}, jwyangSettings...),
	},
	{
		Name: "jwyang", Title: "jwyang VGG-16 detector",
		marks: re(`^RCNN_base\.28\.weight$`, `^RCNN_rpn\.`),
		rewrites: slices.Concat(rewriting(
			`^RCNN_base\.`, "backbone.",
			`^RCNN_top\.0\.`, "roi_heads.box_head.fc6.",
			`^RCNN_top\.3\.`, "roi_heads.box_head.fc7.",
		), jwyang),
		pairs:    true,
		settings: jwyangSettings,
	},
	{
		Name: "mmdetection-caffe", Title: "mmdetection detector on a Caffe backbone",
		marks: re(`^rpn_head\.rpn_conv\.weight$`, `^backbone\.`), file: regexp.MustCompile(`(?i)caffe`),
		rewrites: mmdetection, ignored: mmdetectionIgnored, backgroundLast: true,
		settings: append([]setting{
			{json: `{"transform":{` + d2Image + `},"backbone":{"stride_in_1x1":true}}`},
		}, mmdetectionSettings...),
	},
	{
		Name: "mmdetection", Title: "mmdetection detector",
		marks:    re(`^rpn_head\.rpn_conv\.weight$`, `^backbone\.`),
		rewrites: mmdetection, ignored: mmdetectionIgnored, backgroundLast: true,
		settings: mmdetectionSettings,
	},
}

var (
	// Before torchvision 0.13 convolutions were not wrapped with their norm.
	torchvisionOld = rewriting(
		`^(backbone\.fpn\.(?:inner|layer)_blocks\.\d+)\.(weight|bias)$`, "$1.0.$2",
		`^rpn\.head\.conv\.(weight|bias)$`, "rpn.head.conv.0.0.$1",
	)
	torchvisionClassifier = rewriting(
		`^features\.`, "backbone.",
		`^classifier\.0\.`, "roi_heads.box_head.fc6.",
		`^classifier\.3\.`, "roi_heads.box_head.fc7.",
	)

	// caffeBlobs are what a layer's blobs are, once statistics have their names.
	caffeBlobs = rewriting(`\.0$`, ".weight", `\.1$`, ".bias")
	// letters number the blocks of Caffe's ResNets: a, b, c …
	letters = func() []rewrite {
		var out []rewrite
		for i, c := range "abcdef" {
			out = append(out, rewriting(fmt.Sprintf(`^(res|bn|scale)([2-5])%c_`, c), fmt.Sprintf("$1$2.%d.", i))...)
		}
		return out
	}()

	// caffe2 are the names of Detectron and of what MSRA's models became there.
	caffe2 = slices.Concat(rewriting(
		`^res_conv1_bn_`, "bn1_",
		`^res([2-5])_(\d+)_`, "res$1.$2.",
		`\.branch1_bn_`, ".downsample.1_",
		`\.branch1_`, ".downsample.0_",
		`\.branch2a_bn_`, ".bn1_",
		`\.branch2b_bn_`, ".bn2_",
		`\.branch2c_bn_`, ".bn3_",
		`\.branch2a_`, ".conv1_",
		`\.branch2b_`, ".conv2_",
		`\.branch2c_`, ".conv3_",
		`^conv_rpn(?:_fpn2)?_`, "rpn.head.conv.0.0_",
		`^rpn_cls_logits(?:_fpn2)?_`, "rpn.head.cls_logits_",
		`^rpn_bbox_pred(?:_fpn2)?_`, "rpn.head.bbox_pred_",
		`^(fc[67])_`, "roi_heads.box_head.${1}_",
		`^(cls_score|bbox_pred)_`, "roi_heads.box_predictor.${1}_",
	),
		numbered(`^fpn_inner_res%d_\d+_sum(?:_lateral)?_`, "backbone.fpn.inner_blocks.%d.0_", 2, 5, 0),
		numbered(`^fpn_res%d_\d+_sum_`, "backbone.fpn.layer_blocks.%d.0_", 2, 5, 0),
		rewriting(
			`_(?:w|s|gamma)$`, ".weight",
			`_(?:b|beta)$`, ".bias",
			`_(?:rm|running_mean)$`, ".running_mean",
			`_(?:riv|running_var)$`, ".running_var", // riv is called an inverse and is none
		), stages)

	jwyang = rewriting(
		`^RCNN_rpn\.RPN_Conv\.`, "rpn.head.conv.0.0.",
		`^RCNN_rpn\.RPN_cls_score\.`, "rpn.head.cls_logits.",
		`^RCNN_rpn\.RPN_bbox_pred\.`, "rpn.head.bbox_pred.",
		`^RCNN_(cls_score|bbox_pred)\.`, "roi_heads.box_predictor.$1.",
	)
	jwyangSettings = []setting{
		{json: `{"transform":{` + pyImage + `,` + pySize + `},
			"rpn":{"anchors":{"sizes":[[128,256,512]],"bases":[16],` + plain + `},"pre_nms":6000,"post_nms":300,"min_size":0,"boxes":"caffe"},
			"roi":{"pool":{"sampling":0},"nms":0.3,"min_size":0,"boxes":"caffe"}}`},
		{key: "RCNN_rpn.RPN_cls_score.bias", rows: 24, json: `{"rpn":{"anchors":{"sizes":[[64,128,256,512]]}}}`},
		{key: "RCNN_bbox_pred.bias", rows: 4, json: agnostic},
		{meta: "pooling_mode=pool", json: `{"roi":{"pool":{"kind":"max"}}}`},
		{meta: "pooling_mode=align", note: "its RoIAlign of before PyTorch 1.0 averaged the corners of each bin; the model's averages samples within it, as the one since"},
		{meta: "pooling_mode=crop", note: "it pooled by RoI crop, which is not known here: RoIAlign is taken, and scores will differ"},
	}

	mmdetection = slices.Concat(rewriting(
		`^backbone\.`, "",
		`^roi_head\.shared_head\.(layer4\.)`, "$1",
		`^neck\.lateral_convs\.(\d)\.conv\.`, "backbone.fpn.inner_blocks.$1.0.",
		`^neck\.fpn_convs\.(\d)\.conv\.`, "backbone.fpn.layer_blocks.$1.0.",
		`^rpn_head\.rpn_conv\.`, "rpn.head.conv.0.0.",
		`^rpn_head\.rpn_cls\.`, "rpn.head.cls_logits.",
		`^rpn_head\.rpn_reg\.`, "rpn.head.bbox_pred.",
		`^roi_head\.bbox_head\.shared_fcs\.0\.`, "roi_heads.box_head.fc6.",
		`^roi_head\.bbox_head\.shared_fcs\.1\.`, "roi_heads.box_head.fc7.",
		`^roi_head\.bbox_head\.fc_cls\.`, "roi_heads.box_predictor.cls_score.",
		`^roi_head\.bbox_head\.fc_reg\.`, "roi_heads.box_predictor.bbox_pred.",
	))
	mmdetectionIgnored  = regexp.MustCompile(`\.num_batches_tracked$|^data_preprocessor\.`)
	mmdetectionSettings = []setting{
		{json: `{"transform":{"min_size":800,"max_size":1333,"round_size":true},
			"rpn":{"anchors":{` + plain + `},"post_nms":1000},"roi":{"pool":{"sampling":0,"aligned":true}}}`},
		{key: "roi_head.bbox_head.fc_reg.bias", rows: 4, json: agnostic},
	}
)

// modelFile is the family of our own files: names as they are, nothing ignored.
var modelFile = &Family{Name: "resdet", Title: "resdet model", whole: true}

// Families lists the names that [FamilyOf] knows.
func Families() []string {
	var names []string
	for _, f := range families {
		if !slices.Contains(names, f.Name) {
			names = append(names, f.Name)
		}
	}
	return names
}

// FamilyOf returns the family of a checkpoint: the one that its keys, and for
// Caffe's colours its file name, tell; nil if they tell none. A name, if not
// "", decides instead; one that is not known is an error.
func FamilyOf(c *Checkpoint, name string) (*Family, error) {
	var named *Family
	for _, f := range families {
		if name != "" && f.Name != name {
			continue
		}
		if f.recognises(c, name != "") {
			return f, nil
		}
		if named == nil {
			named = f
		}
	}
	switch {
	case name == "":
		return nil, nil
	case named == nil:
		return nil, fmt.Errorf("weights: family %q is none of %s", name, strings.Join(Families(), ", "))
	}
	return named, nil
}

// recognises reports whether the file shows the family's marks.
func (f *Family) recognises(c *Checkpoint, named bool) bool {
	if f.marks == nil || f.file != nil && !named && !f.file.MatchString(filepath.Base(c.Name)) {
		return false
	}
	var last *Tensor
	for _, m := range f.marks {
		i := slices.IndexFunc(c.Tensors, func(t Tensor) bool { return m.MatchString(unwrapName(t.Key)) })
		if i < 0 {
			return false
		}
		last = &c.Tensors[i]
	}
	return f.rows == 0 || len(last.Shape) > 0 && last.Shape[0] == f.rows
}

// Settings returns what the family's networks do differently from ours of that
// architecture: JSON objects with the members of a configuration that change,
// to be applied in order.
func (f *Family) Settings(c *Checkpoint, arch string) []string {
	var out []string
	for _, s := range f.settings {
		if s.json != "" && strings.HasSuffix(arch, s.arch) && s.holds(c) {
			out = append(out, s.json)
		}
	}
	return out
}

// Notes says what the file's network did that no setting of ours does.
func (f *Family) Notes(c *Checkpoint) []string {
	var out []string
	for _, s := range f.settings {
		if s.note != "" && s.holds(c) {
			out = append(out, s.note)
		}
	}
	return out
}

// holds reports whether the file is as the setting's conditions say.
func (s setting) holds(c *Checkpoint) bool {
	t := c.Tensor(s.key)
	name, value, _ := strings.Cut(s.meta, "=")
	switch {
	case s.key != "" && (t == nil || s.rows != 0 && (len(t.Shape) == 0 || t.Shape[0] != s.rows)):
		return false
	case s.not != "" && c.Tensor(s.not) != nil:
		return false
	}
	return s.meta == "" || c.Metadata[name] == value
}

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

// find returns our name for the family's, if the network wants it. A
// classifier's body feeds a detector with a pyramid and one without: of several
// names the first that is wanted is taken.
func (f *Family) find(key string, wanted func(string) bool) (string, bool) {
	for _, r := range f.rewrites {
		key = r.from.ReplaceAllString(key, r.to)
	}
	if wanted(key) {
		return key, true
	}
	if body.MatchString(key) && !f.whole {
		for _, p := range prefixes {
			if wanted(p + key) {
				return p + key, true
			}
		}
	}
	return "", false
}
