"""Managed memory beside PyTorch's own ways to save device memory, at no more memory: steps of both, in turn.

$ make library setup-oracles
$ PYTHONPATH=Python/geeps GEEPS_LIBRARY=.build-library/libgeeps.so .oracles/bin/python Benchmarks/managed_torch.py

Here the host plays the device, so what counts as device memory is said by role: all live tensors of a forward and backward
pass, with parameters, gradients and optimizer state, but for what a method keeps on the host (saved tensors that are
offloaded, sharded parameters with their gradients and state, what GeePS's keepers have). GeePS's side is its live tensors,
with those that its plan leaves where they are, and its pool; the budget is the largest with which that is no more than the
other method's peak. Copies between device and host are copies in memory on both sides.

Prints a line for each case and writes all pairs with --output.
"""

import argparse
import contextlib
import dataclasses
import datetime
import json
import pathlib
import platform
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator

import torch
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.checkpoint import checkpoint

import geeps
from geeps import _managed

LENGTH, WIDTH, LAYERS, BATCH, VOCABULARY = 64, 256, 8, 8, 512
THRESHOLD = 1 << 14


class GPT(nn.Module):
    """Decoder blocks, of which each may be computed again in the backward pass."""

    def __init__(self, recomputes: bool = False) -> None:
        super().__init__()
        self.recomputes = recomputes
        self.token = nn.Embedding(VOCABULARY, WIDTH)
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(WIDTH, 4, 4 * WIDTH, dropout=0.0, batch_first=True, norm_first=True)
            for _ in range(LAYERS)
        )
        self.norm = nn.LayerNorm(WIDTH)
        self.out = nn.Linear(WIDTH, VOCABULARY)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1])
        h = self.token(x)
        for block in self.blocks:
            h = checkpoint(block, h, mask, use_reentrant=False) if self.recomputes else block(h, src_mask=mask)
        return self.out(self.norm(h))


# ----------------------------------------------------------------------------------------------------
# Device memory by role


class LiveBytes(TorchDispatchMode):
    """The most bytes of live tensors that are on the device by role."""

    paused = False

    def __init__(self, on_host: Callable[[], set[int]]) -> None:
        super().__init__()
        self.on_host = on_host
        self.alive: dict[int, tuple[StorageWeakRef, int]] = {}
        self.peak = 0

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        result = function(*arguments, **(keywords or {}))
        if LiveBytes.paused:
            return result
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                self.alive[storage._cdata] = (StorageWeakRef(storage), storage.nbytes())
        self.alive = {key: entry for key, entry in self.alive.items() if not entry[0].expired()}
        on_host = self.on_host()
        self.peak = max(self.peak, sum(size for key, (_, size) in self.alive.items() if key not in on_host))
        return result


@contextlib.contextmanager
def on_host() -> Iterator[None]:
    """What is made here is in host memory by role."""
    LiveBytes.paused = True
    try:
        yield
    finally:
        LiveBytes.paused = False


# ----------------------------------------------------------------------------------------------------
# Sides


@dataclasses.dataclass
class Side:
    """A way to train the model."""

    name: str
    model: nn.Module
    optimizer: torch.optim.Optimizer
    #: Around the forward pass.
    context: Callable[[], contextlib.AbstractContextManager] = contextlib.nullcontext
    #: Bytes on the device beside what a pass makes.
    base_bytes: Callable[[], int] = lambda: 0
    #: Addresses of the objects of storages that are in host memory by role, or counted in the base.
    on_host: Callable[[], set[int]] = set

    def passes(self, number: int) -> torch.Tensor:
        """Forward and backward; the loss."""
        tokens = torch.randint(0, VOCABULARY, (BATCH, LENGTH + 1), generator=torch.Generator().manual_seed(number))
        with self.context():
            loss = nn.functional.cross_entropy(self.model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())
        loss.backward()
        return loss.detach()

    def step(self, number: int) -> tuple[float, float]:
        """Seconds and loss."""
        start = time.perf_counter()
        self.optimizer.zero_grad()
        loss = self.passes(number)
        self.optimizer.step()
        return time.perf_counter() - start, loss.item()

    def peak(self, number: int, watch: "LiveBytes | None" = None) -> int:
        """Bytes of device memory of one step: of its passes, since the optimizer makes nothing that stays."""
        watch = watch or LiveBytes(self.on_host)
        self.optimizer.zero_grad()
        with watch:
            self.passes(number)
        self.optimizer.step()
        return watch.peak + self.base_bytes()


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)


