"""What a tuning by GRPO holds on a GPU from its first update on, and the slices of the update in what is left.

Everything is counted but :data:`CONTEXT`; nothing is measured. Never imports torch.
"""

from typing import NamedTuple

from artune.config.run import GrpoRun
from artune.config.sizes import (
    GB,
    fitting,
    fixed_bytes,
    image_bytes,
    images_that_fit,
    parameters,
    sequence_bytes,
)

CONTEXT = 1.6 * GB  # assumed: CUDA's context with its kernels, and what the graphs' private pools hold
# Numbers of weights and buffers, which are float32, of the released networks and tokenizers; a test counts them again.
NETWORK_WEIGHTS = {
    "ViT-L-14-quickgelu": 427_622_442,
    "ViT-L-14-336-quickgelu": 427_950_122,
    "ViT-B-32-quickgelu": 151_283_242,
    "ViT-H-14": 986_115_370,
    "vit_base_patch8_224": 135_799_754,
    "inception-v3-compat": 23_885_486,
    "inception_v3": 27_197_584,
    "vit_large_patch14_dinov2": 304_367_616,
}
TOKENIZER_WEIGHTS = {"vq": 71_883_403, "vqgan": 76_073_859}


class Memory(NamedTuple):
    """Memory of one process of a tuning on a card, in bytes, and how its share of the batch is cut."""

    standing: float  # weights, reference, replica, kept cache, networks, tokenizer, context
    free: float  # beside it, before AdamW's states are made
    update: float  # gradients, casts, AdamW's states and the largest slice; of one sequence if not even one fits
    slices: int  # 0: not even one sequence fits
    largest: int  # sequences of the largest slice
    checkpointing: bool
    parts: int  # parts in which the share is drawn

    @property
    def left(self) -> float:
        """Bytes that the update leaves."""
        return self.free - self.update


def weights_bytes(run: GrpoRun) -> float:
    """Bytes of all weights on the card: policy, reference, replica that draws, tokenizer and networks."""
    wide = 4 if run.grpo.weights_dtype == "float32" else 2
    reference = wide if run.grpo.beta > 0 else 0
    replica = 2 if wide == 4 and run.sampling.weights_dtype == "bfloat16" else 0
    networks = sum(NETWORK_WEIGHTS.get(network.architecture, 0) for network in run.networks.values())
    others = TOKENIZER_WEIGHTS[run.tokenizer.family] + networks
    return parameters(run.backbone) * (wide + reference + replica) + 4 * others


def on_card(run: GrpoRun, processes: int, total: float) -> Memory:
    """Memory of each of several processes that tune together, each on a card of its own.

    Args:
        run: the run.
        processes: number of processes, over which the batch is spread; the largest share is counted.
        total: bytes of a card.
    """
    share = -(-run.grpo.prompts * run.grpo.group_size // processes)
    standing = weights_bytes(run) + CONTEXT
    item = 2 if "bfloat16" in (run.sampling.weights_dtype, run.grpo.weights_dtype) else 4
    each = image_bytes(run.backbone, 2 if run.sampling.cfg > 1 else 1, item)
    parts = -(-share // (run.sampling.rows or images_that_fit(each, total - standing, total)))
    standing += -(-share // parts) * each
    free = total - standing
    fit, asked = fitting(run, share, free), run.grpo.micro_batch
    slices = -(-share // (asked if asked != "auto" else max(fit.sequences, 1)))
    largest = -(-share // slices) if asked == "auto" else min(asked, share)
    update = fixed_bytes(run.backbone, run.grpo, states=False) + largest * sequence_bytes(run, fit.checkpointing)
    if fit.sequences < largest:
        slices = largest = 0
    return Memory(standing, free, update, slices, largest, fit.checkpointing, parts)
