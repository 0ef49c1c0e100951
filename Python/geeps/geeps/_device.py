"""Where parameters are: host memory, or a GPU's, whose work is in the order of torch's streams."""

from __future__ import annotations

import ctypes
import glob
import os
import sys

import torch


class Host:
    """Memory that the host's threads compute in."""

    #: As ``geeps_set(device)`` takes it.
    option = "host"
    torch = torch.device("cpu")

    def stream(self) -> int | None:
        """The stream that torch puts work on now; None where its own thread works."""
        return None

    def tensor(self, address: int, byte_count: int, dtype: torch.dtype, owner: object) -> torch.Tensor:
        """Lent bytes as a flat tensor, without a copy; its storage keeps ``owner``."""
        memory = (ctypes.c_char * byte_count).from_address(address)
        memory.owner = owner
        return torch.frombuffer(memory, dtype=dtype)


class Cuda(Host):
    """Memory of an NVIDIA GPU."""

    def __init__(self, device: torch.device) -> None:
        self.torch = torch.device("cuda", torch.cuda.current_device() if device.index is None else device.index)
        self.option = f"cuda:{self.torch.index}"
        _name_compiler()

    def stream(self) -> int | None:
        """The handle of torch's current stream; 0 is the default one."""
        return int(torch.cuda.current_stream(self.torch).cuda_stream)

    def tensor(self, address: int, byte_count: int, dtype: torch.dtype, owner: object) -> torch.Tensor:
        """Lent bytes as a flat tensor, without a copy; its storage keeps ``owner``."""
        return torch.as_tensor(_Lent(address, byte_count, owner), device=self.torch).view(dtype)


class _Lent:
    """Bytes of a GPU, as torch takes them from other libraries."""

    def __init__(self, address: int, byte_count: int, owner: object) -> None:
        self.owner = owner
        self.__cuda_array_interface__ = {
            "data": (address, False),
            "shape": (byte_count,),
            "typestr": "|u1",
            "strides": None,
            "version": 2,
        }


def of(tensor: torch.Tensor) -> Host:
    """The device of ``tensor``, which ``_layout`` has found usable."""
    return Cuda(tensor.device) if tensor.device.type == "cuda" else Host()


def _name_compiler() -> None:
    """Tells the library where torch's own NVRTC lies, unless somebody has said where another is."""
    if os.environ.get("GEEPS_NVRTC"):
        return
    for directory in sys.path:
        found = sorted(glob.glob(os.path.join(directory, "nvidia", "*", "lib", "libnvrtc.so.1[23]")))
        if found:
            os.environ["GEEPS_NVRTC"] = found[-1]
            return
