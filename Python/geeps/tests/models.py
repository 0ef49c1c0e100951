"""Models that exercise what attached parameters meet, and training loops to compare."""

from __future__ import annotations

import types
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.05),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=1e-3, dampening=0.1),
    "nesterov": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True),
    "adam": lambda p: torch.optim.Adam(p, lr=1e-2, weight_decay=1e-3),
    "adamw": lambda p: torch.optim.AdamW(p, lr=1e-2),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=1e-2, initial_accumulator_value=0.1),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=1e-3, momentum=0.5, centered=True),
}


class CNN(nn.Module):
    """Convolutions, batch normalisation, ReLU in place, a residual, dropout."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)
        self.second = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.relu = nn.ReLU(inplace=True)
        self.drop = nn.Dropout(0.2)
        self.last = nn.Linear(width * 16, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.relu(self.norm(self.first(x)))
        x = x + self.relu(self.second(x))
        return self.last(self.drop(functional.max_pool2d(x, 2).flatten(1)))


class LM(nn.Module):
    """A transformer with tied embeddings."""

    def __init__(self, vocabulary: int = 40, width: int = 32, layers: int = 2, length: int = 12) -> None:
        super().__init__()
        self.token = nn.Embedding(vocabulary, width)
        self.position = nn.Parameter(torch.randn(length, width) * 0.02)
        layer = [nn.TransformerEncoderLayer(width, 4, 2 * width, dropout=0.1, batch_first=True) for _ in range(layers)]
        self.layers = nn.ModuleList(layer)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1])
        h = self.token(x) + self.position[: x.shape[1]]
        for layer in self.layers:
            h = layer(h, src_mask=mask, is_causal=True)
        return functional.linear(self.norm(h), self.token.weight)


class CharLSTM(nn.Module):
    """A two-layer LSTM over characters."""

    def __init__(self, vocabulary: int = 40, width: int = 24) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, width)
        self.lstm = nn.LSTM(width, width, num_layers=2, batch_first=True)
        self.out = nn.Linear(width, vocabulary)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.lstm(self.embed(x))[0])


MODELS: dict[str, Callable[[], nn.Module]] = {"cnn": CNN, "lm": LM, "lstm": CharLSTM}


def batch(name: str, step: int, rank: int = 0, size: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    """The batch of a step and rank."""
    generator = torch.Generator().manual_seed(1000 * step + rank)
    if name == "cnn":
        x = torch.randn(size, 1, 8, 8, generator=generator)
        return x, torch.randint(0, 10, (size,), generator=generator)
    tokens = torch.randint(0, 40, (size, 13), generator=generator)
    return tokens[:, :-1], tokens[:, 1:]


def loss_of(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Cross-entropy over the last axis."""
    out = model(x)
    return functional.cross_entropy(out.reshape(-1, out.shape[-1]), y.reshape(-1))


def build(name: str, seed: int = 1) -> nn.Module:
    """A model whose weights depend on the seed alone."""
    torch.manual_seed(seed)
    return MODELS[name]()


def train(
    model: nn.Module, optimizer: torch.optim.Optimizer, name: str, steps: int = 20, rank: int = 0
) -> list[float]:
    """Losses of some steps; dropout too depends on the step alone."""
    losses = []
    for step in range(steps):
        x, y = batch(name, step, rank)
        torch.manual_seed(7000 + step)
        optimizer.zero_grad()
        loss = loss_of(model, x, y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


class CorrectRoots(TorchDispatchMode):
    """Rounds square roots of float32 as IEEE 754 says; torch's own come from MKL, which may be one unit off."""

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        if function is torch.ops.aten.sqrt.default:
            return arguments[0].double().sqrt().float()
        if function is torch.ops.aten.sqrt_.default:
            return arguments[0].copy_(arguments[0].double().sqrt().float())
        return function(*arguments, **(keywords or {}))


def with_correct_roots(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """The optimizer, stepping with correctly rounded roots."""
    step = optimizer.step

    def correct_step(_: torch.optim.Optimizer, *arguments, **keywords):
        with CorrectRoots():
            return step(*arguments, **keywords)

    # Bound: schedulers look for the function of a method.
    optimizer.step = types.MethodType(correct_step, optimizer)
    return optimizer


def plain(name: str, optimizer: str, seed: int = 1) -> tuple[nn.Module, torch.optim.Optimizer]:
    """A model with torch's own optimizer, as arithmetic is meant."""
    model = build(name, seed)
    made = OPTIMIZERS[optimizer](model.parameters())
    for group in made.param_groups:
        # One tensor at a time: the form whose order of operations the rules follow.
        group["foreach"] = False
    return model, with_correct_roots(made)


def assert_same(model: nn.Module, other: nn.Module) -> None:
    """Every parameter and buffer has the same bits."""
    ours, theirs = model.state_dict(), other.state_dict()
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert torch.equal(ours[name], theirs[name]), (name, (ours[name] - theirs[name]).abs().max())
