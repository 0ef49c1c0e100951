"""torch functions that would silently do the wrong thing to attached parameters fail loudly instead."""

from __future__ import annotations

import contextlib
import functools
import weakref
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.utils.clip_grad as clip_grad

from .errors import ArgumentError

if TYPE_CHECKING:
    from ._optimizer import Optimizer

# By id: the parameter, and the optimizer it is attached to. Neither is kept alive.
_attached: dict[int, tuple[weakref.ref[torch.Tensor], weakref.ref[Optimizer]]] = {}
_allowed = 0


def optimizer_of(parameter: torch.Tensor) -> Optimizer | None:
    """The optimizer that ``parameter`` is attached to."""
    entry = _attached.get(id(parameter))
    if entry is None or entry[0]() is not parameter:
        return None
    return entry[1]()


def require_free(optimizer: torch.optim.Optimizer) -> None:
    """A parameter belongs to one optimizer."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if optimizer_of(parameter) is not None:
                raise ArgumentError(
                    f"a parameter of shape {tuple(parameter.shape)} is attached already: close() that optimizer first"
                )


def attach(optimizer: Optimizer) -> None:
    """Notes the parameters of ``optimizer``."""
    for member in (member for table in optimizer.tables for member in table.members):
        _attached[id(member.parameter)] = (weakref.ref(member.parameter), weakref.ref(optimizer))
    _patch()


def detach(optimizer: Optimizer) -> None:
    """Forgets the parameters of ``optimizer``."""
    for table in optimizer.tables:
        for member in table.members:
            entry = _attached.get(id(member.parameter))
            if entry is not None and entry[1]() in (optimizer, None):
                del _attached[id(member.parameter)]


@contextlib.contextmanager
def allowed() -> Iterator[None]:
    """While GeePS itself calls such a function."""
    global _allowed
    _allowed += 1
    try:
        yield
    finally:
        _allowed -= 1


def _refuse(parameters: list[torch.Tensor], function: str) -> None:
    """One process with resident memory has all of a gradient in ``grad``; otherwise a part is there, or nothing."""
    if _allowed:
        return
    for parameter in parameters:
        optimizer = optimizer_of(parameter)
        if optimizer is not None and not optimizer.has_all_gradients:
            raise ArgumentError(
                f"torch.nn.utils.{function} sees no gradients, or those of one process only: parameters attached to "
                "GeePS are clipped by the optimizer that geeps.attach returned, opt.clip_grad_norm_(max_norm)"
            )


def _patch() -> None:
    """Guards the functions from within, so that names imported earlier are guarded too."""
    if getattr(clip_grad, "_geeps_is_guarded", False):
        return
    clip_grad._geeps_is_guarded = True  # type: ignore[attr-defined]
    _patch_clipping()
    _patch_scaler()


def _patch_scaler() -> None:
    """Makes GradScaler skip the same steps in every process, for attached optimizers."""
    scaler = torch.amp.GradScaler
    unscale = scaler._unscale_grads_

    @functools.wraps(unscale)
    def guarded_unscale(
        self: Any, optimizer: Any, inverse_scale: torch.Tensor, found_inf: torch.Tensor, allow_fp16: bool
    ) -> dict[torch.device, torch.Tensor]:
        def here() -> dict[torch.device, torch.Tensor]:
            return unscale(self, optimizer, inverse_scale, found_inf, allow_fp16)

        ahead = getattr(optimizer, "_ahead", None)
        if ahead is not None:
            ahead.require_kept("GradScaler needs all gradients")
        if getattr(optimizer, "has_all_gradients", True):
            return here()
        is_infinite = optimizer._unscale(inverse_scale.item(), lambda: any(found.item() for found in here().values()))
        return {found_inf.device: torch.full_like(found_inf, float(is_infinite))}

    scaler._unscale_grads_ = guarded_unscale  # type: ignore[method-assign]


def _patch_clipping() -> None:
    scale = clip_grad._clip_grads_with_norm_
    group = clip_grad._group_tensors_by_device_and_dtype

    def guarded_scale(parameters: Any, *arguments: Any, **keywords: Any) -> Any:
        parameters = [parameters] if isinstance(parameters, torch.Tensor) else list(parameters)
        _refuse(parameters, "clip_grad_norm_")
        return scale(parameters, *arguments, **keywords)

    def guarded_group(tensors: Any, *arguments: Any, **keywords: Any) -> Any:
        if not _allowed:
            gradients = {id(tensor) for tensor in tensors[0]}
            attached = [reference() for reference, _ in list(_attached.values())]
            _refuse([p for p in attached if p is not None and id(p.grad) in gradients], "clip_grad_value_")
        return group(tensors, *arguments, **keywords)

    clip = clip_grad.clip_grad_value_

    @functools.wraps(clip)
    def guarded_clip(parameters: Any, *arguments: Any, **keywords: Any) -> None:
        parameters = [parameters] if isinstance(parameters, torch.Tensor) else list(parameters)
        _refuse(parameters, "clip_grad_value_")
        clip(parameters, *arguments, **keywords)

    clip_grad.clip_grad_value_ = torch.nn.utils.clip_grad_value_ = guarded_clip
    clip_grad._clip_grads_with_norm_ = guarded_scale
    clip_grad._group_tensors_by_device_and_dtype = guarded_group
