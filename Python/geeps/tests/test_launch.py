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


def test_steps_of_slurm_that_are_none_do_not_count() -> None:
    # The step of a batch script, of an interactive shell: SLURM_BATCH_SCRIPT is 0xFFFFFFFB.
    step = {"SLURM_PROCID": "0", "SLURM_NTASKS": "1", "SLURM_NNODES": "4", "SLURM_JOB_ID": "9", "SLURM_STEP_ID": "4294967291"}
    with pytest.warns(UserWarning, match="SLURM_NNODES is 4"):
        assert detect(step) == Place()
    step |= {"SLURM_STEP_ID": "4294967279", "SLURM_STEP_NUM_TASKS": "3", "SLURM_JOB_NODELIST": "a"}
    assert detect(step).world_size == 3


TRAIN_JOB = {"PET_NNODES": "3", "PET_NODE_RANK": "1", "PET_MASTER_ADDR": "job-node-0-0.job"}
INDEXED_JOB = {"JOB_COMPLETION_INDEX": "2", "GEEPS_WORLD_SIZE": "4", "GEEPS_RENDEZVOUS": "job-0.svc:29500"}


@pytest.mark.parametrize(
    ("variables", "place"),
    [
        (TRAIN_JOB, Place(1, 3, "job-node-0-0.job:29500", "Kubeflow Trainer", "job-node-0-0.job")),
        (TRAIN_JOB | {"PET_MASTER_PORT": "77"}, Place(1, 3, "job-node-0-0.job:77", "Kubeflow Trainer", "job-node-0-0.job")),
        (INDEXED_JOB, Place(2, 4, "job-0.svc:29500", "Kubernetes indexed job")),
        (
            INDEXED_JOB | {"GEEPS_RENDEZVOUS": "", "MASTER_ADDR": "m"},
            Place(2, 4, "m:29500", "Kubernetes indexed job", "m"),
        ),
        # An indexed job whose pods run torchrun or set GEEPS_RANK goes by these.
        (INDEXED_JOB | {"GEEPS_RANK": "2"}, Place(2, 4, "job-0.svc:29500", "GEEPS_RANK")),
        (TRAIN_JOB | {"PET_NPROC_PER_NODE": "auto"}, Place(1, 3, "job-node-0-0.job:29500", "Kubeflow Trainer", "job-node-0-0.job")),
    ],
)
def test_pods_find_their_place(variables: dict[str, str], place: Place) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert detect(variables) == place


def test_torchrun_outranks_what_starts_it() -> None:
    inside = {"RANK": "5", "WORLD_SIZE": "6", "MASTER_ADDR": "n1", "MASTER_PORT": "29400", "TORCHELASTIC_RUN_ID": "x"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        place = detect(inside | TRAIN_JOB)
    assert (place.rank, place.source) == (5, "torchrun")


def test_an_address_that_is_given_outranks_every_launchers() -> None:
    place = detect(TRAIN_JOB | {"GEEPS_RENDEZVOUS": "10.0.0.7:1"})
    assert (place.rendezvous, place.source) == ("10.0.0.7:1", "Kubeflow Trainer")
    store = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "n1", "MASTER_PORT": "1", "TORCHELASTIC_USE_AGENT_STORE": "True"}
    assert detect(store | {"GEEPS_RENDEZVOUS": "10.0.0.7:1"}).rendezvous == "10.0.0.7:1"


def test_a_pod_that_does_not_know_of_how_many_is_alone() -> None:
    with pytest.warns(UserWarning, match="without GEEPS_WORLD_SIZE"):
        assert detect({"JOB_COMPLETION_INDEX": "1"}) == Place()


def test_ranks_that_disagree_are_both_named() -> None:
    variables = {"PMI_RANK": "1", "PMI_SIZE": "2", "SLURM_PROCID": "0", "SLURM_NTASKS": "2", "SLURM_STEP_ID": "0"}
    with pytest.warns(UserWarning, match="rank 1, Slurm 0"):
        assert detect(variables).rank == 1


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
        ({"GEEPS_WORLD_SIZE": "2"}, "GEEPS_RANK is not set but GEEPS_WORLD_SIZE is"),
        ({"RANK": "0", "WORLD_SIZE": "0"}, "WORLD_SIZE is 0, expected an integer of 1 or more"),
        (TRAIN_JOB | {"PET_NPROC_PER_NODE": "2"}, "numProcPerNode to 1"),
        (TRAIN_JOB | {"PET_MASTER_ADDR": ""}, "PET_MASTER_ADDR is not set"),
        (INDEXED_JOB | {"GEEPS_RENDEZVOUS": ""}, "GEEPS_RENDEZVOUS is not set but GEEPS_WORLD_SIZE is 4"),
    ],
)
def test_what_does_not_fit_is_named(variables: dict[str, str], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        detect(variables)
