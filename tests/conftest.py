"""Fixtures of several folders of tests: a finished smoke project, a warm Python, a SLURM cluster."""

import pytest
from cluster import Cluster, missing_programs
from project import SMOKE, TARGETS, copy_project, snakemake
from warm_python import warm_python


@pytest.fixture(scope="session")
def warm():
    """Variables of the environment with which Snakemake and commands of artune start in a tenth of a second."""
    with warm_python() as variables:
        yield variables


@pytest.fixture
def warm_calls(warm, monkeypatch):
    """All that a test calls by the module ``project`` starts in a tenth of a second."""
    for name, value in warm.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="session")
def smoke(tmp_path_factory, warm):
    """A project folder in which Table 4 and Figure 2 of the smoke scale are finished.

    The first call of each command starts as a user starts it, so that it loads its own libraries.
    """
    folder, alone = copy_project(tmp_path_factory.mktemp("smoke")), tmp_path_factory.mktemp("first")
    snakemake(folder, *SMOKE, *TARGETS, warm=warm | {"ARTUNE_FIRST_ALONE": str(alone)})
    assert len(list(alone.iterdir())) > 12
    return folder


@pytest.fixture(scope="session")
def slurm(tmp_path_factory):
    """A SLURM cluster of one node with four simulated A100s."""
    if missing := missing_programs():
        pytest.skip(f"no {', '.join(missing)} here: bash tests/system-packages.sh installs a SLURM (root on Debian)")
    cluster = Cluster(tmp_path_factory.mktemp("slurm") / "cluster")
    yield cluster
    cluster.stop()
