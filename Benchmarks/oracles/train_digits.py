"""What PyTorch makes of a training job: the oracle of geeps train.

usage: train_digits.py init DIRECTORY               <model>.safetensors of every model to start from
       train_digits.py train DATA DIRECTORY CASES   trains every case of the file CASES from these
       train_digits.py load MODEL FILE...           loads each file into the model, every name must match
       train_digits.py evaluate DATA MODEL FILE     prints mean loss and accuracy on the test half

CASES is a list of objects: name, model, optimizer (a class of torch.optim), options, steps, batch_size (of
all workers together), workers. Of each the script leaves <name>.safetensors and, in losses.json, the mean loss
of the last epoch. Every worker normalises its own part of a batch and has running statistics of its own; the
first worker's are left, as DistributedDataParallel does.

The seed of the initial weights is one from which PyTorch agrees with itself. Relu and max pooling decide, and
Adam divides by the size of a gradient: where a value passes near zero or near its rival, a rounding error grows,
with other seeds to 1e-3 between two runs of PyTorch that differ in precision or in the order of samples within
a batch alone. From this one, such runs end within 2.2e-6 of each other in all cases of the test.
"""

import copy
import gzip
import json
import sys

import numpy
import torch
from safetensors.torch import load_file, save_file
from torch import nn

torch.set_num_threads(1)
SEED = 80


def mlp():
    return {"fc1": nn.Linear(64, 32), "relu1": nn.ReLU(), "fc2": nn.Linear(32, 10)}


def lenet():
    return {
        "conv1": nn.Conv2d(1, 6, 5, padding=2), "relu1": nn.ReLU(), "pool1": nn.MaxPool2d(2),
        "conv2": nn.Conv2d(6, 16, 3, padding=1), "relu2": nn.ReLU(), "pool2": nn.MaxPool2d(2),
        "flatten": nn.Flatten(), "fc1": nn.Linear(64, 120), "relu3": nn.ReLU(),
        "fc2": nn.Linear(120, 84), "relu4": nn.ReLU(), "fc3": nn.Linear(84, 10)}


def normalised():
    return {
        "conv1": nn.Conv2d(1, 6, 3, padding=1), "bn1": nn.BatchNorm2d(6, eps=1e-3, momentum=0.2),
        "tanh1": nn.Tanh(), "lrn1": nn.LocalResponseNorm(3, alpha=0.5), "pool1": nn.AvgPool2d(2),
        "flatten": nn.Flatten(), "fc1": nn.Linear(96, 32), "bn2": nn.BatchNorm1d(32),
        "tanh2": nn.Tanh(), "bn3": nn.BatchNorm1d(32, affine=False), "fc2": nn.Linear(32, 10)}


class Rows(nn.LSTM):
    """Reads an image of one channel a row a step; the hidden values of the last step."""

    def forward(self, images):
        return super().forward(images.squeeze(1))[0][:, -1]


def lstm():
    return {"lstm1": Rows(8, 24, batch_first=True), "fc1": nn.Linear(24, 10)}


MODELS = {"mlp": mlp, "lenet": lenet, "normalised": normalised, "lstm": lstm}


def model(name):
    sequence = nn.Sequential()
    if name == "mlp":
        sequence.add_module("flatten", nn.Flatten())
    for key, module in MODELS[name]().items():
        sequence.add_module(key, module)
    return sequence


def idx(path):
    content = gzip.open(path).read()
    rank = content[3]
    shape = [int.from_bytes(content[4 + 4 * i : 8 + 4 * i], "big") for i in range(rank)]
    return numpy.frombuffer(content, dtype=numpy.uint8, offset=4 + 4 * rank).reshape(shape)


def train(case, data, directory):
    images, labels = data
    network = model(case["model"])
    network.load_state_dict(load_file(f"{directory}/{case['model']}.safetensors"))
    # Without buffers a joined batch is the same, and sums are those of one pass.
    count = case["workers"] if any(True for _ in network.buffers()) else 1
    workers = [network] + [copy.deepcopy(network) for _ in range(count - 1)]
    for worker in workers[1:]:
        # One set of parameters; buffers are each worker's own.
        for module, own in zip(worker.modules(), network.modules()):
            for key in list(module._parameters):
                module._parameters[key] = own._parameters[key]
    # Not fused and not foreach: the plain loop, which is the definition.
    optimizer = getattr(torch.optim, case["optimizer"])(
        network.parameters(), **case["options"], foreach=False, fused=False)
    size = case["batch_size"]
    steps_of_epoch = len(images) // size
    for step in range(case["steps"]):
        start = step % steps_of_epoch * size
        if start == 0:
            losses = []
        batch = (images[start : start + size].float() / 255).unsqueeze(1)
        parts = zip(workers, batch.chunk(len(workers)))
        logits = torch.cat([worker(part) for worker, part in parts])
        loss = nn.functional.cross_entropy(logits, labels[start : start + size])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return network.state_dict(), sum(losses) / len(losses)


def init(directory):
    torch.manual_seed(SEED)
    for name in MODELS:
        save_file(model(name).state_dict(), f"{directory}/{name}.safetensors")


def train_all(folder, directory, cases):
    images = torch.from_numpy(idx(f"{folder}/train-images-idx3-ubyte.gz").copy())
    labels = torch.from_numpy(idx(f"{folder}/train-labels-idx1-ubyte.gz").astype(numpy.int64))
    results = {}
    for case in json.load(open(cases)):
        weights, loss = train(case, (images, labels), directory)
        save_file(weights, f"{directory}/{case['name']}.safetensors")
        results[case["name"]] = loss
    json.dump(results, open(f"{directory}/losses.json", "w"))


def load(name, *files):
    for file in files:
        model(name).load_state_dict(load_file(file), strict=True)
        print(file, "loaded")


def evaluate(folder, name, file):
    network = model(name)
    network.load_state_dict(load_file(file), strict=True)
    network.eval()
    images = torch.from_numpy(idx(f"{folder}/t10k-images-idx3-ubyte.gz").copy())
    labels = torch.from_numpy(idx(f"{folder}/t10k-labels-idx1-ubyte.gz").astype(numpy.int64))
    with torch.no_grad():
        logits = network((images.float() / 255).unsqueeze(1))
    loss = nn.functional.cross_entropy(logits, labels).item()
    accuracy = (logits.argmax(1) == labels).float().mean().item()
    print(json.dumps({"loss": loss, "accuracy": accuracy}))


if __name__ == "__main__":
    {"init": init, "train": train_all, "load": load, "evaluate": evaluate}[sys.argv[1]](*sys.argv[2:])
