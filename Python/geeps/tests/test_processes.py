"""Several processes: the bits of DistributedDataParallel, however they are launched."""

from __future__ import annotations

import os
import pathlib
import socket
import subprocess
import sys

import pytest

MEMORY = pytest.mark.parametrize("memory", ["resident", "managed"])
HERE = pathlib.Path(__file__).parent


def environment(**variables: str) -> dict[str, str]:
    result = {key: value for key, value in os.environ.items() if not key.startswith(("SLURM_", "OMPI_", "PMI"))}
    result["PYTHONPATH"] = os.pathsep.join([str(HERE), str(HERE.parent), os.environ.get("PYTHONPATH", "")])
    result["OMP_NUM_THREADS"] = "1"
    return result | variables


def torchrun(size: int, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={size}", HERE / script]
        + list(arguments),
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
    )


def assert_same_weights(result: subprocess.CompletedProcess[str], size: int) -> None:
    assert result.returncode == 0, result.stderr[-4000:]
    weights = [line for line in result.stdout.splitlines() if line.startswith("weights ")]
    assert len(weights) == size and len(set(weights)) == 1


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(script: str, *arguments: str, **variables: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, HERE / script, *arguments],
        env=environment(**variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(processes: list[subprocess.Popen[str]]) -> list[tuple[int, str, str]]:
    results = []
    for process in processes:
        out, err = process.communicate(timeout=240)
        results.append((process.returncode, out, err))
    return results


@pytest.mark.parametrize(
    ("name", "optimizer"), [("cnn", "momentum"), ("lm", "nesterov"), ("lstm", "sgd"), ("lm", "adamw")]
)
def test_two_processes_have_the_bits_of_ddp(name: str, optimizer: str) -> None:
    result = torchrun(2, "ddp_worker.py", name, optimizer, "0")
    assert_same_weights(result, 2)


def test_two_processes_with_managed_memory_have_the_bits_of_ddp() -> None:
    result = torchrun(2, "ddp_worker.py", "lm", "momentum", "0", "managed")
    assert_same_weights(result, 2)


def test_the_hook_of_ddp_gives_its_bits() -> None:
    result = torchrun(2, "ddp_worker.py", "lm", "momentum", "0", "hook")
    assert_same_weights(result, 2)


@MEMORY
def test_two_processes_clip_by_the_norm_of_all(memory: str) -> None:
    result = torchrun(2, "ddp_worker.py", "lm", "momentum", "1e-5", f"{memory}-clip")
    assert_same_weights(result, 2)


@MEMORY
def test_a_scaler_skips_the_same_steps_in_all_processes(memory: str) -> None:
    result = torchrun(2, "ddp_worker.py", "lm", "momentum", "0", f"{memory}-scale")
    assert_same_weights(result, 2)


@MEMORY
def test_gradients_that_are_scaled_and_clipped(memory: str) -> None:
    result = torchrun(2, "ddp_worker.py", "lm", "momentum", "1e-5", f"{memory}-scale-and-clip")
    assert_same_weights(result, 2)


@pytest.mark.parametrize("name", ["cnn", "lm"])
def test_three_processes_are_near_ddp(name: str) -> None:
    result = torchrun(3, "ddp_worker.py", name, "momentum", "3e-5")
    assert_same_weights(result, 3)


@pytest.mark.parametrize(
    "variables",
    [
        {"GEEPS_RANK": "{rank}", "GEEPS_WORLD_SIZE": "2", "GEEPS_RENDEZVOUS": "127.0.0.1:{port}"},
        {"RANK": "{rank}", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "{port}"},
        {"OMPI_COMM_WORLD_RANK": "{rank}", "OMPI_COMM_WORLD_SIZE": "2", "MASTER_PORT": "{port}"},
        {
            "SLURM_PROCID": "{rank}",
            "SLURM_NTASKS": "2",
            "SLURM_STEP_ID": "0",
            "SLURM_STEP_NODELIST": "127.0.0.1",
            "MASTER_PORT": "{port}",
        },
    ],
    ids=["geeps", "torchrun without a store", "mpirun", "srun"],
)
def test_launchers_are_told_from_the_environment(variables: dict[str, str]) -> None:
    port = str(free_port())
    processes = [
        start("alone_worker.py", "4", **{k: v.format(rank=rank, port=port) for k, v in variables.items()})
        for rank in range(2)
    ]
    results = finish(processes)
    assert [code for code, _, _ in results] == [0, 0], results
    first, second = (out.removeprefix("training\n") for _, out, _ in results)
    assert first.startswith("rank 0 of 2 by") and second.startswith("rank 1 of 2 by")
    assert first.split(": ")[1] == second.split(": ")[1]


def test_a_process_that_fails_ends_the_others_with_its_reason() -> None:
    port = str(free_port())
    processes = [
        start(
            "alone_worker.py",
            "100000",
            "1",
            GEEPS_RANK=str(rank),
            GEEPS_WORLD_SIZE="2",
            GEEPS_RENDEZVOUS=f"127.0.0.1:{port}",
        )
        for rank in range(2)
    ]
    (first_code, _, first), (second_code, _, second) = finish(processes)
    assert first_code == 1 and second_code == 1
    assert "a mistake of the script" in second
    assert "PeerLost" in first and "rank 1" in first and "a mistake of the script" in first


def test_a_killed_process_ends_the_others_with_its_name() -> None:
    port = str(free_port())
    processes = [
        start(
            "alone_worker.py",
            "100000",
            GEEPS_RANK=str(rank),
            GEEPS_WORLD_SIZE="2",
            GEEPS_RENDEZVOUS=f"127.0.0.1:{port}",
        )
        for rank in range(2)
    ]
    # Both train by now.
    assert processes[1].stdout.readline() == "training\n"
    processes[1].kill()
    (code, _, error), _ = finish(processes)
    assert code == 1
    assert "PeerLost" in error and "rank 1" in error and "is gone" in error


def test_different_optimizers_are_refused_with_both() -> None:
    port = str(free_port())
    program = (
        "import sys, torch, geeps; m = torch.nn.Linear(2, 2); "
        "geeps.attach(m, torch.optim.SGD(m.parameters(), lr=0.1, momentum=float(sys.argv[1])), join_timeout=30)"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program, momentum],
            env=environment(GEEPS_RANK=rank, GEEPS_WORLD_SIZE="2", GEEPS_RENDEZVOUS=f"127.0.0.1:{port}"),
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank, momentum in (("0", "0.9"), ("1", "0.8"))
    ]
    for process in processes:
        _, error = process.communicate(timeout=120)
        assert process.returncode == 1
        assert "Disagreement" in error and "momentum: 0.8" in error and "momentum: 0.9" in error


