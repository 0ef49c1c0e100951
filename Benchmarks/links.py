#!/usr/bin/env python3
"""Measures an exchange between two machines over links of a rate and a delay, beside torch's gloo, in turn.

Usage: Benchmarks/links.py [--geeps PATH] [--python PATH] [--rounds N] [--only 10,0.1] [--output FILE] [--resume]

Needs root, gcc and a Python with torch (make setup-oracles). Two network namespaces are joined by `cluster/link.c`, which
hands packets over at the link's rate and delays them. In every round each of these runs once: a TCP stream by itself, a
round trip of 1 KB and 100 MB aggregated over two workers and returned, by GeePS and by gloo. All runs are kept in the
output file.
"""
import argparse, datetime, json, os, pathlib, platform, subprocess, sys, tempfile, time

ROOT = pathlib.Path(__file__).resolve().parent.parent
# Gb/s, delay one way in ms, MTU: large packets where small ones would take the cores.
LINKS = [(10, 0.1, 65000), (10, 1, 65000), (1, 0.1, 9000), (1, 1, 9000)]
SMALL, LARGE = 1024, 100_000_000
STREAM = """
import socket, sys, time
size = int(sys.argv[2])
if sys.argv[1] == "receive":
    with socket.create_server(("0.0.0.0", 29400)) as server:
        print("listening", flush=True)
        peer, _ = server.accept()
        buffer, left = bytearray(1 << 20), size
        while left:
            left -= peer.recv_into(buffer, min(left, len(buffer)))
        peer.sendall(b"x")
else:
    peer = socket.create_connection(("10.98.0.2", 29400))
    start = time.perf_counter()
    peer.sendall(bytes(size))
    peer.recv(1)
    print((time.perf_counter() - start) * 1e3)
"""


def call(*arguments):
    subprocess.run(list(map(str, arguments)), check=True)


class Link:
    """Two namespaces, 10.98.0.1 and 10.98.0.2, and the link between them. For `with`."""

    def __init__(self, program, gigabits, milliseconds, mtu):
        self.names = [f"geeps{os.getpid()}{end}" for end in "ab"]
        self.arguments = [program, *self.names, str(gigabits * 1e9), str(round(milliseconds * 1000)), str(mtu)]

    def __enter__(self):
        for name in self.names:
            call("ip", "netns", "add", name)
        self.process = subprocess.Popen(self.arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if self.process.stdout.readline() != "ready\n":
            raise RuntimeError("the link did not come up")
        for index, name in enumerate(self.names):
            call("ip", "-n", name, "addr", "add", f"10.98.0.{index + 1}/24", "dev", "eth0")
            for device in ("lo", "eth0"):
                call("ip", "-n", name, "link", "set", device, "up")
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait(timeout=10)
        for name in self.names:
            subprocess.run(["ip", "netns", "del", name])

    def start(self, end, command, environment={}):
        return subprocess.Popen(
            ["ip", "netns", "exec", self.names[end], *map(str, command)], env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
            stdout=subprocess.PIPE, text=True)

    def both(self, command, environment):
        """What rank 0 prints, as JSON."""
        processes = [self.start(rank, command, environment(rank)) for rank in range(2)]
        outputs = [process.communicate(timeout=300)[0] for process in processes]
        if any(process.returncode for process in processes):
            raise RuntimeError(f"{command}: codes {[process.returncode for process in processes]}")
        return json.loads(outputs[0].strip().splitlines()[-1])

    def geeps(self, program, *arguments):
        result = self.both(
            [program, "bench", "exchange", "--transport", "tcp", "--rule", "add", *arguments],
            lambda rank: {
                "GEEPS_RANK": str(rank), "GEEPS_WORLD_SIZE": "2", "GEEPS_RENDEZVOUS": "10.98.0.1:29500",
                "GEEPS_SECRET": "a secret for a benchmark alone"})
        return result["round"]["median_ms"]

    def gloo(self, python, size, rounds):
        result = self.both(
            [python, ROOT / "Benchmarks/peers/gloo_allreduce.py", size, rounds],
            lambda rank: {
                "RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "10.98.0.1", "MASTER_PORT": "29501",
                "GLOO_SOCKET_IFNAME": "eth0"})
        return result["median_ms"]

    def stream(self, python):
        receiver = self.start(1, [python, "-c", STREAM, "receive", LARGE])
        receiver.stdout.readline()
        sender = self.start(0, [python, "-c", STREAM, "send", LARGE])
        output = sender.communicate(timeout=120)[0]
        receiver.wait(timeout=10)
        return float(output)


def measure(options, link):
    large, small = 5, 200
    return {
        "stream_ms": link.stream(options.python),
        "geeps_round_trip_ms": link.geeps(options.geeps, "--bytes", SMALL, "--rounds", small),
        "gloo_round_trip_ms": link.gloo(options.python, SMALL, small),
        "geeps_two_workers_small_ms": link.geeps(options.geeps, "--bytes", SMALL, "--workers", 2, "--rounds", small),
        "geeps_exchange_ms": link.geeps(options.geeps, "--bytes", LARGE, "--workers", 2, "--rounds", large),
        "gloo_exchange_ms": link.gloo(options.python, LARGE, large),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--geeps", default=ROOT / ".build/release/geeps")
    parser.add_argument("--python", default=ROOT / ".oracles/bin/python")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", help="one link: Gb/s and ms, as 10,0.1")
    parser.add_argument("--output")
    parser.add_argument("--resume", action="store_true", help="keep what the output file has")
    options = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("needs root: network namespaces")
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    path = pathlib.Path(options.output or ROOT / f"Benchmarks/results/links-{datetime.date.today()}-{commit}.json")
    result = {
        "schema": "geeps.benchmark.links/1", "date": str(datetime.date.today()), "commit": commit,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, shared", "large_bytes": LARGE, "small_bytes": SMALL, "runs": [],
    }
    if options.resume and path.exists():
        result = json.loads(path.read_text())
    with tempfile.TemporaryDirectory() as folder:
        program = folder + "/link"
        call("gcc", "-O2", "-o", program, ROOT / "Benchmarks/cluster/link.c", "-lpthread")
        for round_ in range(options.rounds):
            for gigabits, milliseconds, mtu in LINKS:
                if options.only and options.only != f"{gigabits},{milliseconds}":
                    continue
                start = time.time()
                with Link(program, gigabits, milliseconds, mtu) as link:
                    run = measure(options, link)
                run.update(gigabits=gigabits, delay_ms=milliseconds, mtu=mtu, load=os.getloadavg()[0], seconds=time.time() - start)
                result["runs"].append(run)
                path.write_text(json.dumps(result, indent=1) + "\n")
                print(f"round {round_ + 1}, {gigabits} Gb/s, {milliseconds} ms: " + ", ".join(
                    f"{name} {value:.3g}" for name, value in run.items() if name.endswith("_ms") and name != "delay_ms"), flush=True)
    print(path)


if __name__ == "__main__":
    main()
