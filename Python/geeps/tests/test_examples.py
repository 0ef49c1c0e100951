"""The examples: the line that changes, and the same results."""

from __future__ import annotations

import difflib
import os
import pathlib
import subprocess
import sys

import pytest

EXAMPLES = pathlib.Path(__file__).parents[3] / "Examples" / "torch"


@pytest.mark.parametrize("name", ["digits", "gpt"])
def test_one_line_changes_and_one_is_new(name: str) -> None:
    plain, attached = ((EXAMPLES / f"{name}{end}.py").read_text().split('"""')[2] for end in ("", "_geeps"))
    changes = [line for line in difflib.ndiff(plain.splitlines(), attached.splitlines()) if line[0] in "+-"]
    assert len(changes) == 3 and changes[0] == "+ import geeps"
    assert changes[1].startswith("-     opt = ") and changes[2].startswith("+     opt = geeps.attach(model, ")


def test_digits_learn_the_same_with_geeps() -> None:
    root = str(pathlib.Path(__file__).parents[1])
    environment = os.environ | {"PYTHONPATH": root + os.pathsep + os.environ.get("PYTHONPATH", ""), "OMP_NUM_THREADS": "1"}
    outputs = [
        subprocess.run(
            [sys.executable, EXAMPLES / f"digits{end}.py"], env=environment, capture_output=True, text=True, timeout=250
        )
        for end in ("", "_geeps")
    ]
    assert [result.returncode for result in outputs] == [0, 0], outputs
    assert outputs[0].stdout == outputs[1].stdout
    assert float(outputs[0].stdout.split()[-2]) > 95
