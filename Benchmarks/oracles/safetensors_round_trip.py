"""The reference library's side of the safetensors tests.

usage: safetensors_round_trip.py write PATH      one tensor of every type that torch has
       safetensors_round_trip.py copy FROM TO    load with the reference, save with the reference
"""

import sys

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

NAMES = """bool uint8 int8 float8_e5m2 float8_e4m3fn float8_e8m0fnu float8_e4m3fnuz float8_e5m2fnuz
int16 uint16 float16 bfloat16 int32 uint32 float32 complex64 float64 int64 uint64""".split()


def write(path):
    tensors = {}
    for index, name in enumerate(NAMES):
        dtype = getattr(torch, name)
        count = 6
        size = torch.empty(0, dtype=dtype).element_size() * count
        content = torch.arange(index, index + size, dtype=torch.uint8)
        if name == "bool":
            content = content % 2
        tensors[f"x.{name}"] = content.view(dtype).reshape(2, 3)
    tensors["scalar"] = torch.tensor(0.1)
    tensors["empty"] = torch.empty(0, 4)
    save_file(tensors, path, {"format": "pt"})


def copy(source, target):
    with safe_open(source, "pt") as file:
        metadata = file.metadata()
    save_file(load_file(source), target, metadata)


if __name__ == "__main__":
    {"write": write, "copy": copy}[sys.argv[1]](*sys.argv[2:])
