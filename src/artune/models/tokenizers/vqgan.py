"""The first stage of taming-transformers' VQGAN, under the official ``first_stage_model.*`` names."""

from collections.abc import Sequence

from artune.models.tokenizers.conv_tokenizer import ConvTokenizer, KeyNames, Shape

NAMES = KeyNames(
    encoder_levels="down",
    decoder_levels="up",
    blocks="block",
    middle=("block_1", "attn_1", "block_2"),
    decoder_index_is_depth=True,
)


class VQGAN(ConvTokenizer):
    """Self-attention at given resolutions, latents and codes as they are (not normalised).

    Args:
        channels: base width; channel_multipliers: one a level, full size first.
        residual_blocks: a level, in the encoder (the decoder has one more).
        latent_channels: width between encoder and codebook; codebook_size: V; codebook_dim: length of a code.
        norm_groups: groups of the group norms, a divisor of every width.
        attention_resolutions: sides of the feature maps with self-attention, for images of ``image_size``.
        image_size: side of the images that ``attention_resolutions`` refers to; other sizes still work.
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
        attention_resolutions: Sequence[int] = (),
        image_size: int = 256,
        image_channels: int = 3,
    ) -> None:
        shape = Shape(
            channels,
            tuple(channel_multipliers),
            residual_blocks,
            latent_channels,
            image_channels,
            norm_groups,
            lambda level: image_size // 2**level in attention_resolutions,
        )
        super().__init__(shape, NAMES, codebook_size, codebook_dim, normalised=False)