def build(recomputes: bool = False) -> GPT:
    torch.manual_seed(1)
    return GPT(recomputes)


def on_device(name: str, model: nn.Module, **keywords) -> Side:
    """A side whose parameters and momentum stay on the device."""
    optimizer = sgd(model)
    storages = {p.untyped_storage()._cdata for p in model.parameters()}
    base = 8 * sum(p.numel() for p in model.parameters())
    return Side(name, model, optimizer, base_bytes=lambda: base, on_host=lambda: storages, **keywords)


def plain() -> Side:
    return on_device("everything on the device", build())


class Offloaded(torch.autograd.graph.saved_tensors_hooks):
    """save_on_cpu with the copies that it makes on a device; on the host its own ``cpu()`` copies nothing.

    Only tensors from the size on that GeePS offloads, and no parameters: those are on the device anyway.
    """

    def __init__(self, parameters: Callable[[int], bool]) -> None:
        def pack(tensor: torch.Tensor) -> tuple[bool, torch.Tensor]:
            is_small = tensor.numel() * tensor.element_size() < THRESHOLD
            if is_small or parameters(tensor.untyped_storage()._cdata):
                return False, tensor
            with on_host():
                return True, tensor.detach().clone()

        def unpack(saved: tuple[bool, torch.Tensor]) -> torch.Tensor:
            return saved[1].clone() if saved[0] else saved[1]

        super().__init__(pack, unpack)


def save_on_cpu() -> Side:
    model = build()
    parameters = {p.untyped_storage()._cdata for p in model.parameters()}
    return on_device("save_on_cpu", model, context=lambda: Offloaded(parameters.__contains__))


def checkpointing() -> Side:
    return on_device("activation checkpointing", build(recomputes=True))


def sharded(offloads_activations: bool) -> Side:
    """FSDP2 whose shards, gradients and state are in host memory; a block's parameters are on the device while used."""
    from torch.distributed.fsdp import CPUOffloadPolicy, fully_shard

    mesh = torch.distributed.init_device_mesh("cpu", (1,))
    model = build()
    policy = CPUOffloadPolicy(pin_memory=False)
    for block in model.blocks:
        fully_shard(block, mesh=mesh, offload_policy=policy)
    fully_shard(model, mesh=mesh, offload_policy=policy)
    shards = list(model.parameters())

    def kept() -> set[int]:
        tensors = [t._local_tensor for p in shards for t in (p, p.grad) if t is not None]
        return {tensor.untyped_storage()._cdata for tensor in tensors}

    parameters = Gathered(model)

    def context() -> contextlib.AbstractContextManager:
        return Offloaded(parameters.has) if offloads_activations else contextlib.nullcontext()

    name = "FSDP2 with CPUOffloadPolicy" + (" and save_on_cpu" if offloads_activations else "")
    return Side(name, model, sgd(model), context, on_host=kept)


class Gathered:
    """Which storages hold gathered parameters: FSDP frees and fills the same ones, so the first step tells them all."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.known: set[int] = set()
        self.steps = 0
        model.register_forward_pre_hook(self.count)

    def count(self, *_: object) -> None:
        self.steps += 1

    def has(self, storage: int) -> bool:
        if self.steps == 1:
            parameters = [p for p in self.model.parameters() if not isinstance(p, torch.distributed.tensor.DTensor)]
            self.known.update(p.untyped_storage()._cdata for p in parameters)
        return storage in self.known


class Managed:
    """GeePS's side; the addresses that its pool has lent are not torch's memory."""

    lent: set[int] = set()

    @staticmethod
    def note_loans() -> None:
        tensor = _managed.Loan.tensor

        def noting(self, offset, byte_count, dtype):
            Managed.lent.add(self.address + offset)
            return tensor(self, offset, byte_count, dtype)

        _managed.Loan.tensor = noting

    @staticmethod
    def side(budget: int) -> Side:
        model = build()
        attached = geeps.attach(
            model, sgd(model), memory="managed", budget=budget, offload_threshold=THRESHOLD, hold_gradients=False
        )
        return Side(f"GeePS, {budget} bytes", model, attached)

    @staticmethod
    def bytes(side: Side, number: int) -> tuple[int, int]:
        """Live bytes of one step without what is lent, and the pool."""
        # What was lent before there was a plan may be torch's by now.
        Managed.lent.clear()
        live = side.peak(number, ManagedLiveBytes(set))
        report = side.optimizer.report()
        return live, report["plan_device_bytes"] - report["plan_left_bytes"]


class ManagedLiveBytes(LiveBytes):
    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        result = super().__torch_dispatch__(function, types, arguments, keywords)
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor) and tensor.untyped_storage().data_ptr() in Managed.lent:
                self.alive.pop(tensor.untyped_storage()._cdata, None)
        return result


# ----------------------------------------------------------------------------------------------------
# Cases


def within(peak: int, rival: str) -> tuple[Side, int, int, int]:
    """GeePS's side in at most ``peak`` bytes, after some steps; its budget, its live bytes and its pool."""
    tokens = torch.zeros((BATCH, LENGTH + 1), dtype=torch.long)
    needs = geeps.plan(
        build(), tokens[:, :-1], loss=lambda out: nn.functional.cross_entropy(out.flatten(0, 1), tokens[:, 1:].flatten()),
        offload_threshold=THRESHOLD,
    )
    budget = min(peak, needs.full_bytes)
    while budget >= needs.least_bytes:
        side = Managed.side(budget)
        for number in range(4):
            side.step(number)
        live, pool = Managed.bytes(side, 4)
        if live + pool <= peak:
            return side, budget, live, pool
        side.optimizer.close()
        budget -= live + pool - peak
    raise SystemExit(f"{rival} needs {peak} bytes, GeePS's pool {needs.least_bytes} at least")


