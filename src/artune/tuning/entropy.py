"""Adaptive entropy bonus (paper, Sec. 3.3 and App. C)."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


def token_entropy(logits: Tensor) -> Tensor:
    """Shannon entropy of softmax(logits) in nats, ``H = -sum_v p_v log p_v`` (Eq. 29).

    Logits of minus infinity (filtered tokens) add nothing, 0 log 0 = 0, and have gradient 0.

    Args:
        logits: [..., V], any floating type.

    Returns:
        [...] in 0..log V, with gradient; computed in float32, or in float64 for logits in float64.

    >>> logits = torch.tensor([[0.0, 0.0], [0.0, -torch.inf]])  # even odds, and certainty
    >>> entropy = artune.token_entropy(logits)
    >>> torch.allclose(entropy, torch.tensor([math.log(2), 0.0]))
    True
    """
    return _Entropy.apply(torch.log_softmax(logits if logits.dtype == torch.float64 else logits.float(), -1))


class _Entropy(torch.autograd.Function):
    """``-sum p log p`` over log p [..., V], with 0 log 0 = 0.

    Autograd would keep a mask, or a masked copy of all log-probabilities, until the backward pass; to mask only where
    the result is NaN would make a GPU wait for the answer in every micro-batch.
    """

    @staticmethod
    def forward(ctx: Any, logp: Tensor) -> Tensor:
        p = logp.exp()
        ctx.save_for_backward(logp, p)
        return -(p * logp).masked_fill_(logp == -torch.inf, 0.0).sum(-1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        logp, p = ctx.saved_tensors
        gradient = -gradients[0][..., None]
        found = (gradient * logp).masked_fill_(logp == -torch.inf, 0.0)
        return found.mul_(p).add_(gradient * p)  # not addcmul, which rounds once less


def entropy_fraction(entropy: Tensor, codebook_size: int) -> Tensor:
    """Mean token entropy over its maximum log K, Eq. 32, 0..1; 0 for a codebook of one code."""
    return entropy.detach().mean() / (math.log(codebook_size) or 1.0)


def scheduled_coefficient(
    progress: float, c0: float, *, warmup: float = 0.05, decay_from: float = 0.85, floor: float = 0.0
) -> float:
    """c_sched(p): linear warm-up to c0, flat, cosine decay to ``floor`` (App. C, base schedule).

    Args:
        progress: p in [0, 1], the iteration divided by the number of iterations.
        c0: nominal coefficient.
        warmup: end of the warm-up.
        decay_from: start of the decay.
        floor: value at p = 1.
    """
    if progress < warmup:
        return c0 * progress / warmup
    if progress <= decay_from or decay_from >= 1.0:
        return c0
    share = min((progress - decay_from) / (1.0 - decay_from), 1.0)
    return floor + (c0 - floor) * 0.5 * (1.0 + math.cos(math.pi * share))


@dataclass(frozen=True)
class EntropyController:
    """c_eff of Eq. 33: the schedule, corrected when the entropy leaves a deadband around its target.

    ``c_eff = clip(c_sched(p) exp(gain (target - H)), c_min, c_max)``, without the factor inside the deadband.

    Args:
        c0: coefficient of the flat part of the schedule, not negative.
        c_min: smallest coefficient.
        c_max: largest coefficient.
        target: target of the mean token entropy as a fraction of log K, 0..1.
        deadband: distance from the target up to which nothing is corrected, a fraction of log K.
        gain: k of Eq. 33.
        warmup: share of the iterations after which c0 is reached, 0..1.
        decay_from: share of the iterations from which the schedule falls, 0..1.
        floor: value of the schedule at the end.

    >>> controller = artune.EntropyController(c0=2.2e-3, c_min=7e-5, c_max=4e-3, target=0.78)
    >>> kept, raised = controller.coefficient(0.5, entropy=0.78), controller.coefficient(0.5, entropy=0.70)
    >>> print(f"{kept:.5f} {raised:.5f}")
    0.00220 0.00280
    """

    c0: float
    c_min: float
    c_max: float
    target: float
    deadband: float = 0.015
    gain: float = 3.0
    warmup: float = 0.05
    decay_from: float = 0.85
    floor: float = 0.0

    def coefficient(self, progress: float, entropy: float) -> float:
        """The weight of the mean token entropy (nats) in the loss, in [c_min, c_max].

        Args:
            progress: share of the iterations that is done, 0..1.
            entropy: the measured mean token entropy as a fraction of log K, 0..1.
        """
        scheduled = scheduled_coefficient(
            progress, self.c0, warmup=self.warmup, decay_from=self.decay_from, floor=self.floor
        )
        error = self.target - entropy
        correction = math.exp(self.gain * error) if abs(error) > self.deadband else 1.0
        return min(max(scheduled * correction, self.c_min), self.c_max)  # Eq. 33
