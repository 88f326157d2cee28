"""Figure 5: a policy in the plane learns a line from the LOO-FID reward alone (App. B.1).

Two things differ from the appendix's sketch, which does not work as written. First, a diagonal distance of raw (x, y)
ignores correlation, so that an upright blob would count as a match for a slanted line. The features are therefore the
coordinates along four axes, whose variances determine the whole covariance. Second, the gradient of the summed rewards
through the samples rewards sensitivity and diverges. The update is therefore a policy gradient, as for images.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn

from artune.rewards.loo_fid import Mode, loo_fid_reward
from artune.rewards.moments import FeatureMoments, ReferenceMoments
from artune.runtime.plotting import COLOURS, INK, LOOKS, PAGE, Look, save, style
from artune.runtime.seeds import generator_for
from artune.tuning.grpo import group_advantages

SHOWN = 500  # points per panel
MODES: dict[Mode, str] = {"ema": "EMA-LOO", "batch": "batch alone"}  # Eq. 27 and Eq. 21
HEIGHT, CURVE = 1.6, 1.5  # inches; width of the curve's panel over its height


@dataclass(frozen=True)
class Toy:
    """Settings of the toy; batch, moving average and iterations are the paper's values for images (App. D)."""

    iterations: int = 600
    batch: int = 144
    alpha: float = 0.5
    learning_rate: float = 5e-3  # falls linearly to 0
    hidden: int = 64
    every: int = 15  # iterations between two points of the curve
    shown_at: int = 45  # iteration of the panel between start and end


@dataclass
class Trace:
    """Record of one run: the distance over the iterations, and points [SHOWN, 2] at some of the iterations."""

    iterations: list[int] = field(default_factory=list)
    distance: list[float] = field(default_factory=list)
    points: dict[int, Tensor] = field(default_factory=dict)


def line(number: int, generator: torch.Generator) -> Tensor:
    """Target points [number, 2]: a slanted segment with a little width."""
    along = 4 * torch.rand(number, generator=generator) - 2
    return torch.stack([along, 0.5 * along], dim=1) + 0.05 * torch.randn(number, 2, generator=generator)


def raw(points: Tensor) -> Tensor:
    """x and y unchanged, [N, 2]; a diagonal distance ignores the correlation between them."""
    return points


def toy_features(points: Tensor) -> Tensor:
    """Coordinates along x, y and both diagonals: [N, 2] -> [N, 4]."""
    x, y = points.unbind(dim=1)
    return torch.stack([x, y, (x + y) / 2**0.5, (x - y) / 2**0.5], dim=1)


class GaussianPolicy(nn.Module):
    """pi(x | z) = N(mu(z), diag sigma(z)^2), z standard normal; it starts as a blob beside the line."""

    def __init__(self, hidden: int, generator: torch.Generator):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(2, hidden), nn.Tanh(), nn.Linear(hidden, hidden), nn.Tanh(), nn.Linear(hidden, 4)
        )
        for layer, scale in ((self.layers[0], 1.0), (self.layers[2], 1.0), (self.layers[4], 0.1)):
            nn.init.normal_(layer.weight, std=scale / layer.in_features**0.5, generator=generator)
            nn.init.zeros_(layer.bias)
        with torch.no_grad():
            self.layers[4].bias.copy_(torch.tensor([0.0, 1.5, -1.0, -1.0]))

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log standard deviation, [N, 2] each."""
        mean, log_sd = self.layers(z).chunk(2, dim=1)
        return mean, log_sd.clamp(-5, 2)

    @torch.no_grad()
    def draw(self, number: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw z and x, [number, 2] each."""
        z = torch.randn(number, 2, generator=generator)
        mean, log_sd = self(z)
        return z, mean + log_sd.exp() * torch.randn(number, 2, generator=generator)

    def log_prob(self, x: Tensor, z: Tensor) -> Tensor:
        """log pi(x | z) up to a constant, [N]."""
        mean, log_sd = self(z)
        return (-0.5 * ((x - mean) / log_sd.exp()) ** 2 - log_sd).sum(dim=1)


