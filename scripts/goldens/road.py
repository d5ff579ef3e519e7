#!/usr/bin/env python3
"""torchvision's detections on testdata/road.jpg, for the default model.

usage: road.py voc-resnet50-fpn.pth photo.jpg > testdata/road.torchvision.json

Needs Debian's python3-torchvision. The checkpoint is the one that the default model was imported from.
"""
import json
import sys

import numpy as np
import torch
import torchvision
from PIL import Image
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.backbone_utils import _resnet_fpn_extractor
from torchvision.models.detection.rpn import AnchorGenerator
from torchvision.ops import FrozenBatchNorm2d

body = torchvision.models.resnet50(weights=None, norm_layer=FrozenBatchNorm2d)
for layer in (body.layer2, body.layer3):  # MSRA's weights: the stride on the first 1x1
    layer[0].conv1.stride, layer[0].conv2.stride = (2, 2), (1, 1)
model = FasterRCNN(
    _resnet_fpn_extractor(body, 3, returned_layers=[1, 2, 3]), num_classes=21, min_size=320, max_size=533,
    image_mean=[123.68 / 255, 116.779 / 255, 103.939 / 255], image_std=[1 / 255] * 3,  # levels 0-255 less the mean
    rpn_anchor_generator=AnchorGenerator(((32, 48), (64, 96), (128, 192), (256, 384)), ((0.5, 1.0, 2.0),) * 4),
    rpn_pre_nms_top_n_test=1000, rpn_post_nms_top_n_test=300)
weights = {k: v.float() for k, v in torch.load(sys.argv[1]).items()}
missing, unexpected = model.load_state_dict(weights, strict=False)
assert all("layer4" in k or "fc." in k for k in missing) and not unexpected, (missing, unexpected)
model.eval()
pixels = torch.from_numpy(np.array(Image.open(sys.argv[2]).convert("RGB"))).permute(2, 0, 1).float() / 255
with torch.no_grad():
    found = model([pixels])[0]
rows = [{"class_id": int(c), "score": round(float(s), 6), "box": [round(float(v), 3) for v in b]}
        for b, s, c in zip(found["boxes"], found["scores"], found["labels"])]
print("[" + ",\n ".join(json.dumps(r) for r in rows) + "]")
