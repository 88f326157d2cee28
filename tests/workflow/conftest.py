"""Snakemake on a copy of the workflow, as a user calls it."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def copy_project(target: Path) -> Path:
    """What Snakemake reads, without results."""
    for name in ("Snakefile", "workflow", "config", "envs", "src"):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target / name)
    return target


def snakemake(folder: Path, *arguments: str, check: bool = True) -> str:
    """Run Snakemake in ``folder``; returns what it printed."""
    environment = os.environ | {"PYTHONPATH": str(folder / "src"), "MLFLOW_DISABLE_TELEMETRY": "true"}
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "--cores", "2", *arguments],
        cwd=folder, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if check and done.returncode:
        raise AssertionError(done.stdout + done.stderr)
    return done.stdout + done.stderr


def planned(output: str) -> dict[str, int]:
    """Job counts of a dry-run."""
    counts = re.findall(r"^(\w+) +(\d+)$", output, re.M)
    return {rule: int(number) for rule, number in counts if rule != "total"}


@pytest.fixture
def project(tmp_path):
    return copy_project(tmp_path)
