"""Clipping, loss scaling and dropping of gradients, with resident and with managed memory, in one process."""

from __future__ import annotations

import time
from collections.abc import Callable

import models
import pytest
import torch
from torch import nn

import geeps

MEMORY = pytest.mark.parametrize("memory", ["resident", "managed"])
Step = Callable[[nn.Module, torch.optim.Optimizer, int], None]


def attach(model: nn.Module, memory: str = "managed", holds: bool | None = None) -> geeps.Optimizer:
    keywords = {"offload_threshold": 256, "hold_gradients": holds} if memory == "managed" else {}
    return geeps.attach(model, models.OPTIMIZERS["momentum"](model.parameters()), memory=memory, **keywords)


def compare(
    memory: str, step: Step, steps: int = 10, tolerance: float = 0.0, holds: bool | None = None
) -> geeps.Optimizer:
    """Both sides do ``step`` some times; parameters must differ by ``tolerance`` at most."""
    theirs, plain = models.plain("cnn", "momentum")
    ours = models.build("cnn")
    attached = attach(ours, memory, holds)
    for number in range(steps):
        for model, opt in ((theirs, plain), (ours, attached)):
            torch.manual_seed(100 + number)
            step(model, opt, number)
    if tolerance == 0:
        models.assert_same(ours, theirs)
    expected = theirs.state_dict()
    for name, value in ours.state_dict().items():
        torch.testing.assert_close(value, expected[name], rtol=0, atol=tolerance, msg=name)
    return attached


def backward(model: nn.Module, number: int, factor: float = 1.0) -> None:
    (models.loss_of(model, *models.batch("cnn", number)) * factor).backward()


def clip(model: nn.Module, opt: torch.optim.Optimizer, max_norm: float) -> torch.Tensor:
    if isinstance(opt, geeps.Optimizer):
        return opt.clip_grad_norm_(max_norm)
    return nn.utils.clip_grad_norm_(model.parameters(), max_norm)


class Norms:
    """What both sides got in each step, to compare."""

    def __init__(self) -> None:
        self.seen: dict[bool, list[float]] = {True: [], False: []}

    def note(self, opt: torch.optim.Optimizer, norm: torch.Tensor) -> None:
        self.seen[isinstance(opt, geeps.Optimizer)].append(norm.item())

    def assert_equal(self, count: int) -> None:
        assert len(self.seen[True]) == count
        torch.testing.assert_close(self.seen[True], self.seen[False], rtol=1e-5, atol=0, equal_nan=True)


@MEMORY
def test_one_process_clips_as_torch(memory: str) -> None:
    norms = Norms()

    def step(model: nn.Module, opt: torch.optim.Optimizer, number: int) -> None:
        opt.zero_grad()
        backward(model, number)
        norms.note(opt, clip(model, opt, 0.5))
        opt.step()

    compare(memory, step, tolerance=0 if memory == "resident" else 1e-5)
    norms.assert_equal(10)


def test_torchs_own_clipping_takes_gradients_of_one_process() -> None:
    def step(model: nn.Module, opt: torch.optim.Optimizer, number: int) -> None:
        opt.zero_grad()
        backward(model, number)
        assert nn.utils.clip_grad_norm_(model.parameters(), 0.5) > 0.5
        opt.step()

    compare("resident", step)


def test_torchs_own_clipping_fails_where_gradients_are_not_torchs() -> None:
    model = models.build("cnn")
    attached = attach(model)
    backward(model, 0)
    with pytest.raises(geeps.ArgumentError, match=r"opt.clip_grad_norm_\(max_norm\)"):
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    with pytest.raises(geeps.ArgumentError, match="clip_grad_value_"):
        nn.utils.clip_grad_value_(model.parameters(), 1.0)
    attached.step()


@MEMORY
@pytest.mark.parametrize("parts", [1, 3])
def test_a_scaler_skips_steps_as_torch(memory: str, parts: int) -> None:
    scalers: dict[int, torch.amp.GradScaler] = {}

    def step(model: nn.Module, opt: torch.optim.Optimizer, number: int) -> None:
        scaler = scalers.setdefault(id(opt), torch.amp.GradScaler("cpu", init_scale=1024, growth_interval=3))
        # What skips a step leaves no gradient behind, whoever frees those that are there.
        (opt if number % 2 else model).zero_grad()
        for part in range(parts):
            loss = models.loss_of(model, *models.batch("cnn", 10 * number + part))
            scaler.scale(loss * (float("inf") if number in (3, 7) and part == 0 else 1)).backward()
        scaler.step(opt)
        before = scaler.get_scale()
        scaler.update()
        assert (scaler.get_scale() < before) == (number in (3, 7))

    compare(memory, step)
    assert len({scaler.get_scale() for scaler in scalers.values()}) == 1


@MEMORY
def test_scaled_gradients_are_clipped_by_torchs_recipe(memory: str) -> None:
    scalers: dict[int, torch.amp.GradScaler] = {}
    norms = Norms()

    def step(model: nn.Module, opt: torch.optim.Optimizer, number: int) -> None:
        scaler = scalers.setdefault(id(opt), torch.amp.GradScaler("cpu", init_scale=1024, growth_interval=3))
        opt.zero_grad()
        loss = models.loss_of(model, *models.batch("cnn", number))
        scaler.scale(loss * (float("nan") if number == 4 else 1)).backward()
        scaler.unscale_(opt)
        norms.note(opt, clip(model, opt, 0.5))
        scaler.step(opt)
        scaler.update()

    compare(memory, step, tolerance=0 if memory == "resident" else 1e-5)
    norms.assert_equal(10)


