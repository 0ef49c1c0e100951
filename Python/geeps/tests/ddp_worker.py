"""One of several processes: trains a model by DistributedDataParallel and by GeePS, and compares.

usage: ddp_worker.py MODEL OPTIMIZER TOLERANCE

With tolerance 0 the bits must be equal. Without torch.distributed (NO_DDP in the environment) it only checks that all
processes have the same bits.
"""

from __future__ import annotations

import os
import sys

import models
import torch

import geeps


def compare(name: str, optimizer: str, tolerance: float) -> None:
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    torch.distributed.init_process_group("gloo")
    # Every rank begins elsewhere: both must take rank 0's.
    theirs, plain = models.plain(name, optimizer, seed=1 + rank)
    parallel = torch.nn.parallel.DistributedDataParallel(theirs)
    expected = models.train(parallel, plain, name, rank=rank)
    ours = models.build(name, seed=1 + rank)
    attached = geeps.attach(ours, models.OPTIMIZERS[optimizer](ours.parameters()))
    losses = models.train(ours, attached, name, rank=rank)
    if tolerance == 0:
        assert losses == expected, (losses, expected)
        models.assert_same(ours, theirs)
    for (key, value), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        difference = (value.detach() - other).abs().max().item()
        assert difference <= tolerance, (key, difference)
        # Replicas never drift apart. (Buffers do, with DDP too, until the next training pass.)
        copies = [torch.empty_like(value) for _ in range(size)]
        torch.distributed.all_gather(copies, value.detach())
        assert all(torch.equal(copy, value) for copy in copies), key
    state = attached.state_dict()["state"]
    for index, entry in plain.state_dict()["state"].items():
        for key, value in entry.items():
            if value is not None:
                assert (state[index][key] - value).abs().max() <= tolerance, (index, key)
    attached.close()
    torch.distributed.destroy_process_group()


def main() -> None:
    torch.set_num_threads(1)
    name, optimizer, tolerance = sys.argv[1], sys.argv[2], float(sys.argv[3])
    compare(name, optimizer, tolerance)
    print("same")


if __name__ == "__main__":
    main()
