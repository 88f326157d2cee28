"""Random generators derived from names, so that no draw depends on earlier draws."""

import hashlib

import torch
from torch import Tensor


def seed_for(*parts: object) -> int:
    """Stable 63-bit seed of a tuple such as ``(run_seed, "rollout", iteration)``; equal on every machine."""
    digest = hashlib.sha256("/".join(str(part) for part in parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator_for(*parts: object, device: torch.device | str = "cpu") -> torch.Generator:
    """A fresh generator on ``device``, seeded by :func:`seed_for`."""
    return torch.Generator(device=device).manual_seed(seed_for(*parts))


def draw_indices(count: int, total: int, generator: torch.Generator) -> Tensor:
    """``count`` indices below ``total``, drawn with replacement: [count] int64."""
    return torch.randint(total, (count,), generator=generator)
