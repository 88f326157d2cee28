"""A fixture with which tests compute on one thread."""

import pytest
import torch


@pytest.fixture(autouse=True)
def one_thread():
    """Sums are then the same on every machine, and calls of pytest side by side do not wait for each other's threads."""
    torch.set_num_threads(1)
