"""The LOO-FID reward of a run: its feature network, its reference, and the moments it carries from step to step."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from artune.config import LooFid as Settings
from artune.rewards.loo_fid import FeatureMoments, ReferenceMoments, loo_fid_reward
from artune.rollout import RolloutBatch


class DistributionReward:
    """Calls :func:`~artune.rewards.loo_fid.loo_fid_reward` on a batch; :meth:`commit` makes its moments the state.

    Args:
        network: has ``features(images uint8) -> [B, D]``; always run in float32.
        settings: the run's ``rewards.loo_fid``.
        mu, sigma: reference moments of the same network, [D] and [D, D].
        device: where the arithmetic runs.
    """

    name = "loo_fid"

    def __init__(
        self, network: nn.Module, settings: Settings, mu: Tensor, sigma: Tensor, device: torch.device | str = "cpu"
    ):
        self.network, self.settings = network, settings
        self.reference = ReferenceMoments.from_moments(
            mu, sigma, covariance=settings.covariance, pca=settings.pca, device=device
        )
        self.moments: list[FeatureMoments] | None = None  # one a shard
        self.following: list[FeatureMoments] | None = None

    @torch.no_grad()
    def start_from(self, images: Tensor) -> None:
        """Take the moments of the pretrained policy's images as the initial state (``start: pretrained``)."""
        self.moments = [self.reference.moments_of(self.network.features(images))] * self.settings.shards

    @torch.no_grad()
    def features(self, batch: RolloutBatch) -> Tensor:
        """Features [B, D] of a batch's images."""
        return self.network.features(batch.images)

    def __call__(self, features: Tensor) -> tuple[Tensor, float]:
        """Rewards [B] of a batch's features, and the FID (diagonal or full) of the moments after it.

        With several shards each slice of the batch leaves out of itself and has moments of its own; the FID is the
        mean of theirs.
        """
        settings = self.settings
        outcomes = [
            loo_fid_reward(
                part,
                None if self.moments is None else self.moments[number],
                self.reference,
                alpha=settings.alpha,
                epsilon=settings.epsilon if settings.covariance == "diag" else None,
                mode=settings.mode,
                start="first_batch" if settings.start == "pretrained" else settings.start,
            )
            for number, part in enumerate(features.chunk(settings.shards))
        ]
        self.following = [outcome.state for outcome in outcomes]
        rewards = torch.cat([outcome.rewards for outcome in outcomes])
        return rewards, sum(outcome.fid for outcome in outcomes) / len(outcomes)

    def commit(self) -> None:
        """End of an iteration: the moments after the last batch become the state (Eq. 22-23)."""
        self.moments = self.following

    def state_dict(self) -> list[dict[str, Tensor]] | None:
        """The moments, None before the first step."""
        return None if self.moments is None else [moments.state_dict() for moments in self.moments]

    def load_state_dict(self, state: Sequence[Mapping[str, Tensor]] | None) -> None:
        """Inverse of :meth:`state_dict`."""
        device = self.reference.mean.device
        self.moments = None if state is None else [FeatureMoments.from_state_dict(one, device) for one in state]
