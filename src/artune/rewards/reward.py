"""Rewards by name: each is a module of this package with its class under ``REWARD``, and a line in ``REWARDS``."""

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from artune.config.methods import DISTRIBUTION, Rewards
from artune.config.run import Data
from artune.errors import SharedError
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


class NamedReward:
    """A function of a batch as a reward; its scores become float32 on the device of the batch.

    Args:
        name: name in metrics, weights and messages.
        call: RolloutBatch -> [B] numbers, higher is better. If it has ``state_dict`` and ``load_state_dict``, what it
            keeps between two batches is saved with a training.
    """

    def __init__(self, name: str, call: Callable[[RolloutBatch], Any]):
        self.name, self.call = name, call

    def __call__(self, batch: RolloutBatch) -> Tensor:
        """[B] scores. Raises SharedError: they are not one number per image."""
        scores = torch.as_tensor(self.call(batch), device=batch.tokens.device).detach().float()
        if scores.shape != (len(batch.tokens),):
            raise SharedError(
                f"reward {self.name}: gave numbers of shape {tuple(scores.shape)} for {len(batch.tokens)} images; "
                "return one number per image"
            )
        return scores


def named_rewards(rewards: Mapping[str, Callable[[RolloutBatch], Any]] | Sequence[Reward]) -> list[Reward]:
    """Rewards that have names: those of a sequence, or functions of a batch under the keys of a mapping."""
    if isinstance(rewards, Mapping):
        return [NamedReward(name, call) for name, call in rewards.items()]
    return list(rewards)


def kept_between_batches(rewards: Sequence[Reward]) -> dict[str, Any]:
    """The rewards of :func:`named_rewards` that keep something between two batches, by name."""
    calls = {reward.name: getattr(reward, "call", reward) for reward in rewards}
    return {name: call for name, call in calls.items() if hasattr(call, "state_dict")}


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
