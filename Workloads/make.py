#!/usr/bin/env python3
"""Writes the paper's workloads: layers, sizes and times of AdamLike, GoogLeNet and the video LSTM.

Usage: Workloads/make.py

Sizes follow from the layers. Of times the paper (Cui et al., EuroSys 2016) gives sums: they are spread over the layers
by their multiplications, the backward pass twice the forward pass. What each number is from stands in `source`.
"""
import json, pathlib

HERE = pathlib.Path(__file__).resolve().parent


class Layer:
    """A layer: output and parameters in values, multiplications of the forward pass, all for one sample."""

    def __init__(self, name, output, parameters, connections, trains=True):
        self.name, self.output, self.parameters = name, output, parameters
        self.connections, self.trains = connections, trains


def conv(name, inputs, outputs, kernel, side, groups=1, **more):
    weights = inputs // groups * outputs * kernel * kernel
    return Layer(name, outputs * side * side, weights + outputs, weights * side * side, **more)


def pool(name, channels, side, kernel, **more):
    return Layer(name, channels * side * side, 0, channels * side * side * kernel * kernel, **more)


def linear(name, inputs, outputs, **more):
    return Layer(name, outputs, inputs * outputs + outputs, inputs * outputs, **more)


def adamlike():
    return [
        conv("conv1", 3, 96, 11, 55), Layer("norm1", 96 * 55 * 55, 0, 96 * 55 * 55 * 5), pool("pool1", 96, 27, 3),
        conv("conv2", 96, 256, 5, 27, 2), Layer("norm2", 256 * 27 * 27, 0, 256 * 27 * 27 * 5),
        pool("pool2", 256, 13, 3), conv("conv3", 256, 384, 3, 13), conv("conv4", 384, 384, 3, 13, 2),
        conv("conv5", 384, 256, 3, 13, 2), pool("pool5", 256, 6, 3), linear("fc6", 9216, 3000),
        linear("fc7", 3000, 3000), linear("fc8", 3000, 22000),
    ]


# Szegedy et al. 2015, table 1: inputs, 1x1, 3x3 reduce, 3x3, 5x5 reduce, 5x5, pool projection, side.
INCEPTION = {
    "3a": (192, 64, 96, 128, 16, 32, 32, 28), "3b": (256, 128, 128, 192, 32, 96, 64, 28),
    "4a": (480, 192, 96, 208, 16, 48, 64, 14), "4b": (512, 160, 112, 224, 24, 64, 64, 14),
    "4c": (512, 128, 128, 256, 24, 64, 64, 14), "4d": (512, 112, 144, 288, 32, 64, 64, 14),
    "4e": (528, 256, 160, 320, 32, 128, 128, 14), "5a": (832, 256, 160, 320, 32, 128, 128, 7),
    "5b": (832, 384, 192, 384, 48, 128, 128, 7),
}


def inception(name):
    inputs, one, three_in, three, five_in, five, projection, side = INCEPTION[name]
    return [
        conv(f"{name}/1x1", inputs, one, 1, side), conv(f"{name}/3x3_reduce", inputs, three_in, 1, side),
        conv(f"{name}/3x3", three_in, three, 3, side), conv(f"{name}/5x5_reduce", inputs, five_in, 1, side),
        conv(f"{name}/5x5", five_in, five, 5, side), pool(f"{name}/pool", inputs, side, 3),
        conv(f"{name}/pool_proj", inputs, projection, 1, side),
    ]


def auxiliary(number, inputs):
    return [
        pool(f"loss{number}/pool", inputs, 4, 5), conv(f"loss{number}/conv", inputs, 128, 1, 4),
        linear(f"loss{number}/fc", 2048, 1024), linear(f"loss{number}/classifier", 1024, 1000),
    ]


def googlenet(has_classifiers=True):
    layers = [
        conv("conv1", 3, 64, 7, 112), pool("pool1", 64, 56, 3), conv("conv2/reduce", 64, 64, 1, 56),
        conv("conv2", 64, 192, 3, 56), pool("pool2", 192, 28, 3),
    ]
    for name in INCEPTION:
        layers += inception(name)
        if name == "3b":
            layers.append(pool("pool3", 480, 14, 3))
        if name == "4e":
            layers.append(pool("pool4", 832, 7, 3))
        if has_classifiers and name in ("4a", "4d"):
            layers += auxiliary({"4a": 1, "4d": 2}[name], {"4a": 512, "4d": 528}[name])
    layers.append(pool("pool5", 1024, 1, 7))
    if has_classifiers:
        layers.append(linear("classifier", 1024, 1000))
    return layers


