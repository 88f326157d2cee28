"""Conversion of images between uint8 and floats, resizing, and normalisation for frozen networks."""

import torch
import torch.nn.functional as F
from torch import Tensor

from artune.errors import ArtuneError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def to_pixels(images: Tensor) -> Tensor:
    """Images uint8 [N, 3, H, W] -> float32 in [-1, 1], the input of encoders and tokenizers."""
    return images.float() / 127.5 - 1.0


def to_uint8(images: Tensor, rule: str = "llamagen") -> Tensor:
    """Float images in [-1, 1] -> uint8, by the truncating rule of either family's official sampler.

    Args:
        images: any shape; values outside [-1, 1] are clamped.
        rule: "llamagen" is 127.5 x + 128; "taming" is 255 (x + 1) / 2, half a level darker.

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
    """Bicubic resize of float images [B, C, H, W] to ``size`` pixels per side, without antialiasing.

    It precedes :func:`to_uint8`, as in the official 384 -> 256 evaluation; images of that size are returned unchanged.
    """
    if images.shape[-2:] == (size, size):
        return images
    return F.interpolate(images.float(), size=(size, size), mode="bicubic", align_corners=False, antialias=False)


def resize_8_bit(pixels: Tensor, size: tuple[int, int]) -> Tensor:
    """Bicubic resize with antialias as in PIL: first the width, then the height, each rounded to 0..255.

    Pixels float32 [B, 3, H, W] in 0..255 -> the same with height and width of ``size``.
    """
    for target in ((pixels.shape[-2], size[1]), size):
        if tuple(pixels.shape[-2:]) != target:
            pixels = F.interpolate(pixels, target, mode="bicubic", align_corners=False, antialias=True)
            pixels = pixels.round().clamp(0, 255)
    return pixels


def normalise(pixels: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """Pixels [B, C, H, W] in 0..1, minus ``mean`` and divided by ``std`` per channel; keeps the shape."""
    centre, spread = (torch.tensor(values, device=pixels.device)[:, None, None] for values in (mean, std))
    return (pixels - centre) / spread
