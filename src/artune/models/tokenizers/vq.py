"""LlamaGen's VQ tokenizer (VQ-16 at multipliers 1, 1, 2, 2, 4), under the official parameter names."""

from collections.abc import Sequence

from artune.models.tokenizers.conv_tokenizer import ConvTokenizer, KeyNames, Shape

NAMES = KeyNames(
    encoder_levels="conv_blocks",
    decoder_levels="conv_blocks",
    blocks="res",
    middle=("0", "1", "2"),
    decoder_index_is_depth=False,
)


class VQ(ConvTokenizer):
    """Self-attention at the lowest resolution, latents and codes l2-normalised.

    Args:
        channels: base width; channel_multipliers: one a level, full size first.
        residual_blocks: a level, in the encoder (the decoder has one more).
        latent_channels: width between encoder and codebook; codebook_size: V; codebook_dim: length of a code.
        norm_groups: groups of the group norms, a divisor of every width.
        image_channels: 3.
    """

    def __init__(
        self,
        *,
        channels: int,
        channel_multipliers: Sequence[int],
        residual_blocks: int,
        latent_channels: int,
        codebook_size: int,
        codebook_dim: int,
        norm_groups: int = 32,
        image_channels: int = 3,
    ) -> None:
        last = len(channel_multipliers) - 1
        shape = Shape(
            channels,
            tuple(channel_multipliers),
            residual_blocks,
            latent_channels,
            image_channels,
            norm_groups,
            lambda level: level == last,
        )
        super().__init__(shape, NAMES, codebook_size, codebook_dim, normalised=True)
