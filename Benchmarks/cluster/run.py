#!/usr/bin/env python3
"""Measures the scaling of the paper's workloads on an emulated cluster, and draws it beside the paper's figures.

Usage: Benchmarks/cluster/run.py [--geeps PATH] [--rounds N] [--only PART] [--case WORDS] [--output FILE] [--resume]

Needs root: every worker gets a network namespace, and links as slow as the emulation asks (`tc tbf`). Client,
keepers, memory manager, copies and sockets are real; kernels only take time. Bytes are divided by B and times
multiplied by F, so links of 12 Gb/s (what the paper's authors measured with iperf) become 12 / (B F) Gb/s: ratios
of bytes over bandwidth to compute stay those of the large cluster. `geeps replay` refuses a run whose processes take
more than 40 % of this machine's cores; F is then doubled.

All runs are kept in the output file, which is written after each; --resume adds to it what is missing to so many rounds.
`draw.py` takes medians and draws them.
"""
import argparse, datetime, json, os, pathlib, platform, subprocess, sys, time

from network import Network

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
NETWORK = 12e9
REFUSED = 75
# Bytes are divided by the first, times multiplied by the second.
SCALES = {"adamlike": (32, 3.0), "googlenet": (8, 8.0), "video-lstm": (8, 8.0)}
# What the paper's CPU-based server copies a second in the foreground: 3 x 474 MB (two reads, one update of the
# parameters of section 5.3) in the 3.25 s that it stalls under no synchronisation at all (Fig. 14).
PAPER_COPY = 3 * 474e6 / 3.25
# What tells cases apart.
KEY = ("part", "label", "file", "workers", "staleness", "layers_per_table")
GEEPS = ()
ONE_TABLE = ("--layers-per-table", "all")
CPU = ("--cpu-side",)
CPU_PAPER = ("--cpu-side", "--link", f"{PAPER_COPY / 1e9:.4f}GB/s")


def cases():
    """Part, label, workload, workers, further arguments; the most telling first."""
    for workload in ("adamlike", "googlenet"):
        # As the authors' own configurations.
        group = () if workload == "adamlike" else ("--layers-per-table", "10")
        for workers in (16, 1, 8, 4, 2):
            yield "scaling", "geeps", workload, workers, (*group, *GEEPS)
        # Its authors' server had one table and one clock.
        for workers in (16, 4, 1):
            yield "scaling", "cpu-side, the paper's copies", workload, workers, (*ONE_TABLE, *CPU_PAPER)
        for workers in (16, 1):
            yield "scaling", "cpu-side", workload, workers, (*group, *CPU)
        if workload == "adamlike":
            yield from slack_cases()
    yield "grouping", "geeps", "googlenet", 16, ("--layers-per-table", "all")
    for workers in (8, 1):
        yield "video", "geeps", "video-lstm", workers, ("--layers-per-table", "10")


def slack_cases():
    for staleness in ("0", "1", "async"):
        slack = ("--staleness", staleness)
        yield "slack", "a table per layer", "adamlike", 8, slack
        yield "slack", "one table", "adamlike", 8, (*slack, "--layers-per-table", "all")
    for staleness in ("0", "1", "async"):
        yield "slack", "cpu-side, the paper's copies", "adamlike", 8, ("--staleness", staleness, *ONE_TABLE, *CPU_PAPER)
    yield "slack", "cpu-side", "adamlike", 8, CPU


def replay(geeps, workload, workers, arguments, scale, dilation, clocks):
    """One run. Returns its result, or None where it took too much of the cores."""
    with Network(workers, NETWORK / (scale * dilation)) as network:
        sent = network.bytes_sent()
        processes = []
        for rank in range(workers):
            environment = dict(
                os.environ, GEEPS_RANK=str(rank), GEEPS_WORLD_SIZE=str(workers),
                GEEPS_RENDEZVOUS=f"{network.address(0)}:29500")
            command = network.command(
                rank, geeps, "replay", ROOT / f"Workloads/{workload}.json", "--workers", workers, "--dilation", dilation,
                "--bytes-scale", scale, "--clocks", clocks, "--warm-up", 1, "--transport", "tcp", "--interface", network.address(rank),
                "--network", f"{NETWORK / 1e9:g}Gb/s", *arguments)
            processes.append(subprocess.Popen(
                command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
        outputs = [process.communicate(timeout=900) for process in processes]
        codes = [process.returncode for process in processes]
        if REFUSED in codes:
            print(f"  refused: {outputs[0][1].strip()}", flush=True)
            return None
        if any(codes):
            raise RuntimeError(f"{workload}, {workers} workers: codes {codes}: {outputs[codes.index(max(codes))][1]}")
        result = json.loads(outputs[0][0].strip().splitlines()[-1])
        # Initial values of the model included, which rank 0 sends and all get.
        result["interface_bytes_of_run"] = (network.bytes_sent() - sent) * scale
        return result


def run_until_it_fits(geeps, case, clocks):
    """One run of `case`, at the dilation that this machine's cores allow."""
    part, label, workload, workers, arguments = case
    scale, dilation = SCALES[workload]
    while dilation <= 64:
        start = time.time()
        result = replay(geeps, workload, workers, arguments, scale, dilation, clocks)
        if result is not None:
            result.update(load_average=os.getloadavg()[0], seconds=time.time() - start)
            return {"part": part, "label": label, "file": workload, **result}
        dilation *= 2
    raise RuntimeError("no dilation makes the run fit this machine's cores")


def after(option, arguments, default):
    return arguments[arguments.index(option) + 1] if option in arguments else default


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--geeps", default=ROOT / ".build/release/geeps")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--clocks", type=int, default=4)
    parser.add_argument("--only", help="scaling, slack, video or grouping")
    parser.add_argument("--case", help="only cases in whose words this stands: 'geeps, adamlike, 16'")
    parser.add_argument("--output")
    parser.add_argument("--resume", action="store_true", help="keep what the output file has")
    options = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("needs root: network namespaces and tc")
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    path = pathlib.Path(options.output or ROOT / f"Benchmarks/results/cluster-{datetime.date.today()}-{commit}.json")
    result = {
        "schema": "geeps.benchmark.cluster/1", "date": str(datetime.date.today()), "commit": commit,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, shared", "network_bits": NETWORK, "scales": SCALES, "runs": [],
    }
    if options.resume and path.exists():
        result = json.loads(path.read_text())
    for number in range(1, options.rounds + 1):
        for case in cases():
            part, label, workload, workers, arguments = case
            key = (part, label, workload, workers, after("--staleness", arguments, "0"),
                   after("--layers-per-table", arguments, "1"))
            have = sum(key == tuple(run[name] for name in KEY) for run in result["runs"])
            is_left_out = options.case and options.case not in ", ".join(map(str, key))
            if have >= number or is_left_out or (options.only and part != options.only):
                continue
            run = run_until_it_fits(options.geeps, case, options.clocks)
            result["runs"].append(run)
            path.write_text(json.dumps(result, indent=1) + "\n")
            print(
                f"{number}: {', '.join(map(str, key))}: clock {run['clock_seconds']:.3f} s, stall {run['stall'] * 100:.1f} %, "
                f"{run['samples_per_second']:.1f} samples/s, cores {run['cpu_share'] * 100:.0f} %, forecast "
                f"{run['forecast_clock_seconds']:.3f} s, load {run['load_average']:.0f}, {run['seconds']:.0f} s", flush=True)
    print(path)


if __name__ == "__main__":
    main()
