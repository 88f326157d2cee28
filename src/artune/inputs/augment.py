"""Imperfect versions of training images, so that frozen networks judge imperfect samples sensibly."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from artune.data.pixels import to_uint8

ROTATION = math.radians(10.0)
SCALING = 0.1
SHIFT = 0.08  # share of the side: 2 pixels of 24
NOISE = 0.15  # largest standard deviation of the noise, for pixels in [-1, 1]


def jitter(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Rotate, scale and shift each image at random and add noise: [B, 3, H, W] -> the same shape, in [-1, 1]."""
    batch = len(pixels)
    angle, scale, across, down = (2.0 * torch.rand(4, batch, generator=generator) - 1.0).unbind()
    angle, scale = ROTATION * angle, 1.0 + SCALING * scale
    cosine, sine = scale * angle.cos(), scale * angle.sin()
    rows = (torch.stack((cosine, -sine, 2 * SHIFT * across)), torch.stack((sine, cosine, 2 * SHIFT * down)))
    grid = F.affine_grid(torch.stack(rows).permute(2, 0, 1), list(pixels.shape), align_corners=False)
    moved = F.grid_sample(pixels + 1.0, grid, align_corners=False) - 1.0  # black, -1, outside the image
    level = NOISE * torch.rand(batch, 1, 1, 1, generator=generator)
    noisy = (moved + level * torch.randn(moved.shape, generator=generator)).clamp(-1.0, 1.0)
    return noisy.contiguous(memory_format=torch.channels_last)  # the memory format of the networks' weights


@torch.no_grad()
def corrupt(
    tokenizer: nn.Module, tokens: Tensor, share: Tensor, generator: torch.Generator, batch: int = 200
) -> tuple[Tensor, Tensor]:
    """Replace a share of each image's tokens by random ones and decode the tokens.

    Args:
        tokenizer: a tokenizer with ``decode`` and ``codebook_size``.
        tokens: [N, T], the images' tokens.
        share: [N], share of each image's tokens that is replaced, rounded to whole tokens.
        generator: generator of the replacements.
        batch: images per batch.

    Returns:
        The decoded images, uint8 [N, 3, H, W], and the share of tokens that were kept, [N].
    """
    decoded, clean = [], []
    for part, rate in zip(tokens.split(batch), share.split(batch), strict=True):
        noise = torch.randint(tokenizer.codebook_size, part.shape, generator=generator)
        order = torch.rand(part.shape, generator=generator).argsort(dim=1)
        kept = order >= (rate[:, None] * part.shape[1]).round()
        decoded.append(to_uint8(tokenizer.decode(torch.where(kept, part, noise))))
        clean.append(kept.float().mean(dim=1))
    return torch.cat(decoded), torch.cat(clean)
