"""Keeping hooks out of graphs that torch compiles."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch
from torch._dynamo.decorators import skip

_P = ParamSpec("_P")
_R = TypeVar("_R")


def outside_graphs(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """``torch._dynamo.disable``, which costs 2 us a call, only inside what is compiled.

    A managed step of a Transformer runs a thousand hooks.
    """
    disabled = torch._dynamo.disable(function)
    if _compiler is None:
        return disabled

    @functools.wraps(function)
    def call(*arguments: _P.args, **keywords: _P.kwargs) -> _R:
        if _compiler() is None:
            return function(*arguments, **keywords)
        return disabled(*arguments, **keywords)

    return skip(call)


try:
    #: What evaluates Python's frames in place of Python; None: Python.
    from torch._C._dynamo.eval_frame import get_eval_frame_callback as _compiler
except ImportError:
    _compiler = None  # type: ignore[assignment]
