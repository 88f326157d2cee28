"""The loss of a slice of the batch: L = L_GRPO - c_eff H + beta KL (paper, Eq. 34 and Alg. 1, lines 20-35)."""

from collections.abc import Iterable, Sequence
from statistics import fmean

import torch
from torch import Tensor

from artune.config.methods import GRPO, Entropy
from artune.config.run import Sampling
from artune.models.policies.policy import Policy
from artune.models.precision import wide
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
    guided = grpo.score_logits == "guided"
    with torch.autocast(tokens.device.type, torch.bfloat16, enabled=grpo.autocast == "bfloat16"):
        return token_scores(
            policy,
            tokens,
            class_ids,
            cfg=sampling.cfg if guided else 1.0,
            truncate=sampling if grpo.score_softmax == "truncated" else None,  # open choice 33
            dropout=dropout,
        )


def token_scores(
    policy: Policy,
    tokens: Tensor,
    class_ids: Tensor,
    *,
    cfg: float = 1.0,
    truncate: Sampling | None = None,
    dropout: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """``log p(token t | class, tokens before t)`` of given tokens, and the entropies of these distributions.

    One teacher-forced pass, with gradient unless the caller is inside ``torch.no_grad()``.

    Args:
        policy: the model.
        tokens: [b, T], int64, 0 to V - 1.
        class_ids: [b].
        cfg: scale of guidance, ``u + cfg (c - u)``; 1 scores under the conditional distribution.
        truncate: temperature, top-k and top-p under which the tokens are scored; None: the whole codebook, without
            temperature. A given token keeps its probability even if top-k or top-p does not keep it.
        dropout: rate of layer dropout.

    Returns:
        Log-probabilities [b, T], at most 0, and entropies [b, T] in nats, 0..log V, always over the whole codebook;
        float32, or float64 for a policy in float64.

    Raises:
        ArtuneError: guidance for a policy without a null class.

    >>> policy = artune.LlamaGen(dim=16, layers=1, heads=1, codebook_size=8, classes=4, tokens=9)
    >>> tokens, class_ids = torch.zeros(2, 9, dtype=torch.long), torch.tensor([0, 3])
    >>> logp, entropy = artune.token_scores(policy, tokens, class_ids)
    >>> print(logp.shape, f"{logp.mean():.3f} {entropy.mean():.3f}")  # the weights are new: all tokens are alike
    torch.Size([2, 9]) -2.079 2.079
    """
    logits = wide(guided_logits(policy, tokens, class_ids, cfg, dropout))  # [b, T, V]
    with torch.autocast(tokens.device.type, enabled=False):
        entropy = token_entropy(logits)
        if truncate is not None:
            kept = filter_logits(logits.detach(), truncate.temperature, truncate.top_k, truncate.top_p) > -torch.inf
            kept = kept.scatter(-1, tokens[..., None], True)
            logits = (logits / truncate.temperature).masked_fill(~kept, LOWEST)
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
