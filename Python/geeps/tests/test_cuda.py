"""CUDA: on a GPU where there is one, and always on an emulated driver, which sees work that is not in order."""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import subprocess
import sys

import models
import pytest
import torch

import geeps
from geeps import _device

_EMULATED = pathlib.Path(__file__).parents[3] / ".build-library" / "emulated"
needs_emulator = pytest.mark.skipif(
    not (_EMULATED / "libcuda.so.1").is_file(), reason="`make emulated-cuda` makes the emulated driver"
)
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")


def on_emulated(*arguments: str, driver: pathlib.Path = _EMULATED) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {
        "LD_LIBRARY_PATH": str(driver),
        "GEEPS_NVRTC": str(driver / "libcuda.so.1"),
        "XDG_CACHE_HOME": str(_EMULATED / "cache"),
    }
    command = [sys.executable, str(pathlib.Path(__file__).with_name("cuda_worker.py")), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


def expected(name: str, optimizer: str) -> tuple[list[float], str]:
    model, plain = models.plain(name, optimizer)
    losses = models.train(model, plain, name, steps=8) + models.train(model, plain, name, steps=2)
    return losses, hashlib.sha256(b"".join(p.detach().numpy().tobytes() for p in model.parameters())).hexdigest()


@needs_emulator
@pytest.mark.parametrize("name, optimizer", [("cnn", "momentum"), ("lm", "adamw"), ("lstm", "sgd")])
def test_rows_at_hand_on_an_emulated_gpu_have_the_bits_of_torch(name: str, optimizer: str) -> None:
    done = on_emulated(name, optimizer, "resident", "0")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert (result["losses"], result["digest"]) == expected(name, optimizer)
    assert result["findings"] == []
    assert result["report"]["reads_in_place"] > 0
    assert result["report"]["replans"] <= 2, result["report"]


@needs_emulator
@pytest.mark.parametrize("name, optimizer, budget", [("cnn", "adamw", 120_000), ("lm", "momentum", 200_000)])
def test_managed_memory_on_an_emulated_gpu_has_the_bits_of_torch(name: str, optimizer: str, budget: int) -> None:
    done = on_emulated(name, optimizer, "managed", str(budget))
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert (result["losses"], result["digest"]) == expected(name, optimizer)
    assert result["findings"] == []
    assert result["report"]["plans_followed"] > 0
    assert 0 < result["report"]["plan_device_bytes"] <= budget


def test_without_a_driver_the_message_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    class Missing(_device.Host):
        option = "cuda:0"

        def stream(self) -> int:
            return 0

    if torch.cuda.is_available():
        pytest.skip("there is a driver")
    monkeypatch.setattr(_device, "of", lambda _: Missing())
    model = models.build("cnn")
    with pytest.raises(geeps.GeepsError, match="found no NVIDIA driver"):
        geeps.attach(model, models.OPTIMIZERS["sgd"](model.parameters()))


def test_parameters_on_two_devices_are_refused() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2, device="meta"))
    with pytest.raises(geeps.ArgumentError, match="meta"):
        geeps.attach(model, torch.optim.SGD(model.parameters(), lr=0.1))


@needs_gpu
@pytest.mark.parametrize("memory", ["resident", "managed"])
@pytest.mark.parametrize("name", models.MODELS)
def test_twenty_steps_on_a_gpu_are_torchs(name: str, memory: str) -> None:
    torch.use_deterministic_algorithms(True, warn_only=True)
    theirs, ours = models.build(name).cuda(), models.build(name).cuda()
    plain = models.OPTIMIZERS["momentum"](theirs.parameters())
    options = {"memory": memory, "budget": 64 << 20} if memory == "managed" else {}
    expected = train_on_gpu(theirs, plain, name)
    with geeps.attach(ours, models.OPTIMIZERS["momentum"](ours.parameters()), **options) as attached:
        assert train_on_gpu(ours, attached, name) == pytest.approx(expected, rel=1e-4)


@needs_gpu
def test_other_streams_are_followed_on_a_gpu() -> None:
    theirs, ours = models.build("cnn").cuda(), models.build("cnn").cuda()
    plain = models.OPTIMIZERS["momentum"](theirs.parameters())
    expected = train_on_gpu(theirs, plain, "cnn")
    with geeps.attach(ours, models.OPTIMIZERS["momentum"](ours.parameters())) as attached:
        with torch.cuda.stream(torch.cuda.Stream()):
            assert train_on_gpu(ours, attached, "cnn") == pytest.approx(expected, rel=1e-4)


def train_on_gpu(model: torch.nn.Module, optimizer: torch.optim.Optimizer, name: str) -> list[float]:
    losses = []
    for step in range(20):
        x, y = (part.cuda() for part in models.batch(name, step))
        torch.manual_seed(7000 + step)
        optimizer.zero_grad()
        loss = models.loss_of(model, x, y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses
