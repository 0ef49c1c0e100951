"""The optimizer's state at the keepers, as torch's ``state_dict`` has it."""

from __future__ import annotations

import ctypes

import torch

from . import _layout, _memory
from ._job import Job


def pull(job: Job, tables: list[_layout.Table], inner: torch.optim.Optimizer) -> None:
    """Fills the state of ``inner`` with the keepers'; every process does."""
    for table in tables:
        arrays, steps = _read(job, table)
        if steps == 0:
            continue
        for member in table.members:
            state = inner.state[member.parameter]
            if not isinstance(inner, torch.optim.SGD):
                state["step"] = torch.tensor(float(steps))
            for name, values in arrays.items():
                part = values[member.offset : member.offset + member.count]
                strided = part.clone().as_strided(member.shape, member.stride)
                state[name] = strided.to(member.parameter.device)


def push(job: Job, tables: list[_layout.Table], inner: torch.optim.Optimizer) -> None:
    """Gives the keepers the state of ``inner``; every process does, with the same."""
    initial = float(inner.defaults.get("initial_accumulator_value", 0))
    for table in tables:
        steps = 0
        for kind, name in enumerate(_names(job, table)):
            values = torch.full((table.count,), initial)
            for member in table.members:
                state = inner.state.get(member.parameter, {})
                if state.get(name) is None:
                    continue
                part = torch.empty_strided(member.shape, member.stride).copy_(state[name])
                values[member.offset : member.offset + member.count] = _memory.flat(part)
                steps = max(steps, int(state["step"]) if "step" in state else 1)
            job.call("geeps_state_write", table.index, kind, values.data_ptr(), table.count, steps)


def _read(job: Job, table: _layout.Table) -> tuple[dict[str, torch.Tensor], int]:
    """The arrays of ``table`` by name, and its number of steps."""
    arrays = {}
    steps = ctypes.c_uint64()
    for kind, name in enumerate(_names(job, table)):
        values = torch.empty(table.count)
        job.call("geeps_state_read", table.index, kind, values.data_ptr(), table.count, ctypes.byref(steps))
        arrays[name] = values
    return arrays, steps.value


def _names(job: Job, table: _layout.Table) -> list[str]:
    count, name = ctypes.c_size_t(), ctypes.c_char_p()
    job.call("geeps_state_count", table.index, ctypes.byref(count))
    names = []
    for kind in range(count.value):
        job.call("geeps_state_name", table.index, kind, ctypes.byref(name))
        names.append((name.value or b"").decode())
    return names
