"""torchvision's ResNet-18 on 1,797 scanned digits, in plain PyTorch; resnet_geeps.py is the same with GeePS.

$ python Examples/torch/resnet.py
$ torchrun --nproc-per-node 2 Examples/torch/resnet_geeps.py
"""

import gzip
import os
import pathlib
import sys

import torch
from torch import nn

try:
    from torchvision.models import resnet18
except ImportError:
    sys.exit("this example needs torchvision, in the version that goes with your torch: pip install torchvision")

DATA = pathlib.Path(__file__).parents[2] / "data" / "digits"


def read_idx(name: str) -> torch.Tensor:
    raw = gzip.decompress((DATA / name).read_bytes())
    axes = raw[3]
    shape = [int.from_bytes(raw[4 + 4 * i : 8 + 4 * i], "big") for i in range(axes)]
    return torch.frombuffer(bytearray(raw[4 + 4 * axes :]), dtype=torch.uint8).reshape(shape)


def read_images(name: str) -> torch.Tensor:
    images = read_idx(name).float().unsqueeze(1) / 255
    return nn.functional.interpolate(images, size=32, mode="bilinear").expand(-1, 3, -1, -1)


def main() -> None:
    torch.manual_seed(1)
    images = read_images("train-images-idx3-ubyte.gz")
    labels = read_idx("train-labels-idx1-ubyte.gz").long()
    model = resnet18(num_classes=10)
    opt = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9, weight_decay=1e-4)
    rank, size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    for epoch in range(2):
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(epoch))
        # Each process takes its share; all take equally many steps.
        order = order[: len(order) // (32 * size) * 32 * size][rank::size]
        for batch in order.split(32):
            opt.zero_grad()
            loss = nn.functional.cross_entropy(model(images[batch]), labels[batch])
            loss.backward()
            opt.step()
        if rank == 0:
            print(f"epoch {epoch + 1}: loss {loss.item():.4f}")
    model.eval()
    with torch.no_grad():
        right = model(read_images("t10k-images-idx3-ubyte.gz")).argmax(1) == read_idx("t10k-labels-idx1-ubyte.gz")
    if rank == 0:
        print(f"accuracy {100 * right.float().mean():.2f} %")


if __name__ == "__main__":
    main()
