"""Resident memory: gradients that leave during the backward pass, and scripts for which they must not."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
from collections.abc import Callable

import models
import pytest
import torch

import geeps


@pytest.fixture(autouse=True)
def keepers_work_beside_the_backward_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """As those of several processes do, for which gradients leave early; what step does here is the same."""
    monkeypatch.setattr(geeps.Optimizer, "_is_in_place", property(lambda _: False))


def attached(**options: object) -> tuple[torch.nn.Module, geeps.Optimizer]:
    model = models.build("cnn")
    return model, geeps.attach(model, models.OPTIMIZERS["momentum"](model.parameters()), **options)


def backward(model: torch.nn.Module, step: int) -> None:
    torch.manual_seed(7000 + step)
    models.loss_of(model, *models.batch("cnn", step)).backward()


def test_gradients_leave_from_the_second_step_on_and_parameters_stay_until_it() -> None:
    model, opt = attached()
    for step in range(4):
        opt.zero_grad()
        before = [p.clone() for p in model.parameters()]
        backward(model, step)
        gradients = [p.grad for p in model.parameters()]
        assert all((gradient is None) == (step > 0) for gradient in gradients)
        assert all(torch.equal(p, old) for p, old in zip(model.parameters(), before, strict=True))
        opt.step()
        assert not any(torch.equal(p, old) for p, old in zip(model.parameters(), before, strict=True))


def clamp(model: torch.nn.Module, _: torch.optim.Optimizer) -> None:
    for p in model.parameters():
        p.grad.data.clamp_(-1e-3, 1e-3)


def clip(model: torch.nn.Module, _: torch.optim.Optimizer) -> None:
    torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1)


def slow_down(_: torch.nn.Module, opt: torch.optim.Optimizer) -> None:
    for group in opt.param_groups:
        group["lr"] *= 0.9


def shrink(model: torch.nn.Module, _: torch.optim.Optimizer) -> None:
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(0.99)


def accumulate(model: torch.nn.Module, _: torch.optim.Optimizer) -> None:
    backward(model, 100)


def replace(model: torch.nn.Module, _: torch.optim.Optimizer) -> None:
    for p in model.parameters():
        p.grad = p.grad.sign()


@pytest.mark.parametrize("between", [clamp, clip, slow_down, shrink, accumulate, replace])
def test_a_script_that_works_on_gradients_has_the_bits_of_torch(
    between: Callable[[torch.nn.Module, torch.optim.Optimizer], None],
) -> None:
    theirs, plain = models.plain("cnn", "momentum")
    ours, opt = attached()
    for model, optimizer in ((theirs, plain), (ours, opt)):
        for step in range(6):
            optimizer.zero_grad()
            backward(model, step)
            between(model, optimizer)
            optimizer.step()
    models.assert_same(ours, theirs)


def test_without_overlap_gradients_are_there() -> None:
    model, opt = attached(overlap=False)
    models.train(model, opt, "cnn", steps=3)
    opt.zero_grad()
    backward(model, 3)
    assert all(p.grad is not None for p in model.parameters())


def set_gradient(model: torch.nn.Module, _: geeps.Optimizer) -> None:
    model.last.bias.grad = torch.ones(10)


def scaler_after_scale() -> torch.amp.GradScaler:
    scaler = torch.amp.GradScaler("cpu")
    scaler.scale(torch.ones(()))
    return scaler


LATE: dict[str, Callable[[torch.nn.Module, geeps.Optimizer], object]] = {
    "a second backward pass": lambda model, _: backward(model, 50),
    "zero_grad": lambda _, opt: opt.zero_grad(),
    "clip_grad_norm_": lambda _, opt: opt.clip_grad_norm_(1.0),
    "state_dict": lambda _, opt: opt.state_dict(),
    "GradScaler": lambda _, opt: scaler_after_scale().unscale_(opt),
    "settings": lambda model, opt: (slow_down(model, opt), opt.step()),
    "a gradient of last.bias": lambda model, opt: (set_gradient(model, opt), opt.step()),
}


@pytest.mark.parametrize("what", LATE)
def test_what_comes_too_late_is_refused_and_says_what_would_do(what: str) -> None:
    model, opt = attached()
    models.train(model, opt, "cnn", steps=3)
    opt.zero_grad()
    backward(model, 3)
    with pytest.raises(geeps.ArgumentError, match=rf"{what}.*overlap=False"):
        LATE[what](model, opt)


def test_torchs_clipping_is_refused_where_gradients_have_left() -> None:
    model, opt = attached()
    models.train(model, opt, "cnn", steps=3)
    backward(model, 3)
    with pytest.raises(geeps.ArgumentError, match="sees no gradients"):
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)


def test_an_iteration_can_be_finished_after_a_refusal() -> None:
    theirs, plain = models.plain("cnn", "momentum")
    models.train(theirs, plain, "cnn", steps=6)
    model, opt = attached()
    for step in range(6):
        if step != 3:
            opt.zero_grad()
        backward(model, step)
        if step == 3:
            with pytest.raises(geeps.ArgumentError):
                opt.zero_grad()
        opt.step()
    models.assert_same(model, theirs)


def test_who_looks_at_grad_is_told_why_it_is_none(tmp_path: pathlib.Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import torch, geeps\n"
        "model = torch.nn.Linear(2, 2)\n"
        "opt = geeps.attach(model, torch.optim.SGD(model.parameters(), lr=0.1), overlap=True)\n"
        "for _ in range(2):\n"
        "    opt.zero_grad()\n"
        "    model(torch.ones(1, 2)).sum().backward()\n"
        "    print(model.weight.grad.norm())\n"
        "    opt.step()\n"
    )
    path = str(pathlib.Path(geeps.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, script], env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert "overlap=False" in done.stderr


def test_overlap_is_for_resident_memory() -> None:
    with pytest.raises(geeps.ArgumentError, match="resident"):
        attached(memory="managed", overlap=True)
