"""What managed memory puts in place of parameters and saved tensors, and what ends with the last use of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from . import _layout
from ._graphs import outside_graphs
from ._job import Job


class Loan:
    """A lease that ends when nobody refers to it any more: no tensor over the memory, no storage."""

    def __init__(self, job: Job, lease: int, address: int, is_peeked: bool = False) -> None:
        self.job = job
        self.lease = lease
        self.address = address
        self._as_tensor = job.peeked if is_peeked else job.tensor

    def __del__(self) -> None:
        self.job.release(self.lease)

    def tensor(self, offset: int, byte_count: int, dtype: torch.dtype) -> torch.Tensor:
        """Lent bytes as a flat tensor; it keeps the loan."""
        return self._as_tensor(self.address + offset, byte_count, dtype, self)


class Parameters(dict):
    """A module's parameters, which are fetched when somebody asks for one by name."""

    fetch: Callable[[torch.nn.Parameter], None]

    @outside_graphs
    def __getitem__(self, name: str) -> torch.nn.Parameter | None:
        parameter = dict.__getitem__(self, name)
        if parameter is not None:
            self.fetch(parameter)
        return parameter

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (dict(self.items()),)


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
