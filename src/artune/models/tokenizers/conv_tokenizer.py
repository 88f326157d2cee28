"""Convolutional blocks, codebook and the encode/decode logic that both tokenizer families share.

The families do the same arithmetic under different parameter names. :class:`KeyNames` holds these names, so that the
official files of both families load without renaming.
"""

import itertools
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from artune.errors import ArtuneError

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


def _middle(channels: int, groups: int, names: KeyNames) -> nn.ModuleDict:
    first, attention, last = names.middle
    return nn.ModuleDict(
        {
            first: ResidualBlock(channels, channels, groups),
            attention: AttentionBlock(channels, groups),
            last: ResidualBlock(channels, channels, groups),
        }
    )


@dataclass(frozen=True)
class TokenizerShape:
    """Sizes of a tokenizer."""

    channels: int  # base width
    channel_multipliers: Sequence[int]  # one per level, full size first
    residual_blocks: int  # per level of the encoder; the decoder has one more
    latent_channels: int  # width between encoder and codebook
    codebook_size: int  # V
    codebook_dim: int  # length of a code
    norm_groups: int = 32  # groups of the group norms, a divisor of every width
    image_channels: int = 3

    @property
    def widths(self) -> list[int]:
        """Channels of each level, full size first."""
        return [self.channels * multiplier for multiplier in self.channel_multipliers]


