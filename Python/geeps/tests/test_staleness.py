"""Training on values that lag."""

from __future__ import annotations

import pytest
import torch

import geeps
from test_processes import torchrun


def attached(**options: object) -> geeps.Optimizer:
    model = torch.nn.Linear(3, 2)
    return geeps.attach(model, torch.optim.SGD(model.parameters(), lr=0.1), **options)


@pytest.mark.parametrize("staleness", ["1", "3", "async"])
def test_processes_that_lag_learn_the_same_line(staleness: str) -> None:
    result = torchrun(2, "staleness_worker.py", staleness)
    assert result.returncode == 0, result.stderr[-4000:]
    lines = [line.split() for line in result.stdout.splitlines() if line.startswith("losses ")]
    assert len(lines) == 2, (result.stdout, result.stderr[-4000:])
    for _, first, last, ticks in lines:
        assert float(first) > 10 and float(last) < 1e-2 and int(ticks) == 200


def test_values_lag_no_more_than_they_may() -> None:
    """Alone there is nobody to wait for: after the step of clock n, at least n - 1 are in the values."""
    model = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(model.weight)
    with geeps.attach(model, torch.optim.SGD(model.parameters(), lr=1.0), staleness=1) as opt:
        for clock in range(1, 30):
            opt.zero_grad()
            (-model.weight).sum().backward()
            opt.step()
            assert clock - 1 <= model.weight.item() <= clock


@pytest.mark.parametrize("staleness", [-1, "sometimes", 1.5])
def test_a_staleness_that_is_none_is_refused(staleness: object) -> None:
    with pytest.raises(geeps.ArgumentError, match="async, or clocks from 0"):
        attached(staleness=staleness)


def test_what_needs_one_clock_everywhere_says_so() -> None:
    with pytest.raises(geeps.ArgumentError, match="memory='resident'"):
        attached(staleness=1, memory="managed")
    model = torch.nn.Linear(3, 2)
    with geeps.attach(model, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9), staleness=1) as opt:
        model(torch.ones(1, 3)).sum().backward()
        opt.step()
        with pytest.raises(geeps.ArgumentError, match="staleness 0"):
            opt.state_dict()
