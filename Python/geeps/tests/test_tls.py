"""TLS between processes, with certificates that openssl has made."""

from __future__ import annotations

import os
import pathlib
import shutil
import socket
import subprocess
import sys

import pytest

import geeps

needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="there is no openssl")

_WORKER = """
import sys, torch, models, geeps
tls = {"certificate": sys.argv[1], "key": sys.argv[2], "ca": sys.argv[3]} if len(sys.argv) > 1 else None
model = models.build("cnn")
opt = geeps.attach(model, models.OPTIMIZERS["momentum"](model.parameters()), transport="tcp", join_timeout=20, tls=tls)
print(models.train(model, opt, "cnn", steps=4, rank=opt.place.rank), opt.report()["bytes_received"])
opt.close()
"""


def authority(directory: pathlib.Path, name: str) -> list[str]:
    """The files of a certificate, its key and the authority that it comes from."""
    made = {part: str(directory / f"{name}-{part}.pem") for part in ("ca", "ca-key", "node", "key", "request")}
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    for command in (
        ["req", "-x509", *curve, "-days", "1", "-subj", f"/CN={name}", "-keyout", made["ca-key"], "-out", made["ca"]],
        ["req", *curve, "-subj", "/CN=node", "-keyout", made["key"], "-out", made["request"]],
        ["x509", "-req", "-in", made["request"], "-CA", made["ca"], "-CAkey", made["ca-key"], "-CAcreateserial", "-days", "1"]
        + ["-out", made["node"]],
    ):
        subprocess.run(["openssl", *command], check=True, capture_output=True)
    return [made["node"], made["key"], made["ca"]]


def run_two(arguments: list[list[str]]) -> list[subprocess.CompletedProcess[str]]:
    """Two processes of a job, each with arguments of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    here = pathlib.Path(__file__).parent
    shared = {
        "GEEPS_WORLD_SIZE": "2",
        "GEEPS_RENDEZVOUS": f"127.0.0.1:{port}",
        "PYTHONPATH": f"{here}:{pathlib.Path(geeps.__file__).parents[1]}",
        "OMP_NUM_THREADS": "1",
    }
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", _WORKER, *given],
            env=os.environ | shared | {"GEEPS_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank, given in enumerate(arguments)
    ]
    done = []
    for process in processes:
        out, err = process.communicate(timeout=90)
        done.append(subprocess.CompletedProcess(process.args, process.returncode, out, err))
    return done


@needs_openssl
def test_two_processes_over_tls_have_the_bits_of_two_without(tmp_path: pathlib.Path) -> None:
    files = authority(tmp_path, "job")
    plain, encrypted = run_two([[], []]), run_two([files, files])
    assert [each.returncode for each in plain + encrypted] == [0] * 4, [each.stderr for each in plain + encrypted]
    assert [each.stdout.split("]")[0] for each in encrypted] == [each.stdout.split("]")[0] for each in plain]


@needs_openssl
def test_a_certificate_of_another_authority_is_refused(tmp_path: pathlib.Path) -> None:
    done = run_two([authority(tmp_path, "job"), authority(tmp_path, "other")])
    assert all(each.returncode != 0 for each in done)
    assert "CertificateError" in done[1].stderr, done[1].stderr


def test_unknown_parts_are_named() -> None:
    import models

    model = models.build("cnn")
    with pytest.raises(geeps.ArgumentError, match="certificate"):
        geeps.attach(model, models.OPTIMIZERS["sgd"](model.parameters()), tls={"cert": "x"})
