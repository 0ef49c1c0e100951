#!/usr/bin/env python3
"""Writes Tests/GeePSNNTests/Fixtures/lstm.ref: what PyTorch's nn.LSTM computes.

Run from the repository root: python3 Benchmarks/oracles/make_lstm_references.py
Made with torch 2.13.0+cpu; the numbers come from torch's float64, rounded once to float32.

The format and the records of a case are those of make_layer_references.py. Cases ending in _last have the last
step's hidden values for output, the others those of all steps. "network" is a convolution, an LSTM that reads
its result in C, H, W order, all its steps, and a linear layer.
"""
import struct
import sys

import torch
from torch import nn

torch.manual_seed(11)
torch.set_default_dtype(torch.float64)
records = []


def put(name, tensor):
    # float32 is what both sides start from, so inputs and parameters are rounded before use.
    records.append((name, tensor.detach().to(torch.float32).contiguous()))


def rounded(*shape):
    return torch.randn(*shape).to(torch.float32).to(torch.float64)


def case(name, module, run, shape, stretch=1):
    for parameter in module.parameters():
        parameter.data = (stretch * parameter.data).to(torch.float32).to(torch.float64)
    x = rounded(*shape).requires_grad_()
    y = run(x)
    dy = rounded(*y.shape)
    y.backward(dy)
    put(f"{name}/input", x)
    for key, parameter in module.named_parameters():
        put(f"{name}/{key}", parameter)
        put(f"{name}/{key}.gradient", parameter.grad)
    put(f"{name}/output", y)
    put(f"{name}/output_gradient", dy)
    put(f"{name}/input_gradient", x.grad)


def lstm(name, batch, steps, inputs, width, stretch=1):
    for end, select in [("all", lambda y: y), ("last", lambda y: y[:, -1])]:
        module = nn.LSTM(inputs, width, batch_first=True)
        case(f"{name}_{end}", module, lambda x: select(module(x)[0]), (batch, steps, inputs), stretch)


lstm("several", 3, 5, 4, 6)
lstm("wide", 2, 3, 6, 33)
lstm("one_step", 4, 1, 5, 3)
lstm("one_sample", 1, 4, 2, 9)
lstm("one_value", 3, 3, 1, 1)
# Gates that are open or shut: sums of up to 15.
lstm("saturated", 3, 6, 5, 4, stretch=8)

convolution, recurrent, linear = nn.Conv2d(2, 4, 3, padding=1), nn.LSTM(10, 7, batch_first=True), nn.Linear(84, 5)
case(
    "network", nn.ModuleDict({"conv1": convolution, "lstm1": recurrent, "fc1": linear}),
    lambda x: linear(recurrent(convolution(x).reshape(3, 12, 10))[0].flatten(1)), (3, 2, 6, 5))

path = sys.argv[1] if len(sys.argv) > 1 else "Tests/GeePSNNTests/Fixtures/lstm.ref"
with open(path, "wb") as file:
    for name, tensor in records:
        name = name.encode("ascii")
        file.write(struct.pack("<I", len(name)) + name)
        file.write(struct.pack(f"<I{tensor.dim()}I", tensor.dim(), *tensor.shape))
        file.write(tensor.numpy().astype("<f4").tobytes())
print(f"{path}: {len(records)} tensors, torch {torch.__version__}")
