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


# loo_fid is not here: it is distribution-level and carries moments from step to step (distribution.py)
BUILDERS: dict[str, Callable[[nn.Module, Run], Reward]] = {
    "clip": ClipReward,
    "hps": HPSReward,
    "maniqa": ManiqaReward,
}


def build_rewards(run: Run, networks: Mapping[str, nn.Module]) -> list[Reward]:
    """The instance-level rewards of a run, in the order of ``rewards.terms``."""
    assert run.rewards is not None
    chosen = run.rewards
    return [BUILDERS[name](networks[chosen.networks[name]], run) for name in chosen.terms if name != "loo_fid"]
