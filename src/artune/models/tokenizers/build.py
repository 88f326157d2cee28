"""Image tokenizers, and the step from their float output to uint8 images."""

from pathlib import Path

from torch import nn

from artune.config.run import Tokenizer
from artune.errors import ArtuneError
from artune.models.tokenizers.vq import VQ
from artune.models.tokenizers.vqgan import VQGAN
from artune.models.weights.checkpoints import load_into


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


def load_tokenizer(path: Path | str, tokenizer: Tokenizer, image_size: int) -> nn.Module:
    """The tokenizer of ``path``, in evaluation mode and without gradients, on the CPU.

    Raises:
        ArtuneError: a file that is missing, broken or does not fit ``tokenizer``.
    """
    module = build_tokenizer(tokenizer, image_size=image_size)
    load_into(module, path)
    return module.eval().requires_grad_(False)
