package weights_test

import (
	"fmt"
	"strconv"
	"strings"
)

// place is what a parameter of ours is, taken apart so that a family's name for
// it can be put together: the way back of what the importer does.
type place struct {
	part         string // "stem", "block", "vgg", "inner", "output", "rpn", "logits", "deltas", "fc6", "fc7", "cls", "box"
	stage, block int    // of "block": res2…res5, its blocks; index of "vgg", level of "inner" and "output"
	unit         string // of "block": "1", "2", "3" or "shortcut"
	norm         bool
	field        string // weight, bias, running_mean, running_var
}

func placeOf(key string) place {
	p := place{field: key[strings.LastIndex(key, ".")+1:]}
	fields := strings.Split(key, ".")
	number := func(i int) int { n, _ := strconv.Atoi(fields[i]); return n }
	switch {
	case strings.HasPrefix(key, "rpn.head.conv"):
		p.part = "rpn"
	case strings.HasPrefix(key, "rpn.head.cls_logits"):
		p.part = "logits"
	case strings.HasPrefix(key, "rpn.head.bbox_pred"):
		p.part = "deltas"
	case strings.Contains(key, "box_head.fc"):
		p.part = fields[2]
	case strings.Contains(key, "cls_score"):
		p.part = "cls"
	case strings.Contains(key, "bbox_pred"):
		p.part = "box"
	case strings.Contains(key, "inner_blocks"):
		p.part, p.stage = "inner", number(3)
	case strings.Contains(key, "layer_blocks"):
		p.part, p.stage = "output", number(3)
	case strings.Contains(key, ".layer"):
		for fields[0] == "backbone" || fields[0] == "body" || fields[0] == "roi_heads" || fields[0] == "box_head" {
			fields = fields[1:]
		}
		p.part, p.stage, p.block = "block", int(fields[0][5]-'0')+1, number(1)
		switch unit := fields[2]; {
		case unit == "downsample":
			p.unit, p.norm = "shortcut", fields[3] == "1"
		default:
			p.unit, p.norm = unit[len(unit)-1:], strings.HasPrefix(unit, "bn")
		}
	case strings.Contains(key, "conv1.") || strings.Contains(key, "bn1."):
		p.part, p.norm = "stem", strings.Contains(key, "bn1.")
	default:
		p.part, p.stage = "vgg", number(1)
	}
	return p
}

// Names that each family has for a place.

func torchvisionBody(p place) string {
	switch {
	case p.part == "stem" && p.norm:
		return "bn1." + p.field
	case p.part == "stem":
		return "conv1." + p.field
	case p.unit == "shortcut" && p.norm:
		return fmt.Sprintf("layer%d.%d.downsample.1.%s", p.stage-1, p.block, p.field)
	case p.unit == "shortcut":
		return fmt.Sprintf("layer%d.%d.downsample.0.%s", p.stage-1, p.block, p.field)
	case p.norm:
		return fmt.Sprintf("layer%d.%d.bn%s.%s", p.stage-1, p.block, p.unit, p.field)
	}
	return fmt.Sprintf("layer%d.%d.conv%s.%s", p.stage-1, p.block, p.unit, p.field)
}

func torchvisionName(p place) string {
	switch p.part {
	case "vgg":
		return fmt.Sprintf("features.%d.%s", p.stage, p.field)
	case "fc6":
		return "classifier.0." + p.field
	case "fc7":
		return "classifier.3." + p.field
	}
	return torchvisionBody(p)
}

func torchvisionDetector(old bool) func(place) string {
	wrapped := ".0."
	if old {
		wrapped = "."
	}
	return func(p place) string {
		switch p.part {
		case "stem", "block":
			return "backbone.body." + torchvisionBody(p)
		case "inner":
			return fmt.Sprintf("backbone.fpn.inner_blocks.%d%s%s", p.stage, wrapped, p.field)
		case "output":
			return fmt.Sprintf("backbone.fpn.layer_blocks.%d%s%s", p.stage, wrapped, p.field)
		case "rpn":
			if old {
				return "rpn.head.conv." + p.field
			}
			return "rpn.head.conv.0.0." + p.field
		case "logits":
			return "rpn.head.cls_logits." + p.field
		case "deltas":
			return "rpn.head.bbox_pred." + p.field
		case "cls":
			return "roi_heads.box_predictor.cls_score." + p.field
		case "box":
			return "roi_heads.box_predictor.bbox_pred." + p.field
		}
		return "roi_heads.box_head." + p.part + "." + p.field
	}
}