@pytest.mark.parametrize("holds", [None, True])
def test_gradients_of_a_step_that_does_not_come_are_dropped(holds: bool | None) -> None:
    def step(model: nn.Module, opt: torch.optim.Optimizer, number: int) -> None:
        opt.zero_grad()
        if number != 1:
            backward(model, number, factor=100)
            opt.zero_grad()
        backward(model, number + 50)
        opt.step()

    assert compare("managed", step, holds=holds)._clock.holds


class Breaks(torch.autograd.Function):
    """Fails in its backward pass."""

    @staticmethod
    def forward(_, x: torch.Tensor) -> torch.Tensor:
        return x.clone()

    @staticmethod
    def backward(_, __: torch.Tensor) -> torch.Tensor:
        raise KeyError("a mistake in the middle of backward")


def test_a_backward_pass_that_fails_leaves_nothing_behind() -> None:
    def step(model: nn.Module, opt: torch.optim.Optimizer, number: int) -> None:
        opt.zero_grad()
        if number in (0, 4):
            hook = model.norm.register_forward_hook(lambda _, __, output: Breaks.apply(output))
            averages = [buffer.clone() for buffer in model.buffers()]
            with pytest.raises(KeyError, match="in the middle"):
                backward(model, number, factor=100)
            hook.remove()
            for buffer, old in zip(model.buffers(), averages, strict=True):
                buffer.copy_(old)
            opt.zero_grad()
        backward(model, number)
        opt.step()

    compare("managed", step)


def test_a_script_that_does_not_clip_is_not_held() -> None:
    def step(model: nn.Module, opt: torch.optim.Optimizer, number: int) -> None:
        opt.zero_grad()
        backward(model, number)
        opt.step()

    attached = compare("managed", step)
    assert not attached._clock.holds
    model = attached.model
    backward(model, 0)
    with pytest.raises(geeps.ArgumentError, match="hold_gradients=True"):
        attached.clip_grad_norm_(1.0)
    scaler = torch.amp.GradScaler("cpu")
    scaler.scale(torch.zeros(()))
    with pytest.raises(geeps.ArgumentError, match="GradScaler: .*hold_gradients=True"):
        scaler.unscale_(attached)
    with pytest.raises(geeps.ArgumentError, match="zero_grad .*hold_gradients=True"):
        attached.zero_grad()
    attached.step()
    attached.zero_grad()


def test_holding_may_be_said_beforehand() -> None:
    def step(model: nn.Module, opt: torch.optim.Optimizer, number: int) -> None:
        opt.zero_grad()
        backward(model, number)
        if number % 3 == 2:
            clip(model, opt, 0.5)
        opt.step()

    compare("managed", step, tolerance=1e-5, holds=True)
    model = models.build("cnn")
    attached = attach(model, holds=False)
    backward(model, 0)
    with pytest.raises(geeps.ArgumentError, match=r"\(hold_gradients=False\)"):
        attached.clip_grad_norm_(1.0)
    attached.step()
    with pytest.raises(geeps.ArgumentError, match="memory='managed'"):
        geeps.attach(nn.Linear(2, 2), torch.optim.SGD(nn.Linear(2, 2).parameters(), lr=1), hold_gradients=True)


def test_values_that_the_keepers_owe_are_not_waited_for() -> None:
    model = models.build("cnn")
    attached = attach(model)
    backward(model, 0)
    attached.clip_grad_norm_(1.0)
    start = time.monotonic()
    for use in (lambda: backward(model, 1), lambda: model.first.weight, model.state_dict, attached.state_dict):
        with pytest.raises(geeps.ArgumentError, match=r"owe new values; call step\(\)"):
            use()
    assert time.monotonic() - start < 5
    attached.step()
    assert not model.first.weight.isnan().any()
    backward(model, 1)
    with pytest.raises(geeps.ArgumentError, match="load_state_dict between backward and step"):
        model.load_state_dict(models.build("cnn").state_dict())
    attached.step()
    model.load_state_dict(models.build("cnn").state_dict())


@pytest.mark.parametrize("clips", [False, True])
def test_closing_before_the_step_drops_what_is_held(clips: bool) -> None:
    model = models.build("cnn")
    attached = attach(model)
    backward(model, 0)
    if clips:
        attached.clip_grad_norm_(1.0)
    attached.close()
    for name, value in models.build("cnn").named_parameters():
        assert torch.equal(value, model.get_parameter(name)), name


def test_a_norm_that_is_not_finite_may_be_an_error() -> None:
    model = models.build("cnn")
    attached = attach(model)
    backward(model, 0, factor=float("inf"))
    with pytest.raises(RuntimeError, match="cannot be clipped"):
        attached.clip_grad_norm_(1.0, error_if_nonfinite=True)
    assert not model.first.weight.isnan().any()
    backward(model, 0)
    with pytest.raises(geeps.ArgumentError, match="2-norm"):
        attached.clip_grad_norm_(1.0, norm_type=1)
    assert attached.clip_grad_norm_(1.0).isfinite()
    attached.step()
