"""What the tests share."""

from __future__ import annotations

import os
import pathlib

import pytest
import torch

# Before geeps is imported: the library of this tree, unless a test environment has the package installed.
_LIBRARY = pathlib.Path(__file__).parents[3] / ".build-library" / "libgeeps.so"
if _LIBRARY.is_file():
    os.environ.setdefault("GEEPS_LIBRARY", str(_LIBRARY))

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def closed() -> object:
    """Whatever a test leaves attached is closed, so that one failure does not become many."""
    yield
    from geeps import _optimizer

    for optimizer in list(_optimizer._live):
        optimizer.close(timeout=2)
