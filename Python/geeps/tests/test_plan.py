"""Dry runs on fake tensors."""

from __future__ import annotations

import time

import models
import pytest
import torch
from torch import nn

import geeps


def test_the_plan_is_that_of_a_real_run() -> None:
    model = models.build("cnn")
    x, y = models.batch("cnn", 0)
    free = geeps.plan(model, x, offload_threshold=256)
    assert not any(p.isnan().any() for p in model.parameters())
    budget = (free.least_bytes + free.full_bytes) // 2
    plan = geeps.plan(model, x, budget, offload_threshold=256)
    attached = geeps.attach(
        model, models.OPTIMIZERS["sgd"](model.parameters()), memory="managed", budget=budget, offload_threshold=256
    )
    for _ in range(4):
        before = attached.report()
        model(x).sum().backward()
        attached.step()
    after = attached.report()
    assert after["plan_device_bytes"] == plan.device_bytes <= budget
    assert after["plan_bytes_in"] == plan.bytes_in and after["plan_bytes_out"] == plan.bytes_out
    assert after["bytes_in"] - before["bytes_in"] == plan.bytes_in


def test_a_budget_that_is_too_small_says_what_would_do() -> None:
    model = models.build("lm")
    x, _ = models.batch("lm", 0)
    least = geeps.plan(model, x, offload_threshold=256).least_bytes
    assert geeps.plan(model, x, least, offload_threshold=256).device_bytes <= least
    with pytest.raises(geeps.errors.BudgetTooSmall, match="budget"):
        geeps.plan(model, x, least - 64, offload_threshold=256)


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.down(nn.functional.gelu(self.up(self.norm(x))))


def test_six_billion_parameters_are_planned_in_seconds() -> None:
    with torch.device("meta"):
        model = nn.Sequential(*(Block(4096) for _ in range(48)))
        x = torch.empty(4, 512, 4096)
    start = time.monotonic()
    plan = geeps.plan(model, x, 4 << 30)
    seconds = time.monotonic() - start
    print(plan, f"{seconds:.1f} s")
    assert plan.parameter_bytes > 4 * 6e9
    assert plan.device_bytes <= 4 << 30
    # Every parameter comes in for the forward and the backward pass; gradients go out.
    assert plan.bytes_in > plan.parameter_bytes
    assert seconds < 60
