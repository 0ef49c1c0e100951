"""What scripts do beside plain steps, with resident and with managed memory."""

from __future__ import annotations

import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import models
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

import geeps

MEMORY = pytest.mark.parametrize("memory", ["resident", "managed"])
Step = Callable[[nn.Module, torch.optim.Optimizer, int], None]


def attach(model: nn.Module, memory: str, optimizer: str = "momentum") -> geeps.Optimizer:
    keywords = {"offload_threshold": 256} if memory == "managed" else {}
    return geeps.attach(model, models.OPTIMIZERS[optimizer](model.parameters()), memory=memory, **keywords)


def compare(memory: str, make: Callable[[], nn.Module], step: Step, steps: int = 8, optimizer: str = "momentum") -> None:
    """Both sides do ``step`` some times; every parameter must have the same bits."""
    torch.manual_seed(1)
    theirs = make()
    torch.manual_seed(1)
    ours = make()
    plain = models.with_correct_roots(models.OPTIMIZERS[optimizer](theirs.parameters()))
    for group in plain.param_groups:
        group["foreach"] = False
    attached = attach(ours, memory, optimizer)
    for number in range(steps):
        for model, opt in ((theirs, plain), (ours, attached)):
            torch.manual_seed(100 + number)
            step(model, opt, number)
    models.assert_same(ours, theirs)


def train_step(model: nn.Module, opt: torch.optim.Optimizer, number: int, name: str = "cnn") -> None:
    opt.zero_grad()
    models.loss_of(model, *models.batch(name, number)).backward()
    opt.step()


@MEMORY
def test_gradients_accumulate(memory: str) -> None:
    def step(model: nn.Module, opt: torch.optim.Optimizer, number: int) -> None:
        opt.zero_grad()
        for part in range(3):
            (models.loss_of(model, *models.batch("cnn", 10 * number + part)) / 3).backward()
        opt.step()

    compare(memory, models.CNN, step)


@MEMORY
def test_evaluation_between_steps_changes_nothing(memory: str) -> None:
    def step(model: nn.Module, opt: torch.optim.Optimizer, number: int) -> None:
        train_step(model, opt, number)
        model.eval()
        with torch.no_grad():
            assert not models.loss_of(model, *models.batch("cnn", 99)).isnan()
        with torch.inference_mode():
            assert not models.loss_of(model, *models.batch("cnn", 98)).isnan()
        model.train()

    compare(memory, models.CNN, step)


class Checkpointed(models.LM):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.token(x) + self.position[: x.shape[1]]
        for layer in self.layers:
            h = checkpoint(layer, h, use_reentrant=False)
        return functional.linear(self.norm(h), self.token.weight)


@MEMORY
def test_activation_checkpointing(memory: str) -> None:
    compare(memory, Checkpointed, lambda m, o, n: train_step(m, o, n, "lm"))


@MEMORY
def test_autocast(memory: str) -> None:
    def step(model: nn.Module, opt: torch.optim.Optimizer, number: int) -> None:
        opt.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = models.loss_of(model, *models.batch("lm", number))
        loss.backward()
        opt.step()

    compare(memory, models.LM, step)


class Moody(nn.Module):
    """Uses its parameters by turns, and one never."""

    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Linear(8, 8)
        self.right = nn.Linear(8, 8)
        self.scale = nn.Parameter(torch.ones(8))
        self.shift = nn.Parameter(torch.ones(8))
        self.never = nn.Linear(8, 8)

    def forward(self, x: torch.Tensor, turn: int) -> torch.Tensor:
        x = self.left(x) * self.scale if turn % 3 else self.right(x) + self.shift
        return self.left(x) if turn % 2 else x


@MEMORY
@pytest.mark.parametrize("optimizer", ["momentum", "adamw"])
def test_parameters_that_are_not_used_do_not_step(memory: str, optimizer: str) -> None:
    def step(model: nn.Module, opt: torch.optim.Optimizer, number: int) -> None:
        opt.zero_grad()
        x = torch.randn(4, 8)
        model(x, number).square().mean().backward()
        opt.step()

    compare(memory, Moody, step, steps=14, optimizer=optimizer)


