"""Likelihood of image tokens: the objective of pre-training and of the continuation of Table 12."""

import torch
import torch.nn.functional as F
from torch import Tensor

from artune.models.policies.policy import Policy
from artune.runtime.distributed import Share


def likelihood_loss(
    policy: Policy,
    tokens: Tensor,
    class_ids: Tensor,
    *,
    class_dropout: float = 0.0,
    dropout: float = 0.0,
    generator: torch.Generator | None = None,
    share: Share | None = None,
) -> Tensor:
    """Mean negative log-likelihood per token, in nats, with gradients.

    Args:
        policy: the model; if it has no null class, ``class_dropout`` has no effect.
        tokens: [B, T] int64.
        class_ids: [B] int64.
        class_dropout: probability of replacing a label by the null class (classifier-free guidance).
        dropout: dropout rate inside the model.
        generator: generator of the class dropout, on the device of ``class_ids``.
        share: rows of these sequences in a larger batch; the same labels are dropped however that batch is split.

    Returns:
        Scalar.
    """
    if class_dropout > 0 and policy.null_class is not None:
        size = len(class_ids) if share is None else share.total
        drawn = torch.rand(size, generator=generator, device=class_ids.device)
        drawn = drawn if share is None else drawn[share.rows]
        class_ids = class_ids.masked_fill(drawn < class_dropout, policy.null_class)
    logits = policy.forward(tokens, class_ids, dropout)
    return F.cross_entropy(logits.flatten(0, 1), tokens.flatten())


@torch.no_grad()
def heldout_loss(policy: Policy, tokens: Tensor, class_ids: Tensor, batch: int = 200) -> float:
    """Mean negative log-likelihood per token over a whole split, in nats, without any dropout."""
    total = 0.0
    for part in range(0, len(tokens), batch):
        chunk = slice(part, part + batch)
        total += likelihood_loss(policy, tokens[chunk], class_ids[chunk]).item() * len(tokens[chunk])
    return total / len(tokens)
