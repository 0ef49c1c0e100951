"""Managed memory: the same bits with parameters and activations elsewhere."""

from __future__ import annotations

import gc
import weakref

import models
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import geeps


def parameter_bytes(model: torch.nn.Module) -> int:
    return sum(p.numel() * p.element_size() for p in model.parameters())


@pytest.mark.parametrize("optimizer", ["momentum", "adamw"])
@pytest.mark.parametrize("name", models.MODELS)
def test_twenty_steps_have_the_bits_of_torch(name: str, optimizer: str) -> None:
    theirs, plain = models.plain(name, optimizer)
    expected = models.train(theirs, plain, name)
    ours = models.build(name)
    attached = geeps.attach(
        ours, models.OPTIMIZERS[optimizer](ours.parameters()), memory="managed", offload_threshold=256
    )
    assert models.train(ours, attached, name) == expected
    models.assert_same(ours, theirs)
    report = attached.report()
    assert report["replans"] <= 2, report
    attached.close()
    models.assert_same(ours, theirs)


def test_a_parameter_that_is_not_in_use_is_nan() -> None:
    model = models.build("cnn")
    attached = geeps.attach(model, models.OPTIMIZERS["sgd"](model.parameters()), memory="managed")
    held = list(model.parameters())
    assert all(p.isnan().all() for p in held)
    assert held[0].shape == (8, 1, 3, 3)
    # By its name it is fetched.
    assert not model.first.weight.isnan().any()
    models.train(model, attached, "cnn", steps=1)
    assert all(p.isnan().all() for p in held)
