"""Where this process stands among those of its job, told from what launchers leave in the environment."""

from __future__ import annotations

import dataclasses
import os
import re
import socket
import warnings
from collections.abc import Mapping

from .errors import ArgumentError


@dataclasses.dataclass(frozen=True)
class Place:
    """A process's place in its job."""

    rank: int = 0
    world_size: int = 1
    #: "host:port" of rank 0; None where it must be agreed on, or where there is nobody to meet.
    rendezvous: str | None = None
    #: Where the place was read from: "torchrun", "Open MPI", ...
    source: str = "alone"
    #: Host of rank 0.
    master: str = "127.0.0.1"
    #: Port of the launcher's key-value store at ``master``, where the rendezvous can be agreed on.
    store_port: int | None = None


def detect(environment: Mapping[str, str] = os.environ) -> Place:
    """The place that ``environment`` describes, by the first launcher that left its mark.

    >>> detect({"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "n1", "MASTER_PORT": "29400"}).source
    'torchrun'
    >>> detect({}).world_size
    1
    """
    places = [place for place in (reader(environment) for reader in _READERS) if place]
    if not places:
        _warn_about_batch_scripts(environment)
        return Place()
    first = places[0]
    if not 0 <= first.rank < first.world_size:
        raise ArgumentError(
            f"{first.source} says rank {first.rank} of {first.world_size}: ranks go from 0 to "
            f"{first.world_size - 1}"
        )
    # Open MPI's ranks carry the values of its daemons under Slurm's names; that is no disagreement.
    for other in places[1:]:
        if other.world_size != first.world_size and first.source != "Open MPI":
            warnings.warn(
                f"{first.source} says that the job has {first.world_size} processes, {other.source} "
                f"{other.world_size}; GeePS goes by {first.source}",
                stacklevel=2,
            )
    return first


def _number(environment: Mapping[str, str], name: str) -> int:
    try:
        return int(environment[name])
    except KeyError:
        raise ArgumentError(f"{name} is not set, other variables of the same launcher are") from None
    except ValueError:
        raise ArgumentError(f"{name} is '{environment[name]}', expected an integer") from None


def _master(environment: Mapping[str, str]) -> str:
    return environment.get("MASTER_ADDR", "127.0.0.1")


def _geeps(environment: Mapping[str, str]) -> Place | None:
    if "GEEPS_RANK" not in environment and "GEEPS_WORLD_SIZE" not in environment:
        return None
    world_size = _number(environment, "GEEPS_WORLD_SIZE")
    rendezvous = environment.get("GEEPS_RENDEZVOUS")
    if world_size > 1 and not rendezvous:
        raise ArgumentError(
            f"GEEPS_RENDEZVOUS is not set but GEEPS_WORLD_SIZE is {world_size}: it says where rank 0 listens, "
            "such as 10.0.0.7:29500"
        )
    return Place(_number(environment, "GEEPS_RANK"), world_size, rendezvous, "GEEPS_RANK")


def _torchrun(environment: Mapping[str, str]) -> Place | None:
    if "RANK" not in environment or "WORLD_SIZE" not in environment:
        return None
    port = _number(environment, "MASTER_PORT") if "MASTER_PORT" in environment else None
    # torchrun's agent serves a store there; with other launchers the port is torch.distributed's to take.
    has_store = environment.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    return Place(
        _number(environment, "RANK"),
        _number(environment, "WORLD_SIZE"),
        None if has_store or port is None else f"{_master(environment)}:{port + 1}",
        "torchrun",
        _master(environment),
        port if has_store else None,
    )


def _open_mpi(environment: Mapping[str, str]) -> Place | None:
    if "OMPI_COMM_WORLD_RANK" not in environment:
        return None
    return _by_hash(
        environment,
        _number(environment, "OMPI_COMM_WORLD_RANK"),
        _number(environment, "OMPI_COMM_WORLD_SIZE"),
        "Open MPI",
        environment.get("PMIX_NAMESPACE", ""),
    )


def _pmi(environment: Mapping[str, str]) -> Place | None:
    if "PMI_RANK" not in environment or "PMI_SIZE" not in environment:
        return None
    return _by_hash(
        environment,
        _number(environment, "PMI_RANK"),
        _number(environment, "PMI_SIZE"),
        "PMI",
        environment.get("PMI_JOBID", ""),
    )


def _slurm(environment: Mapping[str, str]) -> Place | None:
    # In a batch script without srun SLURM_PROCID is there too, and the others never come.
    if "SLURM_STEP_ID" not in environment or "SLURM_PROCID" not in environment:
        return None
    hosts = expand_hosts(environment.get("SLURM_STEP_NODELIST", environment.get("SLURM_JOB_NODELIST", "")))
    master = environment.get("MASTER_ADDR", hosts[0] if hosts else "127.0.0.1")
    port = 15000 + int(environment.get("SLURM_JOB_ID", "0")[-4:])
    return Place(
        _number(environment, "SLURM_PROCID"),
        _number(environment, "SLURM_NTASKS"),
        f"{master}:{environment.get('MASTER_PORT', port)}",
        "Slurm",
        master,
    )


def _by_hash(environment: Mapping[str, str], rank: int, size: int, source: str, job: str) -> Place:
    # No address travels with mpirun; two jobs of one machine should still not meet.
    port = environment.get("MASTER_PORT") or str(15000 + sum(ord(c) * (i + 1) for i, c in enumerate(job)) % 10000)
    return Place(rank, size, f"{_master(environment)}:{port}", source, _master(environment))


_READERS = (_geeps, _torchrun, _open_mpi, _pmi, _slurm)


def _warn_about_batch_scripts(environment: Mapping[str, str]) -> None:
    tasks = environment.get("SLURM_NTASKS", "1")
    if "SLURM_PROCID" in environment and tasks != "1":
        warnings.warn(
            f"this looks like a Slurm batch script of {tasks} tasks without srun; this process trains alone. "
            "Start it by `srun python ...`",
            stacklevel=3,
        )


def expand_hosts(text: str) -> list[str]:
    """The hosts of a Slurm node list.

    >>> expand_hosts("rack[1-2]n[01-02],login")
    ['rack1n01', 'rack1n02', 'rack2n01', 'rack2n02', 'login']
    """
    hosts = []
    for part in re.findall(r"(?:[^,\[]|\[[^\]]*\])+", text):
        names = [""]
        for literal, ranges in re.findall(r"([^\[]+)|\[([^\]]*)\]", part):
            endings = [literal] if literal else [n for piece in ranges.split(",") for n in _expand_range(piece)]
            names = [name + ending for name in names for ending in endings]
        hosts += names
    return hosts


def _expand_range(text: str) -> list[str]:
    low, dash, high = text.partition("-")
    if not dash:
        return [low]
    return [str(number).zfill(len(low)) for number in range(int(low), int(high) + 1)]


def free_port(host: str = "127.0.0.1") -> int:
    """A port of this machine that nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind((host if host != "localhost" else "127.0.0.1", 0))
        return probe.getsockname()[1]
