"""Rewards by name: a reward is a file in this folder, whose ``REWARD`` is its class, and a line in ``REWARDS``."""

import importlib
from collections.abc import Mapping
from typing import Protocol

from torch import Tensor, nn

from artune.config.run import Run
from artune.sampling.batch import RolloutBatch


class Reward(Protocol):
    """An instance-level reward. It sees images and class ids, never weights or tokens' gradients.

    Built as ``REWARD(network, run)``; ``network`` is that of ``rewards.networks``, None where it names none.
    """

    name: str

    def __call__(self, batch: RolloutBatch) -> Tensor:
        """One score a sample, [B] float32, higher is better."""


def build_rewards(run: Run, networks: Mapping[str, nn.Module]) -> list[Reward]:
    """The instance-level rewards of a run, in the order of ``rewards.terms``.

    ``loo_fid`` is not among them: it is distribution-level and carries moments from step to step (distribution.py).
    """
    assert run.rewards is not None
    return [
        importlib.import_module(f"artune.rewards.{name}").REWARD(networks.get(run.rewards.networks[name]), run)
        for name in run.rewards.terms
        if name != "loo_fid"
    ]