def compare(make: Callable[[], Side], pairs: int) -> dict[str, object]:
    rival = make()
    for number in range(3):
        rival.step(number)
    peak = rival.peak(3)
    ours, budget, live, pool = within(peak, rival.name)
    rival.step(4)
    times: list[tuple[float, float]] = []
    for pair in range(pairs):
        order = (rival, ours) if pair % 2 else (ours, rival)
        results = {side.name: side.step(5 + pair) for side in order}
        times.append((results[rival.name][0], results[ours.name][0]))
        losses = results[rival.name][1], results[ours.name][1]
        assert abs(losses[0] - losses[1]) < 1e-3 * abs(losses[0]), losses
    report = ours.optimizer.report()
    ours.optimizer.close()
    tokens = BATCH * LENGTH
    result = {
        "rival": rival.name,
        "rival_peak_bytes": peak,
        "geeps_live_bytes": live,
        "geeps_pool_bytes": pool,
        "geeps_budget_bytes": budget,
        "geeps_left_bytes": report["plan_left_bytes"],
        "geeps_bytes_in_a_step": report["plan_bytes_in"],
        "geeps_bytes_out_a_step": report["plan_bytes_out"],
        "rival_tokens_per_second": tokens / statistics.median(a for a, _ in times),
        "geeps_tokens_per_second": tokens / statistics.median(b for _, b in times),
        "ratio": statistics.median(a / b for a, b in times),
        "pairs_seconds": times,
    }
    print(
        f"{rival.name}, {peak / 2**20:.1f} MiB: {result['rival_tokens_per_second']:.0f} tokens/s; GeePS in "
        f"{(live + pool) / 2**20:.1f} MiB ({pool / 2**20:.1f} of them its pool): "
        f"{result['geeps_tokens_per_second']:.0f} tokens/s; {result['ratio']:.2f} times as fast",
        flush=True,
    )
    return result


CASES = {
    "plain": plain,
    "save-on-cpu": save_on_cpu,
    "fsdp": lambda: sharded(offloads_activations=False),
    "fsdp-save-on-cpu": lambda: sharded(offloads_activations=True),
    "checkpointing": checkpointing,
}


def commit() -> str:
    return subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=pathlib.Path(__file__).parent
    ).stdout.strip()


def processor() -> str:
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(": ")[1] for line in lines if line.startswith("model name")), platform.machine())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", default=list(CASES), help=f"of {', '.join(CASES)}")
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1, help="of torch; GeePS's own come on top")
    parser.add_argument("--output", type=pathlib.Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    Managed.note_loans()
    with tempfile.TemporaryDirectory() as directory:
        store = torch.distributed.FileStore(f"{directory}/store", 1)
        torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
        results = [compare(CASES[name], arguments.pairs) for name in arguments.cases]
        torch.distributed.destroy_process_group()
    if arguments.output:
        document = {
            "date": datetime.date.today().isoformat(),
            "commit": commit(),
            "torch": torch.__version__,
            "processor": processor(),
            "threads": arguments.threads,
            "model": {"length": LENGTH, "width": WIDTH, "layers": LAYERS, "batch": BATCH, "vocabulary": VOCABULARY},
            "cases": results,
        }
        arguments.output.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
