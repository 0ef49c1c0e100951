"""torch's optimisers as rules of GeePS's keepers."""

from __future__ import annotations

from typing import Any

import torch

from ._library import Rule
from .errors import ArgumentError

_KINDS: dict[type, int] = {
    torch.optim.SGD: 1,
    torch.optim.Adam: 2,
    torch.optim.AdamW: 3,
    torch.optim.Adagrad: 4,
    torch.optim.RMSprop: 5,
}
#: Options that keepers have no arithmetic for; what they must be.
_UNSUPPORTED = {"maximize": False, "amsgrad": False, "differentiable": False}


def kind(optimizer: torch.optim.Optimizer) -> int:
    """The number of the rule of ``optimizer``."""
    found = _KINDS.get(type(optimizer))
    if found is None:
        raise ArgumentError(
            f"{type(optimizer).__module__}.{type(optimizer).__qualname__} has no rule at GeePS's keepers, which "
            f"have {', '.join(known.__name__ for known in _KINDS)} of torch.optim"
        )
    return found


def rule(optimizer: torch.optim.Optimizer, group: dict[str, Any]) -> Rule:
    """The rule of a parameter group.

    Raises:
        ArgumentError: for options that keepers cannot follow.
    """
    for option, needed in _UNSUPPORTED.items():
        if group.get(option, needed) != needed:
            raise ArgumentError(f"{type(optimizer).__name__}({option}={group[option]}) is not supported by GeePS")
    number = kind(optimizer)
    if number == 2 and group.get("decoupled_weight_decay", False):
        number = 3
    beta1, beta2 = group.get("betas", (0.0, 0.0))
    return Rule(
        kind=number,
        nesterov=int(bool(group.get("nesterov", False))),
        centered=int(bool(group.get("centered", False))),
        learning_rate=float(group["lr"]),
        weight_decay=float(group.get("weight_decay", 0)),
        momentum=float(group.get("momentum", 0)),
        dampening=float(group.get("dampening", 0)),
        beta1=float(beta1),
        beta2=float(beta2),
        epsilon=float(group.get("eps", 0)),
        alpha=float(group.get("alpha", 0)),
        learning_rate_decay=float(group.get("lr_decay", 0)),
        initial_accumulator=float(group.get("initial_accumulator_value", 0)),
    )


def numbers(rule: Rule) -> tuple[float, ...]:
    """All of a rule but its learning rate, to compare."""
    return tuple(getattr(rule, name) for name, _ in Rule._fields_ if name != "learning_rate")
