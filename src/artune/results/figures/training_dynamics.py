"""Figure 2: reward, EMA FID and token entropy over the iterations, from ``metrics.jsonl`` alone."""

from collections.abc import Mapping
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from artune.errors import ArtuneError
from artune.runtime.plotting import LOOKS, PAGE, save, style
from artune.tracking.run_logger import read_lines

HEIGHT, LEGEND = 1.75, 0.2  # inches
# heading -> the logged keys whose sum is drawn
PANELS: dict[str, tuple[str, ...]] = {
    "CLIP + HPS reward": ("reward/clip", "reward/hps"),
    "EMA FID": ("fid/ema",),
    "Mean token entropy": ("policy/entropy",),
}


def moving_average(values: np.ndarray, window: int) -> np.ndarray:
    """Centred mean over ``window`` iterations, fewer at the ends.

    NaN values are left out; the mean is NaN if no other value is in the window. An even window reaches one iteration
    further back than forward.
    """
    if window < 1:
        raise ArtuneError(f"figure2.smoothing: {window}; use 1 (off) or more iterations")
    known = np.isfinite(values)
    sums = np.concatenate([[0.0], np.cumsum(np.where(known, values, 0.0))])
    counts = np.concatenate([[0], np.cumsum(known)])
    at = np.arange(len(values))
    first = np.maximum(at - window // 2, 0)
    last = np.minimum(at + (window - 1) // 2 + 1, len(values))
    number = counts[last] - counts[first]
    return np.where(number > 0, (sums[last] - sums[first]) / np.maximum(number, 1), np.nan)


def read_trace(lines: list[dict[str, Any]], keys: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray] | None:
    """Iterations and the sum of ``keys`` at each (null counts as NaN); None if one of the keys is in no line."""
    if not all(any(key in line for line in lines) for key in keys):
        return None
    values = [[np.nan if line.get(key) is None else line[key] for key in keys] for line in lines]
    return np.array([line["iteration"] for line in lines]), np.array(values, dtype=float).sum(axis=1)


def draw_training_dynamics(paths_by_label: Mapping[str, Path], smoothing: int, output: Path) -> None:
    """Write Figure 2 as PDF and PNG, as wide as both columns of a paper.

    Args:
        paths_by_label: run -> its metrics.jsonl; the first run is ours, the others are drawn for comparison.
        smoothing: iterations of the moving average (thick line); the thin line shows every iteration's value.
        output: the PDF.

    Raises:
        ArtuneError: a file is missing, empty or damaged, or the first run lacks a curve. A panel has no curve of
            another run that lacks it (AR-GRPO has no LOO-FID). An incomplete last line is ignored.
    """
    runs = {}
    for label, path in paths_by_label.items():
        runs[label] = read_lines(Path(path))
        if not runs[label]:
            raise ArtuneError(f"{path}: no iteration in it; train {label} first")
    ours, path = next(iter(paths_by_label.items()))
    with style():
        figure = Figure(figsize=(PAGE, HEIGHT + (LEGEND if len(runs) > 1 else 0.0)), layout="constrained")
        axes = figure.subplots(1, len(PANELS))
        for letter, panel, (title, keys) in zip("abc", axes, PANELS.items(), strict=True):
            traces = {label: read_trace(lines, keys) for label, lines in runs.items()}
            if traces[ours] is None:
                raise ArtuneError(f"{path}: logs no {' and '.join(keys)}; the panel {title!r} needs it")
            _panel(panel, f"({letter}) {title}", traces, smoothing)
        if len(runs) > 1:
            handles, labels = axes[0].get_legend_handles_labels()
            figure.legend(handles, labels, loc="outside upper center", ncols=min(3, len(runs)))
        save(figure, output)


def _panel(panel: Axes, title: str, traces: Mapping[str, tuple[np.ndarray, np.ndarray] | None], smoothing: int) -> None:
    for look, (label, trace) in zip(cycle(LOOKS), traces.items(), strict=False):
        if trace is not None:
            iterations, values = trace
            panel.plot(iterations, values, color=look.colour, alpha=0.3, linewidth=0.5)
            smooth = moving_average(values, smoothing)
            panel.plot(iterations, smooth, color=look.colour, linestyle=look.dash, label=label)
    panel.set_title(title)
    panel.set_xlabel("iteration")
    panel.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    panel.yaxis.set_major_locator(MaxNLocator(5))
    panel.margins(x=0.01)
