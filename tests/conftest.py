"""Fixtures of several folders of tests: a finished smoke project, a warm Python, a SLURM cluster."""

import pytest
from cluster import Cluster, missing_programs
from project import SMOKE, TARGETS, copy_project, snakemake
from warm_python import warm_python


@pytest.fixture(scope="session")
def smoke(tmp_path_factory):
    """A project folder in which Table 4 and Figure 2 of the smoke scale are finished."""
    folder = copy_project(tmp_path_factory.mktemp("smoke"))
    snakemake(folder, *SMOKE, *TARGETS)
    return folder


@pytest.fixture(scope="session")
def warm():
    """Variables of the environment with which commands of artune start in a tenth of a second."""
    with warm_python() as variables:
        yield variables


@pytest.fixture(scope="session")
def slurm(tmp_path_factory):
    """A SLURM cluster of one node with four simulated A100s."""
    if missing := missing_programs():
        pytest.skip(f"no {', '.join(missing)} here: bash tests/system-packages.sh installs a SLURM (root on Debian)")
    cluster = Cluster(tmp_path_factory.mktemp("slurm") / "cluster")
    yield cluster
    cluster.stop()
