"""Tensors over memory that the parameter server owns."""

from __future__ import annotations

import torch

from ._job import Job
from ._layout import Member


def view(job: Job, address: int, member: Member) -> torch.Tensor:
    """The values of ``member`` in the table at ``address``, without a copy, with the parameter's strides.

    The tensor's storage keeps the job, and so the memory, alive; it is that of this parameter alone, so that saving one
    parameter does not save its neighbours.
    """
    flat = job.tensor(address + 4 * member.offset, 4 * member.count, torch.float32, job)
    return flat.as_strided(member.shape, member.stride)


def flat(tensor: torch.Tensor) -> torch.Tensor:
    """The values of a dense tensor in the order in which they lie."""
    return tensor.detach().as_strided((tensor.numel(),), (1,), tensor.storage_offset())


def in_layout(gradient: torch.Tensor, member: Member) -> torch.Tensor:
    """``gradient`` as float32 in the order in which the parameter's values lie; itself where it is."""
    if gradient.stride() == member.stride and gradient.dtype == torch.float32:
        return gradient
    like = torch.empty_strided(member.shape, member.stride, dtype=torch.float32, device=gradient.device)
    return like.copy_(gradient)
