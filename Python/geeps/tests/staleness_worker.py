"""Trains a line with the staleness that the command line says; prints the first and the last loss."""

from __future__ import annotations

import sys

import torch

import geeps


def main(staleness: int | str) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(1)
    model = torch.nn.Linear(6, 1)
    truth = torch.arange(6.0).unsqueeze(0)
    with geeps.attach(model, torch.optim.SGD(model.parameters(), lr=0.05), staleness=staleness) as opt:
        torch.manual_seed(10 + opt.place.rank)
        losses = []
        for _ in range(200):
            x = torch.randn(16, 6)
            loss = (model(x) - x @ truth.T).square().mean()
            opt.zero_grad()
            loss.backward()
            opt.step()
            losses.append(loss.item())
        print("losses", losses[0], losses[-1], opt.report()["ticks"])


if __name__ == "__main__":
    main(sys.argv[1] if sys.argv[1] == "async" else int(sys.argv[1]))
