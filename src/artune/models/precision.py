"""The type of a network's results: at least float32, and float64 where the network computes in it."""

from torch import Tensor, float64


def wide(x: Tensor) -> Tensor:
    """``x`` in float32, or as it is in float64: what a network returns whatever its weights' type."""
    return x if x.dtype == float64 else x.float()
