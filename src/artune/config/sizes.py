"""Sizes that follow from the settings: weights of a policy, pixels, and bytes of a GPU's memory. Never imports torch.

The bytes of the update are counted tensor by tensor, as PyTorch saves them; a test compares them with PyTorch's own
count.
"""

import math
from typing import NamedTuple

from artune.config.methods import GRPO
from artune.config.run import Backbone, GrpoRun, Tokenizer

GB = 2**30
HEAD = 3  # saved [T, V] float32 tensors: log p for the log-probabilities; log p and p for the entropy
PASSING = 3  # temporary [T, V] float32 tensors at the peak, which is the beginning of the backward pass
PLANNED = 0.9  # share of the free memory; the rest is for the allocator's rounding and the workspaces of kernels
WORTH = 8  # sequences per slice; where as many fit, checkpointing (computing the blocks twice) gains nothing
CACHED = 0.35  # share of a GPU's memory for keys, values and logits: the update needs the rest

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


def image_bytes(backbone: Backbone, sequences: int, item: int) -> int:
    """Bytes for drawing one image: keys and values of all tokens, and a step's logits in float32.

    Args:
        backbone: sizes of the policy.
        sequences: sequences per image, 2 under guidance.
        item: bytes per cached number.
    """
    cached = 2 * backbone.layers * backbone.dim * backbone.tokens * item
    return sequences * (cached + 6 * 4 * backbone.codebook_size)


def images_that_fit(each: int, free: float, total: float) -> int:
    """Number of images of ``each`` bytes that may be drawn together on a GPU with ``free`` of ``total`` bytes free."""
    return max(int(min(CACHED * total, free)) // each, 1)


def number_bytes(grpo: GRPO) -> int:
    """Bytes per number inside the blocks."""
    return 2 if "bfloat16" in (grpo.autocast, grpo.weights_dtype) else 4


def block_bytes(backbone: Backbone, grpo: GRPO) -> float:
    """Bytes that a block saves per token for its backward pass."""
    size = number_bytes(grpo)
    dim, copies = backbone.dim, 2 if size == 2 else 1  # under autocast every product casts its own input
    if backbone.family == "vqgan":
        # inputs of the two norms (float32) with mean and deviation; the input of q, k and v; q, k and v; the output of
        # attention; the MLP's input; its hidden layer before and after GELU
        saved = 2 * (4 * dim + 8) + size * dim * ((3 if copies == 2 else 1) + 3 + 1 + 1 + 8)
    else:
        # inputs and outputs of the two norms (float32) with their scale; input of qkv; q, k, v and the rotated q, k;
        # output of attention; input of w1 and w3; the hidden layer: w1 x, silu(w1 x), w3 x, and the product
        hidden = feed_forward_width(dim, backbone.ffn_multiple_of)
        saved = 2 * (8 * dim + 4) + size * (dim * (1 + 5 + 1 + copies) + 4 * hidden)
    masks = 2 * 4 * dim if grpo.dropout else 0
    return saved + 4 * backbone.heads + masks  # the log-sum-exp of attention


def saved_bytes(run: GrpoRun, checkpointing: bool) -> float:
    """Bytes that a sequence's forward pass keeps for its backward pass; checkpointed blocks keep only their input."""
    block = 4 * run.backbone.dim if checkpointing else block_bytes(run.backbone, run.grpo)
    return run.backbone.tokens * (_rows(run) * run.backbone.layers * block + head_bytes(run))


def head_bytes(run: GrpoRun) -> float:
    """Bytes that the last norm, the head and the computations on its logits save per token."""
    vocabulary = run.backbone.codebook_size
    truncated = vocabulary if run.grpo.score_softmax == "truncated" else 0
    return 4 * HEAD * vocabulary + truncated + _rows(run) * (8 + number_bytes(run.grpo)) * run.backbone.dim + 32


def _rows(run: GrpoRun) -> int:
    """Sequences in the forward pass that scores one sequence: two under guidance."""
    return 2 if run.grpo.score_logits == "guided" and run.sampling.cfg > 1 else 1


def sequence_bytes(run: GrpoRun, checkpointing: bool) -> float:
    """Bytes per sequence at the peak of the update: where the backward pass begins, or in a block computed again."""
    tokens, kept = run.backbone.tokens, saved_bytes(run, checkpointing)
    begun = kept + 4 * PASSING * tokens * run.backbone.codebook_size
    if not checkpointing:
        return begun
    # When a block is computed again, the head's memory is free and the block's gradients lie beside its saved tensors.
    again = kept + tokens * (2 * _rows(run) * block_bytes(run.backbone, run.grpo) - head_bytes(run))
    return max(begun, again)


def fixed_bytes(backbone: Backbone, grpo: GRPO, states: bool) -> float:
    """Bytes of the update that do not depend on the slices: gradients, bfloat16 weights, missing AdamW states."""
    wide = 4 if grpo.weights_dtype == "float32" else 2
    cast = 2 if wide == 4 and grpo.autocast == "bfloat16" else 0
    return parameters(backbone) * (wide + cast + (0 if states else 2 * wide))


class Fit(NamedTuple):
    """The largest number of sequences per slice of the update that fits, and whether the blocks are checkpointed."""

    sequences: int  # 0: not even one fits
    checkpointing: bool


def fitting(run: GrpoRun, sequences: int, free: float) -> Fit:
    """The largest slice of the update that fits into ``free`` bytes, under ``grpo.checkpointing``.

    Args:
        run: the run whose policy is updated.
        sequences: number of sequences of a process; ``auto`` checkpoints if neither all nor :data:`WORTH` of them, or a
            ``micro_batch`` that is a number, fit otherwise.
        free: bytes of the device that are free before AdamW's states are made.
    """
    asked, mode = run.grpo.micro_batch, run.grpo.checkpointing
    room = PLANNED * free - fixed_bytes(run.backbone, run.grpo, states=False)

    def fit(checkpointing: bool) -> Fit:
        return Fit(int(room / sequence_bytes(run, checkpointing)) if room > 0 else 0, checkpointing)

    found = fit(mode == "on")
    few = found.sequences < min(sequences, WORTH if asked == "auto" else asked)
    return fit(True) if mode == "auto" and few else found


def crops_per_image(sequences: int | None, images: int) -> int:
    """Crops of each training image, 1 to :data:`CROPS`, so that a training of so many sequences need see none twice.

    Args:
        sequences: token sequences that the longest training draws; None (no training is known) takes all crops.
        images: number of training images.
    """
    return CROPS if sequences is None else max(1, min(CROPS, math.ceil(sequences / max(images, 1))))
