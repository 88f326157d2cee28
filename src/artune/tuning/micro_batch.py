"""Memory of a sequence's backward pass, and the number of slices that a batch is cut into because of it.

The bytes are counted tensor by tensor, as PyTorch saves them; a test compares them with PyTorch's own count. Never
imports torch.
"""

import itertools
from typing import NamedTuple

from artune.config.methods import GRPO
from artune.config.run import Backbone, GrpoRun
from artune.config.sizes import feed_forward_width, parameters
from artune.errors import ArtuneError

HEAD = 3  # saved [T, V] float32 tensors: log p for the log-probabilities; log p and p for the entropy
PASSING = 3  # temporary [T, V] float32 tensors at the peak, which is the beginning of the backward pass
PLANNED = 0.9  # share of the free memory; the rest is for the allocator's rounding and the workspaces of kernels
WORTH = 8  # sequences per slice; where as many fit, checkpointing (computing the blocks twice) gains nothing
GB = 2**30


class MicroBatches(NamedTuple):
    """Slices of a batch in the update, and whether the policy's blocks are checkpointed."""

    slices: list[slice]
    checkpointing: bool

    def saved(self) -> tuple[list[int], bool]:
        """Edges of the slices, and ``checkpointing``, for the state of a training."""
        return [0, *(part.stop for part in self.slices)], self.checkpointing

    @classmethod
    def of(cls, edges: list[int], checkpointing: bool) -> "MicroBatches":
        """Inverse of :meth:`saved`."""
        return cls([slice(start, stop) for start, stop in itertools.pairwise(edges)], checkpointing)

    def line(self, bytes_each: float) -> str:
        """One line for the user; ``bytes_each`` is the memory of one sequence."""
        size = max(part.stop - part.start for part in self.slices)
        how = ", blocks computed again in the backward pass" if self.checkpointing else ""
        return f"update: {len(self.slices)} slices of at most {size}, {bytes_each / GB:.2f} GB per sequence{how}"


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


def plan_micro_batches(run: GrpoRun, sequences: int, free: float | None, states: bool = False) -> MicroBatches:
    """The slices of a batch under ``grpo.micro_batch`` and ``grpo.checkpointing``.

    Args:
        run: the run whose policy is updated.
        sequences: number of sequences of this process.
        free: free bytes of the device; None on a CPU, where ``auto`` does not cut the batch.
        states: whether AdamW's states exist already and need no further memory.

    Raises:
        ArtuneError: not even one sequence fits.
    """
    asked, mode = run.grpo.micro_batch, run.grpo.checkpointing
    wanted = min(sequences, WORTH if asked == "auto" else asked)
    checkpointing, fits = mode == "on", sequences
    if free is not None:
        room = PLANNED * free - fixed_bytes(run.backbone, run.grpo, states)
        fits = int(room / sequence_bytes(run, checkpointing)) if room > 0 else 0
        if mode == "auto" and fits < wanted:
            checkpointing = True
            fits = int(room / sequence_bytes(run, True)) if room > 0 else 0
        if fits < 1 and asked == "auto":
            fixed, one = (
                size / PLANNED / GB
                for size in (fixed_bytes(run.backbone, run.grpo, states), sequence_bytes(run, checkpointing))
            )
            remedy = "" if checkpointing else "set grpo.checkpointing: auto, "
            raise ArtuneError(
                f"grpo.micro_batch: auto: the update of {run.backbone_name} needs {fixed:.1f} GB for gradients, casts "
                f"and optimiser and {one:.1f} GB per sequence, {max(free, 0) / GB:.1f} GB are free: {remedy}set a "
                "smaller sampling.rows, or use a GPU with more memory"
            )
    if asked != "auto":
        return MicroBatches([slice(at, min(at + asked, sequences)) for at in range(0, sequences, asked)], checkpointing)
    count = -(-sequences // fits)
    return MicroBatches.of([sequences * part // count for part in range(count + 1)], checkpointing)