def video():
    """GoogLeNet features of 32 frames, an LSTM of 256, 101 classes; a sample is a video."""
    frames = 32
    layers = googlenet(has_classifiers=False)
    layers += [Layer("lstm", 256, 4 * 256 * (1024 + 256) + 4 * 256, 4 * 256 * (1024 + 256)), linear("classifier", 256, 101)]
    for layer in layers:
        layer.output *= frames
        layer.connections *= frames
    return layers


def workload(name, source, layers, samples, inputs, seconds):
    """One clock: load, forward, loss, backward, as GeePS's Caffe accesses it (momentum beside the parameters)."""
    parameters, sizes, phases, accesses = [], [], [], []
    batch_of, momentum_of = {}, {}

    def local(label, values):
        sizes.append({"name": label, "bytes": values * 4})
        return len(sizes) - 1

    outputs, gradients = [local("input", inputs * samples)], [None]
    for index, layer in enumerate(layers):
        outputs.append(local(f"{layer.name}.output", layer.output * samples))
        gradients.append(local(f"{layer.name}.output.gradient", layer.output * samples))
        if layer.parameters:
            batch_of[index] = len(parameters)
            parameters.append({"name": layer.name, "bytes": layer.parameters * 4})
            momentum_of[index] = local(f"{layer.name}.momentum", layer.parameters)
    whole = 3 * sum(layer.connections for layer in layers)

    def step(label, uses, connections, read=None, update=None):
        phases.append({"name": label, "nanoseconds": round(seconds * 1e9 * connections / whole)})
        for number, fetch, _ in uses:
            accesses.append(f"local {number}" + (" fetch" if fetch else ""))
        if read is not None:
            accesses.append(f"read {read}")
        if update is not None:
            accesses.extend([f"update {update}", f"end_update {update}"])
        if read is not None:
            accesses.append(f"end_read {read}")
        for number, _, keep in uses:
            accesses.append(f"end_local {number}" + (" keep" if keep else ""))

    step("load", [(outputs[0], False, True)], 0)
    for index, layer in enumerate(layers):
        step(f"{layer.name} forward", [(outputs[index], True, True), (outputs[index + 1], False, True)],
             layer.connections, read=batch_of.get(index))
    step("loss", [(outputs[-1], True, False), (gradients[-1], False, True)], 0)
    for index in reversed(range(len(layers))):
        uses = [(outputs[index], True, False), (gradients[index + 1], True, False)]
        if gradients[index] is not None:
            uses.append((gradients[index], False, True))
        if index in momentum_of:
            uses.append((momentum_of[index], True, True))
        batch = batch_of.get(index)
        step(f"{layers[index].name} backward", uses, 2 * layers[index].connections, read=batch, update=batch)
    accesses.append("clock")
    return {
        "schema": "geeps.workload/1", "name": name, "source": source, "samples_per_clock": samples,
        "parameters": parameters, "locals": sizes, "phases": phases, "accesses": accesses,
    }


def write(name, value):
    members = []
    for key, content in value.items():
        if isinstance(content, list):
            lines = ",\n".join(" " + json.dumps(entry, separators=(",", ":")) for entry in content)
            members.append(f'"{key}":[\n{lines}\n]')
        else:
            members.append(f'"{key}":{json.dumps(content)}')
    (HERE / f"{name}.json").write_text("{" + ",\n".join(members) + "}\n")
    size = sum(entry["bytes"] for entry in value["parameters"])
    print(f"{name}: {len(value['parameters'])} layers with parameters, {size / 1e6:.1f} MB, {len(value['phases'])} phases")


PAPER = "Cui et al., EuroSys 2016; "
write("adamlike", workload(
    "AdamLike", PAPER + "5 convolutions, linear layers of 3000, 3000, 22000 (section 5.1), 200 images; compute 2.15 s a "
    "clock on a Tesla K20C (Fig. 14), spread by multiplications", adamlike(), 200, 3 * 227 * 227, 2.15))
write("googlenet", workload(
    "GoogLeNet", PAPER + "32 images (section 5.1), layers of Szegedy et al. 2015 with both auxiliary classifiers, branches "
    "one after the other; compute 0.541 s a clock, derived: 32 images / (870 / 16 images a second) with 8 % stall (Fig. "
    "8b, section 5.2), spread by multiplications", googlenet(), 32, 3 * 224 * 224, 0.541))
write("video-lstm", workload(
    "video LSTM", PAPER + "one video of 32 frames (section 5.1), GoogLeNet features and an LSTM of 256; compute 0.459 s a "
    "clock, derived: 2.18 videos a second on one machine (Fig. 10a), spread by multiplications", video(), 1,
    32 * 3 * 224 * 224, 0.459))
