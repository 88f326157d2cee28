"""The LOO-FID reward of a run: its feature network, its reference, and the moments that it keeps between steps."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from artune.config.methods import LooFidSettings
from artune.rewards.loo_fid import loo_fid_reward
from artune.rewards.moments import ClassMoments, FeatureMoments, ReferenceMoments
from artune.sampling.batch import RolloutBatch

Shards = list[FeatureMoments]  # one per slice of the batch


class DistributionReward:
    """Calls :func:`~artune.rewards.loo_fid.loo_fid_reward` on a batch; :meth:`commit` makes its moments the state.

    Under ``reference: class_matched`` a batch is compared with real images of its own classes. The generated moments
    are a moving average over batches of different classes, so the reference is the same average of the class moments of
    the same batches: a perfect policy then has distance 0 whichever classes were drawn.

    Args:
        network: network with ``features(images uint8) -> [B, D]``, always run in float32.
        settings: the run's ``rewards.loo_fid``.
        mu: mean [D] of the reference's features under the same network.
        sigma: covariance [D, D] of the reference's features under the same network.
        device: device of the arithmetic.
        classes: moments of each class, for ``reference: class_matched``.
        name: name of the reward, of which a run may have two under different networks.
    """

    def __init__(
        self,
        network: nn.Module,
        settings: LooFidSettings,
        mu: Tensor,
        sigma: Tensor,
        device: torch.device | str = "cpu",
        classes: ClassMoments | None = None,
        name: str = "loo_fid",
    ):
        self.network, self.settings, self.name = network, settings, name
        self.reference = ReferenceMoments.from_moments(
            mu, covariance=sigma, compare=settings.covariance, pca=settings.pca, device=device
        )
        self.classes = classes if settings.reference == "class_matched" else None
        self.moments: Shards | None = None
        self.following: Shards | None = None
        self.targets: Shards | None = None  # class_matched: the moving average of the real images' moments
        self.following_targets: Shards | None = None

    @torch.no_grad()
    def start_from(self, images: Tensor, class_ids: Tensor | None = None) -> None:
        """Take the moments of the pretrained policy's images as the initial state (``start: pretrained``)."""
        self.moments = [self.reference.moments_of(self.network.features(images))] * self.settings.shards
        if self.classes is not None and class_ids is not None:
            self.targets = [self.classes.mixture(class_ids)] * self.settings.shards

    @torch.no_grad()
    def features(self, batch: RolloutBatch) -> Tensor:
        """Features [B, D] of a batch's images."""
        return self.network.features(batch.images)

    def __call__(self, features: Tensor, class_ids: Tensor | None = None) -> tuple[Tensor, float]:
        """Rewards [B] of a batch's features, and the FID (diagonal or full) of the moments after it.

        With several shards each slice of the batch has its own moments, and its samples are left out of that slice; the
        FID is the mean over the slices. ``class_matched`` needs ``class_ids`` [B].
        """
        settings = self.settings
        references = self._references(class_ids)
        outcomes = [
            loo_fid_reward(
                part,
                None if self.moments is None else self.moments[number],
                references[number],
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

    def _references(self, class_ids: Tensor | None) -> list[ReferenceMoments]:
        """The reference moments for each shard."""
        if self.classes is None or class_ids is None:
            return [self.reference] * self.settings.shards
        batches = [self.classes.mixture(part) for part in class_ids.chunk(self.settings.shards)]
        if self.settings.mode == "ema":
            before = self.targets or self._before(batches)
            batches = [old.mixed(new, self.settings.alpha) for old, new in zip(before, batches, strict=True)]
        self.following_targets = batches
        return [ReferenceMoments(moments.mean, moments.covariance.sqrt()) for moments in batches]

    def _before(self, batches: Shards) -> Shards:
        """Replacement of the missing targets on the first batch, by the same rule as for the generated moments."""
        if self.settings.start != "zero":
            return batches
        nothing = torch.zeros_like(batches[0].mean)
        return [FeatureMoments(nothing, nothing)] * len(batches)

    def commit(self) -> None:
        """End an iteration: the moments after the last batch become the state (Eq. 22-23)."""
        self.moments, self.targets = self.following, self.following_targets

    def state_dict(self) -> list[dict[str, Tensor]] | None:
        """The generated moments followed by those of the real images; None before the first step."""
        if self.moments is None:
            return None
        return [moments.state_dict() for moments in (*self.moments, *(self.targets or ()))]

    def load_state_dict(self, state: Sequence[Mapping[str, Tensor]] | None) -> None:
        """Inverse of :meth:`state_dict`."""
        device, shards = self.reference.mean.device, self.settings.shards
        every = [FeatureMoments.from_state_dict(one, device) for one in state or ()]
        self.moments, self.targets = every[:shards] or None, every[shards:] or None
