"""Group Relative Policy Optimization: advantages, ratio, clipped loss, KL (paper, Sec. 3.1 and Alg. 1). Pure maths.

B is the number of sequences in an iteration, in groups of consecutive samples of one prompt; T is the number of tokens
per sequence.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor


def group_advantages(
    rewards: Tensor, group_size: int, *, epsilon: float = 1e-4, std: str = "n", over: str = "prompt"
) -> Tensor:
    """A = (r - mean) / (s + epsilon) over each prompt's group, Alg. 1 lines 10-11.

    A group of equal rewards has advantages of exactly 0.

    Args:
        rewards: [B], groups of ``group_size`` consecutive samples.
        group_size: G >= 2.
        epsilon: added to the standard deviation (1e-4 in Alg. 1).
        std: "n" divides the variance by G as printed, "n-1" is the unbiased estimate of the authors' code.
        over: "prompt" normalises within a prompt's group, "batch" over all B.

    Returns:
        [B] advantages, without gradient.

    Raises:
        ValueError: G < 2, or B is not a multiple of G.

    >>> rewards = torch.tensor([0.0, 1.0, 5.0, 5.0])  # two prompts with two images each
    >>> advantages = artune.group_advantages(rewards, group_size=2)
    >>> print([round(float(value), 2) for value in advantages])
    [-1.0, 1.0, 0.0, 0.0]
    """
    if group_size < 2:
        raise ValueError(f"group_size: {group_size}; a group needs at least 2 samples")
    if rewards.numel() % group_size:
        raise ValueError(f"rewards: {rewards.numel()} is not a multiple of group_size {group_size}")
    grouped = rewards.detach().view(-1, group_size) if over == "prompt" else rewards.detach().view(1, -1)
    centred = grouped - grouped.mean(1, keepdim=True)
    spread = grouped.std(1, keepdim=True, correction=0 if std == "n" else 1)
    # The mean of equal numbers may be off by a rounding, which a small epsilon turns into an advantage of any size.
    equal = (grouped == grouped[:, :1]).all(1, keepdim=True) & grouped[:, :1].isfinite()
    return (centred / (spread + epsilon)).masked_fill(equal, 0.0).view(-1)


def combined_advantages(
    rewards: Mapping[str, Tensor],
    weights: Mapping[str, float],
    group_size: int,
    *,
    combine: str = "sum",
    groups: Sequence[Sequence[str]] | None = None,
    group_weights: Sequence[float] | None = None,
    add: str = "advantages",
    epsilon: float = 1e-4,
    std: str = "n",
    over: str = "prompt",
) -> tuple[Tensor, Tensor]:
    """Turn several rewards into advantages: ``A(sum_i w_i r_i)`` (Eq. 4), or ``sum_g v_g A(sum_{i in g} w_i r_i)``.

    A is :func:`group_advantages`: the rewards are added, then normalised, or normalised, then added.

    Args:
        rewards: name -> [B].
        weights: name -> factor of the reward (w_c, w_h, w_fid of Alg. 1 line 9).
        group_size: G.
        combine: "sum" is Eq. 4; "separate" normalises every group of rewards on its own.
        groups: for "separate", the rewards normalised together; None normalises each reward on its own.
        group_weights: for "separate", one factor per group; None means 1 for each.
        add: for "separate", add up the groups' "advantages", or their "losses" (several rows are returned).
        epsilon: see :func:`group_advantages`.
        std: see :func:`group_advantages`.
        over: see :func:`group_advantages`.

    Returns:
        Advantages [C, B] and their loss weights [C]; C = 1 unless losses are added.

    Raises:
        KeyError: a reward without a weight.
        ValueError: as :func:`group_advantages`.

    >>> rewards = {"clip": torch.tensor([0.0, 1.0]), "fid": torch.tensor([0.0, 1000.0])}
    >>> advantages, _ = artune.combined_advantages(rewards, {"clip": 2.0, "fid": 1.0}, 2, combine="separate")
    >>> print([round(float(value), 2) for value in advantages[0]])  # each counts alike, whatever its scale
    [-2.0, 2.0]
    """
    parts = [list(rewards)] if combine == "sum" else (groups or [[name] for name in rewards])
    factors = [1.0] * len(parts) if combine == "sum" or group_weights is None else list(group_weights)
    rows, kept = [], []
    for names, factor in zip(parts, factors, strict=True):
        present = [name for name in names if name in rewards]
        if present:
            total = torch.stack([weights[name] * rewards[name] for name in present]).sum(0)  # Alg. 1, line 9
            rows.append(group_advantages(total, group_size, epsilon=epsilon, std=std, over=over))
            kept.append(factor)
    advantages, loss_weights = torch.stack(rows), rows[0].new_tensor(kept)
    if add == "losses":
        return advantages, loss_weights
    return (loss_weights[:, None] * advantages).sum(0, keepdim=True), loss_weights.new_ones(1)


def log_ratio(logp: Tensor, logp_old: Tensor, kind: str = "mean") -> Tensor:
    """log rho from per-token log-probabilities [B, T].

    ``mean``: mean over tokens, Alg. 1 line 23, [B]; ``product``: Eq. 1, [B]; ``token``: one ratio per token, [B, T].
    A token that is impossible under both (minus infinity) has ratio 1.
    """
    difference = (logp - logp_old).masked_fill((logp == -torch.inf) & (logp_old == -torch.inf), 0.0)
    if kind == "token":
        return difference
    return difference.mean(1) if kind == "mean" else difference.sum(1)


def grpo_loss(log_ratio: Tensor, advantages: Tensor, clip: float, *, sign: str = "eq2") -> Tensor:
    """Clipped surrogate loss per sample, Eq. 2 (to be averaged over the samples).

    Args:
        log_ratio: [B], or [B, T] for per-token ratios.
        advantages: [B].
        clip: epsilon > 0.
        sign: "eq2" is -min(rho A, clip(rho) A), PPO's pessimistic bound; "alg1" is min(-rho A, -clip(rho) A) as
            printed in Alg. 1 line 25, the optimistic bound.

    Returns:
        [B] losses, with gradient.

    >>> log_ratio = torch.tensor([0.0, 1.0, 1.0])  # ratios 1, e and e
    >>> loss = artune.grpo_loss(log_ratio, torch.tensor([1.0, 1.0, -1.0]), clip=0.2)
    >>> print([round(float(value), 3) for value in loss])
    [-1.0, -1.2, 2.718]
    """
    ratio = log_ratio.exp()
    advantages = advantages.view(-1, *[1] * (ratio.dim() - 1))
    free, clipped = ratio * advantages, ratio.clamp(1 - clip, 1 + clip) * advantages  # Alg. 1, line 24
    loss = -torch.minimum(free, clipped) if sign == "eq2" else torch.minimum(-free, -clipped)
    return loss.flatten(1).mean(1) if loss.dim() > 1 else loss


def ratio_outside_fraction(log_ratio: Tensor, clip: float) -> Tensor:
    """Share of ratios outside [1 - clip, 1 + clip], 0..1, whether or not the clip changes their loss."""
    ratio = log_ratio.detach().exp()
    return ((ratio < 1 - clip) | (ratio > 1 + clip)).float().mean()


def clip_acting_fraction(log_ratio: Tensor, advantages: Tensor, clip: float, *, sign: str = "eq2") -> Tensor:
    """Share of ratios whose loss the clip decides, so that they have no gradient, 0..1 (TRL's "clip ratio").

    Under Eq. 2 these are ratios above 1 + clip with a positive advantage, and below 1 - clip with a negative one; under
    ``alg1`` the other way round. The arguments are those of :func:`grpo_loss`.
    """
    ratio = log_ratio.detach().exp()
    towards = advantages.view(-1, *[1] * (ratio.dim() - 1)) * (1 if sign == "eq2" else -1)
    return (((ratio > 1 + clip) & (towards > 0)) | ((ratio < 1 - clip) & (towards < 0))).float().mean()


def kl_penalty(logp_ref: Tensor, logp: Tensor, kind: str = "mean") -> Tensor:
    """The k3 estimate of KL(policy || reference) per sample, Eq. 3: exp(d) - d - 1, d = log ref - log policy.

    Args:
        logp_ref: [B, T] log-probabilities under the reference policy.
        logp: [B, T] under the policy.
        kind: "mean": d is the mean over tokens (Alg. 1 lines 30-32); "product": d is their sum; "token": k3 of each
            token, averaged.

    Returns:
        [B], >= 0, with gradient.

    >>> logp = torch.log(torch.tensor([[0.5, 0.5], [0.9, 0.9]]))
    >>> penalty = artune.kl_penalty(torch.log(torch.tensor([[0.5, 0.5], [0.1, 0.1]])), logp)
    >>> print([round(float(value), 3) for value in penalty])
    [0.0, 1.308]
    """
    delta = log_ratio(logp_ref, logp, kind)
    penalty = torch.expm1(delta) - delta
    return penalty.mean(1) if penalty.dim() > 1 else penalty
