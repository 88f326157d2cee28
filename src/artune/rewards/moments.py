"""Moments of generated and of real features for the LOO-FID reward."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from artune.errors import ArtuneError
from artune.metrics.trace_sqrt import covariance_root

Covariance = Literal["diag", "full"]


@dataclass(frozen=True)
class FeatureMoments:
    """Mean [D] and covariance of generated features, float64: [D] variances or a [D, D] matrix.

    As the state of the moving average it is equivalent to Eq. 7-8: their second raw moment is the covariance plus the
    outer product of the mean. Keeping the covariance itself loses no precision when it is small beside the mean.
    After a batch of weight alpha, ``mean' = (1 - alpha) mean + alpha m``, and likewise for the second raw moments.

    Attributes:
        mean: [D] float64.
        covariance: [D] variances or [D, D] float64, divided by N.

    >>> before = artune.FeatureMoments.of(torch.tensor([[0.0], [2.0]]))  # mean 1, variance 1
    >>> after = before.mixed(artune.FeatureMoments.of(torch.tensor([[3.0], [3.0]])), alpha=0.5)
    >>> print(after.mean.item(), after.covariance.item())
    2.0 1.5
    """

    mean: Tensor
    covariance: Tensor

    @classmethod
    def of(cls, features: Tensor, covariance: Covariance = "diag") -> "FeatureMoments":
        """Moments of features [N, D], divided by N."""
        features = features.detach().double()
        mean = features.mean(dim=0)
        centred = features - mean
        if covariance == "diag":
            return cls(mean, centred.square().mean(dim=0))
        return cls(mean, centred.T @ centred / len(features))

    def mixed(self, batch: "FeatureMoments", alpha: float) -> "FeatureMoments":
        """Moving average after a batch of weight ``alpha``, both diagonal (Eq. 22-23 minus the square of Eq. 22)."""
        gap = self.mean - batch.mean
        spread = (1 - alpha) * (self.covariance + alpha * gap.square()) + alpha * batch.covariance
        return FeatureMoments(batch.mean + (1 - alpha) * gap, spread)

    def state_dict(self) -> dict[str, Tensor]:
        """Both tensors by name, for a saved state."""
        return {"mean": self.mean, "covariance": self.covariance}

    @classmethod
    def from_state_dict(
        cls, tensors: Mapping[str, Tensor], device: torch.device | str | None = None
    ) -> "FeatureMoments":
        """The inverse of :meth:`state_dict`."""
        return cls(*(tensors[name].to(device=device, dtype=torch.float64) for name in ("mean", "covariance")))


@dataclass(frozen=True)
class ClassMoments:
    """Real features' moments per class, float64: means [C, D] and variances [C, D]; NaN for a class without images."""

    mean: Tensor
    variance: Tensor

    def mixture(self, class_ids: Tensor) -> FeatureMoments:
        """Moments of a mixture of the classes in ``class_ids`` [N], each weighted by how often it occurs.

        Raises:
            ArtuneError: a class has no real images.
        """
        means, variances = self.mean[class_ids], self.variance[class_ids]
        if not bool(means.isfinite().all() & variances.isfinite().all()):
            raise ArtuneError("loo_fid: a class of the batch has no real images; class_moments.npz needs all classes")
        mean = means.mean(dim=0)
        return FeatureMoments(mean, variances.mean(dim=0) + (means - mean).square().mean(dim=0))


