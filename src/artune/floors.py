"""What a stage cannot do without: bytes moved and FLOPs, counted from the sizes of a run. Never imports torch."""

import math
from typing import NamedTuple

from artune.config import Backbone, Run


class Work(NamedTuple):
    """Bytes read or written once and floating-point operations (a multiply-add is two)."""

    bytes: float
    flops: float

    def seconds(self, device: "Ceiling") -> float:
        """The floor: no device of these ceilings can be faster, were both perfectly overlapped."""
        return max(self.bytes / device.bandwidth, self.flops / device.flops)


class Ceiling(NamedTuple):
    """Bytes a second of the memory, and FLOPs a second of a dense bfloat16 product."""

    bandwidth: float
    flops: float


# The vendor's published peaks of the SXM cards with 80 GB, not measured here.
PUBLISHED = {"A100": Ceiling(2.039e12, 312e12), "H100": Ceiling(3.35e12, 989e12)}


def feed_forward_width(backbone: Backbone) -> int:
    """Hidden width of a LlamaGen block's feed-forward layer."""
    return math.ceil((8 * backbone.dim // 3) / backbone.ffn_multiple_of) * backbone.ffn_multiple_of


def matrix_weights(backbone: Backbone) -> int:
    """Weights that every token is multiplied with: all but embeddings and norms."""
    dim = backbone.dim
    block = 12 * dim**2 if backbone.family == "vqgan" else 4 * dim**2 + 3 * dim * feed_forward_width(backbone)
    return backbone.layers * block + backbone.codebook_size * dim


def parameters(backbone: Backbone) -> int:
    """All weights of a policy, to a thousandth: its norms and biases are left out."""
    rows = backbone.codebook_size + (backbone.tokens if backbone.family == "vqgan" else backbone.classes + 1)
    return matrix_weights(backbone) + rows * backbone.dim


def rollout(run: Run, images: int, tokens: int | None = None, item: int = 2) -> Work:
    """Cached decoding of ``images``: each step reads all weights and the filled cache, and writes float32 logits.

    Args:
        run: backbone and guidance.
        images: drawn at once.
        tokens: an image; None: the backbone's.
        item: bytes of a weight and of a cached number.
    """
    assert run.backbone is not None
    assert run.sampling is not None
    backbone, length = run.backbone, tokens or run.backbone.tokens
    rows, weights = images * (2 if run.sampling.cfg > 1 else 1), matrix_weights(run.backbone)
    attended = rows * length * (length + 1) / 2 * backbone.layers * backbone.dim
    moved = length * weights * item + 2 * attended * item + length * rows * backbone.codebook_size * 4
    return Work(moved, length * rows * 2 * weights + 4 * attended)


def update(run: Run, images: int) -> Work:
    """Forward and backward passes of all epochs and the reference's forward; the optimiser's bytes of float32 states.

    The backward pass counts twice the forward; nothing is recomputed.
    """
    assert run.grpo is not None
    assert run.backbone is not None
    backbone, length = run.backbone, run.backbone.tokens
    weights = matrix_weights(backbone)
    attention = 4 * length * (length + 1) / 2 * backbone.layers * backbone.dim
    forward = images * (length * 2 * weights + attention)
    passes = 3 * run.grpo.epochs + (1 if run.grpo.beta > 0 else 0)
    return Work(run.grpo.epochs * weights * 4 * 7, passes * forward)  # AdamW: 4 arrays read, 3 written
