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
from artune.runtime.plotting import COLOURS, add_caption, save, style
from artune.tracking.run_logger import read_lines

WINDOW = 0.05  # share of the iterations whose training rewards are averaged at a point
WIDTH, HEIGHT = 3.4, 5.6  # inches: a column of a paper of two columns
# score -> heading of its panel
SCORED = {"fid_reward": "FID, reward's network", "fid": "FID, judge", "recall": "Recall", "inception_score": "IS"}
REWARD, KEYS = next(iter(PANELS.items()))
# Markers and dashes tell the curves apart without colours.
STYLES = tuple(
    zip(COLOURS, ("o", "s", "^", "D", "v", "P"), ("-", "--", ":", "-.", (0, (5, 1)), (0, (1, 1))), strict=True)
)
BARS: dict[str, Any] = {"linewidth": 1.1, "elinewidth": 0.8, "capsize": 1.5, "markersize": 3.2}
Point = tuple[float, float]  # a value and its standard error


@dataclass(frozen=True)
class Curve:
    """A training as points: the shares of its iterations, and at each of them the reward and the scores by name."""

    shares: list[float]
    reward: list[Point]
    scores: dict[str, list[Point]]


def draw_over_optimisation(
    registry: Registry, key: str, layout: Layout, results: Path, seeds: int, output: Path, note: str = ""
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
        note: the last sentence of the caption.

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
        figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
        names = list(SCORED)
        panels: dict[str, Axes] = figure.subplot_mosaic(
            [["reward", "reward"], names[:2], names[2:]], height_ratios=[1.35, 1, 1]
        )
        _reward_panel(panels["reward"], curves)
        for name, panel in panels.items():
            if name in SCORED:
                _score_panel(panel, name, curves, last_row=name in names[2:])
        handles, labels = panels["reward"].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=2, handlelength=3.2, fontsize=8)
        add_caption(figure, f"{_caption(curves, seeds)} {note}".strip())
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
    for (label, curve), (colour, marker, dash) in zip(curves.items(), cycle(STYLES), strict=False):
        x, dx = np.array(curve.reward).T
        y, dy = np.array(curve.scores["fid"]).T
        panel.errorbar(x, y, dy, dx, color=colour, marker=marker, linestyle=dash, label=label, **BARS)
    panel.set_xlabel(REWARD)
    panel.set_title(f"{SCORED['fid']}, against the reward of the training")
    panel.xaxis.set_major_locator(MaxNLocator(6))


def _score_panel(panel: Axes, metric: str, curves: Mapping[str, Curve], last_row: bool) -> None:
    for curve, (colour, marker, dash) in zip(curves.values(), cycle(STYLES), strict=False):
        y, dy = np.array(curve.scores[metric]).T
        x = 100 * np.array(curve.shares)
        panel.errorbar(x, y, dy, color=colour, marker=marker, linestyle=dash, **BARS)
    panel.set_title(SCORED[metric])
    panel.set_xticks([0, 25, 50, 75, 100])
    if last_row:
        panel.set_xlabel("iterations (%)")


def _caption(curves: Mapping[str, Curve], seeds: int) -> str:
    steps = ", ".join(f"{100 * share:g}" for share in dict.fromkeys(s for c in curves.values() for s in c.shares))
    bars = f"standard errors of the means over {seeds} seeds" if seeds > 1 else "standard errors of the evaluation"
    return (
        f"Points: {steps} % of the iterations; every line begins at the pretrained policy. Bars: {bars}; the reward is "
        f"averaged over {100 * WINDOW:g} % of the iterations."
    )
