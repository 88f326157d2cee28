"""The command ``seed_differences``: every row of a table less the baseline of its block, seed by seed.

Two runs of one seed start from the same prior and are drawn with the same random numbers, so what a seed does to both
cancels in their difference. Its scatter over the seeds is the error of the mean difference, by Student's t.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from artune.config.glossary import COLUMNS
from artune.config.paper import find_table, pairs_of, row_labels
from artune.config.registry import Registry
from artune.errors import ArtuneError
from artune.metrics import student
from artune.results.mixture import check_one_protocol
from artune.results.table_text import grid, name_of
from artune.results.tables import Scores, check_row, judges_of
from artune.runtime.files import write_text

if TYPE_CHECKING:
    from pandas import DataFrame

OVER_SEEDS = ("mean", "se", "half_width", "t", "p")


def paired_by_seed(first: Mapping[int, float], second: Mapping[int, float]) -> dict[str, float | None]:
    """Second minus first for every seed, their mean, its error and what it shows.

    Args:
        first: seed -> value, of at least two seeds.
        second: the same seeds -> value.

    Returns:
        ``difference_s0``, ``difference_s1``, ...; ``mean``; ``se``, the standard error of the mean over seeds;
        ``half_width`` of its 95% interval; ``t`` (None if all differences are equal); and ``p``, two-sided. The last
        three are Student's, with one degree of freedom less than there are seeds.
    """
    apart = {seed: second[seed] - first[seed] for seed in sorted(first)}
    values = list(apart.values())
    mean, error = fmean(values), student.standard_error(values)
    return {
        **{f"difference_s{seed}": value for seed, value in apart.items()},
        "mean": mean,
        "se": error,
        "half_width": student.half_width(values),
        "t": mean / error if error else None,
        "p": student.two_sided(mean, error, len(values)),
    }


def seed_differences(registry: Registry, key: str, scores: Mapping[str, Sequence[Scores]]) -> "DataFrame":
    """One line per pair of rows and column of the table that has values for every seed of both rows.

    Args:
        registry: registry of the scores' scale.
        key: name of the table.
        scores: run -> its ``scores.json`` contents, one per seed.

    Returns:
        ``first``, ``second`` (runs), ``metric``, the numbers of :func:`paired_by_seed`, ``seeds``, ``scale``, ``note``.

    Raises:
        ArtuneError: the table has no two rows to compare, fewer than two seeds, other seeds in the two rows of a pair,
            or scores that do not belong together.
    """
    from pandas import DataFrame

    table, pairs = find_table(registry, key), pairs_of(registry, key)
    if not pairs:
        raise ArtuneError(f"{key}: has no two rows of scores to compare at the {registry.scale} scale")
    everything = [record for records in scores.values() for record in records]
    check_one_protocol(key, everything, registry.evaluation)
    by_seed: dict[str, dict[int, Scores]] = {}
    for row in (row for row in table.rows if row.run in scores):
        check_row(registry, key, row, scores[str(row.run)])
        by_seed[str(row.run)] = {record["seed"]: record for record in scores[str(row.run)]}
    lines: list[dict[str, Any]] = []
    for first, second in pairs:
        sides = [by_seed.get(run, {}) for run in (first, second)]
        shared, most = sides[0].keys() & sides[1].keys(), max(map(len, sides))
        allowed = [len(registry.seed_names(run, max(most, 2))) for run in (first, second)]
        if min(allowed) < 2:  # the scale repeats one of the two no further
            continue
        if len(shared) < min(allowed) or [len(side) for side in sides] != allowed:
            told = f"{first} with seeds {sorted(sides[0])}, {second} with seeds {sorted(sides[1])}"
            raise ArtuneError(f"{key}: {told}; give both the same two seeds or more (seeds in config/config.yaml)")
        sides = [{seed: side[seed] for seed in sorted(shared)} for side in sides]
        for metric in (*table.columns, *table.extra, *judges_of(table, everything)):
            values = [{seed: record["scores"].get(metric) for seed, record in side.items()} for side in sides]
            if not any(value is None for side in values for value in side.values()):
                lines.append({"first": first, "second": second, "metric": metric, **paired_by_seed(*values)})
    if not lines:
        raise ArtuneError(f"{key}: about.seeds of config/scales/{registry.scale}.yaml repeats no two of its rows")
    seeds = sorted({seed for line in by_seed.values() for seed in line})
    names = [name for name in (f"difference_s{seed}" for seed in seeds) if any(name in line for line in lines)]
    columns = ["first", "second", "metric", *names, *OVER_SEEDS]
    frame = DataFrame(lines, columns=columns).astype({name: "float64" for name in columns[3:]})
    return frame.assign(seeds=frame[names].notna().sum(axis=1), scale=registry.scale, note=registry.about.note)


def write_differences(frame: "DataFrame", registry: Registry, key: str, path: Path) -> None:
    """Write :func:`seed_differences` as Markdown: one table per pair of rows, one line per score."""
    table = find_table(registry, key)
    labels = {row.run: " | ".join(row_labels(registry, row)) for row in table.rows if row.run}
    seeds = [name for name in frame if str(name).startswith("difference_s")]
    note = registry.about.note.removeprefix(f"{registry.scale} scale: ")
    told = f"Scale {registry.scale}" + (f": {note}" if note else "")
    lines = [
        f"**{name_of(key)}, seed by seed. {table.title}.** {told}; differences of two rows with the same seed; beside "
        f"the mean ± its standard error over {_counted(frame)} seeds, and half of its 95% interval; t and p "
        f"(two-sided) by Student's distribution with {_counted(frame, 1)} degrees of freedom, not corrected for the "
        "number of scores."
    ]
    headings = ["Score", *(str(name).replace("difference_s", "seed ") for name in seeds), "mean", "95%", "t", "p"]
    for first, second in pairs_of(registry, key):
        part = frame[(frame["first"] == first) & (frame["second"] == second)]
        if part.empty:
            continue
        body = [_cells(line, seeds) for line in part.to_dict("records")]
        lines += ["", f"{labels[second]}, less {labels[first]}:", "", *grid(headings, body)]
    write_text(path, "\n".join(lines) + "\n")


def _counted(frame: "DataFrame", less: int = 0) -> str:
    """The numbers of seeds of a table's pairs, each lowered by ``less``: ``5``, or ``3 / 5``."""
    return " / ".join(str(number - less) for number in sorted(set(frame["seeds"])))


def _cells(line: Mapping[Any, Any], seeds: Sequence[Any]) -> list[str]:
    """The cells of a score: the difference for every seed, mean ± error, half-width, t, p."""
    column = COLUMNS[line["metric"]]
    values = [line[name] for name in (*seeds, "mean")]
    shown = ["–" if value != value else f"{value:+.{column.decimals}f}" for value in values]
    error, wide = (f"{line[name]:.{column.decimals}f}" for name in ("se", "half_width"))
    t = "–" if line["t"] != line["t"] else f"{line['t']:.2f}"
    return [column.title, *shown[:-1], f"{shown[-1]} ± {error}", f"± {wide}", t, f"{line['p']:.2g}"]
