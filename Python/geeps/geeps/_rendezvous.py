"""What several processes agree on through the parameter server's control plane."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

from ._graphs import outside_graphs
from ._job import Job
from ._launch import Place, free_port
from .errors import ArgumentError

_BROADCAST_BYTES = 1 << 20
_TIMEOUT_SECONDS = 300.0
_serial = 0


def agree(place: Place) -> Place:
    """``place`` with the address where rank 0 listens."""
    global _serial
    _serial += 1
    if place.world_size == 1 or place.rendezvous is not None and _serial == 1:
        return place
    store = _store(place)
    if store is None:
        if place.rendezvous is None:
            raise ArgumentError(f"{place.source} gives no address where the {place.world_size} processes could meet")
        host, _, port = place.rendezvous.rpartition(":")
        return dataclasses.replace(place, rendezvous=f"{host}:{int(port) + _serial - 1}")
    key = f"geeps/rendezvous/{_serial}"
    if place.rank == 0:
        store.set(key, f"{place.master}:{free_port()}")
    return dataclasses.replace(place, rendezvous=store.get(key).decode())


def _store(place: Place) -> Any:
    """A key-value store that all processes reach: torch.distributed's, or torchrun's."""
    distributed = torch.distributed
    if distributed.is_available() and distributed.is_initialized():
        return distributed.distributed_c10d._get_default_store()
    if place.store_port is None or not distributed.is_available():
        return None
    return distributed.TCPStore(place.master, place.store_port, is_master=False)


class BufferSync:
    """Gives every process rank 0's buffers (batch normalisation's averages) before a training pass, as DDP does."""

    def __init__(self, model: torch.nn.Module, job: Job) -> None:
        self._job = job
        self._buffers = [buffer for buffer in model.buffers() if buffer.numel() > 0]
        self._hook = None
        if self._buffers:
            self._sync()
            self._hook = model.register_forward_pre_hook(self._before_forward)

    def remove(self) -> None:
        """Ends it."""
        if self._hook:
            self._hook.remove()

    @outside_graphs
    def _before_forward(self, module: torch.nn.Module, _: Any) -> None:
        if module.training and torch.is_grad_enabled():
            self._sync()

    @torch.no_grad()
    def _sync(self) -> None:
        parts = [buffer.detach().contiguous().reshape(-1).view(torch.uint8) for buffer in self._buffers]
        packed = torch.cat([part.cpu() for part in parts])
        for start in range(0, packed.numel(), _BROADCAST_BYTES):
            count = min(_BROADCAST_BYTES, packed.numel() - start)
            self._job.call("geeps_broadcast", b"buffers", packed.data_ptr() + start, count, _TIMEOUT_SECONDS)
        offset = 0
        for buffer in self._buffers:
            count = buffer.numel() * buffer.element_size()
            part = packed[offset : offset + count].clone()
            buffer.copy_(part.view(buffer.dtype).reshape(buffer.shape))
            offset += count
