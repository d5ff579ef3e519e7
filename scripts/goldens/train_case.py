#!/usr/bin/env python3
"""One training step of a C4 detector by torchvision, for internal/train/step/testdata.

usage: train_case.py resnet18 HEIGHT WIDTH MIN_SIZE MAX_SIZE SEED DIR

Needs Debian's python3-torchvision (0.14), and formula.py of the reference cases (fixtures/models) in PYTHONPATH: it
gives every weight by its name, and the picture. Both samplers take every candidate, so that nothing is random.
train_resnet18-c4_75x131_s2 is `resnet18 75 131 96 160 2`.
"""
import json
import os
import sys

import formula
import numpy as np
import torch
import torchvision
from torch import nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor
from torchvision.models.detection.rpn import AnchorGenerator
from torchvision.ops import FrozenBatchNorm2d, MultiScaleRoIAlign

name = sys.argv[1]
height, width, least, most, seed = map(int, sys.argv[2:7])
basic = name in ("resnet18", "resnet34")


class Body(nn.Module):
    def __init__(self, r):
        super().__init__()
        self.conv1, self.bn1, self.relu, self.maxpool = r.conv1, r.bn1, r.relu, r.maxpool
        self.layer1, self.layer2, self.layer3 = r.layer1, r.layer2, r.layer3
        self.out_channels = 256 if basic else 1024

    def forward(self, x):
        return self.layer3(self.layer2(self.layer1(self.maxpool(self.relu(self.bn1(self.conv1(x)))))))


class Head(nn.Module):
    def __init__(self, layer4):
        super().__init__()
        self.layer4 = layer4

    def forward(self, x):
        return self.layer4(x).mean((2, 3))


post = 60
boxes = [[round(x * s, 1) for x, s in zip(b, (width / 160, height / 128) * 2)]
         for b in ([13, 13, 96, 109], [64, 38, 152, 122], [112, 6, 144, 38])]
labels = [3, 7, 3]
resnet = getattr(torchvision.models, name)(weights=None, norm_layer=FrozenBatchNorm2d)
model = FasterRCNN(
    Body(resnet), num_classes=None, min_size=least, max_size=most,
    rpn_anchor_generator=AnchorGenerator(((32, 64, 128, 256, 512),), ((0.5, 1.0, 2.0),)),
    box_roi_pool=MultiScaleRoIAlign(["0"], 14, 2), box_head=Head(resnet.layer4),
    box_predictor=FastRCNNPredictor(512 if basic else 2048, 81),
    rpn_pre_nms_top_n_train=200, rpn_post_nms_top_n_train=post, rpn_nms_thresh=0.7, rpn_batch_size_per_image=200_000,
    box_batch_size_per_image=post + len(boxes), box_positive_fraction=1.0)
model.train()
with torch.no_grad():
    for key, v in model.state_dict().items():
        v.copy_(torch.from_numpy(formula.tensor(key, tuple(v.shape), basic)))
pixels = formula.image(height, width, seed)
losses = model([torch.from_numpy(pixels).float() / 255], [{"boxes": torch.tensor(boxes), "labels": torch.tensor(labels)}])
sum(losses.values()).backward()
grads = {}
for key, p in model.named_parameters():
    g = p.grad.double().flatten()
    grads[key] = {"shape": list(p.shape), "l2": float(g.norm()), "sum": float(g.sum()), "first": [float(v) for v in g[:4]]}
out = os.path.join(sys.argv[7], f"train_{name}-c4_{height}x{width}_s{seed}")
os.makedirs(out, exist_ok=True)
np.save(os.path.join(out, "pixels.npy"), pixels)
with open(os.path.join(out, "meta.json"), "w") as f:
    json.dump({"arch": name + "-c4", "image": [height, width], "min_size": least, "max_size": most, "boxes": boxes, "labels": labels,
               "rpn_pre": 200, "rpn_post": post, "rpn_nms": 0.7, "losses": {k: float(v) for k, v in losses.items()}, "grads": grads}, f)
