"""Which of PyTorch's attention kernels each use of attention may take on a GPU.

Left to itself PyTorch (2.13 and later) takes cuDNN's kernel first on Hopper, which builds a plan for every new shape,
and not on an A100; so the kernels are named here, the same for every GPU. The benchmark suite measures the others
beside them. On a CPU nothing is chosen: PyTorch's own choice decides the bits of the mnist scale.
"""

import functools
from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from artune.runtime.progress import say

Use = Literal["masked step", "plain step", "training"]

# The kernels of each use, in the order in which they are tried. MATH, the unfused one, accepts every input.
KERNELS: dict[Use, tuple[SDPBackend, ...]] = {
    # One query per row, a bucket of keys and a mask that hides the empty ones; the flash kernel accepts no mask.
    "masked step": (SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH),
    # One query per row and all keys so far: a new length at every step, each of which would cost cuDNN a plan.
    "plain step": (SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH),
    # Causal attention in whole sequences, forward and backward; float32 falls to the memory-efficient kernel.
    "training": (SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH),
}


def kernels(use: Use, device: torch.device) -> AbstractContextManager[object]:
    """A context in which attention on a GPU takes the kernels of ``use``; on a CPU it does nothing.

    It takes some 20 microseconds, so it is entered once per step or forward pass and not in every layer. The first use
    on a GPU prints the choice. The switches belong to the host: a CUDA graph may be recorded inside.
    """
    if device.type != "cuda":
        return nullcontext()
    _announce()
    return sdpa_kernel(list(KERNELS[use]), set_priority=True)


def described() -> str:
    """The choice in one line, for logs and benchmarks."""
    return "; ".join(f"{use} {', then '.join(kernel.name for kernel in chosen)}" for use, chosen in KERNELS.items())


@functools.cache
def _announce() -> None:
    say(f"attention kernels: {described()}")
