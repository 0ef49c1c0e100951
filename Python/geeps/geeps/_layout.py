"""Which parameters share a table, and where in it each lies."""

from __future__ import annotations

import ctypes
import dataclasses

import torch

from ._library import Piece
from .errors import ArgumentError

#: Every parameter begins on a cache line, as torch's own do: mathematics libraries choose their ways by alignment.
ALIGNMENT = 16


@dataclasses.dataclass
class Member:
    """A parameter with its place in a table."""

    parameter: torch.nn.Parameter
    name: str
    offset: int
    count: int
    shape: torch.Size
    stride: tuple[int, ...]
    #: The parameter's version when it last was what the keepers have.
    version: int = -1


@dataclasses.dataclass
class Table:
    """Parameters that are updated together, and share a clock."""

    name: str
    #: Position in the optimiser's ``param_groups``.
    group: int
    index: int = 0
    members: list[Member] = dataclasses.field(default_factory=list)
    #: Where the values lie now, and the lease of them.
    address: int = 0
    lease: int = 0

    def __post_init__(self) -> None:
        self.pieces: ctypes.Array[Piece] | None = None

    @property
    def count(self) -> int:
        """Values in the table, gaps between parameters included."""
        last = self.members[-1]
        return last.offset + last.count

    def add(self, parameter: torch.nn.Parameter, name: str) -> None:
        """Appends a parameter."""
        end = self.count if self.members else 0
        offset = (end + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT
        self.members.append(
            Member(parameter, name, offset, parameter.numel(), parameter.shape, parameter.stride())
        )


def tables(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> list[Table]:
    """The tables of the parameters of ``optimizer``.

    A stock layer of torch uses all of its parameters in an iteration or none, so they share a table, one for each
    parameter group. Other modules may use some and not others, and then torch steps those only: there each parameter
    has a table of its own, and so has one that requires no gradient at the moment.
    """
    owners = _owners(model)
    found: dict[object, Table] = {}
    first: tuple[str, torch.Tensor] | None = None
    for position, group in enumerate(optimizer.param_groups):
        for number, parameter in enumerate(group["params"]):
            module, prefix, name = owners.get(id(parameter), (None, "", f"group{position}.{number}"))
            full = f"{prefix}.{name}" if prefix else name
            _require_usable(parameter, full)
            first = first or (full, parameter)
            if parameter.device != first[1].device:
                raise ArgumentError(
                    f"parameter {full} is on {parameter.device}, {first[0]} on {first[1].device}; GeePS keeps all on one"
                )
            is_shared = module is not None and _is_stock(module) and parameter.requires_grad
            key = (id(module), position) if is_shared else full
            if key not in found:
                found[key] = Table(prefix if is_shared and prefix else full, position)
            found[key].add(parameter, full)
    result = list(found.values())
    if not result:
        raise ArgumentError("the optimizer has no parameters")
    _make_names_unique(result)
    for index, table in enumerate(result):
        table.index = index
    return result


def _owners(model: torch.nn.Module) -> dict[int, tuple[torch.nn.Module, str, str]]:
    """By id of a parameter: the first module that owns it, the module's name, the parameter's name there."""
    owners: dict[int, tuple[torch.nn.Module, str, str]] = {}
    for prefix, module in model.named_modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                owners.setdefault(id(parameter), (module, prefix, name))
    return owners


def _is_stock(module: torch.nn.Module) -> bool:
    return type(module).__module__.startswith("torch.nn.modules.")


def _require_usable(parameter: torch.Tensor, name: str) -> None:
    if isinstance(parameter, torch.nn.parameter.UninitializedTensorMixin):
        raise ArgumentError(f"parameter {name} is not initialised yet: run one forward pass before geeps.attach")
    if parameter.dtype != torch.float32 or parameter.device.type not in ("cpu", "cuda"):
        raise ArgumentError(
            f"parameter {name} is {parameter.dtype} on {parameter.device}; this version of GeePS keeps float32 on the "
            "cpu or an NVIDIA GPU (train in lower precision by torch.autocast)"
        )
    if parameter.numel() == 0:
        raise ArgumentError(f"parameter {name} has no values (shape {tuple(parameter.shape)})")
    if not torch.ops.aten.is_non_overlapping_and_dense(parameter.detach()):
        raise ArgumentError(f"parameter {name} has strides {parameter.stride()} for shape {tuple(parameter.shape)}")


def _make_names_unique(tables: list[Table]) -> None:
    seen: set[str] = set()
    for table in tables:
        name, number = table.name, 1
        while name in seen:
            number += 1
            name = f"{table.name}#{number}"
        table.name = name
        seen.add(name)
