"""Snakemake on a copy of the workflow, as a user calls it."""

import contextlib
import csv
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]
# The interpreter that has TensorFlow, if there is one.
OFFICIAL = os.environ.get("ARTUNE_OFFICIAL_PYTHON", str(ROOT / ".venv-official/bin/python"))
OFFICIAL = OFFICIAL if Path(OFFICIAL).exists() else None
SMOKE = ("--config", "scale=smoke", "--")
RUN = "results/smoke/runs/llamagen_l-ours"
PROFILES = ("slurm_a100", "workstation")
TARGETS = ("results/table4.csv", "results/figure2.pdf")
WARM = Path(__file__).parent / "warm"  # what Python reads at its start where ARTUNE_WARM is set


def copy_project(target: Path) -> Path:
    """Copy the files that Snakemake reads, without results; returns ``target``."""
    for name in ("Snakefile", "workflow", "config", "envs", "src"):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target / name)
    for name in PROFILES:
        (target / name).symlink_to((ROOT / name).readlink())
    return target


def snakemake(
    folder: Path, *arguments: str, check: bool = True, cores: int | None = 2, warm: Mapping[str, str] | None = None
) -> str:
    """Run Snakemake in ``folder``; returns its output.

    Args:
        folder: a copy of the project.
        arguments: targets and options.
        check: whether a failure is an AssertionError with the output.
        cores: None where a profile sets the number of cores.
        warm: variables of :func:`warm_python.warm_python`, of whose process this and its commands then are forks.
    """
    number = [] if cores is None else ["--cores", str(cores)]
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", *number, *arguments],
        cwd=folder,
        env=environment(folder, warm or {}),
        capture_output=True,
        text=True,
        check=False,
    )
    if check and done.returncode:
        raise AssertionError(done.stdout + done.stderr)
    return done.stdout + done.stderr


def planned(output: str) -> dict[str, int]:
    """Job counts of a dry-run."""
    counts = re.findall(r"^(\w+) +(\d+)$", output, re.M)
    return {rule: int(number) for rule, number in counts if rule != "total"}


def command(*arguments: str | Path) -> list[str]:
    """A command of the smoke scale, as the rules call it."""
    return [sys.executable, "-m", "artune", *map(str, arguments), "--scale", "smoke", "--threads", "1"]


def environment(folder: Path, more: Mapping[str, str] = {}) -> dict[str, str]:
    """Environment in which Python imports the sources of the copy in ``folder``; ARTUNE_WARM is heeded."""
    official = {"ARTUNE_OFFICIAL_PYTHON": OFFICIAL} if OFFICIAL else {}
    given = os.environ | official | more
    path = os.pathsep.join([str(folder / "src"), *([str(WARM)] if "ARTUNE_WARM" in given else [])])
    return given | {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "", "MLFLOW_DISABLE_TELEMETRY": "true"}


def artune(folder: Path, *arguments: str | Path, warm: Mapping[str, str] | None = None) -> subprocess.CompletedProcess:
    """Run a command of artune in ``folder``; ``warm`` as in :func:`snakemake`."""
    return subprocess.run(
        command(*arguments),
        cwd=folder,
        env=environment(folder, warm or {}),
        capture_output=True,
        text=True,
        check=False,
    )


@contextlib.contextmanager
def altered(path: Path, data: bytes) -> Iterator[None]:
    """Let ``path`` hold ``data`` within a block; then restore its contents and its times, which Snakemake checks."""
    kept, times = path.read_bytes(), path.stat()
    path.write_bytes(data)
    try:
        yield
    finally:
        path.write_bytes(kept)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def heeding_ctrl_c() -> None:
    """Called in a child process: SIGINT ends it, even where pytest runs in the background and ignores SIGINT."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def four_rows(table: Path) -> bool:
    """Whether Table 4 is complete and each row has the warning about the scale."""
    with open(table, newline="") as handle:
        rows = list(csv.DictReader(handle))
    return len(rows) == 4 and all("smoke scale" in row["note"] for row in rows)


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
