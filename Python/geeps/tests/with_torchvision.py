"""Runs a script that imports torchvision's models, beside a torch without CUDA too.

usage: with_torchvision.py SCRIPT

The wheel on PyPI has its operators in a library that wants CUDA's; models need none of them, but the package names two when it
is imported.
"""

from __future__ import annotations

import importlib
import runpy
import sys

import torch


def prepare() -> None:
    """Makes torchvision one that can be imported."""
    try:
        importlib.import_module("torchvision")
    except RuntimeError:
        for name in [name for name in sys.modules if name.startswith("torchvision")]:
            del sys.modules[name]
        for operator in ("nms", "qnms"):
            torch.library.define(f"torchvision::{operator}", "(Tensor boxes, Tensor scores, float iou_threshold) -> Tensor")


if __name__ == "__main__":
    prepare()
    sys.argv = sys.argv[1:]
    runpy.run_path(sys.argv[0], run_name="__main__")
