"""The logits of decoding along given tokens."""

import torch
from torch import Tensor

from artune.errors import ArtuneError
from artune.models.policies.policy import Policy
from artune.sampling.cached_decoding import decoder_for
from artune.sampling.decoders import TokenDecoder
from artune.sampling.generate import guidance, guide


@torch.no_grad()
def step_logits(policy: Policy, tokens: Tensor, class_ids: Tensor, cfg: float = 1.0) -> Tensor:
    """The logits of every decoding step when the tokens are given instead of drawn: ``u + cfg (c - u)``.

    Up to rounding they are the teacher-forced ones, ``policy(tokens, class_ids)`` under the same guidance.

    Args:
        policy: the model.
        tokens: [B, S] the tokens that the steps are forced to take, 1 <= S <= T.
        class_ids: [B].
        cfg: guidance scale; 1 is off.

    Returns:
        Logits [B, S, V], at least float32, before temperature, top-k and top-p; row t is what token t is drawn from.

    Raises:
        ArtuneError: guidance for a policy without a null class, or more tokens than an image of this policy has.

    >>> policy = artune.LlamaGen(dim=16, layers=1, heads=1, codebook_size=8, classes=4, tokens=9)
    >>> tokens, class_ids = torch.zeros(2, 9, dtype=torch.long), torch.tensor([0, 3])
    >>> logits = artune.step_logits(policy, tokens, class_ids, cfg=1.5)
    >>> print(logits.shape, torch.allclose(artune.step_logits(policy, tokens, class_ids), policy(tokens, class_ids)))
    torch.Size([2, 9, 8]) True
    """
    guided = guidance(policy, cfg)
    if not 1 <= tokens.shape[1] <= policy.tokens:
        raise ArtuneError(f"tokens {tuple(tokens.shape)}; give [B, S] with S from 1 to {policy.tokens}")
    inputs = torch.cat((class_ids, torch.full_like(class_ids, policy.null_class))) if guided else class_ids
    found = forced_steps(decoder_for(policy, inputs), inputs, tokens.repeat(2, 1) if guided else tokens)
    if not guided:
        return found
    conditional, unconditional = found.chunk(2)
    return guide(conditional, unconditional, cfg)


def forced_steps(decoder: TokenDecoder, class_ids: Tensor, tokens: Tensor) -> Tensor:
    """Logits [B, S, V] of a decoder's steps along the given tokens [B, S]."""
    logits = [decoder.start(class_ids).clone()]
    logits += [decoder.decode(tokens[:, position]).clone() for position in range(tokens.shape[1] - 1)]
    return torch.stack(logits, dim=1)
