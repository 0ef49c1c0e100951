"""Managed memory: parameters and activations are there while they are used, and elsewhere otherwise.

A parameter that is not in use is one NaN expanded to its shape. Modules fetch what they own through ``_parameters``
while they run; what autograd saves of a parameter is where it lies in its table, and of an activation a place in GeePS's
local data. Every access is noted by the parameter server, and one iteration's accesses are the plan of the next.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch.multiprocessing.reductions import StorageWeakRef

from . import _layout, _memory
from ._graphs import outside_graphs
from ._job import Job
from ._lent import Loan, Parameters
from ._resident import send_gradients
from ._saved import SavedTensors
from ._two_phase import TwoPhaseClock


class Managed:
    """Where the parameters of an attached model are: there while they are used."""

    def __init__(
        self,
        model: torch.nn.Module,
        job: Job,
        tables: list[_layout.Table],
        threshold: int,
        waits_for_others: bool,
        on_forward: Callable[[], None],
        clock: TwoPhaseClock,
    ) -> None:
        self._model = model
        self._job = job
        self._tables = tables
        self._waits_for_others = waits_for_others
        self._device = tables[0].members[0].parameter.device
        self._on_forward = on_forward
        self._clock = clock
        self._owner = {id(member.parameter): (table, member) for table in tables for member in table.members}
        # By member: what its parameter is while it is not in use.
        self._absent = {id(member): self._absence(member) for table in tables for member in table.members}
        self._loans: list[weakref.ref[Loan] | None] = [None] * len(tables)
        # By table: how many running modules use it.
        self._users = [0] * len(tables)
        self._frames: list[list[_layout.Table]] = []
        self._outside: list[_layout.Table] = []
        # By storage: the parameter that it holds, while it is lent.
        self._shown: dict[int, tuple[StorageWeakRef, _layout.Member]] = {}
        self._saved = SavedTensors(job, self._device, threshold, self._shown, weakref.WeakMethod(self._fetch))
        self._hooks: list[Any] = []
        self._context: Any = None
        self._is_whole = False

    # ------------------------------------------------------------------------------------------------
    # Beginning and end

    def start(self) -> None:
        """The keepers have initial values."""
        fetch = weakref.WeakMethod(self._need)

        def fetch_if_attached(parameter: torch.nn.Parameter) -> None:
            method = fetch()
            if method is not None:
                method(parameter)

        for module in self._model.modules():
            self._hooks.append(module.register_forward_pre_hook(self._enter))
            self._hooks.append(module.register_forward_hook(self._leave, always_call=True))
            if any(id(p) in self._owner for p in module._parameters.values()):
                parameters = Parameters(module._parameters)
                parameters.fetch = fetch_if_attached
                module._parameters = parameters
        for table in self._tables:
            for member in table.members:
                if member.parameter.requires_grad:
                    self._hooks.append(member.parameter.register_post_accumulate_grad_hook(self._take_gradient))
            self._put_away(table)
        self._hooks.append(self._model.register_state_dict_pre_hook(self._before_state_dict))
        self._hooks.append(self._model.register_state_dict_post_hook(lambda *_: self._end_whole()))
        self._hooks.append(self._model.register_load_state_dict_pre_hook(self._before_load))
        self._hooks.append(self._model.register_load_state_dict_post_hook(self._after_load))

    def close(self) -> None:
        """Makes the parameters plain tensors."""
        for hook in self._hooks:
            hook.remove()
        for module in self._model.modules():
            if isinstance(module._parameters, Parameters):
                module._parameters = dict(module._parameters.items())
        self._end_context()
        self._make_whole()

    # ------------------------------------------------------------------------------------------------
    # Parameters

    def _put_away(self, table: _layout.Table) -> None:
        for member in table.members:
            if member.count == 1:
                # This one can be written to, unlike those whose values share one place; so it is never the same again.
                self._absent[id(member)] = self._absence(member)
            member.parameter.data = self._absent[id(member)]

    def _absence(self, member: _layout.Member) -> torch.Tensor:
        return torch.full((), torch.nan, device=self._device).expand(member.shape)

    @outside_graphs
    def _need(self, parameter: torch.nn.Parameter) -> None:
        """Fetches the table of a parameter for the innermost running module."""
        entry = self._owner.get(id(parameter))
        if entry is None or self._is_whole:
            return
        table = entry[0]
        frame = self._frames[-1] if self._frames else self._outside
        if table in frame:
            return
        if self._users[table.index] == 0:
            self._show(table, self._borrow(table))
        frame.append(table)
        self._users[table.index] += 1

    def _borrow(self, table: _layout.Table) -> Loan:
        """What is lent of the table already, or a new loan."""
        reference = self._loans[table.index]
        loan = reference() if reference else None
        if loan is not None:
            return loan
        self._clock.require_readable("a parameter is used")
        # What computes no gradients, or is outside the model's own passes, is no part of the iteration that repeats. In a
        # backward pass gradients of gradients are not computed, so torch's mode says nothing there.
        is_planned = torch._C._current_graph_task_id() != -1 or bool(self._frames) and torch.is_grad_enabled()
        if self._waits_for_others:
            self._job.wait(table.index)
        address, lease = self._job.read(table.index) if is_planned else self._job.peek(table.index)
        loan = Loan(self._job, lease, address, is_peeked=not is_planned)
        self._loans[table.index] = weakref.ref(loan)
        return loan

    def _view(self, loan: Loan, member: _layout.Member) -> torch.Tensor:
        flat = loan.tensor(4 * member.offset, 4 * member.count, torch.float32)
        storage = flat.untyped_storage()
        self._shown[storage._cdata] = (StorageWeakRef(storage), member)
        return flat

    def _fetch(self, member: _layout.Member) -> torch.Tensor:
        """A parameter's values as a flat tensor."""
        return self._view(self._borrow(self._owner[id(member.parameter)][0]), member)

    def _show(self, table: _layout.Table, loan: Loan) -> None:
        for member in table.members:
            member.parameter.data = self._view(loan, member).as_strided(member.shape, member.stride)

    def _return(self, frame: list[_layout.Table]) -> None:
        for table in frame:
            self._users[table.index] -= 1
            if self._users[table.index] == 0 and not self._is_whole:
                self._put_away(table)
        frame.clear()

    # ------------------------------------------------------------------------------------------------
    # Modules that run

    @outside_graphs
    def _enter(self, module: torch.nn.Module, _: Any) -> None:
        if not self._frames:
            self._clock.require_readable("the model runs")
            self._return(self._outside)
            self._on_forward()
            if torch.is_grad_enabled() and self._context is None and torch._C._current_graph_task_id() == -1:
                self._context = torch.autograd.graph.saved_tensors_hooks(self._saved.pack, self._saved.unpack)
                self._context.__enter__()
        self._frames.append([])

    @outside_graphs
    def _leave(self, module: torch.nn.Module, _: Any, __: Any) -> None:
        if self._frames:
            self._return(self._frames.pop())
        if not self._frames:
            self._end_context()

    def _end_context(self) -> None:
        if self._context is not None:
            self._context.__exit__(None, None, None)
            self._context = None

    # ------------------------------------------------------------------------------------------------
    # Gradients and clocks

    @outside_graphs
    def _take_gradient(self, parameter: torch.Tensor) -> None:
        """Hands a table's gradients over when the last one of a pass is in."""
        table, _ = self._owner[id(parameter)]
        if all(m.parameter.grad is not None or not m.parameter.requires_grad for m in table.members):
            self._send_table(table)

    def _send_table(self, table: _layout.Table) -> None:
        if all(member.parameter.grad is None for member in table.members):
            return
        self._clock.before_gradient()
        send_gradients(self._job, table)
        self.forget_table(table)

    def forget_table(self, table: _layout.Table) -> None:
        """Frees gradients."""
        for member in table.members:
            member.parameter.grad = None

    def prepare(self) -> bool:
        """Nobody can have written to parameters that are not there."""
        return False

    def send(self) -> None:
        """Hands over what has not been yet."""
        self._return(self._outside)
        for table in self._tables:
            self._send_table(table)
        self._saved.end_pass()

    def refresh(self) -> None:
        """The next access waits."""
        self._saved.begin_iteration()
        self._shown.clear()

    # ------------------------------------------------------------------------------------------------
    # Saving and loading

    def _make_whole(self) -> None:
        """Gives every parameter a copy of its values, in memory of its own."""
        self._clock.require_readable("parameters are read")
        for table in self._tables:
            if self._waits_for_others:
                self._job.wait(table.index)
            address, lease = self._job.peek(table.index)
            loan = Loan(self._job, lease, address, is_peeked=True)
            for member in table.members:
                copy = torch.empty_strided(member.shape, member.stride, device=self._device)
                member.parameter.data = copy.copy_(self._view(loan, member).as_strided(member.shape, member.stride))
        self._is_whole = True

    def _end_whole(self) -> None:
        self._is_whole = False
        for table in self._tables:
            self._put_away(table)

    def _before_state_dict(self, *_: Any) -> None:
        self._make_whole()

    def _before_load(self, *_: Any) -> None:
        self._clock.require_no_gradients("load_state_dict")
        self._make_whole()

    def _after_load(self, *_: Any) -> None:
        for table in self._tables:
            values = torch.zeros(table.count)
            for member in table.members:
                values[member.offset : member.offset + member.count] = _memory.flat(member.parameter)
            self._job.call("geeps_write", table.index, values.data_ptr(), table.count)
        self._end_whole()
        # A clock without updates: the keepers send what they have been given.
        self._job.clock()
