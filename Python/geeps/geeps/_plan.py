"""A dry run on tensors without memory, and what managed memory would make of it."""

from __future__ import annotations

import copy
import ctypes
import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._pytree import tree_leaves, tree_map

from . import _device, _layout
from ._library import Access, PlanReport, check, library
from ._managed import Managed
from ._two_phase import TwoPhaseClock

_READ, _END_READ, _UPDATE, _END_UPDATE, _LOCAL, _END_LOCAL, _CLOCK = range(7)


class DryJob:
    """Notes what a job would be asked for."""

    is_usable = True
    device = _device.Host()

    def __init__(self, is_on_host: bool, is_alone: bool) -> None:
        # Updates need room on the device where the keeper's rows are elsewhere.
        self._updates_need_room = int(not (is_on_host and is_alone))
        # A GPU's pool is all of the budget from the start.
        self._may_stay = is_on_host
        self.accesses: list[tuple[int, int, int]] = []
        self.local_bytes: list[int] = []
        self._leases: list[tuple[int, int]] = []
        # By what is lent: who gives it back, kept until its storage is gone.
        self._lent: list[tuple[StorageWeakRef, object]] = []

    def drop_returned(self) -> None:
        """Notes what is not in use any more; a real job does it at the beginning of each call, too."""
        self._lent = [entry for entry in self._lent if not entry[0].expired()]

    def _lend(self, kind: int, index: int, matters: int, end: int) -> tuple[int, int]:
        self.drop_returned()
        self.accesses.append((kind, index, matters))
        self._leases.append((end, index))
        return 0, len(self._leases) - 1

    def read(self, table: int) -> tuple[int, int]:
        return self._lend(_READ, table, 0, _END_READ)

    def peek(self, table: int) -> tuple[int, int]:
        return self._lend(-1, table, 0, -1)

    def release(self, lease: int) -> None:
        end, index = self._leases[lease]
        self.accesses.append((end, index, 0))

    def update(self, table: _layout.Table, _: Any) -> None:
        self.drop_returned()
        self.accesses += [(_UPDATE, table.index, self._updates_need_room), (_END_UPDATE, table.index, 0)]

    def create_local(self, _: str, byte_count: int) -> int:
        self.local_bytes.append(byte_count)
        return len(self.local_bytes) - 1

    def put_local(self, local: int, _: Any, may_stay: bool) -> bool:
        self.drop_returned()
        self.accesses += [(_LOCAL, local, 0), (_END_LOCAL, local, 2 if may_stay and self._may_stay else 1)]
        return False

    def let_stay(self, local: int) -> None:
        if not self._may_stay:
            return
        kept, left = (_END_LOCAL, local, 1), (_END_LOCAL, local, 2)
        self.accesses = [left if access == kept else access for access in self.accesses]

    def get_local(self, local: int) -> tuple[int, int]:
        return self._lend(_LOCAL, local, 1, _END_LOCAL)

    def tensor(self, _: int, byte_count: int, dtype: torch.dtype, owner: object) -> torch.Tensor:
        result = torch.empty(byte_count // dtype.itemsize, dtype=dtype)
        self._lent.append((StorageWeakRef(result.untyped_storage()), owner))
        return result

    peeked = tensor


@dataclasses.dataclass(frozen=True)
class Plan:
    """What managed memory makes of one iteration; bytes are of GeePS's memory on the device."""

    #: The least budget with which the model trains.
    least_bytes: int
    #: A larger budget is of no use.
    full_bytes: int
    #: What is taken under the budget.
    device_bytes: int
    #: Copied to the device in one iteration, and from it.
    bytes_in: int
    bytes_out: int
    #: Values in the model's parameters.
    parameter_bytes: int
    #: Saved tensors that are managed, all together.
    activation_bytes: int
    accesses: int

    def __str__(self) -> str:
        def size(count: int) -> str:
            return f"{count / 2**30:.2f} GiB" if count >= 2**30 else f"{count / 2**20:.1f} MiB"

        return (
            f"parameters {size(self.parameter_bytes)}, saved tensors {size(self.activation_bytes)}\n"
            f"device memory {size(self.device_bytes)} (least {size(self.least_bytes)}, of use up to "
            f"{size(self.full_bytes)})\n"
            f"moved in an iteration: {size(self.bytes_in)} in, {size(self.bytes_out)} out"
        )


def plan(
    model: torch.nn.Module,
    example_input: Any,
    budget: int | None = None,
    *,
    loss: Callable[[Any], torch.Tensor] | None = None,
    offload_threshold: int = 1 << 14,
    device: str | torch.device | None = None,
    processes: int = 1,
) -> Plan:
    """Says what an iteration of ``model`` needs and moves with managed memory; computes and allocates nothing.

    Args:
        model: the model, or one on the meta device, which needs no memory at all. It is not changed.
        example_input: what the model is called with; a tuple is several arguments. Values do not matter.
        budget: bytes, as for ``attach``; None for as much as is of use.
        loss: makes a scalar of the model's output; the sum of all floating-point outputs otherwise.
        offload_threshold: as for ``attach``.
        device: where the model will be trained; None for where it is now, or a GPU where that is the meta device.
        processes: how many will train it. One alone, on the cpu, needs no room for gradients on their way.

    Raises:
        BudgetTooSmall: with the least budget that would do.

    Example:
        >>> with torch.device("meta"):
        ...     large = torch.nn.Sequential(*(torch.nn.Linear(4096, 4096) for _ in range(40)))
        >>> plan(large, torch.empty(8, 4096, device="meta")).parameter_bytes > 2 * 2**30
        True
    """
    kind = torch.device(device or next(model.parameters()).device).type
    with FakeTensorMode(allow_non_fake_inputs=True):
        job = DryJob(is_on_host=kind == "cpu", is_alone=processes == 1)
        fake = _fake_copy(model)
        inputs = tree_map(_fake_tensor, example_input)
        trained = [parameter for parameter in fake.parameters() if parameter.requires_grad]
        tables = _layout.tables(fake, torch.optim.SGD(trained, lr=1.0))
        clock = TwoPhaseClock(job, tables, False, False)  # type: ignore[arg-type]
        memory = Managed(fake, job, tables, offload_threshold, False, lambda: None, clock)  # type: ignore[arg-type]
        memory.start()
        output = fake(*inputs) if isinstance(inputs, tuple) else fake(inputs)
        total = loss(output) if loss else _sum(output)
        del output
        total.backward()
        del total
        memory.send()
        job.drop_returned()
    accesses = [access for access in job.accesses if access[0] >= 0] + [(_CLOCK, 0, 0)]
    report = _report(accesses, [table.count for table in tables], job.local_bytes, budget or 0)
    return Plan(
        least_bytes=report.least_bytes,
        full_bytes=report.full_bytes,
        device_bytes=report.device_bytes,
        bytes_in=report.bytes_in,
        bytes_out=report.bytes_out,
        parameter_bytes=4 * sum(member.count for table in tables for member in table.members),
        activation_bytes=sum(job.local_bytes),
        accesses=len(accesses),
    )


def _report(accesses: list[tuple[int, int, int]], tables: list[int], locals: list[int], budget: int) -> PlanReport:
    steps = (Access * len(accesses))(*(Access(*access) for access in accesses))
    report = PlanReport()
    check(
        library.geeps_plan(
            steps,
            len(accesses),
            (ctypes.c_uint64 * len(tables))(*tables),
            len(tables),
            (ctypes.c_uint64 * len(locals))(*locals),
            len(locals),
            budget,
            ctypes.byref(report),
        )
    )
    return report


def _fake_tensor(value: Any) -> Any:
    if not isinstance(value, torch.Tensor):
        return value
    return torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, requires_grad=value.requires_grad)


def _fake_copy(model: torch.nn.Module) -> torch.nn.Module:
    """The model with tensors that have no memory, on the cpu."""
    memo: dict[int, Any] = {}
    for parameter in model.parameters():
        # Detached: a parameter's shape and strides are what counts.
        memo[id(parameter)] = torch.nn.Parameter(
            torch.empty_strided(parameter.shape, parameter.stride(), dtype=parameter.dtype),
            requires_grad=parameter.requires_grad,
        )
    for buffer in model.buffers():
        memo[id(buffer)] = _fake_tensor(buffer)
    return copy.deepcopy(model, memo)


def _sum(output: Any) -> torch.Tensor:
    parts = [leaf.float().sum() for leaf in tree_leaves(output) if isinstance(leaf, torch.Tensor) and leaf.requires_grad]
    return torch.stack(parts).sum()
