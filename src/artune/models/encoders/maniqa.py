"""MANIQA (Yang et al., 2022), no-reference image quality, in the form of its KonIQ-10k checkpoint.

The network is frozen, so parts that act only in training (dropout, stochastic depth) are left out. Parameter names,
including those of unused layers, are the checkpoint's.
"""

import contextlib
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from artune.errors import ArtuneError
from artune.models.encoders.maniqa_layers import SwinStage, TransposedAttention
from artune.models.precision import wide
from artune.runtime.files import read_json

NAME, GRID = "vit_base_patch8_224", "-grid"
CROP_SEED = 20  # seed of NumPy's legacy generator in the official script
CROPS_AT_ONCE = 16  # bounds the memory: the channel attention takes 40 MB per crop


@dataclass(frozen=True)
class ManiqaSizes:
    """Sizes of a MANIQA; the defaults are those of the released network."""

    crop: int = 224  # pixels
    patch: int = 8
    width: int = 768  # width of the ViT and of the first stage; the second stage has half
    depth: int = 12
    heads: int = 12
    taps: tuple[int, ...] = (6, 7, 8, 9)  # ViT blocks whose outputs are used, counted from 0
    hidden: int = 768  # hidden width of the Swin blocks' MLPs, in both stages
    swin_heads: int = 4
    window: int = 4
    crops: int = 20

    @property
    def side(self) -> int:
        """Patches per side."""
        return self.crop // self.patch


class Maniqa(nn.Module):
    """Quality of images, about 0..1, higher is better.

    Args:
        architecture: vit_base_patch8_224 (the mean over 20 seeded random crops, the official score), the same with
            ``-grid`` (20 crops on a grid, pooled over all patches, as in IQA-PyTorch), or the path of a JSON file
            with the fields of :class:`ManiqaSizes`.
        empty: leave the weights unset, for a checkpoint to fill.

    Raises:
        ArtuneError: an unknown architecture.
    """

    def __init__(self, architecture: str = NAME, empty: bool = False) -> None:
        super().__init__()
        self.grid = architecture.endswith(GRID)
        self.sizes = _sizes(architecture.removesuffix(GRID))
        with torch.device("meta") if empty else contextlib.nullcontext():
            self._build(self.sizes)
        if empty:
            self.to_empty(device="cpu")

    def _build(self, sizes: ManiqaSizes) -> None:
        side, width = sizes.side, sizes.width
        swin = (sizes.swin_heads, sizes.hidden, side, sizes.window)
        self.vit = VisionTransformer(
            img_size=sizes.crop, patch_size=sizes.patch, embed_dim=width, depth=sizes.depth, num_heads=sizes.heads
        )
        self.tablock1 = nn.Sequential(TransposedAttention(side**2), TransposedAttention(side**2))
        self.conv1 = nn.Conv2d(width * len(sizes.taps), width, 1)
        self.swintransformer1 = SwinStage(width, *swin)
        self.tablock2 = nn.Sequential(TransposedAttention(side**2), TransposedAttention(side**2))
        self.conv2 = nn.Conv2d(width, width // 2, 1)
        self.swintransformer2 = SwinStage(width // 2, *swin)
        self.fc_score = _head(width // 2, nn.ReLU())
        self.fc_weight = _head(width // 2, nn.Sigmoid())

    def rate_patches(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Crops in [-1, 1], [B, 3, crop, crop] -> score and weight of every patch, each [B, side^2]."""
        side = self.sizes.side
        taps = self.vit.forward_intermediates(
            pixels,
            indices=list(self.sizes.taps),
            norm=False,
            stop_early=True,
            output_fmt="NLC",
            intermediates_only=True,
        )
        x = self.tablock1(torch.cat(taps, dim=2).transpose(1, 2))  # [B, C, N]
        x = self.swintransformer1(self.conv1(x.unflatten(2, (side, side))))
        x = self.tablock2(x.flatten(2))
        x = self.swintransformer2(self.conv2(x.unflatten(2, (side, side))))
        x = x.flatten(2).transpose(1, 2)
        return wide(self.fc_score(x).squeeze(-1)), wide(self.fc_weight(x).squeeze(-1))

    @torch.no_grad()
    def score(self, images: Tensor) -> Tensor:
        """Images uint8 [B, 3, H, W] -> quality [B], at least float32; the crops are the same for every image.

        Raises:
            ArtuneError: images no larger than a crop (with ``-grid`` they are enlarged instead).
        """
        crop, parameter = self.sizes.crop, self.conv1.weight
        pixels = (images.to(parameter.dtype) / 255 - 0.5) / 0.5
        if self.grid:
            pixels = _enlarged(pixels, crop)
        height, width = pixels.shape[-2:]
        offsets = (grid_crops if self.grid else random_crops)(height, width, crop, self.sizes.crops)
        crops = torch.cat([pixels[..., top : top + crop, left : left + crop] for top, left in offsets])
        rated = [self.rate_patches(part) for part in crops.split(CROPS_AT_ONCE)]
        scores, weights = (torch.cat(column).unflatten(0, (len(offsets), -1)) for column in zip(*rated, strict=True))
        weighted = scores * weights  # [crops, B, patches]
        if self.grid:
            return weighted.sum(dim=(0, 2)) / (weights.sum(dim=(0, 2)) + 1e-8)
        return (weighted.sum(dim=2) / weights.sum(dim=2)).mean(dim=0)


def random_crops(height: int, width: int, crop: int, count: int) -> list[tuple[int, int]]:
    """Corners (top, left) of the official script's crops in images of this size, the same for every image.

    Raises:
        ArtuneError: an image no larger than the crop.
    """
    if min(height, width) <= crop:
        raise ArtuneError(f"MANIQA: images of {height} x {width} pixels have no room for crops of {crop}; use -grid")
    draw = np.random.RandomState(CROP_SEED).randint  # as in the official script, never the last valid offset
    return [(int(draw(0, height - crop)), int(draw(0, width - crop))) for _ in range(count)]


def grid_crops(height: int, width: int, crop: int, count: int) -> list[tuple[int, int]]:
    """Corners (top, left) of the first ``count`` of 25 crops on a 5 x 5 grid, row by row."""
    down, right = (height - crop) // 4, (width - crop) // 4
    return [(row * down, column * right) for row in range(5) for column in range(5)][:count]


def _enlarged(pixels: Tensor, crop: int) -> Tensor:
    """Images no larger than a crop, enlarged bilinearly to one pixel more than it; other images unchanged."""
    shortest = min(pixels.shape[-2:])
    if shortest > crop:
        return pixels
    size = [length * (crop + 1) // shortest for length in pixels.shape[-2:]]
    return F.interpolate(pixels, size, mode="bilinear", align_corners=False)


def _head(width: int, last: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Identity(), nn.Linear(width, 1), last)


def _sizes(architecture: str) -> ManiqaSizes:
    if architecture == NAME:
        return ManiqaSizes()
    if not architecture.endswith(".json"):
        raise ArtuneError(
            f"networks: architecture {architecture!r} of maniqa is unknown; known are {NAME}, {NAME}{GRID}, a JSON file"
        )
    values: dict[str, Any] = read_json(architecture)
    known = [field.name for field in fields(ManiqaSizes)]
    if not isinstance(values, dict) or set(values) - set(known):
        raise ArtuneError(f"{architecture}: must hold a mapping of {', '.join(known)}")
    if "taps" in values:
        values["taps"] = tuple(values["taps"])
    return ManiqaSizes(**values)