class Encoder(nn.Module):
    """Images to latents, 2 ** (levels - 1) times smaller; ``attention`` holds the levels with self-attention."""

    def __init__(self, shape: TokenizerShape, names: KeyNames, attention: Collection[int]) -> None:
        super().__init__()
        widths = shape.widths
        self.conv_in = nn.Conv2d(shape.image_channels, shape.channels, 3, padding=1)
        self.levels = names.encoder_levels
        levels, current = nn.ModuleList(), shape.channels
        for index, width in enumerate(widths):
            channels = [current, *[width] * shape.residual_blocks]
            level = Level(channels, shape.norm_groups, index in attention, names.blocks)
            if index < len(widths) - 1:
                level.downsample = Downsample(width)
            levels.append(level)
            current = width
        self.add_module(self.levels, levels)
        self.mid = _middle(current, shape.norm_groups, names)
        self.norm_out = nn.GroupNorm(shape.norm_groups, current, eps=NORM_EPS)
        self.conv_out = nn.Conv2d(current, shape.latent_channels, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        """[B, image_channels, H, W] -> [B, latent_channels, h, w]."""
        x = self.conv_in(images)
        for layer in (*self.get_submodule(self.levels), *self.mid.values()):
            x = layer(x)
        return self.conv_out(F.silu(self.norm_out(x)))


class Decoder(nn.Module):
    """Latents to images; each level has one residual block more than the encoder's."""

    def __init__(self, shape: TokenizerShape, names: KeyNames, attention: Collection[int]) -> None:
        super().__init__()
        widths = shape.widths
        current = widths[-1]
        self.conv_in = nn.Conv2d(shape.latent_channels, current, 3, padding=1)
        self.mid = _middle(current, shape.norm_groups, names)
        levels = []
        for index in reversed(range(len(widths))):
            channels = [current, *[widths[index]] * (shape.residual_blocks + 1)]
            level = Level(channels, shape.norm_groups, index in attention, names.blocks)
            if index > 0:
                level.upsample = Upsample(widths[index])
            levels.append(level)
            current = widths[index]
        self.levels, self.backwards = names.decoder_levels, names.decoder_index_is_depth
        self.add_module(self.levels, nn.ModuleList(levels[::-1] if self.backwards else levels))
        self.norm_out = nn.GroupNorm(shape.norm_groups, current, eps=NORM_EPS)
        self.conv_out = nn.Conv2d(current, shape.image_channels, 3, padding=1)

    def forward(self, latents: Tensor) -> Tensor:
        """[B, latent_channels, h, w] -> [B, image_channels, H, W]."""
        levels = list(self.get_submodule(self.levels))
        x = self.conv_in(latents)
        for layer in (*self.mid.values(), *(reversed(levels) if self.backwards else levels)):
            x = layer(x)
        return self.conv_out(F.silu(self.norm_out(x)))


class Codebook(nn.Module):
    """Code vectors; if ``normalised``, the stored rows are projected onto the unit sphere."""

    def __init__(self, size: int, dim: int, normalised: bool) -> None:
        super().__init__()
        self.normalised = normalised
        self.embedding = nn.Embedding(size, dim)
        nn.init.uniform_(self.embedding.weight, -1 / size, 1 / size)
        self.embedding.weight.data = self.codes().detach()

    def project(self, vectors: Tensor, dim: int) -> Tensor:
        """Vectors along axis ``dim``, projected onto the unit sphere if the codes are normalised."""
        return F.normalize(vectors, dim=dim) if self.normalised else vectors

    def codes(self) -> Tensor:
        """The vectors that decoding uses, [size, dim]."""
        return self.project(self.embedding.weight, -1)

    @torch.no_grad()
    def nearest(self, latents: Tensor) -> Tensor:
        """Ids [B, h, w] of the codes at the least squared distance from latents [B, dim, h, w]."""
        codes = self.codes()
        flat = latents.movedim(1, -1).reshape(-1, codes.shape[1])
        distance = codes.square().sum(1) - 2 * flat @ codes.T  # without the latent's norm: the same for all codes
        return distance.argmin(1).view(latents.shape[0], *latents.shape[2:])

    @torch.no_grad()
    def restart(self, dead: Tensor, latents: Tensor, generator: torch.Generator | None = None) -> None:
        """During training, replace the codes marked in ``dead`` [size, bool] by latents drawn from [B, dim, h, w]."""
        flat = latents.movedim(1, -1).flatten(0, -2)
        drawn = torch.randint(len(flat), (int(dead.sum()),), generator=generator, device=flat.device)
        self.embedding.weight[dead] = flat[drawn]

    def look_up(self, ids: Tensor) -> Tensor:
        """Ids [B, h, w] -> [B, dim, h, w]."""
        return self.project(self.embedding(ids), -1).movedim(-1, 1)


class ConvTokenizer(nn.Module):
    """An image tokenizer: encoder, codebook, decoder.

    Args:
        shape: sizes of the tokenizer.
        names: parameter names of the family.
        attention: levels with self-attention; 0 is the full size.
        normalised: whether latents and codes lie on the unit sphere.
    """

    def __init__(self, shape: TokenizerShape, names: KeyNames, attention: Collection[int], normalised: bool) -> None:
        super().__init__()
        self.codebook_size = shape.codebook_size
        self.downsampling = 2 ** (len(shape.channel_multipliers) - 1)
        self.encoder = Encoder(shape, names, attention)
        self.decoder = Decoder(shape, names, attention)
        self.quantize = Codebook(shape.codebook_size, shape.codebook_dim, normalised)
        self.quant_conv = nn.Conv2d(shape.latent_channels, shape.codebook_dim, 1)
        self.post_quant_conv = nn.Conv2d(shape.codebook_dim, shape.latent_channels, 1)

    def latents(self, images: Tensor) -> Tensor:
        """Images [B, C, H, W] in [-1, 1] -> latents before quantisation, [B, codebook_dim, h, w]."""
        return self.quantize.project(self.quant_conv(self.encoder(images)), 1)

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Images [B, C, H, W] in [-1, 1] -> token ids [B, T] in raster order."""
        return self.quantize.nearest(self.latents(images)).flatten(1)

    @torch.no_grad()
    def decode(self, ids: Tensor) -> Tensor:
        """Token ids [B, T] of a square grid -> images [B, C, H, W], nominally in [-1, 1] but not clamped.

        Codes and latents are float32; the decoder may be in half precision.

        Raises:
            ArtuneError: T is not a square.
        """
        side = math.isqrt(ids.shape[1])
        if side**2 != ids.shape[1]:
            raise ArtuneError(f"{ids.shape[1]} tokens do not form a square grid; check the backbone's tokens")
        codes = self.quantize.look_up(ids.view(-1, side, side))
        return self.decoder(self.post_quant_conv(codes).to(self.decoder.conv_in.weight.dtype))

    def forward(self, images: Tensor, commitment: float = 0.25) -> tuple[Tensor, Tensor, Tensor]:
        """Reconstruct images, for training; gradients pass straight through the quantisation.

        Args:
            images: [B, C, H, W] in [-1, 1].
            commitment: weight of the term that pulls latents towards their codes; the term that pulls codes towards
                latents has weight 1.

        Returns:
            The reconstruction [B, C, H, W], the scalar codebook loss and the token ids [B, T].
        """
        latents = self.latents(images)
        ids = self.quantize.nearest(latents)
        codes = self.quantize.look_up(ids)
        loss = F.mse_loss(codes, latents.detach()) + commitment * F.mse_loss(latents, codes.detach())
        straight_through = latents + (codes - latents).detach()
        return self.decoder(self.post_quant_conv(straight_through)), loss, ids.flatten(1)
