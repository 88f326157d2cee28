"""The smoke scale, run once for real: data, networks, tokenizer, prior, tuning, samples, scores, table, figure."""

import pytest
from project import SMOKE, TARGETS, copy_project, snakemake


@pytest.fixture(scope="session")
def smoke(tmp_path_factory):
    """A project folder in which Table 4 and Figure 2 of the smoke scale are finished."""
    folder = copy_project(tmp_path_factory.mktemp("smoke"))
    snakemake(folder, *SMOKE, *TARGETS)
    return folder
