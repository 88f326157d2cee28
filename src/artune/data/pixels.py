"""Images as uint8 and as floats in [-1, 1]."""

import torch
import torch.nn.functional as F
from torch import Tensor

from artune.errors import ArtuneError


def to_pixels(images: Tensor) -> Tensor:
    """Images uint8 [N, 3, H, W] -> float32 in [-1, 1], what encoders and tokenizers take."""
    return images.float() / 127.5 - 1.0


def to_uint8(images: Tensor, rule: str = "llamagen") -> Tensor:
    """Float images in [-1, 1] -> uint8, by the truncating rule of either family's official sampler.

    Args:
        images: any shape; values outside [-1, 1] are clamped.
        rule: "llamagen" is 127.5 x + 128, "taming" is 255 (x + 1) / 2: half a level darker.

    Raises:
        ArtuneError: another rule.
    """
    images = images.float()
    if rule == "llamagen":
        levels = images * 127.5 + 128.0
    elif rule == "taming":
        levels = (images.clamp(-1.0, 1.0) + 1.0) / 2.0 * 255.0
    else:
        raise ArtuneError(f"uint8 rule {rule!r} is unknown; choose llamagen or taming")
    return levels.clamp(0.0, 255.0).to(torch.uint8)


def resize(images: Tensor, size: int) -> Tensor:
    """Bicubic resize of float images [B, C, H, W] to ``size`` pixels a side, without antialiasing.

    Done before :func:`to_uint8`, as the official 384 -> 256 evaluation does; nothing is done at that size.
    """
    if images.shape[-2:] == (size, size):
        return images
    return F.interpolate(images.float(), size=(size, size), mode="bicubic", align_corners=False, antialias=False)
