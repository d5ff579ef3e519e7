#!/usr/bin/env python3
"""torch's optimisers and schedules, for internal/train/solver and internal/train/schedule.

usage: solver.py > internal/train/solver/testdata/torch.json

Needs Debian's python3-torch (1.13). Two parameters, six steps with gradients that are given; the weights after each.
"""
import json
import math
import warnings

import torch

warnings.filterwarnings("ignore")  # the schedules are asked without optimiser steps
torch.manual_seed(1)
SIZES = {"body.layer1.weight": 6, "head.fc.bias": 3}
START = {k: torch.randn(n) for k, n in SIZES.items()}
GRADS = [{k: torch.randn(n) * 10 ** (i % 3 - 1) for k, n in SIZES.items()} for i in range(6)]
RATES = [0.01, 0.02, 0.03, 0.03, 0.003, 0.003]


def run(kind, options, groups, clip):
    params = {k: v.clone().requires_grad_() for k, v in START.items()}
    sets = [{"params": [p], "lr": 0, **groups.get(k, {})} for k, p in params.items()]
    scales = [g.pop("rate", 1) for g in sets]
    optimiser = {"sgd": torch.optim.SGD, "adamw": torch.optim.AdamW}[kind](sets, lr=1, **options)
    out = []
    for rate, grads in zip(RATES, GRADS):
        for group, scale in zip(optimiser.param_groups, scales):
            group["lr"] = rate * scale
        for k, p in params.items():
            p.grad = grads[k].clone()
        norm = torch.nn.utils.clip_grad_norm_(list(params.values()), clip or math.inf)
        optimiser.step()
        out.append({"norm": norm.item(), "weights": {k: p.detach().tolist() for k, p in params.items()}})
    return out


def rates(make, steps):
    p = torch.nn.Parameter(torch.zeros(1))
    optimiser = torch.optim.SGD([p], lr=0.02)
    schedule = make(optimiser)
    out = []
    for _ in range(steps):
        out.append(optimiser.param_groups[0]["lr"])
        schedule.step()
    return out


S = torch.optim.lr_scheduler
print(json.dumps({
    "start": {k: v.tolist() for k, v in START.items()},
    "grads": [{k: v.tolist() for k, v in g.items()} for g in GRADS],
    "rates": RATES,
    "runs": {
        "sgd": run("sgd", {"momentum": 0.9, "weight_decay": 1e-2}, {}, 0),
        "sgd_groups_clip": run("sgd", {"momentum": 0.9, "weight_decay": 1e-2}, {"head.fc.bias": {"rate": 2, "weight_decay": 0}}, 2.0),
        "adamw": run("adamw", {"betas": (0.9, 0.999), "weight_decay": 1e-2}, {}, 0),
    },
    "schedules": {
        "steps": rates(lambda o: S.MultiStepLR(o, [5, 8], 0.1), 12),
        "warmup": rates(lambda o: S.LinearLR(o, 0.005, 1, 4), 12),
        "cosine": rates(lambda o: S.CosineAnnealingLR(o, 12, 0.002), 12),
    },
}, indent=1))
