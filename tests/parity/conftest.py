"""Parity tests run on one thread, as unit tests do: several calls of pytest share the cores."""

import pytest
import torch


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)
