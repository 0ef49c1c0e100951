"""Resident memory: gradients leave during the backward pass, where nobody touches them afterwards."""

from __future__ import annotations

import dataclasses
import weakref
from collections.abc import Callable
from typing import Any

import torch

from . import _layout
from ._graphs import outside_graphs
from ._job import Job
from .errors import ArgumentError


@dataclasses.dataclass
class _Arrival:
    """The gradient of a parameter as the backward pass left it."""

    parameter: torch.nn.Parameter
    name: str
    table: _layout.Table
    has_come: bool = False
    #: While it is learned what the script does: the gradient, and a sum of its bits, since not every write to it counts as
    #: a version (``grad.data.clamp_()``, GradScaler).
    gradient: torch.Tensor | None = None
    sum: torch.Tensor | None = None

    def remember(self) -> None:
        """Notes the gradient as it is."""
        self.gradient = self.parameter.grad
        self.sum = _sum_of_bits(self.gradient)

    def is_touched(self) -> bool:
        """Whether it is another one than was noted."""
        if self.gradient is None or self.sum is None:
            return False
        now = self.parameter.grad
        return now is not self.gradient or not torch.equal(_sum_of_bits(now), self.sum)


def _sum_of_bits(gradient: torch.Tensor | None) -> torch.Tensor:
    if gradient is None or gradient.layout != torch.strided or gradient.dtype != torch.float32:
        return torch.zeros(())
    return gradient.detach().view(torch.int32).sum(dtype=torch.int64)


class Ahead:
    """Hands a table's gradients over when the last of them is in, so that the keepers work beside the backward pass.

    The parameters do not change before ``step``; but what has left cannot be changed or dropped any more, and ``grad`` is
    None. Whether a script does such things is learned from its first iteration, in which gradients leave at ``step``:
    clipping, scaling and accumulating show.
    """

    def __init__(
        self,
        job: Job,
        tables: list[_layout.Table],
        overlap: bool | None,
        send: Callable[[Job, _layout.Table], None],
        before_first: Callable[[], None],
    ) -> None:
        self._job = job
        self._send = send
        self._before_first = before_first
        self._is_learning = overlap is None
        #: Whether gradients leave during the backward pass.
        self.sends = overlap is True
        #: By index: tables whose gradients of this iteration have left.
        self.sent: set[int] = set()
        self._is_touched = False
        self._has_begun = False
        self._arrivals = {
            id(member.parameter): _Arrival(member.parameter, member.name, table)
            for table in tables
            for member in table.members
            if member.parameter.requires_grad
        }
        self._missing: dict[int, int] = {}
        self._expected = {
            table.index: sum(id(member.parameter) in self._arrivals for member in table.members) for table in tables
        }
        self._hooks: list[Any] = []
        if overlap is not False:
            arrive = weakref.WeakMethod(self._arrive)

            @outside_graphs
            def hook(parameter: torch.Tensor) -> None:
                method = arrive()
                if method is not None:
                    method(parameter)

            for arrival in self._arrivals.values():
                self._hooks.append(arrival.parameter.register_post_accumulate_grad_hook(hook))

    def close(self) -> None:
        """No gradient leaves by itself any more."""
        for hook in self._hooks:
            hook.remove()
        self._hooks = []
        self.sends = self._is_learning = False

    # ------------------------------------------------------------------------------------------------
    # The backward pass

    def _arrive(self, parameter: torch.Tensor) -> None:
        arrival = self._arrivals[id(parameter)]
        table = arrival.table.index
        is_first = not arrival.has_come
        if not is_first:
            if table in self.sent:
                self._refuse(f"a second backward pass before step() adds to the gradient of {arrival.name}")
            # Whoever accumulates once will again.
            self._is_touched = True
        if not self._has_begun:
            self._has_begun = True
            with torch.no_grad():
                self._before_first()
        arrival.has_come = True
        if self._is_learning:
            arrival.remember()
        if is_first:
            self._missing[table] = self._missing.get(table, self._expected[table]) - 1
        if self.sends and not self._is_touched and self._missing[table] == 0:
            with torch.no_grad():
                self._send(self._job, arrival.table)
            self._job.call("geeps_send_ahead", table)
            self.sent.add(table)
            for member in arrival.table.members:
                member.parameter.grad = None

    # ------------------------------------------------------------------------------------------------
    # The step

    def end_backward(self, settings_have_changed: bool) -> None:
        """``step`` begins: what was learned, or whether what has left is what is there.

        Raises:
            ArgumentError: where somebody changed what has left already.
        """
        if not self._has_begun:
            return
        if self.sent:
            for arrival in self._arrivals.values():
                if arrival.table.index in self.sent and arrival.parameter.grad is not None:
                    self._refuse(f"a gradient of {arrival.name} was set between backward and step()")
            if settings_have_changed:
                self._refuse("parameters, or the optimizer's settings, were changed between backward and step()")
        if self._is_learning:
            self._is_learning = False
            self._is_touched |= settings_have_changed or any(a.is_touched() for a in self._arrivals.values())
            self.sends = not self._is_touched
            if self._is_touched:
                self.close()

    def end_step(self) -> None:
        """All gradients have left."""
        for arrival in self._arrivals.values():
            arrival.has_come = False
            arrival.gradient = arrival.sum = None
        self._missing.clear()
        self.sent.clear()
        self._has_begun = self._is_touched = False

    def drop(self) -> None:
        """``zero_grad``, where there may be gradients.

        Raises:
            ArgumentError: where some have left already.
        """
        if self._has_begun:
            self.require_kept("zero_grad between backward and step() drops gradients")
        self.end_step()

    def require_nothing_sent(self, what: str) -> None:
        """Something needs all gradients of this iteration to be here, or the keepers to be quiet.

        Raises:
            ArgumentError: where some have left already.
        """
        if self.sent:
            self._refuse(what)

    def require_kept(self, what: str) -> None:
        """The script works on gradients before ``step``: one from which that is still learned keeps them until then.

        Raises:
            ArgumentError: where some have left already.
        """
        self.require_nothing_sent(what)
        if self._is_learning:
            self.close()

    def _refuse(self, what: str) -> None:
        raise ArgumentError(
            f"{what}, but gradients leave during the backward pass, as the first iteration had no use for them "
            "afterwards; geeps.attach(..., overlap=False) keeps them until step(). This iteration can be finished by "
            "step() only"
        )
