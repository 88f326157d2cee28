"""The difference of every row of a table to the baseline row of its block, with the error of the difference.

With several seeds the error is that of the mean over seeds of the differences, by Student's t. With one seed it is the
paired error of the evaluation, which the command ``compare`` computes from the samples' features.
"""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from artune.config.paper import find_table, pairs_of
from artune.config.registry import Registry
from artune.errors import ArtuneError
from artune.metrics import student

if TYPE_CHECKING:
    from pandas import DataFrame

ENDINGS = ("vs_baseline", "vs_baseline_se")  # endings of a score's columns: the difference and its standard error
PROVENANCE = ("baseline", "baseline_seeds")  # the baseline's run, and the number of seeds behind the differences
ONE_SEED = (
    2.0  # standard errors that a difference must exceed to be marked; with several seeds it is Student's quantile
)
Paired = Mapping[tuple[str, str, str], tuple[float, float]]  # (baseline, run, metric) -> difference, standard error


def read_paired(path: Path) -> dict[tuple[str, str, str], tuple[float, float]]:
    """The differences of one seed in a file that ``artune compare --table`` wrote.

    Raises:
        ArtuneError: the file cannot be read, or is of another kind.
    """
    try:
        lines = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
        return {
            (line["first"], line["second"], line["metric"]): (float(line["difference"]), float(line["se"]))
            for line in lines
            if line["seeds"] == "1"
        }
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ArtuneError(f"{path}: not a file of artune compare --table ({error}); make it again") from error


def difference_cells(
    metrics: Sequence[str],
    row: Mapping[int, Mapping[str, Any]],
    baseline: Mapping[int, Mapping[str, Any]],
    names: tuple[str, str],
    paired: Paired,
) -> dict[str, Any]:
    """The cells of a row's differences to its baseline; empty if the two share no seed.

    Args:
        metrics: the scores of the table.
        row: seed -> contents of the row's ``scores.json``.
        baseline: the same for the baseline.
        names: runs of the baseline and of the row.
        paired: the differences of one seed.

    Returns:
        ``{metric}_vs_baseline`` and ``{metric}_vs_baseline_se`` of every score whose difference and error are known,
        ``baseline`` and ``baseline_seeds``.
    """
    shared = sorted(row.keys() & baseline.keys())
    cells: dict[str, Any] = {}
    for metric in metrics:
        if len(shared) == 1:
            if (found := paired.get((*names, metric))) is not None:
                cells |= dict(zip((f"{metric}_{ending}" for ending in ENDINGS), found, strict=True))
            continue
        sides = [[side[seed]["scores"].get(metric) for seed in shared] for side in (row, baseline)]
        if shared and not any(value is None for side in sides for value in side):
            apart = [value - base for value, base in zip(*sides, strict=True)]
            cells |= {f"{metric}_{ENDINGS[0]}": fmean(apart), f"{metric}_{ENDINGS[1]}": student.standard_error(apart)}
    return cells | dict(zip(PROVENANCE, (names[0], len(shared)), strict=True)) if cells else {}


def limit(seeds: int) -> float:
    """The standard errors that a difference over ``seeds`` seeds must exceed: two, or Student's 97.5 % quantile."""
    return student.quantile(seeds) if seeds > 1 else ONE_SEED


def rows_compared(frame: "DataFrame", registry: Registry, key: str) -> list[tuple[int, int]]:
    """Indices of the baseline and of the row, for every row of a table with a difference to its baseline."""
    if PROVENANCE[0] not in frame:
        return []
    runs = [row.run for row in find_table(registry, key).rows]
    pairs = ((runs.index(first), runs.index(second)) for first, second in pairs_of(registry, key))
    return [(first, second) for first, second in pairs if frame[PROVENANCE[0]].iloc[second] == runs[first]]
