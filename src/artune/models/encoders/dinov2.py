"""DINOv2 (Oquab et al., 2023), the judge behind FD-DINOv2 (Stein et al., 2023): it was taught without labels."""

import contextlib
from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from artune.data.pixels import IMAGENET_MEAN, IMAGENET_STD, normalise, resize_8_bit
from artune.errors import ArtuneError
from artune.runtime.files import read_json

NAME = "vit_large_patch14_dinov2"
OFFSET = 0.1  # DINOv2's own: added to the grid's side before its positions are resized


@dataclass(frozen=True)
class Sizes:
    """Sizes of a DINOv2; the defaults are the released ViT-L/14's."""

    side: int = 224  # pixels that images are resized to
    patch: int = 14
    width: int = 1024
    depth: int = 24
    heads: int = 16
    grid: int = 37  # patches a side that the positions were trained for (518 pixels)


class DINOv2(VisionTransformer):
    """The class token of DINOv2's last layer; parameter names are those of the released file and of timm.

    Args:
        architecture: vit_large_patch14_dinov2, or the path of a JSON file with the fields of :class:`Sizes`.
        empty: leave the weights unset, for a checkpoint to fill.

    Raises:
        ArtuneError: an unknown architecture.
    """

    def __init__(self, architecture: str = NAME, empty: bool = False) -> None:
        sizes = _sizes(architecture)
        with torch.device("meta") if empty else contextlib.nullcontext():
            super().__init__(
                img_size=sizes.grid * sizes.patch, patch_size=sizes.patch, embed_dim=sizes.width, depth=sizes.depth,
                num_heads=sizes.heads, init_values=1.0, num_classes=0,
            )  # fmt: skip
        if empty:
            self.to_empty(device="cpu")
        self.sizes = sizes

    @torch.no_grad()
    def embed_images(self, images: Tensor) -> Tensor:
        """Images uint8 [B, 3, H, W] -> class token float32 [B, width], not normalised.

        The preprocessing is dgm-eval's, the authors' of FD-DINOv2: bicubic to ``side`` in 8 bits with antialias, each
        side for itself, then ImageNet's mean and spread.
        """
        pixels = resize_8_bit(images.float(), (self.sizes.side, self.sizes.side)) / 255
        pixels = normalise(pixels, IMAGENET_MEAN, IMAGENET_STD)
        patches = self.patch_embed.proj(pixels).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(patches), -1, -1), patches], dim=1) + self.positions()
        return self.norm(self.blocks(x))[:, 0].float()

    def positions(self) -> Tensor:
        """The position embedding at ``side`` pixels, [1, 1 + (side / patch)^2, width].

        DINOv2 resizes its positions without antialias, and by a ratio that is a little too large; timm does neither,
        which moves the features.
        """
        side, grid = self.sizes.side // self.sizes.patch, self.sizes.grid
        if side == grid:
            return self.pos_embed
        plane = self.pos_embed[:, 1:].unflatten(1, (grid, grid)).permute(0, 3, 1, 2)
        ratio = (side + OFFSET) / grid
        plane = F.interpolate(plane, scale_factor=(ratio, ratio), mode="bicubic")
        return torch.cat([self.pos_embed[:, :1], plane.flatten(2).transpose(1, 2)], dim=1)


def _sizes(architecture: str) -> Sizes:
    if architecture == NAME:
        return Sizes()
    if not architecture.endswith(".json"):
        raise ArtuneError(f"networks: architecture {architecture!r} of dinov2 is unknown; known: {NAME}, a JSON file")
    values = read_json(architecture)
    known = [field.name for field in fields(Sizes)]
    if not isinstance(values, dict) or set(values) - set(known):
        raise ArtuneError(f"{architecture}: must hold a mapping of {', '.join(known)}")
    return Sizes(**values)
