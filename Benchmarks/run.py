#!/usr/bin/env python3
"""Measures GeePS and what a user would pick instead, in turn, and writes a result file.

Usage: Benchmarks/run.py [--rounds N] [--geeps PATH] [--only NAME]

Every round runs each command once, ours and the peer's one after the other, so that both see the same state of a
shared machine. A figure is the median over rounds of the medians inside a run; a ratio is the median of the ratios
of the pairs. Needs a Python with torch (make setup-oracles) for the peers.
"""
import argparse, datetime, json, os, pathlib, platform, statistics, subprocess, sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
PEERS = ROOT / "Benchmarks" / "peers"


def call(command, timeout=300):
    output = subprocess.run(
        [str(c) for c in command], capture_output=True, text=True, timeout=timeout, check=True).stdout
    return json.loads(output.strip().splitlines()[-1])


def median(values):
    return statistics.median(values)


class Benchmarks:
    def __init__(self, geeps, rounds):
        self.geeps, self.rounds, self.rows = geeps, rounds, []

    def ours(self, *arguments):
        return call([self.geeps, "bench", *arguments])

    def peer(self, script, *arguments):
        return call([sys.executable, PEERS / script, *arguments])

    def row(self, name, unit, bar, values, peer=None, ratios=None, note=""):
        row = {"name": name, "unit": unit, "bar": bar, "geeps": median(values), "runs": values, "note": note}
        if peer:
            row["peer"], row["peer_runs"] = median(peer), peer
        if ratios:
            row["ratio"] = median(ratios)
        self.rows.append(row)
        text = f"{name}: {row['geeps']:.3g} {unit} (bar {bar})"
        if peer:
            text += f", peer {row['peer']:.3g}"
        if ratios:
            text += f", ratio {row['ratio']:.3g}"
        print(text, flush=True)

    def exchange(self):
        for label, size, transport, bar in [
            ("1 KB round trip, TCP", 1024, "tcp", "<= 0.3"),
            ("1 KB round trip, shared memory", 1024, "shared-memory", "<= 0.3"),
            ("4.2 MB push + SGD-momentum + pull, TCP", 4_200_000, "tcp", "<= 3.2"),
            ("4.2 MB push + SGD-momentum + pull, shared memory", 4_200_000, "shared-memory", "<= 1.5"),
            ("67 MB push + SGD-momentum + pull, TCP", 67_000_000, "tcp", "<= 110"),
            ("67 MB push + SGD-momentum + pull, shared memory", 67_000_000, "shared-memory", "<= 30"),
        ]:
            runs = [
                self.ours("exchange", "--bytes", size, "--transport", transport)["round"]["median_ms"]
                for _ in range(self.rounds)
            ]
            self.row(label + ", 1 worker 1 keeper", "ms", bar, runs)

    def aggregate(self):
        runs = {"shared-memory": [], "tcp": []}
        gloo = []
        for _ in range(self.rounds):
            for transport in runs:
                runs[transport].append(
                    self.ours(
                        "exchange", "--bytes", 67_000_000, "--workers", 2, "--rule", "add", "--transport",
                        transport)["round"]["median_ms"])
            gloo.append(self.peer("gloo_allreduce.py", 67_000_000, 20)["median_ms"])
        for transport, bar in [("shared-memory", "< gloo"), ("tcp", "<= 2x gloo")]:
            self.row(
                f"67 MB, 2 workers, aggregate and return, {transport}", "ms", bar, runs[transport], gloo,
                [a / b for a, b in zip(runs[transport], gloo)], "peer: torch gloo all_reduce")

    def sparse(self):
        for order in ["random", "sorted"]:
            results = [
                self.ours("sparse", "--transport", "tcp", *(["--sorted"] if order == "sorted" else []))
                for _ in range(self.rounds)
            ]
            for what, bar in [("push", "<= 150"), ("pull", "<= 220")]:
                self.row(
                    f"10 M {order} keys, {what}, TCP", "ms", bar, [r[what]["median_ms"] for r in results])

    def kernels(self):
        ours, torch = [], []
        for _ in range(self.rounds):
            ours.append(self.ours("kernels"))
            torch.append(self.peer("optimizers.py"))
        for rule, bar in [("sgd", ">= 2100 or torch"), ("adamw", ">= 1600 or torch")]:
            mine = [r[f"{rule}_million_per_second"] for r in ours]
            theirs = [r[rule] for r in torch]
            self.row(
                f"{rule} at the keeper, one core", "M parameters/s", bar, mine, theirs,
                [a / b for a, b in zip(mine, theirs)], "peer: torch fused")
        for what, key in [
            ("gather, rows a second", "gather_of_memcpy"),
            ("scatter-add, rows a second", "scatter_add_of_memcpy"),
            ("scatter-add, bytes moved a second (3 a value, a copy 2)", "scatter_add_bandwidth_of_memcpy"),
        ]:
            self.row(
                f"64 Ki random 128-float rows: {what}", "of memcpy", ">= 0.8", [r[key] for r in ours])

    def steps(self):
        for batch in [32, 256]:
            served, plain, two, torch_plain, ddp = [], [], [], [], []
            for _ in range(self.rounds):
                one = self.ours("step", "--batch", batch)
                served.append(one["served"]["median_ms"])
                plain.append(one["plain"]["median_ms"])
                torch_plain.append(self.peer("ddp_step.py", batch, 1, 40)["median_ms"])
                two.append(self.ours("step", "--batch", batch, "--workers", 2)["served"]["median_ms"])
                ddp.append(self.peer("ddp_step.py", batch, 2, 40)["median_ms"])
            self.row(
                f"one worker through the parameter server, 6.3 M MLP, batch {batch}", "ms", "<= 1.03x plain",
                served, plain, [a / b for a, b in zip(served, plain)], "peer: same maths on plain memory")
            self.row(
                f"2-worker step, 6.3 M MLP, batch {batch}", "ms", "-", two, ddp,
                [a / b for a, b in zip(two, ddp)], "peer: torch DDP (gloo)")
            mine = [100 * (a / b - 1) for a, b in zip(two, plain)]
            theirs = [100 * (a / b - 1) for a, b in zip(ddp, torch_plain)]
            self.row(
                f"2-worker overhead over one plain process, batch {batch}", "%", "< DDP", mine, theirs,
                None, "peer: torch DDP over plain torch")
            self.row(
                f"2-worker overhead over one plain process, batch {batch}", "ms", "< DDP",
                [a - b for a, b in zip(two, plain)], [a - b for a, b in zip(ddp, torch_plain)], None,
                "peer: torch DDP over plain torch")

    def net(self):
        runs = [self.ours("net") for _ in range(self.rounds)]
        for index, stream in enumerate(runs[0]["streams"]):
            self.row(
                f"stream, {stream['carrier']}, {stream['lanes']} lane(s), 1 MiB frames", "GB/s", "-",
                [r["streams"][index]["gigabytes_per_second"] for r in runs])


