"""Sizes that follow from the settings of policies and tokenizers. Never imports torch."""

import math

from artune.config.run import Backbone, Tokenizer


def feed_forward_width(backbone: Backbone) -> int:
    """Hidden width of a LlamaGen block's feed-forward layer."""
    return math.ceil((8 * backbone.dim // 3) / backbone.ffn_multiple_of) * backbone.ffn_multiple_of


def matrix_weights(backbone: Backbone) -> int:
    """Number of weights that every token is multiplied with: all but embeddings and norms."""
    dim = backbone.dim
    block = 12 * dim**2 if backbone.family == "vqgan" else 4 * dim**2 + 3 * dim * feed_forward_width(backbone)
    return backbone.layers * block + backbone.codebook_size * dim


def parameters(backbone: Backbone) -> int:
    """Number of all weights of a policy, to a thousandth: norms and biases are left out."""
    rows = backbone.codebook_size + (backbone.tokens if backbone.family == "vqgan" else backbone.classes + 1)
    return matrix_weights(backbone) + rows * backbone.dim


def decoded_size(backbone: Backbone, tokenizer: Tokenizer) -> int:
    """Side, in pixels, of the square image that a policy's tokens decode to: 384 for LlamaGen-XL."""
    return math.isqrt(backbone.tokens) * tokenizer.downsampling
