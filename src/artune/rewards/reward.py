"""Rewards by name: each is a module of this package with its class under ``REWARD``, and a line in ``REWARDS``."""

import importlib
from collections.abc import Mapping
from typing import Protocol

from torch import Tensor, nn

from artune.config.methods import DISTRIBUTION, Rewards
from artune.config.run import Data
from artune.sampling.batch import RolloutBatch


class Reward(Protocol):
    """An instance-level reward. It sees the samples of a batch, never the policy's weights or gradients.

    ``batch.images`` are uint8 [B, 3, H, W], decoded, rounded and at the data set's size, as they are evaluated.
    A complete example is in docs/extending.md.

    A reward is built as ``REWARD(network, data)`` from the network named in ``rewards.networks``, or None, and the data
    set, whose prompts it may need.
    """

    name: str

    def __call__(self, batch: RolloutBatch) -> Tensor:
        """One score per sample, [B] float32, higher is better; B is this process' share of the iteration's images."""


def build_rewards(rewards: Rewards, data: Data, networks: Mapping[str, nn.Module]) -> list[Reward]:
    """The instance-level rewards of a run, in the order of ``rewards.terms``.

    The distribution-level ones are not among them: they keep moments between steps (distribution.py).

    Args:
        rewards: the run's ``rewards``.
        data: the data set.
        networks: frozen networks by name.
    """
    return [
        importlib.import_module(f"artune.rewards.{name}").REWARD(networks.get(rewards.networks[name] or ""), data)
        for name in rewards.terms
        if name not in DISTRIBUTION
    ]
