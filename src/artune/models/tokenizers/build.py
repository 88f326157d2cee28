"""Builds image tokenizers from their settings, with or without weights."""

from collections.abc import Callable
from pathlib import Path

import torch

from artune.config.run import Tokenizer
from artune.errors import ArtuneError
from artune.models.tokenizers.conv_tokenizer import TokenizerShape
from artune.models.tokenizers.vq import VQ
from artune.models.tokenizers.vqgan import VQGAN
from artune.models.weights.checkpoints import load_into


def build_tokenizer(config: Tokenizer, image_size: int = 256) -> VQ | VQGAN:
    """A freshly initialised tokenizer of ``config.family``, in float32 on the CPU.

    Args:
        config: the tokenizer's sizes.
        image_size: side in pixels of the images to which ``attention_resolutions`` refers (vqgan only).

    Raises:
        ArtuneError: an unknown family, or a ``norm_groups`` that does not divide the widths.
    """
    shape = TokenizerShape(
        channels=config.channels,
        channel_multipliers=tuple(config.channel_multipliers),
        residual_blocks=config.residual_blocks,
        latent_channels=config.latent_channels,
        codebook_size=config.codebook_size,
        codebook_dim=config.codebook_dim,
        norm_groups=config.norm_groups,
    )
    builders: dict[str, Callable[[], VQ | VQGAN]] = {
        "vq": lambda: VQ(shape),
        "vqgan": lambda: VQGAN(shape, config.attention_resolutions, image_size),
    }
    if config.family not in builders:
        raise ArtuneError(f"tokenizer family {config.family!r} is unknown; choose from {', '.join(builders)}")
    if any(config.channels * multiplier % config.norm_groups for multiplier in (1, *config.channel_multipliers)):
        raise ArtuneError(f"tokenizer norm_groups {config.norm_groups} must divide channels {config.channels}")
    return builders[config.family]()


def load_tokenizer(
    path: Path | str, tokenizer: Tokenizer, image_size: int = 256, device: torch.device | str = "cpu"
) -> VQ | VQGAN:
    """The tokenizer of ``path``, in float32, in evaluation mode and without gradients.

    ``encode`` maps images float [B, 3, H, W] in [-1, 1] to tokens [B, T], ``decode`` maps tokens to images.

    Args:
        path: LlamaGen's VQ-16, taming-transformers' VQGAN or a file of this project, of any layout that
            :func:`~artune.models.weights.checkpoints.load_into` reads. No code that a file names is run.
        tokenizer: sizes of the tokenizer.
        image_size: side in pixels of the images to which ``attention_resolutions`` refers (vqgan only).
        device: device of the tokenizer.

    Raises:
        ArtuneError: a file that is missing, damaged or does not fit ``tokenizer``.

    >>> sizes = dict(channel_multipliers=[1, 1], residual_blocks=1, latent_channels=8, codebook_size=8, codebook_dim=4)
    >>> vq = artune.Tokenizer(family="vq", channels=8, norm_groups=4, **sizes)
    >>> tokenizer = artune.load_tokenizer("tokenizer.safetensors", vq)
    >>> tokens = tokenizer.encode(torch.zeros(2, 3, 16, 16))
    >>> print(tokens.shape, tokenizer.decode(tokens).shape)
    torch.Size([2, 64]) torch.Size([2, 3, 16, 16])
    """
    module = build_tokenizer(tokenizer, image_size=image_size)
    load_into(module, path)
    return module.to(device).eval().requires_grad_(False)
