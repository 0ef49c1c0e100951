"""Managed memory: parameters and activations are there while they are used, and elsewhere otherwise.

A parameter that is not in use is one NaN expanded to its shape. Modules fetch what they own through ``_parameters``
while they run; what autograd saves of a parameter is where it lies in its table, and of an activation a place in GeePS's
local data. Every access is noted by the parameter server, and one iteration's accesses are the plan of the next.
"""

from __future__ import annotations

import dataclasses
import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch.multiprocessing.reductions import StorageWeakRef

from . import _layout, _memory
from ._graphs import outside_graphs
from ._job import Job
from ._lent import Loan, Parameters, Place, Saved, Unchanged
from ._resident import send_gradients
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
        self._threshold = threshold
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
        self._saved: dict[int, tuple[StorageWeakRef, int, weakref.ref[Place]]] = {}
        self._places: dict[tuple[int, int, int], tuple[int, weakref.ref[Place] | None]] = {}
        # What was saved in parts in this iteration, by storage, and where each of these is now.
        self._parts: list[_Parts] = []
        self._parts_of: dict[int, _Parts] = {}
        # Local data of parts that may be left where they are.
        self._may_stay: set[int] = set()
        self._ordinal = 0
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
                self._context = torch.autograd.graph.saved_tensors_hooks(self._pack, self._unpack)
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
    # What autograd saves

    @outside_graphs
    def _pack(self, tensor: torch.Tensor) -> Any:
        if tensor.layout != torch.strided or tensor.device != self._device:
            return Unchanged(tensor)
        storage = tensor.untyped_storage()
        entry = self._shown.get(storage._cdata)
        if entry is not None and not entry[0].expired():
            return Saved(entry[1], tensor, tensor.storage_offset())
        if tensor.numel() * tensor.element_size() < self._threshold or type(tensor) not in _PLAIN:
            return Unchanged(tensor)
        return self._keep(tensor, storage)

    def _keep(self, tensor: torch.Tensor, storage: torch.UntypedStorage) -> Saved:
        known = self._saved.get(storage._cdata)
        if known is not None and not known[0].expired() and known[1] == tensor._version:
            place = known[2]()
            if place is not None:
                return Saved(place, tensor, tensor.storage_offset())
        if 2 * tensor.numel() * tensor.element_size() >= storage.nbytes():
            place = self._put(storage, storage.nbytes(), may_stay=True)
            self._saved[storage._cdata] = (StorageWeakRef(storage), tensor._version, weakref.ref(place))
            return Saved(place, tensor, tensor.storage_offset())
        return self._keep_part(tensor, storage)

    def _keep_part(self, tensor: torch.Tensor, storage: torch.UntypedStorage) -> Saved:
        part = tensor if _is_dense(tensor) else tensor.detach().clone(memory_format=torch.contiguous_format)
        byte_count = part.numel() * part.element_size()
        place = self._put(part, byte_count, may_stay=None)
        if part is tensor:
            self._parts_in(storage).add(place)
        return Saved(place, part, 0)

    def _parts_in(self, storage: torch.UntypedStorage) -> _Parts:
        parts = self._parts_of.get(storage._cdata)
        if parts is None or parts.storage.expired():
            parts = _Parts(StorageWeakRef(storage), storage.nbytes())
            self._parts_of[storage._cdata] = parts
            self._parts.append(parts)
        return parts

    def _learn_parts(self) -> None:
        """Parts that are most of what they are parts of, as a projection's thirds, need no copy more than a whole."""
        for parts in self._parts:
            if 2 * parts.saved_bytes < parts.byte_count:
                continue
            for local in parts.locals:
                if local not in self._may_stay:
                    self._may_stay.add(local)
                    self._job.let_stay(local)
        self._parts.clear()
        self._parts_of.clear()

    def _put(self, source: torch.UntypedStorage | torch.Tensor, byte_count: int, may_stay: bool | None) -> Place:
        """Takes bytes to a place of its own, the same one in every iteration, or leaves them, if the plan does.

        Args:
            may_stay: None for what has been learned.
        """
        extra = 0
        while True:
            key = (self._ordinal, byte_count, extra)
            local, holder = self._places.get(key, (-1, None))
            if holder is None or holder() is None:
                break
            extra += 1  # a graph of an earlier iteration still has it
        if local < 0:
            local = self._job.create_local(f"saved tensor {self._ordinal}", byte_count)
        place = Place(self._job, local, byte_count)
        self._places[key] = (local, weakref.ref(place))
        self._ordinal += 1
        place.is_left = self._job.put_local(local, source, local in self._may_stay if may_stay is None else may_stay)
        return place

    @outside_graphs
    def _unpack(self, saved: Any) -> torch.Tensor:
        if isinstance(saved, Unchanged):
            return saved.tensor()
        if saved.tensor is None:
            source = saved.source
            if saved.left is not None:
                source.fetch()
                saved.tensor = saved.left.tensor()
                return saved.tensor
            if isinstance(source, Place):
                flat = source.bytes().view(saved.dtype)
            else:
                table = self._owner[id(source.parameter)][0]
                flat = self._view(self._borrow(table), source)
            saved.tensor = flat.as_strided(saved.shape, saved.stride, saved.offset)
        return saved.tensor

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
        self._learn_parts()

    def refresh(self) -> None:
        """The next access waits."""
        self._ordinal = 0
        self._saved.clear()
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


@dataclasses.dataclass
class _Parts:
    """What was saved of a storage in parts; no places, which would be held by that."""

    storage: StorageWeakRef
    byte_count: int
    saved_bytes: int = 0
    locals: list[int] = dataclasses.field(default_factory=list)

    def add(self, place: Place) -> None:
        self.saved_bytes += place.byte_count
        self.locals.append(place.local)


def _is_dense(tensor: torch.Tensor) -> bool:
    """Whether the values, in whatever order, lie side by side."""
    span = 1 + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return span == tensor.numel()


_PLAIN = (torch.Tensor, torch.nn.Parameter, FakeTensor)