func detectron2Name(pyramid bool) func(place) string {
	bottom := "backbone."
	if pyramid {
		bottom = "backbone.bottom_up."
	}
	return func(p place) string {
		norm := ""
		if p.norm {
			norm = "norm."
		}
		switch p.part {
		case "stem":
			return bottom + "stem.conv1." + norm + p.field
		case "block":
			where := bottom
			if p.stage == 5 && !pyramid {
				where = "roi_heads."
			}
			unit := "conv" + p.unit
			if p.unit == "shortcut" {
				unit = p.unit
			}
			return fmt.Sprintf("%sres%d.%d.%s.%s%s", where, p.stage, p.block, unit, norm, p.field)
		case "inner":
			return fmt.Sprintf("backbone.fpn_lateral%d.%s", p.stage+2, p.field)
		case "output":
			return fmt.Sprintf("backbone.fpn_output%d.%s", p.stage+2, p.field)
		case "rpn":
			return "proposal_generator.rpn_head.conv." + p.field
		case "logits":
			return "proposal_generator.rpn_head.objectness_logits." + p.field
		case "deltas":
			return "proposal_generator.rpn_head.anchor_deltas." + p.field
		case "fc6":
			return "roi_heads.box_head.fc1." + p.field
		case "fc7":
			return "roi_heads.box_head.fc2." + p.field
		case "cls":
			return "roi_heads.box_predictor.cls_score." + p.field
		}
		return "roi_heads.box_predictor.bbox_pred." + p.field
	}
}

// caffe2Name are Detectron's; statistics have names in whole norms only. last
// gives the last block of each stage, for the pyramid's names.
func caffe2Name(pyramid, whole bool, last map[int]int) func(place) string {
	short := map[string]string{"weight": "w", "bias": "b"}
	norm := map[string]string{"weight": "s", "bias": "b"}
	if whole {
		norm = map[string]string{"weight": "gamma", "bias": "beta", "running_mean": "running_mean", "running_var": "running_var"}
	}
	fpn2 := ""
	if pyramid {
		fpn2 = "_fpn2"
	}
	return func(p place) string {
		field := short[p.field]
		if p.norm {
			if field = norm[p.field]; field == "" {
				return ""
			}
			field = "bn_" + field
		}
		switch p.part {
		case "stem":
			if p.norm {
				return "res_conv1_" + field
			}
			return "conv1_" + field
		case "block":
			branch := "branch1"
			if p.unit != "shortcut" {
				branch = "branch2" + string("abc"[p.unit[0]-'1'])
			}
			return fmt.Sprintf("res%d_%d_%s_%s", p.stage, p.block, branch, field)
		case "inner":
			lateral := "_lateral"
			if p.stage == 3 {
				lateral = ""
			}
			return fmt.Sprintf("fpn_inner_res%d_%d_sum%s_%s", p.stage+2, last[p.stage+2], lateral, field)
		case "output":
			return fmt.Sprintf("fpn_res%d_%d_sum_%s", p.stage+2, last[p.stage+2], field)
		case "rpn":
			return "conv_rpn" + fpn2 + "_" + field
		case "logits":
			return "rpn_cls_logits" + fpn2 + "_" + field
		case "deltas":
			return "rpn_bbox_pred" + fpn2 + "_" + field
		case "cls":
			return "cls_score_" + field
		case "box":
			return "bbox_pred_" + field
		}
		return p.part + "_" + field
	}
}

