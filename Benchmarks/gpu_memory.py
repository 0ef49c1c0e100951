#!/usr/bin/env python3
"""Training speed against device memory, GeePS beside PyTorch, on one device in one run.

Usage: Benchmarks/gpu_memory.py [--device cuda|host] [--geeps PATH] [--layers N] [--width N] [--batch N]
                                [--budgets 100,60,40,25] [--steps N] [--rounds N] [--output FILE]

The model is a stack of linear layers with relu between them, float32, plain SGD; at a budget of 25 % it needs
four times the memory it is given. GeePS trains it under budgets that are shares of what keeping everything needs.
PyTorch trains it plainly, with torch.autograd.graph.save_on_cpu (activations wait in host memory), and with
FSDP2's CPU offload (parameters and optimiser on the host); its memory is what it took at most, since it has no
budget. Every variant runs --rounds times in turn; medians are reported. --device host runs the same on a CPU: a
check of this script, not a measurement of a GPU.
"""
import argparse, datetime, json, os, pathlib, platform, statistics, subprocess, sys, tempfile, time

ROOT = pathlib.Path(__file__).resolve().parent.parent
CLASSES = 16
WARM_UP = 3  # steps that do not count, on either side


def job(options, directory):
    layers = []
    for index in range(options.layers - 1):
        layers += [f"{{name: fc{index + 1}, type: linear, out: {options.width}}}", "{type: relu}"]
    layers.append(f"{{name: fc{options.layers}, type: linear, out: {CLASSES}}}")
    text = "model:\n  layers:\n" + "".join(f"    - {layer}\n" for layer in layers)
    text += f"""data: {{format: synthetic, samples: {options.batch * 4}, shape: [{options.width}], \
classes: {CLASSES}, seed: 1, batch_size: {options.batch}}}
optimizer: {{name: sgd, lr: 1.0e-3}}
train: {{steps: {options.steps + WARM_UP}}}
memory: {{device: {options.device}}}
cluster: {{keeper_threads: {options.keeper_threads}}}
"""
    path = pathlib.Path(directory) / "stack.yaml"
    path.write_text(text)
    return path


def geeps(options, path, budget):
    command = [str(options.geeps), "train", str(path), "--json", "--quiet", "--set", f"memory.budget={budget}%"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=options.timeout)
    if done.returncode != 0:
        return {"refused": done.stderr.strip()}
    answer = json.loads(done.stdout.strip().splitlines()[-1])
    steady = answer["steady"]
    return {
        "samples_per_second": steady["samples_per_second"], "stall_ratio": steady["stall_ratio"],
        "device_bytes": answer["memory"]["device_bytes"], "full_bytes": answer["memory"]["full_bytes"],
        "loss": answer["train_loss"],
    }


# ---- PyTorch, in a process of its own for each run, so that its memory is its own.

def torch_run(options, variant):
    command = [sys.executable, __file__, "--torch", variant] + [
        f"--{name}={getattr(options, name)}" for name in ("device", "layers", "width", "batch", "steps")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=options.timeout)
    if done.returncode != 0:
        return {"refused": done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "no message"}
    return json.loads(done.stdout.strip().splitlines()[-1])


def torch_child(options):
    import contextlib, torch

    device = "cuda" if options.device.startswith("cuda") else "cpu"
    torch.manual_seed(1)
    torch.backends.cuda.matmul.allow_tf32 = False
    parts = []
    for index in range(options.layers):
        is_last = index == options.layers - 1
        parts.append(torch.nn.Linear(options.width, CLASSES if is_last else options.width))
        if not is_last:
            parts.append(torch.nn.ReLU())
    model = torch.nn.Sequential(*parts)
    if options.torch == "fsdp_offload":
        model = sharded(model, device)
    else:
        model = model.to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    images = torch.randn(options.batch, options.width)
    labels = torch.randint(CLASSES, (options.batch,))
    if device == "cuda":
        images, labels = images.pin_memory(), labels.pin_memory()

    def step():
        saved = (
            torch.autograd.graph.save_on_cpu(pin_memory=device == "cuda")
            if options.torch == "save_on_cpu" else contextlib.nullcontext())
        with saved:
            loss = torch.nn.functional.cross_entropy(
                model(images.to(device, non_blocking=True)), labels.to(device, non_blocking=True))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss

    for _ in range(WARM_UP):
        loss = step()
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    start = time.monotonic()
    for _ in range(options.steps):
        loss = step()
    value = loss.item()
    seconds = time.monotonic() - start
    print(json.dumps({
        "samples_per_second": options.batch * options.steps / seconds, "loss": value,
        "device_bytes": torch.cuda.max_memory_allocated() if device == "cuda" else None}))


