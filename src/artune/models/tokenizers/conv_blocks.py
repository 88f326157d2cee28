"""Convolutional blocks of which the encoders and decoders of both tokenizer families consist.

The families do the same arithmetic under different parameter names, which :class:`KeyNames` holds.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

NORM_EPS = 1e-6


@dataclass(frozen=True)
class KeyNames:
    """How a family names the parts of its encoder and decoder in a checkpoint."""

    encoder_levels: str
    decoder_levels: str
    blocks: str
    middle: tuple[str, str, str]
    decoder_index_is_depth: bool  # level 0 of the decoder is the highest resolution, hence the last to run


class ResidualBlock(nn.Module):
    """Norm, SiLU and 3 x 3 convolution, twice, plus the input; a 1 x 1 shortcut where the channels change."""

    def __init__(self, channels_in: int, channels_out: int, groups: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, channels_in, eps=NORM_EPS)
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.norm2 = nn.GroupNorm(groups, channels_out, eps=NORM_EPS)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1)
        same = channels_in == channels_out
        self.nin_shortcut = nn.Identity() if same else nn.Conv2d(channels_in, channels_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, channels_in, H, W] -> [B, channels_out, H, W]."""
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        return h + self.nin_shortcut(x)


class AttentionBlock(nn.Module):
    """Single-head self-attention over all positions, plus the input."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, channels, eps=NORM_EPS)
        self.q = nn.Conv2d(channels, channels, 1)
        self.k = nn.Conv2d(channels, channels, 1)
        self.v = nn.Conv2d(channels, channels, 1)
        self.proj_out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> the same shape."""
        normed = self.norm(x)
        query, key, value = (conv(normed).flatten(2).transpose(1, 2) for conv in (self.q, self.k, self.v))
        mixed = F.scaled_dot_product_attention(query, key, value)
        return x + self.proj_out(mixed.transpose(1, 2).unflatten(2, x.shape[2:]))


class Downsample(nn.Module):
    """Halve the resolution; zeros are padded at the right and the bottom only."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H / 2, W / 2]."""
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    """Double the resolution by repetition, then convolve."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, 2 H, 2 W]."""
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class Level(nn.Module):
    """Residual blocks of one resolution, each followed by attention if it is on, then a change of resolution."""

    def __init__(self, channels: Sequence[int], groups: int, attention: bool, blocks: str) -> None:
        super().__init__()
        pairs = list(itertools.pairwise(channels))
        self.block_name = blocks
        self.add_module(blocks, nn.ModuleList(ResidualBlock(i, o, groups) for i, o in pairs))
        self.attn = nn.ModuleList(AttentionBlock(o, groups) for _, o in pairs if attention)
        self.downsample: nn.Module = nn.Identity()  # set by the encoder, except in its last level
        self.upsample: nn.Module = nn.Identity()  # set by the decoder, except at full size

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C', H', W']."""
        for index, block in enumerate(self.get_submodule(self.block_name)):
            x = block(x)
            if self.attn:
                x = self.attn[index](x)
        return self.upsample(self.downsample(x))


def middle(channels: int, groups: int, names: KeyNames) -> nn.ModuleDict:
    """The blocks at the lowest resolution: residual, attention, residual, under the family's names."""
    first, attention, last = names.middle
    return nn.ModuleDict(
        {
            first: ResidualBlock(channels, channels, groups),
            attention: AttentionBlock(channels, groups),
            last: ResidualBlock(channels, channels, groups),
        }
    )
