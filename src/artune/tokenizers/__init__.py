"""Image tokenizers, and the step from their float output to uint8 images."""

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from artune.errors import ArtuneError
from artune.tokenizers.vq import VQ
from artune.tokenizers.vqgan import VQGAN

if TYPE_CHECKING:
    from artune.config.run import Tokenizer


def build_tokenizer(config: "Tokenizer", image_size: int = 256) -> VQ | VQGAN:
    """A freshly initialised tokenizer of ``config.family``, in float32 on the CPU.

    Args:
        config: the tokenizer's sizes.
        image_size: side of the images, in pixels, that ``attention_resolutions`` is about (vqgan only).

    Raises:
        ArtuneError: an unknown family, or group norms that do not divide the widths.
    """
    names = (
        "channels",
        "channel_multipliers",
        "residual_blocks",
        "latent_channels",
        "codebook_size",
        "codebook_dim",
    )
    sizes = {name: getattr(config, name) for name in (*names, "norm_groups")}
    attention = {"attention_resolutions": config.attention_resolutions, "image_size": image_size}
    builders = {"vq": lambda: VQ(**sizes), "vqgan": lambda: VQGAN(**sizes, **attention)}
    if config.family not in builders:
        raise ArtuneError(f"tokenizer family {config.family!r} is unknown; choose from {', '.join(builders)}")
    if any(config.channels * multiplier % config.norm_groups for multiplier in (1, *config.channel_multipliers)):
        raise ArtuneError(f"tokenizer norm_groups {config.norm_groups} must divide channels {config.channels}")
    return builders[config.family]()


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
