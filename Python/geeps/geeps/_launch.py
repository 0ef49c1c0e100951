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
    # Empty is not set: templates of jobs leave such.
    environment = {name: value for name, value in environment.items() if value}
    places = [place for place in (reader(environment) for reader in _READERS) if place]
    if not places:
        _refuse_parts(environment)
        _warn_about_lonely_parts(environment)
        return Place()
    first = places[0]
    if not 0 <= first.rank < first.world_size:
        raise ArgumentError(
            f"{first.source} says rank {first.rank} of {first.world_size}: ranks go from 0 to "
            f"{first.world_size - 1}"
        )
    _warn_about_disagreements(first, places[1:], environment)
    given = environment.get("GEEPS_RENDEZVOUS")
    if given and first.world_size > 1:
        return dataclasses.replace(first, rendezvous=given, store_port=None)
    return first


def _warn_about_disagreements(first: Place, others: list[Place], environment: Mapping[str, str]) -> None:
    # torchrun may run inside any other launcher, once a machine.
    if first.source == "torchrun" and "TORCHELASTIC_RUN_ID" in environment:
        return
    for other in others:
        # Open MPI's ranks carry the values of its daemons under Slurm's names; that is no disagreement.
        if (first.source, other.source) == ("Open MPI", "Slurm"):
            continue
        if other.world_size != first.world_size:
            warnings.warn(
                f"{first.source} says that the job has {first.world_size} processes, {other.source} "
                f"{other.world_size}; GeePS goes by {first.source}",
                stacklevel=3,
            )
        elif other.rank != first.rank:
            warnings.warn(
                f"{first.source} says that this is rank {first.rank}, {other.source} {other.rank}; GeePS goes by "
                f"{first.source}",
                stacklevel=3,
            )


def _number(environment: Mapping[str, str], name: str, least: int = 0) -> int:
    try:
        number = int(environment[name])
    except KeyError:
        raise ArgumentError(f"{name} is not set, other variables of the same launcher are") from None
    except ValueError:
        raise ArgumentError(f"{name} is '{environment[name]}', expected an integer") from None
    if number < least:
        raise ArgumentError(f"{name} is {number}, expected an integer of {least} or more")
    return number


def _master(environment: Mapping[str, str]) -> str:
    return environment.get("MASTER_ADDR", "127.0.0.1")


def _geeps(environment: Mapping[str, str]) -> Place | None:
    if "GEEPS_RANK" not in environment:
        return None
    world_size = _number(environment, "GEEPS_WORLD_SIZE", 1)
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
    # torchrun's agent serves a store there.
    has_store = environment.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    port = None if has_store else _port_after_master(environment)
    return Place(
        _number(environment, "RANK"),
        _number(environment, "WORLD_SIZE", 1),
        None if port is None else f"{_master(environment)}:{port}",
        "torchrun",
        _master(environment),
        _number(environment, "MASTER_PORT") if has_store else None,
    )


def _port_after_master(environment: Mapping[str, str]) -> int | None:
    """MASTER_PORT itself is torch.distributed's, which a script may start before or after it attaches."""
    if "MASTER_PORT" not in environment:
        return None
    port = _number(environment, "MASTER_PORT")
    if port >= 65535:
        raise ArgumentError(f"MASTER_PORT is {port}, which leaves no port after it; set GEEPS_RENDEZVOUS")
    return port + 1


def _open_mpi(environment: Mapping[str, str]) -> Place | None:
    if "OMPI_COMM_WORLD_RANK" not in environment:
        return None
    return _by_hash(
        environment,
        _number(environment, "OMPI_COMM_WORLD_RANK"),
        _number(environment, "OMPI_COMM_WORLD_SIZE", 1),
        "Open MPI",
        environment.get("PMIX_NAMESPACE", ""),
    )


def _pmi(environment: Mapping[str, str]) -> Place | None:
    if "PMI_RANK" not in environment or "PMI_SIZE" not in environment:
        return None
    return _by_hash(
        environment,
        _number(environment, "PMI_RANK"),
        _number(environment, "PMI_SIZE", 1),
        "PMI",
        environment.get("PMI_JOBID", ""),
    )


def _slurm(environment: Mapping[str, str]) -> Place | None:
    if not _is_in_slurm_step(environment) or "SLURM_PROCID" not in environment:
        return None
    size = next((name for name in ("SLURM_STEP_NUM_TASKS", "SLURM_NTASKS") if name in environment), "SLURM_NTASKS")
    hosts = expand_hosts(environment.get("SLURM_STEP_NODELIST", environment.get("SLURM_JOB_NODELIST", "")))
    master = environment.get("MASTER_ADDR", hosts[0] if hosts else "127.0.0.1")
    port = _port_after_master(environment) or 15000 + int(environment.get("SLURM_JOB_ID", "0")[-4:])
    return Place(
        _number(environment, "SLURM_PROCID"),
        _number(environment, size, 1),
        f"{master}:{port}",
        "Slurm",
        master,
    )


