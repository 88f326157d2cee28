"""What a sequence's backward pass takes of the memory, and into how many slices a batch is cut by it.

Counted tensor by tensor, as PyTorch saves them, and counted again by a test. Never imports torch.
"""

import itertools
from typing import NamedTuple

from artune.config.run import Run, feed_forward_width, parameters
from artune.errors import ArtuneError

HEAD = 3  # [T, V] float32 that are saved: log p behind the log-probabilities; log p and p behind the entropy
PASSING = 3  # [T, V] float32 that come and go at the peak, which is where the backward pass begins
PLANNED = 0.9  # share of the free memory; the rest is the allocator's roundings and what kernels ask for
WORTH = 8  # sequences; where as many fit, computing the blocks twice would buy nothing
GB = 2**30


class MicroBatches(NamedTuple):
    """How a batch goes through the update."""

    slices: list[slice]
    checkpointing: bool

    def saved(self) -> tuple[list[int], bool]:
        """Edges of the slices, and the other, for a training's state."""
        return [0, *(part.stop for part in self.slices)], self.checkpointing

    @classmethod
    def of(cls, edges: list[int], checkpointing: bool) -> "MicroBatches":
        """Inverse of :meth:`saved`."""
        return cls([slice(start, stop) for start, stop in itertools.pairwise(edges)], checkpointing)

    def line(self, bytes_each: float) -> str:
        """What a user is told."""
        size = max(part.stop - part.start for part in self.slices)
        how = ", blocks computed again in the backward pass" if self.checkpointing else ""
        return f"update: {len(self.slices)} slices of at most {size}, {bytes_each / GB:.2f} GB a sequence{how}"


def item(run: Run) -> int:
    """Bytes of a number inside the blocks."""
    assert run.grpo is not None
    return 2 if "bfloat16" in (run.grpo.autocast, run.grpo.weights_dtype) else 4


def of_block(run: Run) -> float:
    """Bytes that a block saves of one token."""
    backbone, size = run.backbone, item(run)
    assert backbone is not None
    assert run.grpo is not None
    dim, copies = backbone.dim, 2 if size == 2 else 1  # under autocast every product has its input cast for itself
    if backbone.family == "vqgan":
        # inputs of two norms (float32) with mean and deviation; of q, k, v; q, k, v; what is mixed; MLP's input,
        # its hidden layer before and after GELU
        saved = 2 * (4 * dim + 8) + size * dim * ((3 if copies == 2 else 1) + 3 + 1 + 1 + 8)
    else:
        # inputs and outputs of two norms (float32) with their scale; input of qkv; q, k, v and the rotated q, k; what
        # is mixed; input of w1 and w3; the hidden layer: w1 x, silu of it, w3 x, their product
        hidden = feed_forward_width(backbone)
        saved = 2 * (8 * dim + 4) + size * (dim * (1 + 5 + 1 + copies) + 4 * hidden)
    masks = 2 * 4 * dim if run.grpo.dropout else 0
    return saved + 4 * backbone.heads + masks  # the log-sum-exp of attention


def saved(run: Run, checkpointing: bool) -> float:
    """Bytes that a sequence's forward pass keeps for its backward pass; checkpointed blocks keep their input alone."""
    assert run.backbone is not None
    block = 4 * run.backbone.dim if checkpointing else of_block(run)
    return run.backbone.tokens * (_rows(run) * run.backbone.layers * block + of_head(run))


def of_head(run: Run) -> float:
    """Bytes that the last norm, the head and what is made of its logits save of one token."""
    assert run.backbone is not None
    assert run.grpo is not None
    vocabulary = run.backbone.codebook_size
    truncated = vocabulary if run.grpo.score_softmax == "truncated" else 0
    return 4 * HEAD * vocabulary + truncated + _rows(run) * (8 + item(run)) * run.backbone.dim + 32


def _rows(run: Run) -> int:
    """Sequences that score one: two under guidance."""
    assert run.grpo is not None
    assert run.sampling is not None
    return 2 if run.grpo.score_logits == "guided" and run.sampling.cfg > 1 else 1


def each(run: Run, checkpointing: bool) -> float:
    """Bytes of a sequence at the peak of the update: as its backward pass begins, or in a block computed again."""
    assert run.backbone is not None
    tokens, kept = run.backbone.tokens, saved(run, checkpointing)
    begun = kept + 4 * PASSING * tokens * run.backbone.codebook_size
    if not checkpointing:
        return begun
    again = kept + tokens * (2 * _rows(run) * of_block(run) - of_head(run))  # the head is done; gradients beside it
    return max(begun, again)


def standing(run: Run, states: bool) -> float:
    """Bytes of the update that no slice changes: gradients, weights in bfloat16, AdamW's states if not there yet."""
    assert run.grpo is not None
    assert run.backbone is not None
    wide = 4 if run.grpo.weights_dtype == "float32" else 2
    cast = 2 if wide == 4 and run.grpo.autocast == "bfloat16" else 0
    return parameters(run.backbone) * (wide + cast + (0 if states else 2 * wide))


def split(run: Run, sequences: int, free: float | None, states: bool = False) -> MicroBatches:
    """Slices of a batch for ``grpo.micro_batch`` and ``grpo.checkpointing``.

    Args:
        run: whose policy is updated.
        sequences: of this process.
        free: bytes of the device that the update may take; None: on a CPU, where ``auto`` cuts nothing.
        states: AdamW's states are there already, and not part of ``free``.

    Raises:
        ArtuneError: not one sequence fits.
    """
    assert run.grpo is not None
    asked, mode = run.grpo.micro_batch, run.grpo.checkpointing
    wanted = min(sequences, WORTH if asked == "auto" else asked)
    checkpointing, fits = mode == "on", sequences
    if free is not None:
        room = PLANNED * free - standing(run, states)
        fits = int(room / each(run, checkpointing)) if room > 0 else 0
        if mode == "auto" and fits < wanted:
            checkpointing = True
            fits = int(room / each(run, True)) if room > 0 else 0
        if fits < 1 and asked == "auto":
            fixed, one = (size / PLANNED / GB for size in (standing(run, states), each(run, checkpointing)))
            remedy = "" if checkpointing else "set grpo.checkpointing: auto, "
            raise ArtuneError(
                f"grpo.micro_batch: auto: the update of {run.backbone_name} needs {fixed:.1f} GB for gradients, casts "
                f"and optimiser and {one:.1f} GB a sequence, {max(free, 0) / GB:.1f} GB are free: {remedy}bound "
                "sampling.rows, or take a GPU with more memory"
            )
    if asked != "auto":
        return MicroBatches([slice(at, min(at + asked, sequences)) for at in range(0, sequences, asked)], checkpointing)
    count = -(-sequences // fits)
    return MicroBatches.of([sequences * part // count for part in range(count + 1)], checkpointing)
