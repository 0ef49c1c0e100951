"""One of several processes that know of each other from the environment only; no torch.distributed."""

from __future__ import annotations

import sys

import models
import torch

import geeps


def main() -> None:
    torch.set_num_threads(1)
    model = models.build("cnn", seed=1)
    with geeps.attach(model, models.OPTIMIZERS["momentum"](model.parameters()), join_timeout=30) as opt:
        place = opt.place
        for step in range(int(sys.argv[1])):
            # The same data everywhere: the mean of equal gradients is each of them.
            models.train(model, opt, "cnn", steps=1, rank=0)
            if step == 0:
                print("training", flush=True)
            if len(sys.argv) > 2 and place.rank == int(sys.argv[2]) and step == 2:
                raise KeyError("a mistake of the script")
        total = sum(p.double().sum().item() for p in model.parameters())
        print(f"rank {place.rank} of {place.world_size} by {place.source}: {total!r}")


if __name__ == "__main__":
    main()