def table(rows):
    lines = ["| what | GeePS | beside it | ratio | bar |", "|---|---|---|---|---|"]
    for row in rows:
        peer = f"{row['peer']:.3g} ({row['note'].removeprefix('peer: ')})" if "peer" in row else ""
        ratio = f"{row['ratio']:.2f}" if "ratio" in row else ""
        lines.append(f"| {row['name']} | {row['geeps']:.3g} {row['unit']} | {peer} | {ratio} | {row['bar']} |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--geeps", default=ROOT / ".build" / "release" / "geeps")
    parser.add_argument("--only", action="append")
    options = parser.parse_args()
    benchmarks = Benchmarks(options.geeps, options.rounds)
    for name in ["net", "exchange", "aggregate", "sparse", "kernels", "steps"]:
        if not options.only or name in options.only:
            getattr(benchmarks, name)()
    commit = subprocess.run(
        ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    cpu = next(
        (l.split(":")[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")), platform.machine())
    result = {
        "date": datetime.date.today().isoformat(), "commit": commit, "cpu": cpu, "cores": os.cpu_count(),
        "rounds": options.rounds, "load": os.getloadavg()[0], "rows": benchmarks.rows,
    }
    name = ROOT / "Benchmarks" / "results" / f"{result['date']}-{commit}.json"
    name.parent.mkdir(exist_ok=True)
    name.write_text(json.dumps(result, indent=1) + "\n")
    print("\n" + table(benchmarks.rows) + f"\n\nwritten to {name.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
