"""LlamaGen's VQ tokenizer (VQ-16 at multipliers 1, 1, 2, 2, 4), under the official parameter names."""

from artune.models.tokenizers.conv_blocks import KeyNames
from artune.models.tokenizers.conv_tokenizer import ConvTokenizer, TokenizerShape

NAMES = KeyNames(
    encoder_levels="conv_blocks",
    decoder_levels="conv_blocks",
    blocks="res",
    middle=("0", "1", "2"),
    decoder_index_is_depth=False,
)


class VQ(ConvTokenizer):
    """A tokenizer with self-attention at the lowest resolution; latents and codes are l2-normalised.

    Args:
        shape: sizes of the tokenizer.
    """

    def __init__(self, shape: TokenizerShape) -> None:
        super().__init__(shape, NAMES, attention={len(shape.channel_multipliers) - 1}, normalised=True)
