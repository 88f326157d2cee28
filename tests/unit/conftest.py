"""Unit tests run on one thread: their sums are then the same everywhere."""

import pytest
import torch


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)
