"""The loss of a slice of the batch: L = L_GRPO - c_eff H + beta KL (paper, Eq. 34 and Alg. 1, lines 20-35)."""

from collections.abc import Iterable, Sequence
from statistics import fmean

import torch
from torch import Tensor

from artune.config.methods import GRPO, Entropy
from artune.config.run import Sampling
from artune.models.policies.policy import Policy
from artune.sampling.generate import filter_logits, guided_logits
from artune.tuning.entropy import EntropyController, token_entropy
from artune.tuning.grpo import clip_acting_fraction, grpo_loss, kl_penalty, log_ratio, ratio_outside_fraction

LOWEST = -1e4  # stands for minus infinity: its probability is 0 and its gradient is not NaN


def score_tokens(
    policy: Policy, tokens: Tensor, class_ids: Tensor, grpo: GRPO, sampling: Sampling, dropout: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Log-probabilities of drawn tokens and the entropies of their distributions, by teacher forcing.

    Args:
        policy: the policy or its reference.
        tokens: [b, T].
        class_ids: [b].
        grpo: ``score_logits`` chooses conditional or guided logits, ``score_softmax`` the whole codebook or only the
            tokens that top-k and top-p keep, ``autocast`` the arithmetic.
        sampling: guidance scale, top-k, top-p and temperature for those choices.
        dropout: rate of layer dropout.

    Returns:
        Log-probabilities [b, T] and entropies [b, T] in nats, float32; the entropy is always over the whole codebook.
    """
    with torch.autocast(tokens.device.type, torch.bfloat16, enabled=grpo.autocast == "bfloat16"):
        if grpo.score_logits == "guided" and sampling.cfg > 1.0:
            logits = guided_logits(policy, tokens, class_ids, sampling.cfg, dropout)
        else:
            logits = policy(tokens, class_ids, dropout)  # [b, T, V]
    logits = logits.float()
    entropy = token_entropy(logits)
    if grpo.score_softmax == "truncated":  # open choice 33
        kept = filter_logits(logits.detach(), sampling.temperature, sampling.top_k, sampling.top_p) > -torch.inf
        # A drawn token keeps its probability even if top-k or top-p no longer keeps it.
        kept = kept.scatter(-1, tokens[..., None], True)
        logits = (logits / sampling.temperature).masked_fill(~kept, LOWEST)
    logp = torch.log_softmax(logits, -1).gather(-1, tokens[..., None]).squeeze(-1)
    return logp, entropy


def objective(
    logp: Tensor,
    old: Tensor,
    reference: Tensor | None,
    entropy: Tensor,
    advantages: Sequence[Tensor] | Tensor,
    loss_weights: Iterable[float],
    coefficient: float,
    grpo: GRPO,
) -> tuple[Tensor, dict[str, float]]:
    """Loss of a slice of b samples (their mean), and its parts.

    Args:
        logp: [b, T] log-probabilities, with gradient.
        old: [b, T] log-probabilities under the policy that drew the tokens.
        reference: [b, T] log-probabilities under the reference policy; None without KL.
        entropy: [b, T] token entropies in nats, with gradient.
        advantages: rows [b]; several when groups of rewards have their own losses.
        loss_weights: one factor per row.
        coefficient: c_eff of Eq. 33.
        grpo: clip, beta and the settings of the open choices.
    """
    ratio = log_ratio(logp, old, grpo.ratio)  # Alg. 1, line 23
    scale = grpo.group_size if grpo.reduction == "sum" else 1.0
    policy_loss = scale * sum(
        weight * grpo_loss(ratio, row, grpo.clip, sign=grpo.clip_sign).mean()  # Alg. 1, line 25
        for weight, row in zip(loss_weights, advantages, strict=True)
    )
    bonus = coefficient * entropy.mean()
    loss = policy_loss - bonus  # Alg. 1, line 28
    parts = {
        "policy/loss": policy_loss.item(),
        "policy/ratio": ratio.detach().exp().mean().item(),
        "policy/ratio_outside_fraction": ratio_outside_fraction(ratio, grpo.clip).item(),
        "policy/clip_acting_fraction": fmean(
            clip_acting_fraction(ratio, row, grpo.clip, sign=grpo.clip_sign).item() for row in advantages
        ),
        "entropy/coefficient": coefficient,
        "entropy/bonus": bonus.item(),
    }
    if reference is not None:
        kl = kl_penalty(reference, logp, grpo.kl).mean()
        loss = loss + grpo.beta * kl  # Alg. 1, line 33
        parts["policy/kl"] = kl.item()
    return loss, parts


def learning_rate(grpo: GRPO, iteration: int) -> float:
    """Learning rate: linear warm-up, constant, then linear towards 0 from ``decay_from`` on (never, by default)."""
    factor = min(1.0, (iteration + 1) / grpo.warmup) if grpo.warmup else 1.0
    start = grpo.decay_from * grpo.iterations
    if iteration > start:
        factor *= (grpo.iterations - iteration) / (grpo.iterations - start)
    return grpo.learning_rate * factor


def entropy_controller(entropy: Entropy, initial: float) -> EntropyController:
    """The controller of a run; ``target_is: offset`` counts from the entropy before the first update."""
    return EntropyController(
        c0=entropy.c0,
        c_min=entropy.c_min,
        c_max=entropy.c_max,
        target=entropy.target + (initial if entropy.target_is == "offset" else 0.0),
        deadband=entropy.deadband,
        gain=entropy.gain,
        warmup=entropy.warmup,
        decay_from=entropy.decay_from,
        floor=entropy.c_min if entropy.decay_to == "c_min" else 0.0,
    )