@MEMORY
def test_frozen_parameters_stay_and_thaw(memory: str) -> None:
    def make() -> nn.Module:
        model = models.CNN()
        model.first.requires_grad_(False)
        return model

    def step(model: nn.Module, opt: torch.optim.Optimizer, number: int) -> None:
        if number == 4 and memory == "resident":
            model.first.requires_grad_(True)
        train_step(model, opt, number)

    compare(memory, make, step)


@MEMORY
def test_double_backward(memory: str) -> None:
    def make() -> nn.Module:
        return nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 1))

    def step(model: nn.Module, opt: torch.optim.Optimizer, number: int) -> None:
        opt.zero_grad()
        x = torch.randn(20, 6, requires_grad=True)
        y = model(x)
        (slope,) = torch.autograd.grad(y.sum(), x, create_graph=True)
        (y.square().mean() + (slope.norm(dim=1) - 1).square().mean()).backward()
        opt.step()

    compare(memory, make, step)


@MEMORY
def test_a_graph_that_is_retained(memory: str) -> None:
    def step(model: nn.Module, opt: torch.optim.Optimizer, number: int) -> None:
        opt.zero_grad()
        loss = models.loss_of(model, *models.batch("cnn", number))
        loss.backward(retain_graph=True)
        loss.backward()
        opt.step()

    compare(memory, models.CNN, step)


@MEMORY
def test_compiled_models_train_as_compiled_torch(memory: str) -> None:
    def make() -> nn.Module:
        return nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 10))

    torch.manual_seed(1)
    theirs = make()
    torch.manual_seed(1)
    ours = make()
    plain = models.OPTIMIZERS["momentum"](theirs.parameters())
    attached = attach(ours, memory)
    sides = [(torch.compile(theirs, backend="aot_eager"), plain), (torch.compile(ours, backend="aot_eager"), attached)]
    for number in range(6):
        for model, opt in sides:
            torch.manual_seed(number)
            x, y = torch.randn(8, 16), torch.randint(0, 10, (8,))
            opt.zero_grad()
            functional.cross_entropy(model(x), y).backward()
            opt.step()
    models.assert_same(ours, theirs)


@MEMORY
def test_an_exception_in_the_middle_of_a_step(memory: str) -> None:
    class Breaks(models.CNN):
        breaks = False

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = super().forward(x)
            # Fails while the layer has its parameters.
            return self.last(y) if self.breaks else y

    def step(model: nn.Module, opt: torch.optim.Optimizer, number: int) -> None:
        if number in (2, 5):
            model.breaks = True
            averages = [buffer.clone() for buffer in model.buffers()]
            with pytest.raises(RuntimeError):
                train_step(model, opt, number)
            model.breaks = False
            if memory == "managed" and isinstance(opt, geeps.Optimizer):
                assert all(parameter.isnan().all() for parameter in list(model.parameters()))
            for buffer, old in zip(model.buffers(), averages, strict=True):
                buffer.copy_(old)
        train_step(model, opt, number)

    compare(memory, Breaks, step)


@MEMORY
def test_weights_are_saved_and_loaded(memory: str) -> None:
    model = models.build("cnn")
    attached = attach(model, memory)
    models.train(model, attached, "cnn", steps=2)
    saved = {key: value.clone() for key, value in model.state_dict().items()}
    assert not any(value.isnan().any() for value in saved.values())
    models.train(model, attached, "cnn", steps=3)
    model.load_state_dict(saved)
    for key, value in model.state_dict().items():
        assert torch.equal(value, saved[key]), key
    # The keepers go on from what was loaded.
    theirs, plain = models.plain("cnn", "momentum")
    models.train(theirs, plain, "cnn", steps=2)
    models.train(theirs, plain, "cnn", steps=3)
    theirs.load_state_dict(saved)
    models.train(theirs, plain, "cnn", steps=3)
    models.train(model, attached, "cnn", steps=3)
    models.assert_same(model, theirs)


def test_weights_written_in_place_are_noticed() -> None:
    def step(model: nn.Module, opt: torch.optim.Optimizer, number: int) -> None:
        train_step(model, opt, number)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.clamp_(-0.1, 0.1)
            model.last.weight.data = model.last.weight.data * 0.5

    compare("resident", models.CNN, step)


