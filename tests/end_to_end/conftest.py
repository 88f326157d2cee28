"""The smoke scale, run once for real: data, networks, tokenizer, prior, tuning, samples, scores, table, figure."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "workflow"))
from conftest import copy_project, planned, snakemake  # noqa: F401

SMOKE = ("--config", "scale=smoke", "--")
TARGETS = ("results/table4.csv", "results/figure2.pdf")


@pytest.fixture(scope="session")
def smoke(tmp_path_factory):
    """A project folder in which Table 4 and Figure 2 of the smoke scale are finished."""
    folder = copy_project(tmp_path_factory.mktemp("smoke"))
    snakemake(folder, *SMOKE, *TARGETS)
    return folder


def artune(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    """Run a command as the rules do."""
    return subprocess.run(
        command(*arguments), cwd=folder, env=environment(folder), capture_output=True, text=True, check=False
    )


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "artune", *map(str, arguments), "--scale", "smoke", "--threads", "1"]


def environment(folder: Path) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(folder / "src"), "MLFLOW_DISABLE_TELEMETRY": "true"}
