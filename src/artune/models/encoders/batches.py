"""Applies a frozen network to many images, batch by batch."""

from collections.abc import Callable

import torch
from torch import Tensor


@torch.no_grad()
def in_batches(
    call: Callable[[Tensor], Tensor], images: Tensor, batch: int = 200, device: torch.device | str = "cpu"
) -> Tensor:
    """Apply ``call`` to uint8 images [N, 3, H, W], ``batch`` at a time on ``device``: float32 [N, ...] on the CPU."""
    return torch.cat([call(part.to(device)).float().cpu() for part in images.split(batch)])
