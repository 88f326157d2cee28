"""Other file systems and a clock that jumps, for a real process: a library that answers in place of the C library."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_name("faulty.c")


def faulty(folder: Path, clock: int = 0, clock_from: Path | None = None, **calls: int) -> dict[str, str]:
    """Environment variables under which ``calls`` (``link``, ``fsync_folder``, ...) fail with the given error numbers.

    The wall clock is set forward by ``clock`` seconds as soon as the file ``clock_from`` exists. Skips the test where
    there is no C compiler.
    """
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler here, with which calls of the C library are made to fail")
    library = folder / "faulty.so"
    if not library.exists():
        subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, SOURCE, "-ldl"], check=True)
    preloaded = " ".join(filter(None, [str(library), os.environ.get("LD_PRELOAD", "")]))
    variables = {"LD_PRELOAD": preloaded, "FAULTY": ",".join(f"{call}={number}" for call, number in calls.items())}
    return variables | ({"FAULTY_CLOCK": str(clock), "FAULTY_CLOCK_FROM": str(clock_from)} if clock_from else {})
