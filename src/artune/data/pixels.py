"""Conversion of images between uint8 and floats, resizing, and normalisation for frozen networks."""

import functools
import math

import torch
import torch.nn.functional as F
from torch import Tensor

from artune.errors import ArtuneError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
PIL_BITS = 22  # bits behind the point in PIL's weights for 8-bit images
BICUBIC_SUPPORT = 2.0  # pixels that the bicubic filter reaches to either side


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
    """PIL's bicubic resize of 8-bit images (``Image.resize`` with BICUBIC), bit for bit and in batches on any device.

    PIL resizes along one axis after the other, with weights in 22-bit fixed point, and rounds half up to 0..255 after
    each. The sums here are of integers in float64, and so exact in any order. The closest call of torch,
    ``F.interpolate(..., antialias=True)``, has weights in floating point and differs from PIL by one grey level in
    places. The width comes first, unless the height shrinks by more than twice as many pixels; before version 13 PIL
    always began with the width, which differs for such tall images only.

    Args:
        pixels: [B, C, H, W] of whole numbers in 0..255, uint8 or floating.
        size: height and width of the result.

    Returns:
        float32 [B, C, height, width] of whole numbers in 0..255.
    """
    height, width = pixels.shape[-2:]
    tall = size[0] < height and height - size[0] > 2 * (width - size[1])
    for axis in (-2, -1) if tall else (-1, -2):
        if pixels.shape[axis] == size[axis]:
            continue
        weights = _pil_weights(pixels.shape[axis], size[axis]).to(pixels.device)
        sums = pixels.double() @ weights.T if axis == -1 else weights @ pixels.double()
        pixels = ((sums + 2.0 ** (PIL_BITS - 1)) / 2.0**PIL_BITS).floor().clamp_(0, 255)
    return pixels.float()


@functools.lru_cache(maxsize=32)
def _pil_weights(length: int, target: int) -> Tensor:
    """PIL's bicubic weights from ``length`` to ``target`` pixels in units of 2^-22: whole numbers, [target, length]."""
    scale = length / target
    stretch = max(scale, 1.0)  # the filter widens when an image gets smaller, which is PIL's antialias
    support = BICUBIC_SUPPORT * stretch
    weights = torch.zeros(target, length, dtype=torch.float64)
    for row in range(target):
        centre = (row + 0.5) * scale
        first, last = max(int(centre - support + 0.5), 0), min(int(centre + support + 0.5), length)
        taps = [_bicubic((at - centre + 0.5) * (1.0 / stretch)) for at in range(first, last)]
        total = 0.0
        for tap in taps:  # in PIL's order; sum() of Python 3.12 adds differently
            total += tap
        units = [tap / total * 2.0**PIL_BITS if total else tap for tap in taps]
        weights[row, first:last] = torch.tensor([math.trunc(unit + math.copysign(0.5, unit)) for unit in units])
    return weights


def _bicubic(x: float) -> float:
    """PIL's bicubic filter (a = -0.5), by its own order of operations."""
    x = abs(x)
    if x < 1.0:
        return (1.5 * x - 2.5) * x * x + 1.0
    return (((x - 5.0) * x + 8.0) * x - 4.0) * -0.5 if x < BICUBIC_SUPPORT else 0.0


def normalise(pixels: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """Pixels [B, C, H, W] in 0..1, minus ``mean`` and divided by ``std`` per channel; keeps the shape."""
    centre, spread = (torch.tensor(values, device=pixels.device)[:, None, None] for values in (mean, std))
    return (pixels - centre) / spread