def test_a_closure_is_called_with_gradients() -> None:
    def step(model: nn.Module, opt: torch.optim.Optimizer, number: int) -> None:
        def closure() -> torch.Tensor:
            opt.zero_grad()
            loss = models.loss_of(model, *models.batch("cnn", number))
            loss.backward()
            return loss

        assert opt.step(closure).item() > 0

    compare("resident", models.CNN, step)


class Forked(torch.utils.data.Dataset):
    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def __len__(self) -> int:
        return 16

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.full((1, 8, 8), float(index))


@MEMORY
def test_forked_data_loaders_are_safe(memory: str) -> None:
    def step(model: nn.Module, opt: torch.optim.Optimizer, number: int) -> None:
        loader = torch.utils.data.DataLoader(Forked(model), batch_size=8, num_workers=2, multiprocessing_context="fork")
        for x in loader:
            opt.zero_grad()
            model(x).square().mean().backward()
            opt.step()

    compare(memory, models.CNN, step, steps=2)


@MEMORY
def test_closing_gives_plain_parameters_back(memory: str) -> None:
    model = models.build("lm")
    attached = attach(model, memory)
    models.train(model, attached, "lm", steps=2)
    weights = {key: value.clone() for key, value in model.state_dict().items()}
    attached.close()
    attached.close()
    models.assert_same(model, model)
    for key, value in model.state_dict().items():
        assert torch.equal(value, weights[key])
    assert type(model.token._parameters) is dict
    # A plain optimizer, and another attachment, go on from there.
    models.train(model, torch.optim.SGD(model.parameters(), lr=0.1), "lm", steps=1)
    again = attach(model, memory)
    models.train(model, again, "lm", steps=1)
    with pytest.raises(geeps.ArgumentError, match="attached already"):
        attach(model, memory)


def test_what_is_not_supported_says_so() -> None:
    model = nn.Linear(2, 2)
    with pytest.raises(geeps.ArgumentError, match="LBFGS has no rule"):
        geeps.attach(model, torch.optim.LBFGS(model.parameters()))
    with pytest.raises(geeps.ArgumentError, match="amsgrad=True"):
        geeps.attach(model, torch.optim.Adam(model.parameters(), amsgrad=True))
    with pytest.raises(geeps.ArgumentError, match="float64"):
        geeps.attach(nn.Linear(2, 2).double(), torch.optim.SGD(nn.Linear(2, 2).double().parameters(), lr=1))
    with pytest.raises(geeps.ArgumentError, match="memory='managed'"):
        geeps.attach(model, torch.optim.SGD(model.parameters(), lr=1), budget=100)
    attached = geeps.attach(model, torch.optim.SGD(model.parameters(), lr=1))
    with pytest.raises(geeps.ArgumentError, match="attach again"):
        attached.add_param_group({"params": [nn.Parameter(torch.ones(1))]})


def test_an_attachment_that_fails_leaves_nothing_behind() -> None:
    model = models.build("cnn")
    inner = models.OPTIMIZERS["momentum"](model.parameters())
    weight = next(model.parameters())
    inner.state[weight]["momentum_buffer"] = torch.zeros(7, 7)
    with pytest.raises(RuntimeError, match="size"):
        geeps.attach(model, inner)
    del inner.state[weight]
    attached = geeps.attach(model, inner)
    models.train(model, attached, "cnn", steps=1)


# A shell that starts tests in the background has them, and all they start, ignore SIGINT.
LOOP = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
import torch, geeps
model = torch.nn.Linear(64, 64)
opt = geeps.attach(model, torch.optim.SGD(model.parameters(), lr=0.01), memory=sys.argv[1])
for step in range(10**9):
    opt.zero_grad()
    model(torch.ones(8, 64)).square().mean().backward()
    opt.step()
    if step == 3:
        print("training", flush=True)
"""


@MEMORY
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 1), (signal.SIGTERM, -signal.SIGTERM)])
def test_signals_end_the_program(memory: str, number: int, code: int) -> None:
    root = str(pathlib.Path(__file__).parents[1])
    process = subprocess.Popen(
        [sys.executable, "-c", LOOP, memory],
        env=os.environ | {"PYTHONPATH": root + os.pathsep + os.environ.get("PYTHONPATH", "")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None and process.stdout.readline() == "training\n"
        time.sleep(0.2)
        process.send_signal(number)
        _, error = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode in (code, -number), error
    assert number != signal.SIGINT or "KeyboardInterrupt" in error
