"""Resident memory: parameters are views of the parameter cache, and change in ``step`` only."""

from __future__ import annotations

from collections.abc import Callable

import torch

from . import _layout, _memory
from ._ahead import Ahead
from ._job import Job
from .errors import ArgumentError


class Resident:
    """Where the parameters of an attached model are: always there."""

    def __init__(
        self,
        job: Job,
        tables: list[_layout.Table],
        waits_for_others: bool,
        overlap: bool | None,
        tell_changes: Callable[[], bool],
    ) -> None:
        self._job = job
        self._tables = tables
        self._waits_for_others = waits_for_others

        def before_first() -> None:
            tell_changes()
            self.prepare()

        self.ahead = Ahead(job, tables, overlap, send_gradients, before_first)

    def start(self) -> None:
        """The keepers have initial values."""
        self.refresh()

    def prepare(self) -> bool:
        """Tells the keepers what somebody else has written to parameters: an initialisation, a clamp, loaded weights.

        Returns:
            Whether there was something.
        """
        has_written = False
        for table in self._tables:
            is_changed = False
            for member in table.members:
                parameter = member.parameter
                if parameter.data_ptr() != table.address + 4 * member.offset:
                    view = _memory.view(self._job, table.address, member)
                    view.copy_(parameter)
                    parameter.data = view
                    is_changed = True
                is_changed = is_changed or parameter._version != member.version
            if is_changed:
                has_written = True
                values = self._job.tensor(table.address, 4 * table.count, torch.float32, self._job).cpu()
                self._job.call("geeps_write", table.index, values.data_ptr(), table.count)
                for member in table.members:
                    member.version = member.parameter._version
        return has_written

    def send(self) -> None:
        """Hands over the gradients that are there, and gives back what is lent: the clock may go on."""
        tables = [table for table in self._tables if table.index not in self.ahead.sent]
        for table in tables:
            _require_dense(table)
        # Before the gradients: where the keeper's rows are used in place, it steps by them without a copy once nobody
        # reads the values.
        self._give_back()
        for table in tables:
            _send(self._job, table)

    def _give_back(self) -> None:
        for table in self._tables:
            if table.lease:
                self._job.release(table.lease)
                table.lease = 0

    def refresh(self) -> None:
        """Takes fresh values of every table."""
        self.ahead.end_step()
        for table in self._tables:
            # Alone, a read never waits long; with others, Ctrl-C should end the wait.
            if self._waits_for_others:
                self._job.wait(table.index)
            address, table.lease = self._job.read(table.index)
            is_elsewhere = address != table.address
            table.address = address
            for member in table.members:
                if is_elsewhere:
                    member.parameter.data = _memory.view(self._job, address, member)
                member.version = member.parameter._version

    def close(self) -> None:
        """Makes the parameters plain tensors."""
        self.ahead.close()
        for table in self._tables:
            for member in table.members:
                copy = torch.empty_strided(member.shape, member.stride, device=member.parameter.device)
                member.parameter.data = copy.copy_(member.parameter)
        self._give_back()


def send_gradients(job: Job, table: _layout.Table) -> None:
    """Hands over what gradients the table's parameters have."""
    _require_dense(table)
    _send(job, table)


def _require_dense(table: _layout.Table) -> None:
    """Says which gradient of the table cannot be taken."""
    for member in table.members:
        gradient = member.parameter.grad
        if gradient is not None and gradient.layout != torch.strided:
            raise ArgumentError(
                f"the gradient of {member.name} is sparse; GeePS takes dense ones (Embedding(sparse=False))"
            )


def _send(job: Job, table: _layout.Table) -> None:
    held = []
    for member in table.members:
        gradient = member.parameter.grad
        if gradient is not None:
            held.append((_memory.in_layout(gradient, member), member))
    if held:
        job.update(table, held)
