"""The slices that a batch is cut into for the update, because of the memory of the backward pass. Never imports torch.

The bytes of a sequence are counted in :mod:`artune.config.sizes`.
"""

import itertools
from typing import NamedTuple

from artune.config.methods import GRPO
from artune.config.run import GrpoRun
from artune.config.sizes import GB, PLANNED, Fit, fitting, fixed_bytes, sequence_bytes
from artune.errors import ArtuneError

# A saved split is kept as long as at least this share of the memory that it was made for is free. Another driver, or
# another order of allocations, changes the free memory of the same card by less (assumed, not measured), and the same
# split keeps the last bits of the numbers. What may be missing is a fifth of the reserve that every plan leaves.
KEPT = 0.98


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


def asked_micro_batches(grpo: GRPO, sequences: int) -> MicroBatches:
    """The slices of a batch under ``grpo.micro_batch`` alone; ``auto`` does not cut it."""
    asked = sequences if grpo.micro_batch == "auto" else grpo.micro_batch
    parts = [slice(at, min(at + asked, sequences)) for at in range(0, sequences, asked)]
    return MicroBatches(parts, grpo.checkpointing == "on")


def plan_micro_batches(run: GrpoRun, sequences: int, free: float | None) -> MicroBatches:
    """The slices of a batch under ``grpo.micro_batch`` and ``grpo.checkpointing``.

    Args:
        run: the run whose policy is updated.
        sequences: number of sequences of this process.
        free: bytes of the device that are free before AdamW's states are made; None on a CPU, where ``auto`` does not
            cut the batch.

    Raises:
        ArtuneError: not even one sequence fits.
    """
    fit = Fit(sequences, run.grpo.checkpointing == "on") if free is None else fitting(run, sequences, free)
    if run.grpo.micro_batch != "auto":
        return MicroBatches(asked_micro_batches(run.grpo, sequences).slices, fit.checkpointing)
    if free is not None and fit.sequences < 1:
        fixed, one = (
            size / PLANNED / GB
            for size in (fixed_bytes(run.backbone, run.grpo, states=False), sequence_bytes(run, fit.checkpointing))
        )
        remedy = "" if fit.checkpointing else "set grpo.checkpointing: auto, "
        raise ArtuneError(
            f"grpo.micro_batch: auto: the update of {run.backbone_name} needs {fixed:.1f} GB for gradients, casts "
            f"and optimiser and {one:.1f} GB per sequence, {max(free, 0) / GB:.1f} GB are free: {remedy}set a "
            "smaller sampling.rows, or use a GPU with more memory"
        )
    count = -(-sequences // fit.sequences)
    return MicroBatches.of([sequences * part // count for part in range(count + 1)], fit.checkpointing)


def least_free(run: GrpoRun, split: MicroBatches) -> float:
    """The fewest free bytes, before AdamW's states are made, from which ``split`` is planned."""
    size = max(part.stop - part.start for part in split.slices)
    fixed = fixed_bytes(run.backbone, run.grpo, states=False)
    return (fixed + size * sequence_bytes(run, split.checkpointing)) / PLANNED


def shortage(run: GrpoRun, split: MicroBatches, made_for: float | None, free: float) -> str | None:
    """One line if less memory is free than a saved split was made for, so that it is to be planned anew; else None.

    Args:
        run: the run whose policy is updated.
        split: the slices in a saved state.
        made_for: bytes that were free when they were planned; None if the state does not say it: then the fewest bytes
            from which they can have been planned.
        free: bytes that are free now. Both numbers contain AdamW's states.
    """
    needed = least_free(run, split) if made_for is None else made_for
    if free >= KEPT * needed:
        return None
    return (
        f"update: {free / GB:.1f} GB are free for it, where the slices of the saved state were made for "
        f"{needed / GB:.1f} GB: they are planned anew, which may change the last bits of the numbers"
    )
