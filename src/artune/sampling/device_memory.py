"""Free memory of a GPU, as far as this process can use it."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch

SHARED = (0, 0)  # id of the pool that all allocations share; the private pool of a CUDA graph has another


def reusable_bytes(segments: Iterable[Mapping[str, Any]], device: int) -> int:
    """Bytes that PyTorch's allocator holds unused and may give to any allocation.

    What the private pools of CUDA graphs hold unused serves only the replay of these graphs, so it is not counted.

    Args:
        segments: as :func:`torch.cuda.memory_snapshot` returns them, of all devices and pools.
        device: number of the device.
    """
    return sum(
        segment["total_size"] - segment["allocated_size"]
        for segment in segments
        if segment["device"] == device and tuple(segment["segment_pool_id"]) == SHARED
    )


def free_bytes(device: torch.device) -> int:
    """Bytes of a GPU that this process can allocate: free ones, and those that PyTorch's allocator would reuse."""
    index = torch.cuda.current_device() if device.index is None else device.index
    return torch.cuda.mem_get_info(index)[0] + reusable_bytes(torch.cuda.memory_snapshot(), index)