def _is_in_slurm_step(environment: Mapping[str, str]) -> bool:
    """Whether ``srun`` has started this process: in a batch script there is a SLURM_PROCID too, and the others never come."""
    step = environment.get("SLURM_STEP_ID", "")
    return step.isdecimal() and int(step) < _FIRST_SPECIAL_STEP


def _kubeflow(environment: Mapping[str, str]) -> Place | None:
    """Where Python is the command of a TrainJob's pods, in place of torchrun."""
    if "PET_NNODES" not in environment or "PET_NODE_RANK" not in environment:
        return None
    count = environment.get("PET_NPROC_PER_NODE", "")
    if count.isdecimal() and int(count) > 1:
        raise ArgumentError(
            f"PET_NPROC_PER_NODE is {count}, but this is the only process of its pod: set numProcPerNode to 1, or start "
            "the script by torchrun"
        )
    world_size = _number(environment, "PET_NNODES", 1)
    if world_size > 1 and "PET_MASTER_ADDR" not in environment and "GEEPS_RENDEZVOUS" not in environment:
        raise ArgumentError("PET_MASTER_ADDR is not set, other variables of the same launcher are")
    master = environment.get("PET_MASTER_ADDR", "127.0.0.1")
    port = environment.get("PET_MASTER_PORT", _DEFAULT_PORT)
    return Place(
        _number(environment, "PET_NODE_RANK"), world_size, f"{master}:{port}", "Kubeflow Trainer", master
    )


def _indexed_job(environment: Mapping[str, str]) -> Place | None:
    """A pod of a Kubernetes job that says of how many."""
    if "JOB_COMPLETION_INDEX" not in environment or "GEEPS_WORLD_SIZE" not in environment:
        return None
    world_size = _number(environment, "GEEPS_WORLD_SIZE", 1)
    if world_size > 1 and not environment.keys() & {"GEEPS_RENDEZVOUS", "MASTER_ADDR"}:
        raise ArgumentError(
            f"GEEPS_RENDEZVOUS is not set but GEEPS_WORLD_SIZE is {world_size}: it says where rank 0 listens, such as "
            "job-0.service:29500"
        )
    port = _port_after_master(environment) or _DEFAULT_PORT
    return Place(
        _number(environment, "JOB_COMPLETION_INDEX"),
        world_size,
        f"{_master(environment)}:{port}",
        "Kubernetes indexed job",
        _master(environment),
    )


def _by_hash(environment: Mapping[str, str], rank: int, size: int, source: str, job: str) -> Place:
    # No address travels with mpirun; two jobs of one machine should still not meet.
    port = _port_after_master(environment) or (15000 + sum(ord(c) * (i + 1) for i, c in enumerate(job)) % 10000)
    return Place(rank, size, f"{_master(environment)}:{port}", source, _master(environment))


#: In the order in which they are believed: torchrun runs inside srun, and under salloc mpirun every rank carries the
#: Slurm variables of its daemon.
_READERS = (_geeps, _torchrun, _open_mpi, _pmi, _slurm, _kubeflow, _indexed_job)
_DEFAULT_PORT = "29500"
#: From here on a step's number means a batch script, an interactive shell or the like.
_FIRST_SPECIAL_STEP = 0xFFFF_FFF0


def _refuse_parts(environment: Mapping[str, str]) -> None:
    if "GEEPS_WORLD_SIZE" in environment:
        raise ArgumentError("GEEPS_RANK is not set but GEEPS_WORLD_SIZE is: set both and GEEPS_RENDEZVOUS, or none")


def _warn_about_lonely_parts(environment: Mapping[str, str]) -> None:
    if "JOB_COMPLETION_INDEX" in environment:
        warnings.warn(
            f"JOB_COMPLETION_INDEX is {environment['JOB_COMPLETION_INDEX']}, but without GEEPS_WORLD_SIZE this process "
            "trains alone",
            stacklevel=3,
        )
    # With --nodes alone nobody says how many tasks there are.
    counts = [(name, environment[name]) for name in ("SLURM_NTASKS", "SLURM_NNODES") if environment.get(name, "1") != "1"]
    if "SLURM_JOB_ID" in environment and not _is_in_slurm_step(environment) and counts:
        warnings.warn(
            f"this looks like a Slurm batch script without srun ({counts[0][0]} is {counts[0][1]}); this process trains "
            "alone. Start it by `srun python ...`",
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
