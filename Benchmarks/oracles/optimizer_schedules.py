"""Learning rates of torch.optim.lr_scheduler, for the schedule tests to compare with.

usage: optimizer_schedules.py CASES

CASES is JSON: [{"shape", "warmup", "steps", ...the shape's options}]; prints one JSON list of factors a
line. A warm-up is LinearLR from 1 / (warmup + 1), joined to the shape by SequentialLR.
"""

import json
import sys
import warnings

import torch
from torch.optim import lr_scheduler

SHAPES = {
    "constant": lambda o, c: lr_scheduler.ConstantLR(o, factor=1.0, total_iters=0),
    "step": lambda o, c: lr_scheduler.StepLR(o, c["step_size"], c["gamma"]),
    "multistep": lambda o, c: lr_scheduler.MultiStepLR(o, c["milestones"], c["gamma"]),
    "exponential": lambda o, c: lr_scheduler.ExponentialLR(o, c["gamma"]),
    "polynomial": lambda o, c: lr_scheduler.PolynomialLR(o, c["total"], c["power"]),
    "cosine": lambda o, c: lr_scheduler.CosineAnnealingLR(o, c["period"], c["minimum"]),
}


def factors(case):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = SHAPES[case["shape"]](optimizer, case)
    warmup = case["warmup"]
    if warmup > 0:
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
        rise = lr_scheduler.LinearLR(optimizer, 1.0 / (warmup + 1), total_iters=warmup)
        shape = SHAPES[case["shape"]](optimizer, case)
        scheduler = lr_scheduler.SequentialLR(optimizer, [rise, shape], milestones=[warmup])
    result = []
    for _ in range(case["steps"]):
        result.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return result


def main():
    warnings.simplefilter("ignore")
    for case in json.loads(sys.argv[1]):
        print(json.dumps(factors(case)))


if __name__ == "__main__":
    main()
