"""Managed memory: what autograd keeps from the forward to the backward pass."""

from __future__ import annotations

import dataclasses
import weakref
from collections.abc import Callable

import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch.multiprocessing.reductions import StorageWeakRef

from . import _layout
from ._graphs import outside_graphs
from ._job import Job
from ._lent import Loan
from .errors import Closed


class Saved:
    """What autograd keeps instead of a tensor."""

    __slots__ = ("source", "offset", "shape", "stride", "dtype", "tensor", "left", "__weakref__")

    def __init__(self, source: _layout.Member | Place, tensor: torch.Tensor, offset: int) -> None:
        # The tensor itself, where the plan leaves its bytes where they are.
        self.left = Unchanged(tensor) if isinstance(source, Place) and source.is_left else None
        self.source = source
        self.offset = offset
        self.shape = tensor.shape
        self.stride = tensor.stride()
        self.dtype = tensor.dtype
        # Kept from the first use on, so that a graph that is retained finds it again.
        self.tensor: torch.Tensor | None = None


class Unchanged:
    """A saved tensor that stays where it is.

    With hooks, torch does not look whether somebody writes to it before the backward pass.
    """

    __slots__ = ("_tensor", "_version")

    def __init__(self, tensor: torch.Tensor) -> None:
        # Detached: a saved output that referred to its own graph would never be freed.
        self._tensor = tensor.detach()
        self._version = tensor._version

    def tensor(self) -> torch.Tensor:
        """The tensor.

        Raises:
            RuntimeError: as torch does where somebody has written to it.
        """
        if self._tensor._version != self._version:
            raise RuntimeError(
                "a tensor that is needed for gradients has been modified by an inplace operation: "
                f"{list(self._tensor.shape)}, saved at version {self._version}, is at version {self._tensor._version}"
            )
        return self._tensor


class Place:
    """An activation's bytes in local data."""

    def __init__(self, job: Job, local: int, byte_count: int) -> None:
        self.job = job
        self.local = local
        self.byte_count = byte_count
        #: The plan leaves the bytes where they are.
        self.is_left = False
        self._loan: Loan | None = None
        self._flat: torch.Tensor | None = None

    def fetch(self) -> None:
        """Has the bytes on the device from now on, until nobody needs them."""
        if self._loan is None and self._flat is None:
            address, lease = self.job.get_local(self.local)
            self._loan = Loan(self.job, lease, address)

    def bytes(self) -> torch.Tensor:
        """The bytes, fetched."""
        self.fetch()
        if self._flat is None:
            assert self._loan is not None
            self._flat = self._loan.tensor(0, self.byte_count, torch.uint8)
            # The storage has it now.
            self._loan = None
        return self._flat

    def __del__(self) -> None:
        # A pass without a backward. What is put must also be fetched: otherwise the plan that is made of this
        # iteration would throw the bytes away, and the next one, which has a backward, would miss them.
        if self._loan is None and self._flat is None and self.job.is_usable:
            self.fetch()


class SavedTensors:
    """Hooks that put places in local data where torch would save tensors, and a parameter's name where it would save one.

    Local data are numbered in the order in which tensors are saved, so that an iteration that repeats finds its own.
    """

    def __init__(
        self,
        job: Job,
        device: torch.device,
        threshold: int,
        shown: dict[int, tuple[StorageWeakRef, _layout.Member]],
        fetch: weakref.WeakMethod[Callable[[_layout.Member], torch.Tensor]],
    ) -> None:
        """
        Args:
            shown: by storage, the parameter that it holds while it is lent.
            fetch: gives a parameter's values as a flat tensor.
        """
        self._job = job
        self._device = device
        # Tensors of fewer bytes stay where they are.
        self._threshold = threshold
        self._shown = shown
        self._fetch = fetch
        # By storage: its place, and the version of the values that are there.
        self._known: dict[int, tuple[StorageWeakRef, int, weakref.ref[Place]]] = {}
        self._places: dict[tuple[int, int, int], tuple[int, weakref.ref[Place] | None]] = {}
        self._ordinal = 0
        # What was saved in parts in this iteration, by storage, and where each of these is now.
        self._parts: list[_Parts] = []
        self._parts_of: dict[int, _Parts] = {}
        # Local data of parts that may be left where they are.
        self._may_stay: set[int] = set()

    def begin_iteration(self) -> None:
        """What is saved from now on belongs to the next iteration."""
        self._ordinal = 0
        self._known.clear()

    def end_pass(self) -> None:
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

    @outside_graphs
    def pack(self, tensor: torch.Tensor) -> Saved | Unchanged:
        """What torch keeps in place of ``tensor``."""
        if tensor.layout != torch.strided or tensor.device != self._device:
            return Unchanged(tensor)
        storage = tensor.untyped_storage()
        entry = self._shown.get(storage._cdata)
        if entry is not None and not entry[0].expired():
            return Saved(entry[1], tensor, tensor.storage_offset())
        if tensor.numel() * tensor.element_size() < self._threshold or type(tensor) not in _PLAIN:
            return Unchanged(tensor)
        return self._keep(tensor, storage)

    @outside_graphs
    def unpack(self, saved: Saved | Unchanged) -> torch.Tensor:
        """The tensor again."""
        if isinstance(saved, Unchanged):
            return saved.tensor()
        if saved.tensor is None:
            saved.tensor = self._bring_back(saved)
        return saved.tensor

    def _bring_back(self, saved: Saved) -> torch.Tensor:
        source = saved.source
        if not isinstance(source, Place):
            fetch = self._fetch()
            if fetch is None:
                raise Closed("a graph is used whose model is attached no more")
            return fetch(source).as_strided(saved.shape, saved.stride, saved.offset)
        if saved.left is not None:
            source.fetch()
            return saved.left.tensor()
        return source.bytes().view(saved.dtype).as_strided(saved.shape, saved.stride, saved.offset)

    def _keep(self, tensor: torch.Tensor, storage: torch.UntypedStorage) -> Saved:
        known = self._known.get(storage._cdata)
        if known is not None and not known[0].expired() and known[1] == tensor._version:
            place = known[2]()
            if place is not None:
                return Saved(place, tensor, tensor.storage_offset())
        if 2 * tensor.numel() * tensor.element_size() < storage.nbytes():
            return self._keep_part(tensor, storage)
        place = self._put(storage, storage.nbytes(), may_stay=True)
        self._known[storage._cdata] = (StorageWeakRef(storage), tensor._version, weakref.ref(place))
        return Saved(place, tensor, tensor.storage_offset())

    def _keep_part(self, tensor: torch.Tensor, storage: torch.UntypedStorage) -> Saved:
        part = tensor if _is_dense(tensor) else tensor.detach().clone(memory_format=torch.contiguous_format)
        place = self._put(part, part.numel() * part.element_size(), may_stay=None)
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
