"""One process with resident memory: its parameters are the keeper's own rows, and step runs the optimizer."""

from __future__ import annotations

from collections.abc import Callable

import models
import pytest
import torch
from test_ahead import accumulate, attached, backward, clamp, clip, replace, shrink, slow_down

import geeps


def test_gradients_are_there_until_they_are_dropped() -> None:
    model, opt = attached()
    for step in range(4):
        opt.zero_grad()
        backward(model, step)
        gradients = [p.grad.clone() for p in model.parameters()]
        opt.step()
        assert all(torch.equal(p.grad, old) for p, old in zip(model.parameters(), gradients, strict=True))


def test_nothing_is_sent_and_parameters_stay_where_they_are() -> None:
    model, opt = attached()
    places = [p.data_ptr() for p in model.parameters()]
    models.train(model, opt, "cnn", steps=4)
    assert [p.data_ptr() for p in model.parameters()] == places
    report = opt.report()
    assert report["bytes_sent"] == report["bytes_received"] == 0
    assert report["ticks"] == 4 and report["plan_deviations"] == 0


@pytest.mark.parametrize("between", [clamp, clip, slow_down, shrink, accumulate, replace])
@pytest.mark.parametrize("starts_at", [0, 3])
def test_scripts_may_work_on_gradients_at_any_time(
    between: Callable[[torch.nn.Module, torch.optim.Optimizer], None], starts_at: int
) -> None:
    theirs, plain = models.plain("cnn", "momentum")
    ours, opt = attached()
    for model, optimizer in ((theirs, plain), (ours, opt)):
        for step in range(6):
            optimizer.zero_grad()
            backward(model, step)
            if step >= starts_at:
                between(model, optimizer)
            optimizer.step()
    models.assert_same(ours, theirs)


def test_gradients_that_are_told_to_leave_early_give_the_same_bits() -> None:
    theirs, plain = models.plain("cnn", "momentum")
    models.train(theirs, plain, "cnn", steps=5)
    model, opt = attached(overlap=True)
    for step in range(5):
        opt.zero_grad()
        before = [p.clone() for p in model.parameters()]
        backward(model, step)
        assert all(p.grad is None for p in model.parameters())
        assert all(torch.equal(p, old) for p, old in zip(model.parameters(), before, strict=True))
        opt.step()
    models.assert_same(model, theirs)


def test_gradients_in_another_layout_or_missing_are_taken_as_torch_takes_them() -> None:
    def train(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
        for step in range(4):
            optimizer.zero_grad()
            backward(model, step)
            for p in model.parameters():
                if p.dim() > 1:
                    p.grad = p.grad.transpose(0, 1).contiguous().transpose(0, 1)
            if step == 2:
                for p in model.last.parameters():
                    p.grad = None
            optimizer.step()

    theirs, plain = models.plain("cnn", "momentum")
    train(theirs, plain)
    ours, opt = attached()
    train(ours, opt)
    models.assert_same(ours, theirs)
