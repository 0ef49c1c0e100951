"""One of several processes: trains a model by DistributedDataParallel and by GeePS, and compares.

usage: ddp_worker.py MODEL OPTIMIZER TOLERANCE [WAY]

WAY is "hook", or "resident" or "managed" with what happens to gradients after a hyphen: "clip", "scale" or
"scale-and-clip".

With tolerance 0 the bits must be equal.
"""

from __future__ import annotations

import functools
import hashlib
import os
import sys

import models
import torch

import geeps


def train_clipped(model, optimizer, name: str, rank: int) -> list[float]:
    """Losses and norms of some steps whose gradients are clipped."""
    results = []
    for step in range(20):
        torch.manual_seed(7000 + step)
        optimizer.zero_grad()
        loss = models.loss_of(model, *models.batch(name, step, rank))
        loss.backward()
        if isinstance(optimizer, geeps.Optimizer):
            if step == 3:
                # Handed over, then dropped by all: nothing has happened.
                optimizer.clip_grad_norm_(0.5)
                optimizer.zero_grad()
                torch.manual_seed(7000 + step)
                models.loss_of(model, *models.batch(name, step, rank)).backward()
            try:
                torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            except geeps.ArgumentError as error:
                assert "opt.clip_grad_norm_" in str(error)
            else:
                raise AssertionError("each process would have clipped by another norm")
            norm = optimizer.clip_grad_norm_(0.5)
        else:
            norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        results += [loss.item(), norm.item()]
    return results


def train_scaled(model, optimizer, name: str, rank: int, clips: bool = False) -> list[float]:
    """Losses, scales and norms of some steps, of which two have no finite gradient in one of the processes."""
    results = []
    scaler = torch.amp.GradScaler("cpu", init_scale=1024, growth_interval=5)
    for step in range(20):
        torch.manual_seed(7000 + step)
        # Parameters are used, and gradients freed, behind the optimizer's back too.
        (model if step % 2 else optimizer).zero_grad()
        loss = models.loss_of(model, *models.batch(name, step, rank))
        spoilt = {4: (1, float("inf")), 9: (0, float("nan"))}.get(step)
        scaler.scale(loss * (spoilt[1] if spoilt and spoilt[0] == rank else 1)).backward()
        if clips:
            scaler.unscale_(optimizer)
            clip = getattr(optimizer, "clip_grad_norm_", None)
            norm = clip(0.5) if clip else torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            assert norm.isfinite() == (spoilt is None)
            results.append(norm.item() if spoilt is None else 0.0)
        scaler.step(optimizer)
        before = scaler.get_scale()
        scaler.update()
        assert (scaler.get_scale() < before) == (spoilt is not None), (step, before, scaler.get_scale())
        results += [loss.item(), scaler.get_scale()]
    return results


RUNS = {
    "clip": train_clipped,
    "scale": train_scaled,
    "scale-and-clip": functools.partial(train_scaled, clips=True),
}


def compare_hook(name: str, optimizer: str, expected: list[float], theirs: torch.nn.Module, rank: int) -> None:
    """DistributedDataParallel whose gradients travel through GeePS."""
    ours, plain = models.plain(name, optimizer, seed=1 + rank)
    parallel = torch.nn.parallel.DistributedDataParallel(ours, bucket_cap_mb=0.02)
    parallel.register_comm_hook(None, geeps.ddp_comm_hook)
    assert models.train(parallel, plain, name, rank=rank) == expected
    models.assert_same(ours, theirs)
    write_weights(ours)


def write_weights(model: torch.nn.Module) -> None:
    weights = b"".join(value.detach().numpy().tobytes() for value in model.parameters())
    # In one write: the lines of all processes, and gloo's, go to one place.
    sys.stdout.write(f"\nweights {hashlib.sha256(weights).hexdigest()}\n")


def compare(name: str, optimizer: str, tolerance: float, way: str) -> None:
    rank = int(os.environ["RANK"])
    torch.distributed.init_process_group("gloo")
    # Every rank begins elsewhere: both must take rank 0's.
    theirs, plain = models.plain(name, optimizer, seed=1 + rank)
    parallel = torch.nn.parallel.DistributedDataParallel(theirs)
    memory, _, gradients = way.partition("-")
    run = RUNS.get(gradients, models.train)
    expected = run(parallel, plain, name, rank=rank)
    if way == "hook":
        return compare_hook(name, optimizer, expected, theirs, rank)
    ours = models.build(name, seed=1 + rank)
    attached = geeps.attach(
        ours,
        models.OPTIMIZERS[optimizer](ours.parameters()),
        memory=memory,
        offload_threshold=256,
    )
    losses = run(ours, attached, name, rank=rank)
    torch.testing.assert_close(losses, expected, rtol=1e-4, atol=1e-4)
    if tolerance == 0:
        assert losses == expected, (losses, expected)
        models.assert_same(ours, theirs)
    state = attached.state_dict()["state"]
    attached.close()
    for (key, value), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        difference = (value.detach() - other).abs().max().item()
        assert difference <= tolerance, (key, difference)
    for index, entry in plain.state_dict()["state"].items():
        for key, value in entry.items():
            if value is not None:
                assert (state[index][key] - value).abs().max() <= tolerance, (index, key)
    torch.distributed.destroy_process_group()
    # Replicas never drift apart; buffers do, with DDP too, until the next training pass.
    write_weights(ours)


def main() -> None:
    torch.set_num_threads(1)
    name, optimizer, tolerance = sys.argv[1], sys.argv[2], float(sys.argv[3])
    compare(name, optimizer, tolerance, sys.argv[4] if len(sys.argv) > 4 else "resident")


if __name__ == "__main__":
    main()
