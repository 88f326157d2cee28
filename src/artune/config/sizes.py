"""Sizes that follow from the settings of policies and tokenizers. Never imports torch."""

import math

from artune.config.run import Backbone, Tokenizer

CROPS = 20  # crops that LlamaGen's recipe cuts from a training image: ten at each of two ranges


def feed_forward_width(dim: int, multiple_of: int) -> int:
    """Hidden width of LlamaGen's feed-forward layer: two thirds of 4 ``dim``, rounded up to a multiple."""
    return math.ceil((8 * dim // 3) / multiple_of) * multiple_of


def matrix_weights(backbone: Backbone) -> int:
    """Number of weights that every token is multiplied with: all but embeddings and norms."""
    dim, hidden = backbone.dim, feed_forward_width(backbone.dim, backbone.ffn_multiple_of)
    block = 12 * dim**2 if backbone.family == "vqgan" else 4 * dim**2 + 3 * dim * hidden
    return backbone.layers * block + backbone.codebook_size * dim


def parameters(backbone: Backbone) -> int:
    """Number of all weights of a policy, to a thousandth: norms and biases are left out."""
    rows = backbone.codebook_size + (backbone.tokens if backbone.family == "vqgan" else backbone.classes + 1)
    return matrix_weights(backbone) + rows * backbone.dim


def decoded_size(backbone: Backbone, tokenizer: Tokenizer) -> int:
    """Side, in pixels, of the square image that a policy's tokens decode to: 384 for LlamaGen-XL."""
    return math.isqrt(backbone.tokens) * tokenizer.downsampling


def crops_per_image(sequences: int | None, images: int) -> int:
    """Crops of each training image, 1 to :data:`CROPS`, so that a training of so many sequences need see none twice.

    Args:
        sequences: token sequences that the longest training draws; None (no training is known) takes all crops.
        images: number of training images.
    """
    return CROPS if sequences is None else max(1, min(CROPS, math.ceil(sequences / max(images, 1))))
