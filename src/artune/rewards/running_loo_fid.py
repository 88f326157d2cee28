"""The LOO-FID reward with its moments, for any training loop, in one process or in several."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from artune.errors import ArtuneError
from artune.rewards.loo_fid import Mode, Solver, Start, loo_fid_reward
from artune.rewards.moments import FeatureMoments, ReferenceMoments


class LooFidReward:
    """LOO-FID rewards of one batch after another; the moving average of the moments is kept between the calls.

    The reward of image j is ``FID(without j) - FID(with it)`` (paper, Eq. 22-27; see
    :func:`~artune.rewards.loo_fid.loo_fid_reward`), where the FID is that of the moving average after the batch. In a
    group of torch.distributed every process passes its own images and gets their rewards; the batch is that of all
    processes, whose parts may differ in size, and every process holds the same moments.

    Args:
        reference: moments of the real features, :meth:`ReferenceMoments.from_moments`.
        features: turns the argument of a call into features [n, D], n >= 0; None: the argument is the features.
        alpha: weight of the new batch in (0, 1].
        epsilon: added to every generated variance; None means 1e-6 for ``diag`` and 0 for ``full``.
        mode: ``ema`` is the moving average (Eq. 9-10), ``batch`` forgets the past (Eq. 21).
        start: replacement of the moments before the first batch, see :func:`~artune.rewards.loo_fid.loo_fid_reward`;
            :meth:`start_from` gives them instead.
        solver: solver for whole covariances; None chooses.
        group: process group; None: the default group if there is one, otherwise this process alone.

    Attributes:
        state: the moments after the last batch, None before the first.
        fid: the distance of these moments to the reference, NaN before the first batch.

    >>> reference = artune.ReferenceMoments.from_moments(torch.zeros(8), variance=torch.ones(8))
    >>> reward = artune.LooFidReward(reference, alpha=0.5)
    >>> rewards = reward(torch.randn(16, 8, generator=torch.manual_seed(0)))  # [16] float64
    >>> print(rewards.shape, reward.fid > 0)
    torch.Size([16]) True
    """

    name = "loo_fid"

    def __init__(
        self,
        reference: ReferenceMoments,
        *,
        features: Callable[[Any], Tensor] | None = None,
        alpha: float = 0.5,
        epsilon: float | None = None,
        mode: Mode = "ema",
        start: Start = "first_batch",
        solver: Solver | None = None,
        group: Any = None,
    ):
        self.reference, self.features, self.group = reference, features, group
        self.alpha, self.epsilon, self.mode, self.start, self.solver = alpha, epsilon, mode, start, solver
        self.state: FeatureMoments | None = None
        self.fid = float("nan")

    @torch.no_grad()
    def __call__(self, samples: Any) -> Tensor:
        """Rewards [n] float64 of this process' samples, on the device of their features; then the moments are kept.

        Raises:
            ArtuneError: fewer than two samples in all processes together, NaN or infinity, or features of another
                width than the reference's. All processes raise it.
        """
        own = self._features(samples)
        whole, rows = gather_rows(own, self.group)
        result = loo_fid_reward(
            whole.to(self.reference.mean.device),
            self.state,
            self.reference,
            alpha=self.alpha,
            epsilon=self.epsilon,
            mode=self.mode,
            start=self.start,
            solver=self.solver,
        )
        self.state, self.fid = result.state, result.fid
        return result.rewards[rows].to(own.device)

    @torch.no_grad()
    def start_from(self, samples: Any) -> None:
        """Take the moments of these samples, of all processes together, as those before the first batch."""
        whole, _ = gather_rows(self._features(samples), self.group)
        self.state = self.reference.moments_of(whole.to(self.reference.mean.device))

    def _features(self, samples: Any) -> Tensor:
        features = samples if self.features is None else self.features(samples)
        if not isinstance(features, Tensor) or features.ndim != 2:
            shape = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
            raise ArtuneError(
                f"loo_fid: features {shape}; give a tensor [n, D], or a function `features` that makes it"
            )
        return features.detach()

    def state_dict(self) -> dict[str, Any]:
        """The moments and their distance, for a saved state."""
        return {"moments": None if self.state is None else self.state.state_dict(), "fid": self.fid}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Inverse of :meth:`state_dict`; the tensors go to the reference's device."""
        moments, device = state["moments"], self.reference.mean.device
        self.state = None if moments is None else FeatureMoments.from_state_dict(moments, device)
        self.fid = float(state["fid"])


def gather_rows(own: Tensor, group: Any = None) -> tuple[Tensor, slice]:
    """The rows of all processes of a group in the order of their ranks, and which of them are this process' own.

    Args:
        own: [n, D] rows of this process; n may differ between the processes and may be 0.
        group: process group; None: the default group if there is one, otherwise this process alone.

    Returns:
        [N, D] in the type of ``own``, bit by bit as each process gave them, and a slice of n rows.

    Raises:
        ArtuneError: the processes give rows of different widths or types; all processes raise it.
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size(group) == 1:
        return own, slice(0, len(own))
    size, rank = dist.get_world_size(group), dist.get_rank(group)
    device = exchange_device(own.device, dist.get_backend_config(group))
    # Widths and types are compared first: a gather of unequal tensors would wait for ever, or mix up the numbers.
    mine = torch.tensor([len(own), own.shape[1], own.element_size(), own.is_floating_point()], device=device)
    shapes = [torch.empty_like(mine) for _ in range(size)]
    dist.all_gather(shapes, mine, group=group)
    found = torch.stack(shapes).tolist()
    if len({tuple(shape[1:]) for shape in found}) > 1:
        widths = ", ".join(f"{width} of {item} bytes" for _, width, item, _ in found)
        raise ArtuneError(f"loo_fid: the processes have features of different widths or types ({widths})")
    counts = [shape[0] for shape in found]
    padded = own.new_zeros(max(counts), own.shape[1], device=device)
    padded[: len(own)] = own.to(device)
    parts = [torch.empty_like(padded) for _ in range(size)]
    dist.all_gather(parts, padded, group=group)
    whole = torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])
    first = sum(counts[:rank])
    return whole.to(own.device), slice(first, first + len(own))


def exchange_device(own: torch.device, backends: str) -> torch.device:
    """The device on which a process group gathers rows: the CPU if it can, as gloo; NCCL gathers on GPUs alone.

    Args:
        own: device of this process' rows.
        backends: ``device:backend`` pairs of the group, with commas, as ``torch.distributed.get_backend_config`` gives.
    """
    kinds = [pair.split(":")[0] for pair in backends.split(",")]
    if "cpu" in kinds:  # whatever the rows are on: all processes have to choose the same
        return torch.device("cpu")
    return own if own.type in kinds else torch.device(kinds[0])  # the current device of that type
