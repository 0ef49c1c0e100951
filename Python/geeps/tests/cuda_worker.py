"""A training on an emulated GPU: torch computes in host memory, which is what the emulated device's is.

Prints the losses, a digest of the parameters, what was counted, and what the emulator has found wrong.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import sys

import models
import torch

import geeps
from geeps import _device, _job


class Emulated(_device.Host):
    """The host's tensors as a GPU's; the emulated streams are asynchronous, the host is not."""

    option = "cuda:0"

    def __init__(self) -> None:
        self._driver = ctypes.CDLL("libcuda.so.1")
        self._context = ctypes.c_void_p()
        assert self._driver.cuInit(0) == 0
        assert self._driver.cuDevicePrimaryCtxRetain(ctypes.byref(self._context), 0) == 0

    def stream(self) -> int:
        assert self._driver.cuCtxSetCurrent(self._context) == 0
        return 0

    def wait(self) -> None:
        """Waits for what is on the default stream."""
        assert self._driver.cuStreamSynchronize(None) == 0

    def findings(self) -> list[str]:
        """What is wrong so far."""
        self._driver.cuda_emulated_findings.restype = ctypes.c_char_p
        return (self._driver.cuda_emulated_findings() or b"").decode().splitlines()


def main() -> None:
    name, optimizer, memory, budget = sys.argv[1:5]
    device = Emulated()
    _device.of = lambda _: device
    for method in ("read", "update", "put_local", "get_local"):
        original = getattr(_job.Job, method)

        def and_wait(self, *arguments, original=original):
            result = original(self, *arguments)
            device.wait()
            return result

        setattr(_job.Job, method, and_wait)
    torch.set_num_threads(1)
    model = models.build(name)
    options = {"memory": "managed", "budget": int(budget), "offload_threshold": 256} if memory == "managed" else {}
    attached = geeps.attach(model, models.OPTIMIZERS[optimizer](model.parameters()), **options)
    losses = models.train(model, attached, name, steps=8)
    report = attached.report()
    state = attached.state_dict()
    attached.load_state_dict(state)
    losses += models.train(model, attached, name, steps=2)
    attached.close()
    digest = hashlib.sha256(b"".join(p.detach().numpy().tobytes() for p in model.parameters())).hexdigest()
    print(json.dumps({"losses": losses, "digest": digest, "report": report, "findings": device.findings()}))


if __name__ == "__main__":
    main()
