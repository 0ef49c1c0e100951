"""Attaches before or after torch.distributed starts, where the command line says so; both need a port of rank 0's."""

from __future__ import annotations

import sys

import models
import torch

import geeps


def start_group(place: tuple[int, int]) -> None:
    rank, size = place
    torch.distributed.init_process_group("gloo", rank=rank, world_size=size)


def main(order: str, rank: int, size: int) -> None:
    torch.set_num_threads(1)
    model = models.build("cnn", seed=1)
    if order == "before":
        start_group((rank, size))
    with geeps.attach(model, models.OPTIMIZERS["momentum"](model.parameters()), join_timeout=30) as opt:
        if order == "after":
            start_group((rank, size))
        models.train(model, opt, "cnn", steps=2, rank=0)
        total = torch.tensor([float(opt.place.rank)])
        torch.distributed.all_reduce(total)
        print(f"sum of ranks {total.item():g}")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