// caffeResNetName has the blocks of stages 3 and 4 as letters (ResNet-50) or as
// b1, b2 ….
func caffeResNetName(letters bool) func(place) string {
	return func(p place) string {
		if p.part != "stem" && p.part != "block" {
			return ""
		}
		what, where := "res", ""
		blob := map[string]int{"weight": 0, "bias": 1, "running_mean": 0, "running_var": 1}[p.field]
		if p.norm {
			what = "scale"
			if strings.HasPrefix(p.field, "running") {
				what = "bn"
			}
		}
		if p.part == "stem" {
			if where = "conv1"; p.norm {
				where = what + "_conv1"
			}
			return fmt.Sprintf("%s.%d", where, blob)
		}
		block := string(rune('a' + p.block))
		if !letters && (p.stage == 3 || p.stage == 4) && p.block > 0 {
			block = fmt.Sprintf("b%d", p.block)
		}
		branch := "branch1"
		if p.unit != "shortcut" {
			branch = "branch2" + string("abc"[p.unit[0]-'1'])
		}
		return fmt.Sprintf("%s%d%s_%s.%d", what, p.stage, block, branch, blob)
	}
}

// vggPlaces are the places of VGG-16's convolutions in torchvision, and where
// Caffe has them.
var vggPlaces = map[int]string{0: "1_1", 2: "1_2", 5: "2_1", 7: "2_2", 10: "3_1", 12: "3_2", 14: "3_3", 17: "4_1", 19: "4_2", 21: "4_3", 24: "5_1", 26: "5_2", 28: "5_3"}

func caffeVGGName(p place) string {
	blob := ".0"
	if p.field == "bias" {
		blob = ".1"
	}
	layers := map[string]string{"rpn": "rpn_conv/3x3", "logits": "rpn_cls_score", "deltas": "rpn_bbox_pred", "fc6": "fc6", "fc7": "fc7", "cls": "cls_score", "box": "bbox_pred"}
	if p.part == "vgg" {
		return "conv" + vggPlaces[p.stage] + blob
	}
	return layers[p.part] + blob
}

func jwyangName(vgg bool) func(place) string {
	return func(p place) string {
		switch p.part {
		case "rpn":
			return "RCNN_rpn.RPN_Conv." + p.field
		case "logits":
			return "RCNN_rpn.RPN_cls_score." + p.field
		case "deltas":
			return "RCNN_rpn.RPN_bbox_pred." + p.field
		case "cls":
			return "RCNN_cls_score." + p.field
		case "box":
			return "RCNN_bbox_pred." + p.field
		case "vgg":
			return fmt.Sprintf("RCNN_base.%d.%s", p.stage, p.field)
		case "fc6":
			return "RCNN_top.0." + p.field
		case "fc7":
			return "RCNN_top.3." + p.field
		}
		name := torchvisionBody(p)
		first, rest, _ := strings.Cut(name, ".")
		return map[string]string{"conv1": "RCNN_base.0", "bn1": "RCNN_base.1", "layer1": "RCNN_base.4", "layer2": "RCNN_base.5", "layer3": "RCNN_base.6", "layer4": "RCNN_top.0"}[first] + "." + rest
	}
}

func mmdetectionName(p place) string {
	switch p.part {
	case "stem", "block":
		return "backbone." + torchvisionBody(p)
	case "inner":
		return fmt.Sprintf("neck.lateral_convs.%d.conv.%s", p.stage, p.field)
	case "output":
		return fmt.Sprintf("neck.fpn_convs.%d.conv.%s", p.stage, p.field)
	case "fc6":
		return "roi_head.bbox_head.shared_fcs.0." + p.field
	case "fc7":
		return "roi_head.bbox_head.shared_fcs.1." + p.field
	}
	return map[string]string{"rpn": "rpn_head.rpn_conv.", "logits": "rpn_head.rpn_cls.", "deltas": "rpn_head.rpn_reg.",
		"cls": "roi_head.bbox_head.fc_cls.", "box": "roi_head.bbox_head.fc_reg."}[p.part] + p.field
}