def sharded(model, device):
    import torch
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import CPUOffloadPolicy, fully_shard

    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT="0", RANK="0", WORLD_SIZE="1")
    store = torch.distributed.HashStore()
    backend = "cpu:gloo,cuda:nccl" if device == "cuda" else "gloo"
    torch.distributed.init_process_group(backend, store=store, rank=0, world_size=1)
    mesh = init_device_mesh(device, (1,))
    policy = CPUOffloadPolicy(pin_memory=device == "cuda")
    for layer in model:
        if isinstance(layer, torch.nn.Linear):
            fully_shard(layer, mesh=mesh, offload_policy=policy)
    fully_shard(model, mesh=mesh, offload_policy=policy)
    return model


def median(runs):
    good = [run for run in runs if "refused" not in run]
    if not good:
        return runs[-1]
    middle = dict(sorted(good, key=lambda run: run["samples_per_second"])[len(good) // 2])
    middle["runs"] = [run.get("samples_per_second") for run in runs]
    return middle


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--geeps", type=pathlib.Path, default=ROOT / ".build/release/geeps")
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--width", type=int, default=4096)
    parser.add_argument("--batch", type=int, default=2048)
    parser.add_argument("--budgets", default="100,60,40,25")
    parser.add_argument("--keeper-threads", type=int, default=max(1, min(8, (os.cpu_count() or 2) // 2)))
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--timeout", type=int, default=120, help="seconds of one run")
    parser.add_argument("--output", type=pathlib.Path)
    parser.add_argument("--torch", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.torch:
        return torch_child(options)

    variants = ["plain", "save_on_cpu", "fsdp_offload"]
    budgets = [float(text) for text in options.budgets.split(",")]
    runs = {name: [] for name in [*variants, *budgets]}
    with tempfile.TemporaryDirectory() as directory:
        path = job(options, directory)
        for _ in range(options.rounds):
            for budget in budgets:
                runs[budget].append(geeps(options, path, budget))
            for variant in variants:
                runs[variant].append(torch_run(options, variant))
    result = {
        "schema": "geeps.gpu_memory/1", "date": datetime.date.today().isoformat(), "machine": platform.node(),
        "device": options.device, "layers": options.layers, "width": options.width, "batch": options.batch,
        "steps": options.steps, "rounds": options.rounds, "keeper_threads": options.keeper_threads,
        "geeps": [{"budget_percent": budget, **median(runs[budget])} for budget in budgets],
        "torch": [{"variant": variant, **median(runs[variant])} for variant in variants],
    }
    for row in result["geeps"]:
        show(f"GeePS, budget {row['budget_percent']:g} %", row)
    for row in result["torch"]:
        show(f"PyTorch, {row['variant']}", row)
    if options.output:
        options.output.write_text(json.dumps(result, indent=1) + "\n")
    else:
        print(json.dumps(result))


def show(name, row):
    if "refused" in row:
        return print(f"{name:28} {row['refused']}", file=sys.stderr)
    memory = f"{row['device_bytes'] / 2**20:9.0f} MiB" if row.get("device_bytes") else " " * 13
    print(f"{name:28} {row['samples_per_second']:12.0f} samples/s {memory}  loss {row['loss']:.4f}", file=sys.stderr)


if __name__ == "__main__":
    main()
