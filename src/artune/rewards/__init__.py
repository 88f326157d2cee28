"""Rewards by name: a reward is a file of this folder and a line of ``BUILDERS``."""

from collections.abc import Callable, Mapping
from typing import Protocol

from torch import Tensor, nn

from artune.config import Run
from artune.rewards.clip import ClipReward
from artune.rewards.hps import HPSReward
from artune.rewards.maniqa import ManiqaReward
from artune.rollout import RolloutBatch


class Reward(Protocol):
    """An instance-level reward. It sees images and class ids, never weights or tokens' gradients."""

    name: str

    def __call__(self, batch: RolloutBatch) -> Tensor:
        """One score a sample, [B] float32, higher is better."""


# name -> (the key of `rewards` that names its network, its class); loo_fid is distribution-level: loo_fid.py
BUILDERS: dict[str, tuple[str, Callable[[nn.Module, Run], Reward]]] = {
    "clip": ("clip_network", ClipReward),
    "hps": ("hps_network", HPSReward),
    "maniqa": ("maniqa_network", ManiqaReward),
}


def build_rewards(run: Run, networks: Mapping[str, nn.Module]) -> list[Reward]:
    """The instance-level rewards of a run, in the order of ``rewards.terms``."""
    assert run.rewards is not None
    rewards = []
    for name in run.rewards.terms:
        if name in BUILDERS:
            key, build = BUILDERS[name]
            rewards.append(build(networks[getattr(run.rewards, key)], run))
    return rewards
