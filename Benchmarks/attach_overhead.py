"""What geeps.attach costs in one process: steps of plain and of attached models, in turn.

$ make library && PYTHONPATH=Python/geeps GEEPS_LIBRARY=.build-library/libgeeps.so .oracles/bin/python Benchmarks/attach_overhead.py

Prints a line for each case and run; the difference of the fastest steps is the cost, since everything else that runs on
the machine adds to both. The median of the pairs' ratios says the same where the machine's other work comes and goes.
`--output FILE` keeps every step's time.
"""

import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
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


def measure(width: int, layers: int, batch: int, memory: str, pairs: int) -> list[list[float]]:
    """Milliseconds of steps, plain and attached."""
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
                times[side].append(round(1e3 * seconds, 4))
    ours.close()
    return times


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument("--output")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    results = []
    for run in range(arguments.runs):
        for name, width, layers, batch, memory, pairs in CASES:
            plain, attached = measure(width, layers, batch, memory, pairs)
            best, middle = [(fun(plain), fun(attached)) for fun in (min, statistics.median)]
            ratio = statistics.median(ours / theirs for theirs, ours in zip(plain, attached, strict=True))
            print(
                f"{name}, {memory}: fastest {best[0]:.2f} and {best[1]:.2f} ms ({100 * (best[1] / best[0] - 1):+.1f} %), "
                f"median {middle[0]:.2f} and {middle[1]:.2f} ms, of the pairs' ratios {100 * (ratio - 1):+.1f} %",
                flush=True,
            )
            results.append({"case": name, "memory": memory, "run": run, "plain_ms": plain, "attached_ms": attached})
    if arguments.output:
        write(arguments.output, arguments.threads, results)


def write(path: str, threads: int, results: list[dict[str, object]]) -> None:
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True).stdout.strip()
    about = {
        "date": datetime.date.today().isoformat(),
        "commit": commit,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "torch": torch.__version__,
        "torch_threads": threads,
    }
    with open(path, "w") as file:
        rows = ",\n".join(json.dumps(result) for result in results)
        file.write(f'{{"about": {json.dumps(about)},\n"results": [\n{rows}\n]}}\n')


if __name__ == "__main__":
    main()
