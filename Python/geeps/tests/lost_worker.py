"""Trains while its connections are lost again and again: those that others have made to this process."""

from __future__ import annotations

import hashlib
import os
import random
import socket
import sys
import threading
import time

import models
import torch

import geeps


def accepted() -> list[socket.socket]:
    """Copies of the connections of this process whose near port is one that it listens at."""
    connections, ports = [], set()
    for name in os.listdir("/proc/self/fd"):
        try:
            copy = socket.socket(fileno=os.dup(int(name)))
        except OSError:
            continue
        if copy.family != socket.AF_INET or copy.type != socket.SOCK_STREAM:
            copy.close()
        elif copy.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            ports.add(copy.getsockname()[1])
            copy.close()
        else:
            connections.append(copy)
    return [copy for copy in connections if copy.getsockname()[1] in ports]


def lose(stop: threading.Event, rng: random.Random) -> None:
    while not stop.wait(0.05):
        copies = accepted()
        if copies:
            try:
                rng.choice(copies).shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # It had ended by itself.
        for copy in copies:
            copy.close()


def main(is_lossy: bool) -> None:
    torch.set_num_threads(1)
    model = models.build("cnn", seed=1)
    optimizer = models.OPTIMIZERS["momentum"](model.parameters())
    with geeps.attach(model, optimizer, transport="tcp", reconnect_timeout=30) as opt:
        stop = threading.Event()
        thread = threading.Thread(target=lose, args=(stop, random.Random(opt.place.rank)))
        start = time.monotonic()
        if is_lossy:
            thread.start()
        for step in range(60):
            models.train(model, opt, "cnn", steps=1, rank=opt.place.rank)
            if is_lossy:
                time.sleep(max(0.0, start + 0.03 * step - time.monotonic()))
        stop.set()
        if is_lossy:
            thread.join()
        digest = hashlib.sha256(b"".join(p.detach().numpy().tobytes() for p in model.parameters())).hexdigest()
        print(f"weights {digest} reconnects {opt.report()['reconnects']}")


if __name__ == "__main__":
    main(sys.argv[1] == "lossy")
