"""Puts libgeeps.so into the package: the one that GEEPS_LIBRARY names, or the repository's, built if it is not there."""

import os
import pathlib
import platform
import shutil
import subprocess
import sys

from setuptools import setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py

HERE = pathlib.Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]


def find_library() -> pathlib.Path:
    given = os.environ.get("GEEPS_LIBRARY")
    if given:
        if not pathlib.Path(given).is_file():
            sys.exit(f"geeps: GEEPS_LIBRARY is {given}, where there is no file")
        return pathlib.Path(given)
    if not (REPOSITORY / "Package.swift").is_file():
        sys.exit(
            f"geeps: {HERE} is not in GeePS's repository, so libgeeps.so cannot be built; set GEEPS_LIBRARY to one, or "
            "install a wheel, which has it inside"
        )
    library = REPOSITORY / ".build-library" / "libgeeps.so"
    if not shutil.which("swift"):
        if library.is_file():
            return library
        sys.exit(
            "geeps: libgeeps.so is not built and there is no swift on the PATH to build it with: install Swift 6.3 "
            "(https://www.swift.org/install/linux), or set GEEPS_LIBRARY to a libgeeps.so made by `make library`"
        )
    print("geeps: building libgeeps.so (some minutes the first time)", file=sys.stderr, flush=True)
    subprocess.run(["make", "library"], cwd=REPOSITORY, check=True, stdout=sys.stderr)
    return library


class BuildWithLibrary(build_py):
    def run(self) -> None:
        super().run()
        target = pathlib.Path(self.build_lib) / "geeps" / "libgeeps.so"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(find_library(), target)


class WheelOfOneMachine(bdist_wheel):
    """No Python is compiled against, so one wheel serves every Python and every torch."""

    def finalize_options(self) -> None:
        super().finalize_options()
        self.root_is_pure = False

    def get_tag(self) -> tuple[str, str, str]:
        return "py3", "none", f"manylinux_2_34_{platform.machine()}"


setup(cmdclass={"build_py": BuildWithLibrary, "bdist_wheel": WheelOfOneMachine})