def learn(mode: Mode, seed: int, toy: Toy, features: Callable[[Tensor], Tensor] = toy_features) -> Trace:
    """Train one policy and trace its diagonal FID on 2,000 fresh points, in the reward's own ``features``."""
    real = features(line(20_000, generator_for(seed, "toy", "target"))).double()
    reference = ReferenceMoments.from_moments(real.mean(0), variance=real.var(0, unbiased=False))
    policy = GaussianPolicy(toy.hidden, generator_for(seed, "toy", "weights"))
    optimizer = torch.optim.Adam(policy.parameters(), lr=toy.learning_rate, fused=True)
    generator = generator_for(seed, "toy", "rollout")
    state: FeatureMoments | None = None
    trace = Trace()
    for iteration in range(toy.iterations + 1):
        shown = iteration in (0, toy.shown_at, toy.iterations)
        if iteration % toy.every == 0 or shown:
            points = policy.draw(2000, generator_for(seed, "toy", "judge"))[1]
            fresh = FeatureMoments.of(features(points))
            gap = (fresh.mean - reference.mean).square() + (fresh.covariance.sqrt() - reference.sd).square()
            trace.iterations.append(iteration)
            trace.distance.append(gap.sum().item())
            if shown:
                trace.points[iteration] = points[:SHOWN]
        if iteration == toy.iterations:
            break
        z, x = policy.draw(toy.batch, generator)
        outcome = loo_fid_reward(features(x), state, reference, alpha=toy.alpha, mode=mode)
        state = outcome.state
        advantages = group_advantages(outcome.rewards.float(), toy.batch)
        loss = -(advantages * policy.log_prob(x, z)).mean()
        optimizer.param_groups[0]["lr"] = toy.learning_rate * (1 - iteration / toy.iterations)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
        optimizer.step()
    return trace


def draw_toy(output: Path, seeds: tuple[int, ...] = (0, 1, 2), toy: Toy | None = None) -> dict[Mode, list[float]]:
    """Write Figure 5 as PDF and PNG; return the last distance of every seed, per mode.

    Args:
        output: the PDF.
        seeds: seeds of policy, target and draws; the panels show the first seed, the curves show all.
        toy: settings; None: the defaults.
    """
    toy = toy or Toy()
    traces = {mode: [learn(mode, seed, toy) for seed in seeds] for mode in MODES}
    shown, blind = traces["ema"][0], learn("ema", seeds[0], toy, raw)
    panes = [("start" if at == 0 else f"iteration {at}", points) for at, points in sorted(shown.points.items())]
    panes.append(("x and y only", blind.points[toy.iterations]))
    with style():
        figure = Figure(figsize=(PAGE, HEIGHT), layout="constrained")
        *squares, curve = figure.subplots(1, 5, width_ratios=[1, 1, 1, 1, CURVE])
        target = line(SHOWN, generator_for(seeds[0], "toy", "shown"))
        for letter, panel, (name, points) in zip("abcd", squares, panes, strict=True):
            _scatter(panel, f"({letter}) {name}", target, points, labelled=letter == "a")
        for look, (mode, label) in zip(LOOKS, MODES.items(), strict=False):
            _curve(curve, traces[mode], look, label)
        curve.set(yscale="log", xlabel="iteration", title="(e) diagonal FID", box_aspect=1 / CURVE)
        curve.legend(loc="upper right")
        save(figure, output)
    return {mode: [trace.distance[-1] for trace in runs] for mode, runs in traces.items()}


def _scatter(panel: Axes, title: str, target: Tensor, points: Tensor, labelled: bool) -> None:
    """Points of the policy, and those of the line over them: darker and smaller, which grey keeps apart."""
    for (x, y), size, colour, name in ((points.T, 3, COLOURS[4], "policy"), (target.T, 0.8, INK, "line")):
        panel.scatter(x.numpy(), y.numpy(), s=size, color=colour, label=name, linewidths=0)
    panel.set(title=title, xlim=(-2.6, 2.6), ylim=(-2.6, 2.6), xlabel="x", box_aspect=1)
    panel.set(xticks=(-2, 0, 2), yticks=(-2, 0, 2))
    if labelled:
        panel.set_ylabel("y")
        panel.legend(loc="lower right", markerscale=2.5, handletextpad=0.1, handlelength=1.0)
    else:
        panel.tick_params(labelleft=False)


def _curve(panel: Axes, traces: Sequence[Trace], look: Look, label: str) -> None:
    """The median of the seeds, and the range between the lowest and the highest."""
    distances = np.array([trace.distance for trace in traces])
    iterations = traces[0].iterations
    panel.fill_between(iterations, distances.min(0), distances.max(0), color=look.colour, alpha=0.18, linewidth=0)
    panel.plot(iterations, np.median(distances, axis=0), color=look.colour, linestyle=look.dash, label=label)
