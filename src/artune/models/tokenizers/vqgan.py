"""The first stage of taming-transformers' VQGAN, under the official ``first_stage_model.*`` names."""

from collections.abc import Sequence

from artune.models.tokenizers.conv_blocks import KeyNames
from artune.models.tokenizers.conv_tokenizer import ConvTokenizer, TokenizerShape

NAMES = KeyNames(
    encoder_levels="down",
    decoder_levels="up",
    blocks="block",
    middle=("block_1", "attn_1", "block_2"),
    decoder_index_is_depth=True,
)


class VQGAN(ConvTokenizer):
    """A tokenizer with self-attention at given resolutions; latents and codes are not normalised.

    Args:
        shape: sizes of the tokenizer.
        attention_resolutions: sides of the feature maps with self-attention, for images of ``image_size``.
        image_size: side of the images that ``attention_resolutions`` refers to; other sizes still work.
    """

    def __init__(self, shape: TokenizerShape, attention_resolutions: Sequence[int] = (), image_size: int = 256) -> None:
        levels = range(len(shape.channel_multipliers))
        attention = {level for level in levels if image_size // 2**level in attention_resolutions}
        super().__init__(shape, NAMES, attention, normalised=False)
