"""A copy of the workflow in which tests call Snakemake."""

import pytest
from project import copy_project


@pytest.fixture
def project(tmp_path):
    return copy_project(tmp_path)
