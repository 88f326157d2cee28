"""Over-optimisation as curves: what a reward gains and what judges say of it over a training (beyond the paper)."""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from artune.config.paper import curve_shares
from artune.config.registry import Registry
from artune.config.tables import Figure as Layout
from artune.errors import ArtuneError
from artune.results.comparisons import score_of
from artune.results.figures.training_dynamics import PANELS, read_trace
from artune.results.mixture import check_one_protocol
from artune.runtime.files import read_json
from artune.runtime.plotting import COLUMN, LOOKS, Look, save, style
from artune.tracking.run_logger import read_lines

WINDOW = 0.05  # share of the iterations whose training rewards are averaged at a point
HEIGHT = 4.4  # inches
# score -> heading of its panel, after the first panel's letter
SCORED = {
    "fid_reward": "(b) FID (reward)",
    "fid": "(c) FID (judge)",
    "recall": "(d) recall (judge)",
    "inception_score": "(e) IS (judge)",
}
REWARD, KEYS = next(iter(PANELS.items()))
BARS: dict[str, Any] = {"linewidth": 1.1, "elinewidth": 0.7, "capsize": 1.5, "capthick": 0.7}
ON_THE_WAY, AT_THE_END = 3.2, 4.2  # points: sizes of the hollow and of the filled markers
Point = tuple[float, float]  # a value and its standard error


@dataclass(frozen=True)
class Curve:
    """A training as points: the shares of its iterations, and at each of them the reward and the scores by name."""

    shares: list[float]
    reward: list[Point]
    scores: dict[str, list[Point]]


def draw_over_optimisation(
    registry: Registry, key: str, layout: Layout, results: Path, seeds: int, output: Path
) -> None:
    """Write the figure as PDF and PNG: reward against the judge's FID, and four scores over the iterations.

    Args:
        registry: registry of the scale.
        key: name of the figure, for messages.
        layout: the figure, with its ``curves``.
        results: ``results/{scale}``.
        seeds: number of seeds of every run, or as many as all of them have at the scale; with several, points are means
            and bars the standard errors of the means.
        output: the PDF.

    Raises:
        ArtuneError: a file is missing or damaged, a score is missing, or the runs were scored by different settings.
    """
    records: list[dict] = []
    seeds = registry.common_seeds(layout.shown, seeds)

    @functools.cache
    def read(run: str) -> list[dict]:
        found = [read_json(results / "runs" / name / "scores.json") for name in registry.seed_names(run, seeds)]
        records.extend(found)
        return found

    curves = {
        label: _curve(registry, runs, curve_shares(registry, key, runs), read, results, seeds)
        for label, runs in layout.curves.items()
    }
    check_one_protocol(key, records, registry.evaluation)
    with style():
        figure = Figure(figsize=(COLUMN, HEIGHT), layout="constrained")
        names = list(SCORED)
        panels: dict[str, Axes] = figure.subplot_mosaic(
            [["reward", "reward"], names[:2], names[2:]], height_ratios=[1.5, 1, 1]
        )
        _reward_panel(panels["reward"], curves)
        for name, panel in panels.items():
            if name in SCORED:
                _score_panel(panel, name, curves, last_row=name in names[2:])
        handles, labels = panels["reward"].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=2, handlelength=3.4)
        save(figure, output)


def _curve(
    registry: Registry,
    runs: Sequence[str],
    shares: list[float],
    read: Callable[[str], list[dict]],
    results: Path,
    seeds: int,
) -> Curve:
    scores = {}
    for metric in SCORED:
        measured = [[score_of(record, metric) for record in read(run)] for run in runs]
        for run, found in zip(runs, measured, strict=True):
            if None in found:
                raise ArtuneError(f"{results / 'runs' / run / 'scores.json'}: has no {metric}; score the run again")
        scores[metric] = [
            _point([one.value for one in found if one], [one.error for one in found if one]) for found in measured
        ]
    # The rewards of the whole training are in the log of the run that it ends with.
    logs = [results / "runs" / name / "metrics.jsonl" for name in registry.seed_names(runs[-1], seeds)]
    rewards = [[reward_at(path, share) for path in logs] for share in shares]
    return Curve(shares, [_point(*map(list, zip(*found, strict=True))) for found in rewards], scores)


def reward_at(path: Path, share: float) -> Point:
    """Mean training reward around a share of the iterations and its standard error, from a metrics.jsonl.

    The mean is over :data:`WINDOW` of the iterations, centred, at the ends the first and the last ones.

    Raises:
        ArtuneError: the file is missing or damaged, or logs no such reward.
    """
    trace = read_trace(read_lines(path), KEYS)
    if trace is None:
        raise ArtuneError(f"{path}: logs no {' and '.join(KEYS)}; the figure needs them")
    values = trace[1]
    number = max(1, round(WINDOW * len(values)))
    first = min(max(0, round(share * len(values) - number / 2)), len(values) - number)
    part = values[first : first + number]
    return float(part.mean()), float(part.std(ddof=1) / number**0.5) if number > 1 else 0.0


def _point(values: Sequence[float], errors: Sequence[float | None]) -> Point:
    """The mean over seeds and its standard error; of a single seed its own error, 0 if it is not known."""
    if len(values) > 1:
        return fmean(values), stdev(values) / len(values) ** 0.5
    return values[0], errors[0] or 0.0


def _reward_panel(panel: Axes, curves: Mapping[str, Curve]) -> None:
    for look, (label, curve) in zip(cycle(LOOKS), curves.items(), strict=False):
        _draw(panel, look, curve.reward, curve.scores["fid"], label)
    panel.set(xlabel=f"{REWARD} of the training", ylabel="FID (judge)", title="(a) FID against the reward")
    panel.xaxis.set_major_locator(MaxNLocator(6))


def _score_panel(panel: Axes, metric: str, curves: Mapping[str, Curve], last_row: bool) -> None:
    for look, curve in zip(cycle(LOOKS), curves.values(), strict=False):
        _draw(panel, look, [(100 * share, 0.0) for share in curve.shares], curve.scores[metric])
    panel.set_title(SCORED[metric])
    panel.set_xticks([0, 25, 50, 75, 100])
    panel.yaxis.set_major_locator(MaxNLocator(5))
    if last_row:
        panel.set_xlabel("iterations (%)")


def _draw(panel: Axes, look: Look, across: Sequence[Point], up: Sequence[Point], label: str | None = None) -> None:
    """A curve with its standard errors; hollow markers on the way, a filled one at the end of the training."""
    (x, dx), (y, dy) = np.array(across).T, np.array(up).T
    line: dict[str, Any] = {"color": look.colour, "linestyle": look.dash, "label": label}
    marker: dict[str, Any] = {"marker": look.marker, "markersize": ON_THE_WAY, "markerfacecolor": "white"}
    panel.errorbar(x, y, dy, dx if dx.any() else None, **line, **marker, **BARS)
    panel.plot(x[-1:], y[-1:], color=look.colour, marker=look.marker, markersize=AT_THE_END, zorder=3)
