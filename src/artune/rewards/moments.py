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

    ``mean`` and ``sd`` are [D]; ``root`` [D, D] is a root of the covariance, None if only the diagonal is compared;
    ``basis`` [features, D] projects the features first (Table 9), None if they are used unprojected.
    """

    mean: Tensor
    sd: Tensor
    root: Tensor | None = None
    basis: Tensor | None = None

    @classmethod
    def from_moments(
        cls,
        mu: Tensor,
        sigma: Tensor,
        *,
        covariance: Covariance = "diag",
        pca: int | None = None,
        device: torch.device | str | None = None,
    ) -> "ReferenceMoments":
        """Build the reference from a stored mean and covariance.

        Args:
            mu: mean [D].
            sigma: covariance [D, D]; variances [D] suffice without PCA and with ``covariance="diag"``.
            covariance: ``diag`` compares variances only (the paper's default), ``full`` whole covariances.
            pca: number of leading eigenvectors of ``sigma`` to project on; the rewards do not depend on their signs.
            device: device of the arithmetic; default the device of ``mu``.

        Raises:
            ArtuneError: the shapes do not fit, a variance is negative, or a number is not finite.
        """
        mu, sigma = (torch.as_tensor(value).to(device=device, dtype=torch.float64) for value in (mu, sigma))
        if covariance not in ("diag", "full"):
            raise ArtuneError(f"loo_fid: covariance={covariance!r}; use diag or full")
        needs_matrix = covariance == "full" or pca is not None
        if tuple(sigma.shape) not in ([(len(mu),) * 2] if needs_matrix else [(len(mu),), (len(mu),) * 2]):
            raise ArtuneError(
                f"loo_fid: reference mu {tuple(mu.shape)} and sigma {tuple(sigma.shape)} do not fit together"
                + (" (PCA and covariance=full need the whole matrix)" if needs_matrix else "")
            )
        variances = sigma.diagonal() if sigma.ndim == 2 else sigma
        if not bool(mu.isfinite().all() & sigma.isfinite().all() & (variances >= 0).all()):
            raise ArtuneError("loo_fid: the reference moments hold NaN, infinity or a negative variance")
        if pca is None:
            return cls(mu, variances.sqrt(), root=covariance_root(sigma) if covariance == "full" else None)
        if not 1 <= pca <= len(mu):
            raise ArtuneError(f"loo_fid: pca={pca}; use 1 to {len(mu)}, the number of features")
        values, vectors = torch.linalg.eigh(sigma)
        basis, sd = vectors[:, -pca:].flip(1).contiguous(), values[-pca:].flip(0).clamp_min(0).sqrt()
        return cls(mu @ basis, sd, root=sd.diag() if covariance == "full" else None, basis=basis)

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
