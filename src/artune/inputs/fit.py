"""The supervised training loop of tokenizers, priors and frozen networks at a scale without released weights."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from artune.config.run import Training
from artune.errors import ArtuneError
from artune.runtime.progress import Progress

WARMUP = 0.05  # share of the steps over which the learning rate rises


def fit(
    label: str,
    parameters: Iterable[nn.Parameter],
    training: Training,
    loss: Callable[[int], tuple[Tensor, str]],
    betas: tuple[float, float] = (0.9, 0.95),
    fused: bool = True,
) -> None:
    """Minimise ``loss`` by AdamW with a short warm-up, a cosine to zero and a gradient norm of at most 1.

    Args:
        label: text of the progress line.
        parameters: trained parameters; vectors (biases, norms) have no weight decay.
        training: steps, learning rate, weight decay.
        loss: step -> scalar loss and a note for the progress line; it draws its own batch.
        betas: AdamW's betas.
        fused: whether to use fused AdamW, which makes a step about 5% faster and differs in the last bits. On a CPU it
            does not raise ``Tensor._version``, by which cached decoding notices new weights, so do not sample from a
            policy between steps.

    Raises:
        ArtuneError: the loss is NaN or infinite; the message names the step.
    """
    parameters = [parameter for parameter in parameters if parameter.requires_grad]
    optimizer = torch.optim.AdamW(
        decay_groups(parameters, training.weight_decay), lr=training.learning_rate, betas=betas, fused=fused
    )
    progress = Progress(label, training.steps)
    for step in range(training.steps):
        for group in optimizer.param_groups:
            group["lr"] = training.learning_rate * schedule(step, training.steps)
        value, note = loss(step)
        if not math.isfinite(value.item()):
            raise ArtuneError(f"{label}: the loss is {value.item()} at step {step}; lower its train.learning_rate")
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        progress.update(step + 1, f"loss {value.item():.3f}{'  ' + note if note else ''}")


def decay_groups(parameters: Iterable[nn.Parameter], weight_decay: float) -> list[dict[str, Any]]:
    """Two groups for AdamW: matrices with weight decay, vectors (biases, norms) without."""
    every = list(parameters)
    return [
        {"params": [parameter for parameter in every if parameter.dim() > 1], "weight_decay": weight_decay},
        {"params": [parameter for parameter in every if parameter.dim() <= 1], "weight_decay": 0.0},
    ]


def schedule(step: int, steps: int) -> float:
    """Factor of the learning rate at ``step``, in (0, 1]: linear warm-up, then a cosine that ends near zero."""
    warmup = max(1, round(WARMUP * steps))
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1.0 + math.cos(math.pi * (step - warmup) / max(steps - warmup, 1)))
