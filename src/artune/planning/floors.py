"""Floors of a stage: least bytes moved and least FLOPs, counted from the sizes of a run. Never imports torch."""

from typing import NamedTuple

from artune.config.run import Backbone
from artune.config.sizes import matrix_weights


class Work(NamedTuple):
    """Bytes read or written once and floating-point operations (a multiply-add is two)."""

    bytes: float
    flops: float

    def seconds(self, device: "Ceiling") -> float:
        """The floor: no device with these ceilings is faster, even if it overlaps memory and arithmetic perfectly."""
        return max(self.bytes / device.bandwidth, self.flops / device.flops)


class Ceiling(NamedTuple):
    """Bytes per second of the memory, and FLOPs per second of dense matrix products."""

    bandwidth: float
    flops: float


# The vendor's published peaks of the SXM cards with 80 GB, not measured here: dense bfloat16, and float32 without TF32.
PUBLISHED = {"A100": Ceiling(2.039e12, 312e12), "H100": Ceiling(3.35e12, 989e12)}
FLOAT32 = {"A100": Ceiling(2.039e12, 19.5e12), "H100": Ceiling(3.35e12, 67e12)}
# FLOPs per image of 256 x 256 pixels, by architecture, and per decoded token; a test counts them again.
NETWORK_FLOPS = {
    "ViT-L-14-quickgelu": 1.622e11,
    "ViT-L-14-336-quickgelu": 3.822e11,
    "ViT-B-32-quickgelu": 8.818e9,
    "ViT-H-14": 3.346e11,
    "inception-v3-compat": 1.143e10,
    "inception_v3": 1.142e10,
    "vit_base_patch8_224": 5.535e12,  # 20 crops
    "vit_large_patch14_dinov2": 1.622e11,
}
DECODER_FLOPS = 9.90e8  # VQ-16 and VQGAN; attention at the lowest resolution adds 0.3% at 576 tokens
ENCODER_FLOPS = 5.45e8  # per token, as above
TRAINING_IMAGES = 1_281_167  # of ImageNet's 1,000 classes


def rollout(backbone: Backbone, images: int, guided: bool, tokens: int | None = None, item: int = 2) -> Work:
    """Cached decoding of ``images``: each step reads all weights and the filled cache, and writes float32 logits.

    Args:
        backbone: sizes of the policy.
        images: number of images drawn at once.
        guided: whether every image takes two sequences.
        tokens: tokens per image; None: the backbone's.
        item: bytes per weight and per cached number.
    """
    length, rows, weights = tokens or backbone.tokens, images * (2 if guided else 1), matrix_weights(backbone)
    attended = rows * length * (length + 1) / 2 * backbone.layers * backbone.dim
    moved = length * weights * item + 2 * attended * item + length * rows * backbone.codebook_size * 4
    return Work(moved, length * rows * 2 * weights + 4 * attended)


def forward(backbone: Backbone, images: int) -> float:
    """FLOPs of a teacher-forced forward pass of ``images``."""
    length = backbone.tokens
    attention = 4 * length * (length + 1) / 2 * backbone.layers * backbone.dim
    return images * (length * 2 * matrix_weights(backbone) + attention)


def update(backbone: Backbone, images: int, epochs: int = 1, reference: bool = False) -> Work:
    """FLOPs of all forward and backward passes and of the reference's forward pass; bytes of the optimiser's states.

    The optimiser's states are float32. The backward pass counts twice the forward; nothing is recomputed. One epoch
    without a reference is a step of likelihood continuation.

    Args:
        backbone: sizes of the policy.
        images: images per batch.
        epochs: optimiser steps on the batch.
        reference: whether a reference policy scores the batch too.
    """
    passes = 3 * epochs + reference
    # AdamW reads 4 arrays and writes 3
    return Work(epochs * matrix_weights(backbone) * 4 * 7, passes * forward(backbone, images))
