#!/usr/bin/env python3
"""Writes Tests/GeePSNNTests/Fixtures/layers.ref: what PyTorch computes for our layers and two networks.

Run from the repository root: python3 Benchmarks/oracles/make_layer_references.py
Made with torch 2.13.0+cpu; the numbers come from torch's float64, rounded once to float32.

Format: records to the end of the file. A record is u32 length of the name, the name (ASCII), u32 rank, u32
dimensions, then float32 values, row-major; all little-endian. Labels are stored as float32.

A normalisation's records have <case>/<buffer> (before), <case>/<buffer>.after (three batches, of which input to
gradients are the last) and <case>/evaluated (what the last input gives in evaluation then) besides; the other two
batches are <case>/input0 and <case>/input1.

A layer's records are <case>/input, <case>/<parameter>, <case>/output, <case>/output_gradient (random),
<case>/input_gradient and <case>/<parameter>.gradient. A network's are the same with <case>/labels and
<case>/loss (mean) in place of the output's gradient.
"""
import struct
import sys

import torch
from torch import nn

torch.manual_seed(7)
torch.set_default_dtype(torch.float64)
records = []


def put(name, tensor):
    # float32 is what both sides start from, so inputs and parameters are rounded before use.
    records.append((name, tensor.detach().to(torch.float32).contiguous()))


def rounded(*shape):
    return torch.randn(*shape).to(torch.float32).to(torch.float64)


def round_parameters(module):
    for parameter in module.parameters():
        parameter.data = parameter.data.to(torch.float32).to(torch.float64)


def layer(case, module, shape):
    round_parameters(module)
    x = rounded(*shape).requires_grad_()
    y = module(x)
    dy = rounded(*y.shape)
    y.backward(dy)
    put(f"{case}/input", x)
    for name, parameter in module.named_parameters():
        put(f"{case}/{name}", parameter)
        put(f"{case}/{name}.gradient", parameter.grad)
    put(f"{case}/output", y)
    put(f"{case}/output_gradient", dy)
    put(f"{case}/input_gradient", x.grad)


def normalisation(case, module, shape):
    """Three batches in training, the last with gradients, then the last input in evaluation."""
    module.double()
    if module.affine:
        nn.init.normal_(module.weight, 1, 0.5)
        nn.init.normal_(module.bias)
    for name, buffer in module.named_buffers():
        if buffer.dim() > 0:
            put(f"{case}/{name}", buffer)
    for index in range(2):
        x = 2 * rounded(*shape) + 1
        put(f"{case}/input{index}", x)
        round_parameters(module)
        module(x)
    layer(case, module, shape)
    for name, buffer in module.named_buffers():
        if buffer.dim() > 0:
            put(f"{case}/{name}.after", buffer)
    x = torch.from_numpy(dict(records)[f"{case}/input"].numpy()).double()
    put(f"{case}/evaluated", module.eval()(x))


def network(case, module, shape, classes):
    round_parameters(module)
    x = rounded(*shape).requires_grad_()
    labels = torch.randint(0, classes, (shape[0],))
    logits = module(x)
    loss = nn.functional.cross_entropy(logits, labels)
    loss.backward()
    put(f"{case}/input", x)
    put(f"{case}/labels", labels.to(torch.float32))
    for name, parameter in module.named_parameters():
        put(f"{case}/{name}", parameter)
        put(f"{case}/{name}.gradient", parameter.grad)
    put(f"{case}/output", logits)
    put(f"{case}/loss", loss)
    put(f"{case}/input_gradient", x.grad)


def named(*pairs):
    sequence = nn.Sequential()
    for name, module in pairs:
        sequence.add_module(name, module)
    return sequence


layer("linear", nn.Linear(30, 7), (4, 30))
layer("linear_of_image", named(("flat", nn.Flatten()), ("linear", nn.Linear(24, 5))), (3, 2, 3, 4))
layer("convolution", nn.Conv2d(3, 5, 3, stride=2, padding=1), (2, 3, 7, 9))
layer("convolution_same", nn.Conv2d(1, 6, 5, padding=2), (3, 1, 8, 8))
layer("convolution_1x1", nn.Conv2d(20, 17, 1), (2, 20, 4, 3))
layer("max_pooling", nn.MaxPool2d(3, stride=2, padding=1), (2, 4, 7, 6))
layer("max_pooling_floor", nn.MaxPool2d(2, stride=2), (2, 3, 5, 5))
layer("average_pooling", nn.AvgPool2d(3, stride=2, padding=1), (2, 4, 7, 6))
layer("relu", nn.ReLU(), (3, 2, 5, 5))
layer("tanh", nn.Tanh(), (4, 125))
layer("sigmoid", nn.Sigmoid(), (4, 125))

# Appended after the others, whose numbers they would change.
def normalisations():
    layer("lrn", nn.LocalResponseNorm(5, alpha=0.3, beta=0.75, k=1.5), (3, 7, 4, 5))
    layer("lrn_default", nn.LocalResponseNorm(5), (2, 40, 3, 3))
    layer("lrn_even", nn.LocalResponseNorm(4, alpha=0.5, beta=0.6, k=2), (2, 9, 3, 4))
    layer("lrn_wide", nn.LocalResponseNorm(9, alpha=1, beta=0.5, k=1), (2, 3, 4, 4))
    normalisation("batch_norm", nn.BatchNorm2d(5, eps=1e-3, momentum=0.3), (4, 5, 6, 7))
    normalisation("batch_norm_flat", nn.BatchNorm1d(11), (6, 11))
    normalisation("batch_norm_plain", nn.BatchNorm2d(3, affine=False), (2, 3, 5, 4))


network(
    "lenet",
    named(
        ("conv1", nn.Conv2d(1, 6, 5, padding=2)), ("relu1", nn.ReLU()), ("pool1", nn.MaxPool2d(2)),
        ("conv2", nn.Conv2d(6, 16, 3, padding=1)), ("relu2", nn.ReLU()), ("pool2", nn.MaxPool2d(2)),
        ("flatten", nn.Flatten()), ("fc1", nn.Linear(64, 120)), ("relu3", nn.ReLU()),
        ("fc2", nn.Linear(120, 84)), ("relu4", nn.ReLU()), ("fc3", nn.Linear(84, 10))),
    (5, 1, 8, 8), 10)
network(
    "mlp",
    named(
        ("fc1", nn.Linear(20, 16)), ("relu1", nn.ReLU()), ("fc2", nn.Linear(16, 12)),
        ("relu2", nn.ReLU()), ("fc3", nn.Linear(12, 5))),
    (6, 20), 5)

normalisations()

path = sys.argv[1] if len(sys.argv) > 1 else "Tests/GeePSNNTests/Fixtures/layers.ref"
with open(path, "wb") as file:
    for name, tensor in records:
        name = name.encode("ascii")
        file.write(struct.pack("<I", len(name)) + name)
        file.write(struct.pack(f"<I{tensor.dim()}I", tensor.dim(), *tensor.shape))
        file.write(tensor.numpy().astype("<f4").tobytes())
print(f"{path}: {len(records)} tensors, torch {torch.__version__}")
