"""Steps of torch.optim on given gradients, for the optimiser tests to compare with.

usage: optimizer_steps.py DIRECTORY

Reads   cases.json   [{"name", "rule", "options": {...}, "learning_rates": [...], "count"}]
        inputs.f32   values[count], then one gradient[count] for each step; count of the longest case
Writes  NAME.f32         values after each step, roots correctly rounded (IEEE 754)
        NAME.stock.f32   the same with the roots of this build of torch, which MKL may round otherwise
"""

import array
import json
import pathlib
import sys

import torch
from torch.utils._python_dispatch import TorchDispatchMode

RULES = {
    "sgd": torch.optim.SGD,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "adagrad": torch.optim.Adagrad,
    "rmsprop": torch.optim.RMSprop,
}


class CorrectRoots(TorchDispatchMode):
    """Takes roots of float32 in double and rounds once, which is the correctly rounded root."""

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        if function is torch.ops.aten.sqrt.default:
            return arguments[0].double().sqrt().float()
        if function is torch.ops.aten.sqrt_.default:
            return arguments[0].copy_(arguments[0].double().sqrt().float())
        return function(*arguments, **(keywords or {}))


def run(case, inputs, step_count):
    count = case["count"]
    longest = len(inputs) // (step_count + 1)
    parameter = torch.nn.Parameter(inputs[:count].clone())
    optimizer = RULES[case["rule"]]([parameter], lr=1.0, foreach=False, **case["options"])
    history = []
    for step, learning_rate in enumerate(case["learning_rates"]):
        start = (step + 1) * longest
        parameter.grad = inputs[start : start + count].clone()
        optimizer.param_groups[0]["lr"] = learning_rate
        optimizer.step()
        history.append(parameter.detach().clone())
    return torch.cat(history)


def main():
    torch.set_num_threads(1)
    directory = pathlib.Path(sys.argv[1])
    cases = json.loads((directory / "cases.json").read_text())
    inputs = torch.frombuffer(bytearray((directory / "inputs.f32").read_bytes()), dtype=torch.float32)
    for case in cases:
        step_count = len(case["learning_rates"])
        with CorrectRoots():
            exact = run(case, inputs, step_count)
        stock = run(case, inputs, step_count)
        for suffix, result in (("", exact), (".stock", stock)):
            path = directory / f"{case['name']}{suffix}.f32"
            path.write_bytes(array.array("f", result.tolist()).tobytes())


if __name__ == "__main__":
    main()
