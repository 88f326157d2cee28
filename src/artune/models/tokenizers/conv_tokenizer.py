"""Encoder, decoder, codebook and the encode/decode logic that both tokenizer families share.

The official files of both families load without renaming, because each has its own :class:`KeyNames`.
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from artune.errors import ArtuneError
from artune.models.tokenizers.conv_blocks import NORM_EPS, Downsample, KeyNames, Level, Upsample, middle


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
        self.mid = middle(current, shape.norm_groups, names)
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
        self.mid = middle(current, shape.norm_groups, names)
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
