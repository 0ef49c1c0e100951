"""What geeps.attach costs in one process: steps of plain and of attached models, in turn.

$ make library && PYTHONPATH=Python/geeps GEEPS_LIBRARY=.build-library/libgeeps.so .oracles/bin/python Benchmarks/attach_overhead.py

Prints a line for each case; the difference of the fastest steps is the cost, since everything else that runs on the
machine adds to both.
"""

import statistics
import time

import geeps
import torch
from torch import nn

CASES = [
    # name, width, layers, batch, memory, pairs
    ("5 ms step", 256, 8, 128, "resident", 300),
    ("100 ms step", 512, 8, 640, "resident", 30),
    ("5 ms step", 256, 8, 128, "managed", 100),
]


def make(width: int, layers: int) -> nn.Module:
    torch.manual_seed(0)
    hidden = [layer for _ in range(layers) for layer in (nn.Linear(width, width), nn.ReLU())]
    return nn.Sequential(*hidden, nn.Linear(width, 10))


def step(model: nn.Module, optimizer: torch.optim.Optimizer, x: torch.Tensor) -> float:
    start = time.perf_counter()
    optimizer.zero_grad()
    model(x).square().mean().backward()
    optimizer.step()
    return time.perf_counter() - start


def main() -> None:
    torch.set_num_threads(1)
    for name, width, layers, batch, memory, pairs in CASES:
        x = torch.randn(batch, width)
        plain, attached = make(width, layers), make(width, layers)
        theirs = torch.optim.SGD(plain.parameters(), lr=1e-3, momentum=0.9)
        ours = geeps.attach(attached, torch.optim.SGD(attached.parameters(), lr=1e-3, momentum=0.9), memory=memory)
        sides = [(plain, theirs), (attached, ours)]
        times: list[list[float]] = [[], []]
        for pair in range(pairs + 5):
            for side in (0, 1) if pair % 2 else (1, 0):
                seconds = step(*sides[side], x)
                if pair >= 5:
                    times[side].append(seconds)
        best = [1e3 * min(side) for side in times]
        middle = [1e3 * statistics.median(side) for side in times]
        print(
            f"{name}, {memory}: fastest {best[0]:.2f} and {best[1]:.2f} ms ({100 * (best[1] / best[0] - 1):+.1f} %), "
            f"median {middle[0]:.2f} and {middle[1]:.2f} ms",
            flush=True,
        )
        ours.close()


if __name__ == "__main__":
    main()
