"""The settings of GRPO for a training of one's own, without the YAML files of a run. Never imports torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from artune.config.methods import GRPO, Entropy
from artune.config.run import Sampling
from artune.config.yaml_layers import parse
from artune.errors import ArtuneError, unknown

OFF = Entropy.model_validate({"enabled": False})
UNGUIDED = Sampling(cfg=1.0)


class Ones(dict[str, float]):
    """Factors by the name of a reward; 1 for a name without an entry."""

    def __missing__(self, name: str) -> float:
        return 1.0


@dataclass(frozen=True)
class Combination:
    """How rewards are weighted and combined; the fields are those of :class:`artune.config.methods.Rewards`."""

    weights: Mapping[str, float]
    units: Mapping[str, float]
    combine: str
    groups: Sequence[Sequence[str]] | None = None
    group_weights: Sequence[float] | None = None
    add: str = "advantages"
    autocast: str = "off"


@dataclass(frozen=True)
class GRPOSettings:
    """Settings of :class:`~artune.tuning.grpo_trainer.GRPOTrainer`; the defaults of the method are the paper's.

    Args:
        iterations: number of iterations; learning rate and entropy bonus follow the share of them that is done.
        prompts: distinct classes per iteration, at most the policy's.
        group_size: G >= 2, samples per class.
        epochs: K, optimiser steps per iteration.
        clip: epsilon of Eq. 2, above 0; it acts from the second epoch on.
        beta: weight of the KL penalty to the policy before tuning (Eq. 3); 0 needs no copy of the policy.
        learning_rate: of AdamW, above 0.
        weights: factor of each reward by name, not negative; 1 for a reward without an entry.
        combine: ``sum``: the weighted rewards are added and normalised (Eq. 4); ``separate``: normalised, then added.
        entropy: the adaptive entropy bonus (Eq. 29-33); off by default, because its target depends on the policy.
        sampling: guidance, temperature, top-k and top-p of the draws.
        micro_batch: sequences per forward pass of the update; None: all of a process at once.
        seed: not negative; names every draw together with its purpose and the iteration.
        name: name of the training, for messages.
        more: further keys of the section ``grpo`` of config/README.md, e.g. ``{"ratio": "token", "warmup": 10}``.

    Raises:
        ArtuneError: a value outside its range, or an unknown key in ``more``; the message names it.

    >>> settings = artune.GRPOSettings(iterations=50, prompts=4, group_size=8, learning_rate=1e-3, beta=0.1)
    >>> settings.grpo.epochs, settings.grpo.ratio
    (2, 'mean')
    """

    iterations: int = 600
    prompts: int = 12
    group_size: int = 12
    epochs: int = 2
    clip: float = 0.2
    beta: float = 3.0
    learning_rate: float = 1e-5
    weights: Mapping[str, float] = field(default_factory=dict)
    combine: Literal["sum", "separate"] = "sum"
    entropy: Entropy = OFF
    sampling: Sampling = UNGUIDED
    micro_batch: int | None = None
    seed: int = 0
    name: str = "policy"
    more: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.combine not in ("sum", "separate"):
            raise ArtuneError(f"GRPOSettings: combine: {unknown(self.combine, ('sum', 'separate'))}")
        for name, weight in self.weights.items():
            if not weight >= 0:
                raise ArtuneError(f"GRPOSettings: weights: {name}: {weight} is negative or no number")
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or self.seed < 0:
            raise ArtuneError(f"GRPOSettings: seed: {self.seed!r} is not a whole number of at least 0")
        _ = self.grpo  # checks the rest

    @cached_property
    def grpo(self) -> GRPO:
        """The section ``grpo`` of a run."""
        named = ("iterations", "prompts", "group_size", "epochs", "clip", "beta", "learning_rate")
        values = {name: getattr(self, name) for name in named}
        if twice := sorted({*values, "micro_batch"} & self.more.keys()):
            raise ArtuneError(f"GRPOSettings: more: {twice[0]} has an argument of its own; give it there")
        values["micro_batch"] = "auto" if self.micro_batch is None else self.micro_batch
        return parse(GRPO, values | dict(self.more), "GRPOSettings")

    @cached_property
    def rewards(self) -> Combination:
        """What the section ``rewards`` of a run says about their combination."""
        return Combination(Ones(self.weights), Ones(), self.combine)
