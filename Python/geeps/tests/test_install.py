"""The package as users get it."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import sys
import zipfile

import geeps._library

PROJECT = pathlib.Path(__file__).parents[1]

QUICKSTART = """
import torch, geeps
model = torch.nn.Linear(4, 1)
opt = geeps.attach(model, torch.optim.SGD(model.parameters(), lr=0.1))
for _ in range(20):
    opt.zero_grad()
    loss = (model(torch.ones(2, 4)) - 3).square().mean()
    loss.backward()
    opt.step()
print(loss.item() < 1e-3, geeps.__file__)
"""


def pip(*arguments: str | pathlib.Path, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments, "--no-deps", "--no-build-isolation"]
    environment = {key: value for key, value in os.environ.items() if key != "GEEPS_LIBRARY"}
    return subprocess.run(command, env=environment | variables, capture_output=True, text=True, timeout=300)


def copy_of_project(to: pathlib.Path) -> pathlib.Path:
    return shutil.copytree(PROJECT, to / "project", ignore=shutil.ignore_patterns("build", "*.egg-info", "__pycache__"))


def test_a_wheel_has_the_library_and_runs_by_itself(tmp_path: pathlib.Path) -> None:
    library = str(geeps._library.path())
    made = pip("wheel", copy_of_project(tmp_path), "--wheel-dir", tmp_path, GEEPS_LIBRARY=library)
    assert made.returncode == 0, made.stderr
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name.startswith("geeps-0.1.0-py3-none-manylinux_2_34_")
    assert {"geeps/libgeeps.so", "geeps/py.typed"} <= set(zipfile.ZipFile(wheel).namelist())
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GEEPS_")}
    result = subprocess.run(
        [sys.executable, "-c", QUICKSTART],
        env=environment | {"PYTHONPATH": str(tmp_path / "site")},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.stdout.startswith("True " + str(tmp_path / "site")), result.stderr


def test_a_missing_library_says_what_to_do(tmp_path: pathlib.Path) -> None:
    project = copy_of_project(tmp_path)
    made = pip("wheel", project, "--wheel-dir", tmp_path)
    assert made.returncode != 0
    assert "set GEEPS_LIBRARY to one, or install a wheel" in made.stderr + made.stdout
    result = subprocess.run(
        [sys.executable, "-c", "import geeps"],
        env={key: value for key, value in os.environ.items() if key != "GEEPS_LIBRARY"} | {"PYTHONPATH": str(project)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "LibraryMissing" in result.stderr and "make library" in result.stderr
