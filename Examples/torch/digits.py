"""A small network on 1,797 scanned digits, in plain PyTorch; digits_geeps.py is the same with GeePS.

$ python Examples/torch/digits.py
$ torchrun --nproc-per-node 2 Examples/torch/digits_geeps.py
"""

import gzip
import os
import pathlib

import torch
from torch import nn

DATA = pathlib.Path(__file__).parents[2] / "data" / "digits"


def read_idx(name: str) -> torch.Tensor:
    raw = gzip.decompress((DATA / name).read_bytes())
    axes = raw[3]
    shape = [int.from_bytes(raw[4 + 4 * i : 8 + 4 * i], "big") for i in range(axes)]
    return torch.frombuffer(bytearray(raw[4 + 4 * axes :]), dtype=torch.uint8).reshape(shape)


class CNN(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.LazyLinear(10),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


def main() -> None:
    torch.manual_seed(1)
    images = read_idx("train-images-idx3-ubyte.gz").float().unsqueeze(1) / 255
    labels = read_idx("train-labels-idx1-ubyte.gz").long()
    model = CNN()
    model(images[:1])  # sizes the last layer
    opt = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    rank, size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    for epoch in range(5):
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
    test_images = read_idx("t10k-images-idx3-ubyte.gz").float().unsqueeze(1) / 255
    with torch.no_grad():
        right = model(test_images).argmax(1) == read_idx("t10k-labels-idx1-ubyte.gz")
    if rank == 0:
        print(f"accuracy {100 * right.float().mean():.2f} %")


if __name__ == "__main__":
    main()
