#!/usr/bin/env python3
"""Builds torchvision's detector for a file of `resdet weights export --format safetensors`, loads it with strict=True and
detects. Everything that torchvision's constructors must be told is read from the file's metadata.

usage: scripts/torchvision-detector.py MODEL.safetensors IMAGE… [MODEL.safetensors IMAGE…]…        a line of JSON for each image

Needs torch and torchvision (0.13 or later), and Pillow. detector(path) gives the module, which takes a list of RGB images
[3 H W] in 0…1 as torchvision's own do, and the classes.
"""
import json
import struct
import sys
from collections import OrderedDict

import torch
import torchvision
from torch import nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import _resnet_fpn_extractor
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.ops import FrozenBatchNorm2d, MultiScaleRoIAlign, roi_align, roi_pool
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool, LastLevelP6P7


def read(path):
    """The metadata and the tensors of a safetensors file: 8 bytes of length, JSON, elements."""
    with open(path, "rb") as f:
        head = json.loads(f.read(struct.unpack("<Q", f.read(8))[0]))
        data = bytearray(f.read())
    meta = head.pop("__metadata__", {})
    kinds = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
    tensors = {}
    for key, t in head.items():
        begin, end = t["data_offsets"]
        tensors[key] = torch.frombuffer(data[begin:end], dtype=kinds[t["dtype"]]).reshape(t["shape"]).float()
    return meta, tensors


class Detector(FasterRCNN):
    bgr = False

    def forward(self, images, targets=None):
        if self.bgr:
            images = [i.flip(0) for i in images]
        return super().forward(images, targets)


class Pool(nn.Module):
    """Pools regions of one level where MultiScaleRoIAlign cannot: whole pixels, or samples shifted by half a pixel."""

    def __init__(self, pool, scale):
        super().__init__()
        self.pool, self.scale = pool, scale

    def forward(self, features, boxes, shapes):
        (x,), p = features.values(), self.pool
        if p["kind"] == "max":
            return roi_pool(x, boxes, p["size"], self.scale)
        return roi_align(x, boxes, p["size"], self.scale, p.get("sampling") or -1, p.get("aligned", False))


class Res5(nn.Module):
    def __init__(self, layer4):
        super().__init__()
        self.layer4 = layer4

    def forward(self, x):
        return self.layer4(x).mean((2, 3))


def refuse(wrong, what):
    if wrong:
        raise SystemExit("torchvision cannot be told " + what)


def resnet(cfg):
    eps = cfg.get("norm_eps", 0)
    net = getattr(torchvision.models, "resnet%d" % cfg["depth"])(weights=None, norm_layer=lambda n: FrozenBatchNorm2d(n, eps=eps))
    if cfg.get("stride_in_1x1") and cfg["depth"] >= 50:
        for layer in (net.layer2, net.layer3, net.layer4):
            layer[0].conv1.stride, layer[0].conv2.stride = layer[0].conv2.stride, layer[0].conv1.stride
    if cfg.get("ceil_pool"):
        net.maxpool = nn.MaxPool2d(3, 2, 0, ceil_mode=True)
    return net


def detector(path):
    meta, tensors = read(path)
    cfg = json.loads(meta["resdet"])
    body, rpn, roi, t = cfg["backbone"], cfg["rpn"], cfg["roi"], cfg["transform"]
    anchors, pool, fpn = rpn["anchors"], roi["pool"], body.get("fpn")
    refuse(not anchors["round"] or not anchors["grid_stride"], "where these anchors lie")
    refuse(anchors.get("bases"), "of anchors that are multiples of a base")
    refuse(rpn.get("boxes") or roi.get("boxes"), "of boxes whose corners belong to them")
    refuse(t.get("round_size"), "to round sizes to the nearest pixel")
    refuse(rpn.get("channels"), "of another width of the RPN's head")
    refuse(rpn["convs"] != 1, "of more than one convolution under this name")
    rows = 1 + len(cfg["classes"])

    width = roi.get("hidden", 0)
    if body["family"] == "vgg":
        backbone = torchvision.models.vgg16(weights=None).features[:-1]
        backbone.out_channels = 512
        for m in backbone:
            if isinstance(m, nn.MaxPool2d):
                m.ceil_mode = body.get("ceil_pool", False)
    elif fpn:
        net = resnet(body)
        refuse(fpn.get("top") not in ("pool", "p6p7") or fpn["channels"] != 256, "of this pyramid")
        last = 64 * 2 ** (fpn["stages"][-1] - 2) * (4 if body["depth"] >= 50 else 1)  # channels
        top = LastLevelMaxPool() if fpn["top"] == "pool" else LastLevelP6P7(last, 256)
        backbone = _resnet_fpn_extractor(net, 5, returned_layers=[s - 1 for s in fpn["stages"]], extra_blocks=top)
    else:
        net = resnet(body)
        names = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3")
        backbone = nn.Sequential(OrderedDict((n, getattr(net, n)) for n in names))
        backbone.out_channels = 1024 if body["depth"] >= 50 else 256
    if roi["kind"] == "res5":
        head, width = Res5(net.layer4), 2048 if body["depth"] >= 50 else 512
    else:
        head = TwoMLPHead(backbone.out_channels * pool["size"] ** 2, width)
    levels = [str(i) for i in range(len(fpn["stages"]) if fpn else 1)]
    regions = MultiScaleRoIAlign(levels, pool["size"], pool.get("sampling") or -1,
                                 canonical_scale=pool["canonical_size"], canonical_level=pool["canonical_level"])
    scale = 255 * t["scale"]  # torchvision's images are in 0…1
    model = Detector(
        backbone, min_size=t["min_size"], max_size=t["max_size"],
        image_mean=[m / scale for m in t["mean"]], image_std=[s / scale for s in t["std"]],
        rpn_anchor_generator=AnchorGenerator(tuple(map(tuple, anchors["sizes"])), (tuple(anchors["ratios"]),) * len(anchors["sizes"])),
        rpn_pre_nms_top_n_test=rpn["pre_nms"], rpn_post_nms_top_n_test=rpn["post_nms"], rpn_nms_thresh=rpn["nms"],
        box_roi_pool=regions, box_head=head, box_predictor=FastRCNNPredictor(width, rows),
        box_score_thresh=roi["score"], box_nms_thresh=roi["nms"], box_detections_per_img=roi["max"],
        bbox_reg_weights=tuple(roi["box_weights"]))
    if pool["kind"] == "max" or pool.get("aligned"):
        refuse(fpn, "to pool from a pyramid in this way")
        model.roi_heads.box_roi_pool = Pool(pool, 1 / 16)
    model.bgr = t["channel_order"] == "BGR"
    model.transform.size_divisible = t["size_divisible"]
    model.rpn.min_size = rpn["min_size"]
    model.load_state_dict(tensors, strict=True)
    return model.eval(), cfg["classes"]


def main():
    from PIL import Image
    from torchvision.transforms.functional import to_tensor
    for path in sys.argv[1:]:
        if path.endswith(".safetensors"):
            model, classes = detector(path)
            continue
        with torch.no_grad():
            found = model([to_tensor(Image.open(path).convert("RGB"))])[0]
        print(json.dumps({"image": path, "detections": [
            {"class": classes[label - 1]["name"], "class_id": classes[label - 1]["id"], "score": score, "box": box}
            for label, score, box in zip(found["labels"].tolist(), found["scores"].tolist(), found["boxes"].tolist())]}))


if __name__ == "__main__":
    main()
