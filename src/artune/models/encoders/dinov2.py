"""DINOv2 (Oquab et al., 2023), the judge behind FD-DINOv2 (Stein et al., 2023); it was trained without labels."""

import contextlib
from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from artune.data.pixels import IMAGENET_MEAN, IMAGENET_STD, normalise, resize_8_bit
from artune.errors import ArtuneError
from artune.models.encoders.feature_network import FeatureNetwork
from artune.models.precision import wide
from artune.runtime.files import read_json

NAME = "vit_large_patch14_dinov2"
OFFSET = 0.1  # DINOv2 adds it to the grid's side when it resizes the positions


@dataclass(frozen=True)
class DINOv2Sizes:
    """Sizes of a DINOv2; the defaults are those of the released ViT-L/14."""

    side: int = 224  # pixels that images are resized to
    patch: int = 14
    width: int = 1024
    depth: int = 24
    heads: int = 16
    grid: int = 37  # patches per side for which the positions were trained (518 pixels)


class DINOv2(VisionTransformer, FeatureNetwork):
    """The class token of DINOv2's last layer; parameter names are those of the released file and of timm.

    Args:
        architecture: vit_large_patch14_dinov2, or the path of a JSON file with the fields of :class:`DINOv2Sizes`.
        empty: leave the weights unset, for a checkpoint to fill.

    Raises:
        ArtuneError: an unknown architecture.
    """

    def __init__(self, architecture: str = NAME, empty: bool = False) -> None:
        sizes = _sizes(architecture)
        with torch.device("meta") if empty else contextlib.nullcontext():
            super().__init__(
                img_size=sizes.grid * sizes.patch,
                patch_size=sizes.patch,
                embed_dim=sizes.width,
                depth=sizes.depth,
                num_heads=sizes.heads,
                init_values=1.0,
                num_classes=0,
            )
        if empty:
            self.to_empty(device="cpu")
        self.sizes = sizes

    @torch.no_grad()
    def embed_images(self, images: Tensor) -> Tensor:
        """Images uint8 [B, 3, H, W] -> class token [B, width], at least float32, not normalised.

        The preprocessing is that of dgm-eval, by the authors of FD-DINOv2: height and width are resized to ``side``
        independently, bicubically in 8 bits with antialias, then ImageNet's mean and standard deviation are applied.
        """
        pixels = resize_8_bit(images, (self.sizes.side, self.sizes.side)) / 255
        pixels = normalise(pixels, IMAGENET_MEAN, IMAGENET_STD).to(self.cls_token.dtype)
        patches = self.patch_embed.proj(pixels).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(patches), -1, -1), patches], dim=1) + self.positions()
        return wide(self.norm(self.blocks(x))[:, 0])

    def features(self, images: Tensor) -> Tensor:
        """As :meth:`embed_images`, for a LOO-FID reward with this network."""
        return self.embed_images(images)

    def positions(self) -> Tensor:
        """The position embedding at ``side`` pixels, [1, 1 + (side / patch)^2, width].

        DINOv2 resizes its positions without antialias and by a ratio that is slightly too large. timm does neither,
        which would change the features.
        """
        side, grid = self.sizes.side // self.sizes.patch, self.sizes.grid
        if side == grid:
            return self.pos_embed
        plane = self.pos_embed[:, 1:].unflatten(1, (grid, grid)).permute(0, 3, 1, 2)
        ratio = (side + OFFSET) / grid
        plane = F.interpolate(plane, scale_factor=(ratio, ratio), mode="bicubic")
        return torch.cat([self.pos_embed[:, :1], plane.flatten(2).transpose(1, 2)], dim=1)


def _sizes(architecture: str) -> DINOv2Sizes:
    if architecture == NAME:
        return DINOv2Sizes()
    if not architecture.endswith(".json"):
        raise ArtuneError(f"networks: architecture {architecture!r} of dinov2 is unknown; known: {NAME}, a JSON file")
    values = read_json(architecture)
    known = [field.name for field in fields(DINOv2Sizes)]
    if not isinstance(values, dict) or set(values) - set(known):
        raise ArtuneError(f"{architecture}: must hold a mapping of {', '.join(known)}")
    return DINOv2Sizes(**values)
