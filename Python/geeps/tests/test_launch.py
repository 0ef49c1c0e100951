"""Launchers, told from the environments they leave."""

from __future__ import annotations

import warnings

import pytest

from geeps._launch import Place, detect, expand_hosts
from geeps.errors import ArgumentError


@pytest.mark.parametrize(
    ("text", "hosts"),
    [
        ("n[1-4]", "n1 n2 n3 n4"),
        (
            "gpu-[003-005,9]-ib[0-1],login",
            "gpu-003-ib0 gpu-003-ib1 gpu-004-ib0 gpu-004-ib1 gpu-005-ib0 gpu-005-ib1 gpu-9-ib0 gpu-9-ib1 login",
        ),
        ("a[08-11]", "a08 a09 a10 a11"),
        ("x1,x[3,5-6]", "x1 x3 x5 x6"),
        ("rack[1-2]n[01-02]", "rack1n01 rack1n02 rack2n01 rack2n02"),
        ("", ""),
    ],
)
def test_node_lists_are_those_of_scontrol(text: str, hosts: str) -> None:
    assert expand_hosts(text) == hosts.split()


def test_nothing_means_alone() -> None:
    assert detect({}) == Place()


def test_torchrun_has_a_store_to_meet_in() -> None:
    place = detect(
        {
            "RANK": "3",
            "WORLD_SIZE": "4",
            "MASTER_ADDR": "n1",
            "MASTER_PORT": "29400",
            "TORCHELASTIC_USE_AGENT_STORE": "True",
        }
    )
    assert (place.rank, place.world_size, place.store_port, place.rendezvous) == (3, 4, 29400, None)


def test_open_mpi_outranks_slurm_whose_values_are_the_daemons() -> None:
    daemon = {"SLURM_PROCID": "0", "SLURM_NTASKS": "2", "SLURM_STEP_ID": "0", "SLURM_JOB_ID": "77"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        place = detect(daemon | {"OMPI_COMM_WORLD_RANK": "3", "OMPI_COMM_WORLD_SIZE": "4"})
    assert (place.rank, place.world_size, place.source) == (3, 4, "Open MPI")


def test_slurm_counts_in_a_step_only() -> None:
    batch = {"SLURM_PROCID": "0", "SLURM_NTASKS": "4", "SLURM_JOB_ID": "123456", "SLURM_JOB_NODELIST": "n[3-4]"}
    with pytest.warns(UserWarning, match="srun"):
        assert detect(batch) == Place()
    place = detect(batch | {"SLURM_STEP_ID": "0", "SLURM_PROCID": "2", "SLURM_STEP_NODELIST": "n[3-4]"})
    assert (place.rank, place.world_size, place.rendezvous) == (2, 4, "n3:18456")


def test_launchers_that_disagree_are_both_named() -> None:
    variables = {"RANK": "0", "WORLD_SIZE": "8", "SLURM_PROCID": "0", "SLURM_NTASKS": "4", "SLURM_STEP_ID": "0"}
    with pytest.warns(UserWarning, match="8 processes, Slurm 4"):
        assert detect(variables).world_size == 8


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"RANK": "2", "WORLD_SIZE": "2"}, "ranks go from 0 to 1"),
        ({"RANK": "x", "WORLD_SIZE": "2"}, "RANK is 'x'"),
        ({"GEEPS_RANK": "0"}, "GEEPS_WORLD_SIZE is not set"),
        ({"GEEPS_RANK": "0", "GEEPS_WORLD_SIZE": "2"}, "GEEPS_RENDEZVOUS is not set"),
    ],
)
def test_what_does_not_fit_is_named(variables: dict[str, str], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        detect(variables)
