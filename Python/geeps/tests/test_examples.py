"""The examples: the line that changes, and the same results."""

from __future__ import annotations

import difflib
import importlib.util
import os
import pathlib
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).parent
HAS_TORCHVISION = importlib.util.find_spec("torchvision") is not None
EXAMPLES = HERE.parents[2] / "Examples" / "torch"


@pytest.mark.parametrize("name", ["digits", "gpt", "resnet"])
def test_one_line_changes_and_one_is_new(name: str) -> None:
    plain, attached = ((EXAMPLES / f"{name}{end}.py").read_text().split('"""')[2] for end in ("", "_geeps"))
    changes = [line for line in difflib.ndiff(plain.splitlines(), attached.splitlines()) if line[0] in "+-"]
    assert len(changes) == 3 and changes[0] == "+ import geeps"
    assert changes[1].startswith("-     opt = ") and changes[2].startswith("+     opt = geeps.attach(model, ")


def run(script: str, *launcher: str | pathlib.Path) -> subprocess.CompletedProcess[str]:
    root = str(pathlib.Path(__file__).parents[1])
    environment = os.environ | {"PYTHONPATH": root + os.pathsep + os.environ.get("PYTHONPATH", ""), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *launcher, EXAMPLES / script], env=environment, capture_output=True, text=True, timeout=250
    )


def assert_same_results(outputs: list[subprocess.CompletedProcess[str]], accuracy: float) -> None:
    assert [result.returncode for result in outputs] == [0, 0], outputs
    assert outputs[0].stdout == outputs[1].stdout
    assert float(outputs[0].stdout.split()[-2]) > accuracy


def test_digits_learn_the_same_with_geeps() -> None:
    assert_same_results([run("digits.py"), run("digits_geeps.py")], 95)


@pytest.mark.skipif(not HAS_TORCHVISION, reason="torchvision is not installed")
def test_a_resnet_learns_the_same_with_geeps() -> None:
    assert_same_results([run(f"resnet{end}.py", HERE / "with_torchvision.py") for end in ("", "_geeps")], 80)


def test_a_resnet_without_torchvision_says_what_is_missing(tmp_path: pathlib.Path) -> None:
    (tmp_path / "torchvision.py").write_text("raise ImportError('not here')")
    result = run("resnet.py", "-c", f"import runpy, sys; sys.path.insert(0, {str(tmp_path)!r}); runpy.run_path(sys.argv[1])")
    assert result.returncode == 1 and "pip install torchvision" in result.stderr
