"""What managed memory puts in place of parameters, and what ends with the last use of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

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
