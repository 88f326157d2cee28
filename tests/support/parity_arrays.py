"""Arrays made by the reference implementations, and a measure of the distance from them."""

import numpy as np
import torch
from project import ROOT

DATA = ROOT / "tests/parity/data"
SAMPLING = {"cfg": 1.0, "cfg_interval": -1, "temperature": 1.0, "top_k": 0, "top_p": 1.0}


def arrays(folder):
    with np.load(DATA / folder / "expected.npz") as archive:
        return {name: torch.from_numpy(archive[name]) for name in archive.files}


def worst(actual, expected):
    """Largest difference in units of the expected values' standard deviation."""
    return ((actual - expected).abs().max() / expected.std()).item()
