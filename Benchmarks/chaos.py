#!/usr/bin/env python3
"""Kills random processes of a training run at random moments; every run must end with the same bits.

    Benchmarks/chaos.py [--runs 50] [--seed 1] [--geeps .build/release/geeps] [--reset-every-ms 200] [--output FILE]

Each run trains with 1 to 4 workers and a checkpoint every few clocks, so that many kills come while one is being
written. It is killed one to four times: a worker, or the whole job, which is then started again by hand; sometimes it
is stopped by SIGTERM instead. With --reset-every-ms nobody is killed: all connections, of rows and to rank 0, are reset
so often, over TCP, by `ss -K` (root). Prints a line a run and ends with code 1 if any differs.
`--output` keeps what each run was and how it ended, added to what the file has.
"""

import argparse
import datetime
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

JOB = """
model: {layers: [{name: fc1, type: linear, out: 96}, {name: bn1, type: batch_norm}, {type: relu},
  {type: dropout, p: 0.1}, {name: fc2, type: linear, out: 10}]}
data: {format: synthetic, samples: 960, features: 128, classes: 10, batch_size: 8}
optimizer: {name: adam, lr: 0.002}
train: {steps: STEPS, seed: 3}
"""


def digest(path):
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()[:16]


def children(pid):
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            return [int(word) for word in file.read().split()]
    except OSError:
        return []


def start(geeps, job, out, workers, more):
    environment = dict(os.environ, OMP_NUM_THREADS="1", OMP_WAIT_POLICY="passive")
    command = [geeps, "train", job, "--quiet", "--workers", str(workers), "--set", f"output.directory={out}"]
    log = open(out + ".log", "a")
    return subprocess.Popen(command + more, stdout=log, stderr=log, env=environment)


def disturb(process, rng):
    """Kills once; says what it did, or None when the run was over."""
    time.sleep(rng.uniform(0.2, 2.5))
    if process.poll() is not None:
        return None
    ranks = children(process.pid)
    kind = rng.choice(["rank", "rank", "job", "stop"])
    if kind == "rank" and ranks:
        os.kill(rng.choice(ranks), signal.SIGKILL)
    elif kind == "job":
        process.kill()
    else:
        # Before the run looks for signals this ends it, as anybody's SIGTERM would.
        kind = "stop"
        process.terminate()
    return kind


def chaos(geeps, folder, number, rng, expected, record):
    workers = rng.randint(1, 4)
    out = os.path.join(folder, f"run{number}")
    options = ["--set", f"checkpoint.every={rng.choice([3, 10, 40])}", "--restarts", "9"]
    kills = []
    for _ in range(rng.randint(1, 4)):
        process = start(geeps, os.path.join(folder, "job.yaml"), out, workers, options)
        kind = disturb(process, rng)
        kills.append(kind or "late")
        # After a lost rank the run starts again by itself and goes on to its end.
        process.wait()
    process = start(geeps, os.path.join(folder, "job.yaml"), out, workers, options)
    code = process.wait()
    found = digest(out + "/model.safetensors") if code == 0 else f"code {code}"
    good = found == expected[workers]
    record.append({"run": number, "workers": workers, "options": options[1], "kills": kills, "found": found, "same": good})
    print(f"run {number:3}  {workers} workers  {','.join(kills):24}  {found}  {'same' if good else 'DIFFERENT'}", flush=True)
    if good:
        shutil.rmtree(out)
    return good


def lane_ports(pids):
    """The TCP ports that the processes listen on; while training these are the ports of lanes, and rank 0's."""
    sockets = set()
    for pid in pids:
        try:
            for name in os.listdir(f"/proc/{pid}/fd"):
                sockets.add(os.readlink(f"/proc/{pid}/fd/{name}"))
        except OSError:
            pass
    ports = []
    with open("/proc/net/tcp") as table:
        for line in table.readlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in sockets:
                ports.append(int(fields[1].split(":")[1], 16))
    return ports


def reset_lanes(pids):
    """Resets all connections to the processes' lanes; how many there were."""
    ports = lane_ports(pids)
    if len(ports) < len(pids) or not ports:
        return 0
    wanted = " or ".join(f"sport = :{port}" for port in ports)
    command = ["ss", "-HKtn", "state", "established", f"( {wanted} )"]
    return len(subprocess.run(command, capture_output=True, check=True).stdout.splitlines())


def storm(geeps, folder, number, milliseconds, rng, expected, record):
    workers = rng.randint(2, 4)
    out = os.path.join(folder, f"run{number}")
    process = start(geeps, os.path.join(folder, "job.yaml"), out, workers, ["--set", "cluster.transport=tcp"])
    resets = 0
    while process.poll() is None:
        time.sleep(milliseconds / 1000)
        ranks = children(process.pid)
        resets += reset_lanes(ranks) if len(ranks) == workers else 0
    found = digest(out + "/model.safetensors") if process.returncode == 0 else f"code {process.returncode}"
    good = found == expected[workers]
    record.append({"run": number, "workers": workers, "reset_every_ms": milliseconds, "resets": resets, "found": found, "same": good})
    print(f"run {number:3}  {workers} workers  {resets:4} resets  {found}  {'same' if good else 'DIFFERENT'}", flush=True)
    if good:
        shutil.rmtree(out)
    return good


def keep(arguments, expected, record):
    """Adds the runs to the output file."""
    result = {"schema": "geeps.benchmark.chaos/1", "slices": []}
    if os.path.exists(arguments.output):
        with open(arguments.output) as file:
            result = json.load(file)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    result["slices"].append({
        "date": str(datetime.date.today()), "commit": commit, "seed": arguments.seed, "steps": arguments.steps,
        "undisturbed": expected, "runs": record})
    with open(arguments.output, "w") as file:
        file.write(json.dumps(result, indent=1) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--output")
    parser.add_argument("--geeps", default=".build/release/geeps")
    parser.add_argument("--reset-every-ms", type=float, help="reset connections instead of killing processes")
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    folder = tempfile.mkdtemp(prefix="geeps-chaos-")
    with open(os.path.join(folder, "job.yaml"), "w") as file:
        file.write(JOB.replace("STEPS", str(arguments.steps)))
    expected = {}
    for workers in range(1, 5):
        out = os.path.join(folder, f"whole{workers}")
        if start(arguments.geeps, os.path.join(folder, "job.yaml"), out, workers, []).wait() != 0:
            sys.exit(f"the undisturbed run failed; see {out}.log")
        expected[workers] = digest(out + "/model.safetensors")
    results, record = [], []
    for number in range(arguments.runs):
        if arguments.reset_every_ms:
            results.append(storm(arguments.geeps, folder, number, arguments.reset_every_ms, rng, expected, record))
        else:
            results.append(chaos(arguments.geeps, folder, number, rng, expected, record))
    if arguments.output:
        keep(arguments, expected, record)
    print(f"{sum(results)} of {len(results)} runs ended with the same bits")
    if all(results):
        shutil.rmtree(folder)
    else:
        sys.exit(f"logs are in {folder}")


if __name__ == "__main__":
    main()
