"""Gradients of DistributedDataParallel through the parameter server: to try it without changing anything else."""

# No deferred annotations here: DistributedDataParallel looks at those of its hooks.
import ctypes
from typing import Any

import torch

from . import _device, _launch, _rendezvous
from ._job import Job
from ._layout import Member, Table
from ._library import Rule

_WAIT_SECONDS = 300.0


class _Averager:
    """A table whose rule is addition, from zero each time: its values are the mean of what all processes send."""

    def __init__(self, count: int) -> None:
        place = _rendezvous.agree(_launch.detect())
        options: dict[str, object] = {"rank": place.rank, "world_size": place.world_size, "wait_timeout": _WAIT_SECONDS}
        if place.world_size > 1:
            options["rendezvous"] = place.rendezvous
        name = f"bucket of {count}"
        self._zeros = torch.zeros(count)
        self._table = Table(name, 0)
        self._member = Member(torch.nn.Parameter(self._zeros), name, 0, count, self._zeros.shape, (1,))
        self._table.members.append(self._member)
        self._job = Job(options, [(name, count, Rule(kind=0))], _WAIT_SECONDS, _device.Host())
        self._job.call("geeps_initialise", 0, self._zeros.data_ptr(), count)

    def average(self, values: torch.Tensor) -> None:
        """Replaces ``values`` by their mean over all processes."""
        # The keepers of this process step when its own update is there, and so after this.
        self._job.call("geeps_write", 0, self._zeros.data_ptr(), self._zeros.numel())
        self._job.update(self._table, [(values, self._member)])
        self._job.clock()
        self._job.wait(0)
        address, lease = self._job.read(0)
        ctypes.memmove(values.data_ptr(), address, 4 * values.numel())
        self._job.release(lease)


_averagers: dict[tuple[int, int], _Averager] = {}


def ddp_comm_hook(_: Any, bucket: torch.distributed.GradBucket) -> torch.futures.Future[torch.Tensor]:
    """A communication hook that averages gradients at GeePS's keepers instead of by all-reduce.

    What is left to torch: the optimizer, and waiting for the whole backward pass. ``geeps.attach`` does more.

    Example:
        >>> model = torch.nn.parallel.DistributedDataParallel(model)  # doctest: +SKIP
        >>> model.register_comm_hook(None, geeps.ddp_comm_hook)  # doctest: +SKIP
    """
    values = bucket.buffer()
    if values.dtype != torch.float32 or values.device.type != "cpu":
        raise TypeError(f"gradients are {values.dtype} on {values.device}; this version of GeePS averages float32 on the cpu")
    # Buckets are cut anew after the first iteration.
    key = (bucket.index(), values.numel())
    if key not in _averagers:
        _averagers[key] = _Averager(values.numel())
    _averagers[key].average(values)
    future: torch.futures.Future[torch.Tensor] = torch.futures.Future()
    future.set_result(values)
    return future
