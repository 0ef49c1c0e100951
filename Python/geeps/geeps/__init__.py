"""GeePS for PyTorch: a parameter server that takes over the optimizer, in one changed line.

    >>> import torch, geeps
    >>> model = torch.nn.Linear(4, 2)
    >>> opt = geeps.attach(model, torch.optim.SGD(model.parameters(), lr=0.1))  # was: opt = torch.optim.SGD(...)
    >>> loss = model(torch.ones(3, 4)).square().mean()
    >>> loss.backward()
    >>> opt.step()
    >>> opt.close()

Started by torchrun, srun or mpirun, the same script trains in all processes together.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from . import _launch, _rendezvous, errors
from ._comm_hook import ddp_comm_hook
from ._library import library as _loaded
from ._optimizer import Optimizer, report
from ._plan import Plan, plan
from .errors import ArgumentError, GeepsError

__version__: str = _loaded.geeps_version().decode()
__all__ = ["ArgumentError", "GeepsError", "Optimizer", "Plan", "attach", "ddp_comm_hook", "errors", "plan", "report"]


def attach(
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    memory: str = "resident",
    budget: int | None = None,
    staleness: int | str = 0,
    offload_threshold: int = 1 << 14,
    hold_gradients: bool | None = None,
    overlap: bool | None = None,
    join_timeout: float = 60.0,
    wait_timeout: float = 300.0,
    reconnect_timeout: float = 10.0,
    transport: str = "auto",
    interface: str | None = None,
    tls: Mapping[str, str] | None = None,
) -> Optimizer:
    """Hands the parameters of ``model`` and the arithmetic of ``optimizer`` to the parameter server.

    Parameters become views of the server's memory and begin as rank 0's; gradients of all processes are averaged, as by
    DistributedDataParallel. The returned optimizer replaces ``optimizer``.

    Args:
        model: any module; its trained parameters are float32 on the CPU.
        optimizer: SGD, Adam, AdamW, Adagrad or RMSprop of torch.optim over parameters of the model.
        memory: "resident" keeps everything at hand; "managed" lends parameters and what autograd saves while they are
            used, within ``budget`` bytes, and moves the rest to host memory and back as planned.
        budget: bytes of GeePS's memory on the device (managed); None for as much as is of use.
        staleness: clocks that the values of a step may lag behind the slowest process's updates, or "async"; 0 is what
            DistributedDataParallel does. Above 0 processes wait for each other less, results differ between runs, and what
            needs all processes at one clock is refused: clipping, optimizer state, writing to parameters.
        offload_threshold: bytes from which on a saved tensor is managed.
        hold_gradients: whether the keepers wait with each step until the norm of all gradients can be asked for (managed):
            for ``clip_grad_norm_``, GradScaler, and ``zero_grad`` between ``backward`` and ``step``. None: as the first
            iteration, which is held, had use for it. What is not held is stepped during the backward pass.
        overlap: whether gradients leave during the backward pass (resident), so that they cannot be changed or dropped
            between ``backward`` and ``step``. None: as the first iteration, in which they do not, had no use for that; in
            one process on the CPU they do not, as nobody would work with them before ``step``.
        join_timeout: seconds to wait for the other processes.
        wait_timeout: seconds after which a step that waits for others fails.
        reconnect_timeout: seconds that a lost connection between two live processes may take to be made anew.
        transport: how processes exchange rows: auto, shm, unix, tcp or ucx.
        interface: address of this machine that other machines reach; by default the one that leads to rank 0.
        tls: PEM files by "certificate", "key" and "ca": what leaves this machine is then encrypted, and all processes
            need certificates of one CA. By default what GEEPS_TLS_CERTIFICATE, GEEPS_TLS_KEY and GEEPS_TLS_CA name.

    Example:
        >>> import torch, geeps
        >>> model = torch.nn.Linear(4, 2)
        >>> with geeps.attach(model, torch.optim.AdamW(model.parameters(), lr=1e-3)) as opt:
        ...     model(torch.ones(3, 4)).sum().backward()
        ...     opt.step()
    """
    place = _rendezvous.agree(_launch.detect())
    options: dict[str, object] = {
        "rank": place.rank,
        "world_size": place.world_size,
        "join_timeout": join_timeout,
        "wait_timeout": wait_timeout,
        "reconnect_timeout": reconnect_timeout,
        "transport": transport,
        "memory": memory,
        "staleness": staleness,
        "agreement": f"torch: {torch.__version__}",
    }
    if place.world_size > 1:
        options["rendezvous"] = place.rendezvous
        options["interface"] = interface or "auto"
    for part, path in (tls or {}).items():
        if part not in ("certificate", "key", "ca"):
            raise ArgumentError(f"tls has {part!r}, expected 'certificate', 'key' and 'ca'")
        options[f"tls_{part}"] = path
    if budget is not None:
        if memory != "managed":
            raise ArgumentError(f"budget={budget} needs memory='managed', this is {memory!r}")
        options["budget_bytes"] = budget
    if staleness != 0 and memory != "resident":
        raise ArgumentError(f"staleness={staleness!r} needs memory='resident', this is {memory!r}")
    if hold_gradients is not None and memory != "managed":
        raise ArgumentError(f"hold_gradients={hold_gradients} needs memory='managed', this is {memory!r}")
    if overlap is not None and memory != "resident":
        raise ArgumentError(f"overlap={overlap} needs memory='resident', this is {memory!r}")
    return Optimizer(model, optimizer, place, options, wait_timeout, offload_threshold, hold_gradients, overlap)