@dataclass(frozen=True)
class ReferenceMoments:
    """Moments of the real features in the form that the reward needs, float64; build them with :meth:`from_moments`.

    Attributes:
        mean: [D].
        sd: standard deviations [D].
        root: a root R of the covariance, ``R R^T`` [D, D]; None if only the diagonal is compared.
        basis: [features, D], on which features are projected first (Table 9); None if they are used unprojected.

    >>> real = torch.randn(100, 8, generator=torch.manual_seed(0))
    >>> mean, covariance = artune.feature_moments(real)
    >>> whole = artune.ReferenceMoments.from_moments(mean, covariance=covariance, compare="full")
    >>> print(whole.covariance, artune.ReferenceMoments.from_moments(mean, variance=covariance.diagonal()).covariance)
    full diag
    """

    mean: Tensor
    sd: Tensor
    root: Tensor | None = None
    basis: Tensor | None = None

    @classmethod
    def from_moments(
        cls,
        mean: Tensor,
        *,
        variance: Tensor | None = None,
        deviation: Tensor | None = None,
        covariance: Tensor | None = None,
        compare: Covariance = "diag",
        pca: int | None = None,
        device: torch.device | str | None = None,
    ) -> "ReferenceMoments":
        """Build the reference from a stored mean and one of the three measures of spread, given by its name.

        Args:
            mean: mean [D].
            variance: variances [D].
            deviation: standard deviations [D], the sigma_r of Eq. 14 and 24.
            covariance: whole covariance [D, D], which PCA and ``compare="full"`` need.
            compare: ``diag`` compares variances only (the paper's default), ``full`` whole covariances.
            pca: number of leading eigenvectors of the covariance to project on; the rewards do not depend on their
                signs.
            device: device of the arithmetic; default the device of ``mean``.

        Raises:
            ArtuneError: none or several of variance, deviation and covariance, shapes that do not fit, a negative
                variance or deviation, or a number that is not finite.
        """
        spreads = {"variance": variance, "deviation": deviation, "covariance": covariance}
        given = [name for name, value in spreads.items() if value is not None]
        if len(given) != 1:
            found = " and ".join(given) or "none of them"
            raise ArtuneError(f"loo_fid: give one of variance=, deviation= and covariance=, not {found}")
        if compare not in ("diag", "full"):
            raise ArtuneError(f"loo_fid: compare={compare!r}; use diag or full")
        mu, spread = (
            torch.as_tensor(value).to(device=device, dtype=torch.float64) for value in (mean, spreads[given[0]])
        )
        needed = (len(mu),) * (2 if given == ["covariance"] else 1) if mu.ndim == 1 else ()
        if spread.shape != needed or not needed:
            raise ArtuneError(
                f"loo_fid: reference mean {tuple(mu.shape)} and {given[0]} {tuple(spread.shape)} do not fit together; "
                "give a mean [D] and a variance [D], a deviation [D] or a covariance [D, D]"
            )
        if spread.ndim == 1 and (compare == "full" or pca is not None):
            raise ArtuneError(f"loo_fid: PCA and compare=full need the whole matrix, covariance=, not {given[0]}=")
        diagonal = spread.diagonal() if spread.ndim == 2 else spread
        if not bool(mu.isfinite().all() & spread.isfinite().all() & (diagonal >= 0).all()):
            raise ArtuneError(f"loo_fid: the reference moments hold NaN, infinity or a negative {given[0]}")
        if pca is None:
            sd = diagonal if given == ["deviation"] else diagonal.sqrt()
            return cls(mu, sd, root=covariance_root(spread) if compare == "full" else None)
        if not 1 <= pca <= len(mu):
            raise ArtuneError(f"loo_fid: pca={pca}; use 1 to {len(mu)}, the number of features")
        values, vectors = torch.linalg.eigh(spread)
        basis, sd = vectors[:, -pca:].flip(1).contiguous(), values[-pca:].flip(0).clamp_min(0).sqrt()
        return cls(mu @ basis, sd, root=sd.diag() if compare == "full" else None, basis=basis)

    @property
    def covariance(self) -> Covariance:
        """``diag`` if variances are compared, ``full`` if whole covariances are."""
        return "diag" if self.root is None else "full"

    def project(self, features: Tensor) -> Tensor:
        """Features [N, features] in float64, projected on the principal components if there are any: [N, D]."""
        features = features.double()
        return features if self.basis is None else features @ self.basis

    def moments_of(self, features: Tensor) -> FeatureMoments:
        """Moments of unprojected features [N, features], of the kind that a state needs (``start="given"``)."""
        return FeatureMoments.of(self.project(features), self.covariance)