@pytest.mark.parametrize("order", ["before", "after"])
@pytest.mark.parametrize(
    "variables",
    [
        {"RANK": "{rank}", "WORLD_SIZE": "2"},
        {"OMPI_COMM_WORLD_RANK": "{rank}", "OMPI_COMM_WORLD_SIZE": "2"},
        {"SLURM_PROCID": "{rank}", "SLURM_NTASKS": "2", "SLURM_STEP_ID": "0", "SLURM_STEP_NODELIST": "127.0.0.1"},
    ],
    ids=["torchrun without a store", "mpirun", "srun"],
)
def test_torch_distributed_has_a_port_of_its_own(variables: dict[str, str], order: str) -> None:
    group = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    processes = [
        start("beside_worker.py", order, str(rank), "2", **{k: v.format(rank=rank) for k, v in variables.items()}, **group)
        for rank in range(2)
    ]
    results = finish(processes)
    assert [code for code, _, _ in results] == [0, 0], results
    assert all("sum of ranks 1" in out for _, out, _ in results)


def test_lost_connections_change_no_bit() -> None:
    def run(way: str) -> list[list[str]]:
        place = {"GEEPS_WORLD_SIZE": "2", "GEEPS_RENDEZVOUS": f"127.0.0.1:{free_port()}"}
        results = finish([start("lost_worker.py", way, GEEPS_RANK=str(rank), **place) for rank in range(2)])
        assert [code for code, _, _ in results] == [0, 0], results
        return [out.split() for _, out, _ in results]

    calm, lossy = run("calm"), run("lossy")
    assert len({words[1] for words in calm + lossy}) == 1
    assert [words[3] for words in calm] == ["0", "0"]
    assert sum(int(words[3]) for words in lossy) >= 5
