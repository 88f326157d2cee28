"""Unit tests run on one thread, so that sums are the same on every machine."""

import pytest
import torch


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)
