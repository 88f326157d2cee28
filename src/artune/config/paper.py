"""The paper's tables and figures: which runs they need, what stands under a figure, and the paper's values of a run."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from artune.config.registry import Registry
from artune.config.tables import Row, Table
from artune.errors import ArtuneError, unknown

METHOD = (
    "(a) Maximum likelihood trains one token at a time, given the true tokens before it. (b) The policy samples whole "
    "images from tokens of its own; each image is rewarded for its correctness, all images together for their "
    "distribution, and GRPO with a KL penalty and an adaptive entropy bonus updates the policy."
)
TOY = (  # a test compares the numbers with the toy's settings
    "(a-c) A Gaussian policy learns a line from the LOO-FID reward alone, with 144 points per iteration and alpha 0.5. "
    "Its features are the coordinates along x, y and both diagonals. (d) With x and y alone, after 600 iterations, a "
    "diagonal distance sees no slant: an upright blob of the line's variances counts as a match. (e) Distance of 2,000 "
    "fresh points to the line under EMA-LOO (Eq. 27) and under LOO of the batch alone (Eq. 21): median and range of 3 "
    "seeds. The update is a policy gradient, as for images."
)
PLACEHOLDER = re.compile(r"\{([\w.]+)\}")


def find_table(registry: Registry, key: str) -> Table:
    """The layout of the table ``key``. Raises ArtuneError: there is no such table."""
    if key not in registry.tables:
        raise ArtuneError(f"config/tables.yaml: {unknown(key, registry.tables, 'table')}")
    return registry.tables[key]


def available_runs(registry: Registry, rows: Iterable[Row]) -> list[str]:
    """The runs behind rows of tables that are available at the scale: each once, in the order of the rows."""
    runs = dict.fromkeys(row.run for row in rows if row.run)
    return [run for run in runs if not registry.unavailable(run)]


def seeded_runs(registry: Registry, rows: Iterable[Row], seeds: int) -> list[str]:
    """The available runs behind rows of tables, each with its ``seeds`` repetitions, the plain name first."""
    return [name for run in available_runs(registry, rows) for name in registry.seed_names(run, seeds)]


def runs_of_tables(registry: Registry, tables: Iterable[str], seeds: int) -> list[str]:
    """The available runs behind the tables of these keys, each once; ``seeds`` repeats those of most tables."""
    found = ((registry.tables[key].rows, registry.tables[key].repetitions(seeds)) for key in tables)
    return list(dict.fromkeys(name for rows, number in found for name in seeded_runs(registry, rows, number)))


def pairs_of(registry: Registry, table: str) -> list[tuple[str, str]]:
    """In each block of a table, its baseline (the first run, or the one that the table names) and every other run.

    Only runs available at the scale count, and two runs that are scored by one set of frozen networks. Real images are
    no pair of samples, which have other labels.
    """
    layout, pairs = registry.tables[table], []
    for span in layout.spans:
        runs = available_runs(registry, (layout.rows[at] for at in span))
        runs = [run for run in runs if registry.spec(run)["method"] != "real"]
        baseline = layout.baseline if layout.baseline in runs else next(iter(runs), None)
        pairs += [(baseline, run) for run in runs if baseline and run != baseline]
    return [pair for pair in pairs if len({registry.split(run)[1].networks for run in pair}) == 1]


def report_tables(registry: Registry, folder: Path) -> list[str]:
    """Keys of the report's tables: all of the paper's, and every other table with a ``{key}.md`` in ``folder``."""
    return [key for key in registry.tables if not key.startswith("extra_") or (folder / f"{key}.md").exists()]


def available_figures(registry: Registry) -> list[str]:
    """The figures of the target ``figures`` and of the report: each once, where the scale has all its runs."""
    figures = registry.figures.items()
    there = [key for key, figure in figures if not any(registry.unavailable(run) for run in figure.shown)]
    return [key for key in there if same_figures(registry, key)[0] == key]


def same_figures(registry: Registry, key: str) -> list[str]:
    """The figures that are one and the same at the scale, the first being the one that is drawn from its own samples.

    At a scale with classes of its own, Figure 3 is also Figures 7 to 26 of the paper, whose classes it has not got.
    """
    return [other for other, figure in registry.figures.items() if figure == registry.figures[key]]


def figure_caption(
    registry: Registry, key: str, smoothing: int = 15, compare: Sequence[str] = (), seeds: int = 1
) -> str:
    """What stands under a figure: its title, what is drawn and how, and the scale's note, as one paragraph.

    Args:
        registry: registry of the scale.
        key: name of the figure, such as ``figure2``.
        smoothing: iterations of the moving average (training dynamics).
        compare: the further runs (training dynamics).
        seeds: seeds of every run (over-optimisation).

    Raises:
        ArtuneError: a compared run is unknown.
    """
    figure = registry.figures[key]
    if figure.kind == "training_dynamics":
        text = _dynamics(registry, figure.runs[0], smoothing, compare)
    elif figure.kind == "samples":
        text = _samples(registry, key)
    elif figure.kind == "over_optimisation":
        text = _over_optimisation(registry, key, registry.common_seeds(figure.shown, seeds))
    else:
        return f"{figure.title}. {METHOD if figure.kind == 'method' else TOY}"
    return f"{figure.title}. {text} {registry.about.note or f'{registry.scale} scale'}."


def _dynamics(registry: Registry, ours: str, smoothing: int, compare: Sequence[str]) -> str:
    without = [run for run in compare if "loo_fid" not in registry.spec(run).get("rewards", {}).get("terms", ())]
    compared = f" compared with {listed(compare)}" if compare else ""
    return (
        f"{ours}{compared}: (a) sum of the CLIP and HPS rewards, (b) FID of the moving-average moments of LOO-FID, "
        "(c) mean token entropy as a fraction of its maximum. Thin: every iteration; thick: moving average over "
        f"{smoothing} iterations."
        + (f" Without the LOO-FID reward there is no EMA FID ({listed(without)})." if without else "")
    )


def _samples(registry: Registry, key: str) -> str:
    figure, same, total = registry.figures[key], same_figures(registry, key), registry.data.classes
    pretrained, tuned = figure.runs
    shown = min(figure.number, total)
    if figure.classes:
        which = "The classes are those that the paper shows." if key.startswith("figure") else ""
    elif shown == total:
        which = f"All {total} classes of the data set."
    else:
        which = f"{shown} classes at even steps through the {total:,} of the data set."
    cfg = registry.spec(tuned)["sampling"]["cfg"]
    guidance = "without guidance" if cfg == 1.0 else f"with CFG {cfg:g}"
    numbers = [int(name.removeprefix("figure")) for name in same if name.startswith("figure")]
    return (
        f"Left: {pretrained}. Right: {tuned}. Both were sampled from the same seeds {guidance}; all {figure.per_class} "
        f"images of a class that were drawn are shown, none was picked. {which}"
        + (
            f" The paper's Figures {ranges(numbers)} show classes of ImageNet; here they are this one."
            if numbers[1:]
            else ""
        )
    )


def _over_optimisation(registry: Registry, key: str, seeds: int) -> str:
    curves = registry.figures[key].curves
    shares = dict.fromkeys(share for runs in curves.values() for share in curve_shares(registry, key, runs))
    steps = listed([f"{100 * share:g}" for share in shares])
    bars = f"standard errors of the means over {seeds} seeds" if seeds > 1 else "standard errors of the evaluation"
    return (
        f"After {steps} % of the iterations of {'; '.join(curves)}: each from the pretrained policy to the end of its "
        "training (filled markers). (a) Where the judge's FID rises with the reward, the reward is over-optimised. "
        "(b) FID by the network of the LOO-FID reward. (c-e) FID, recall and IS by a judge that no reward saw. "
        f"Bars: {bars}; the reward is averaged over 5 % of the iterations around a point."
    )


def listed(names: Sequence[str]) -> str:
    """``a, b and c``."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def ranges(numbers: Sequence[int]) -> str:
    """``3 and 7-26`` for 3, 7, 8, ..., 26."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return listed([f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs])


def curve_shares(registry: Registry, key: str, runs: Iterable[str]) -> list[float]:
    """The share of the iterations at which each run of a curve stands: 0 pretrained, ``at`` on the way, 1 at its end.

    Raises:
        ArtuneError: the runs of figure ``key`` are not one training in this order.
    """
    names, specs = list(runs), [registry.spec(run) for run in runs]
    shares = [0.0 if spec["method"] == "pretrained" else float(spec.get("at", 1.0)) for spec in specs]
    trained = {spec.get("policy", name) for name, spec in zip(names, specs, strict=True) if spec["method"] == "grpo"}
    if trained != {names[-1]} or shares != sorted(set(shares)):
        raise ArtuneError(
            f"config/figures.yaml: {key}: curves: {', '.join(names)}: name the runs of one training in order: "
            "pretrained, those with at, and the tuned run"
        )
    return shares


def row_labels(registry: Registry, row: Row) -> tuple[str, ...]:
    """The text cells of a row, with the run's setting for ``{dotted.key}`` and the scale's for ``{about.key}``.

    A run with seeds that the scale has not got shows the settings of the run without them.
    """
    run = registry.split(str(row.run))[0] if row.run and registry.unavailable(row.run) else str(row.run)

    def setting(match: re.Match[str]) -> str:
        value: Any = registry if match[1].startswith("about.") else registry.resolve(run)
        for part in match[1].split("."):
            known = value if isinstance(value, dict) else vars(value)
            if part not in known:
                raise ArtuneError(f"config/tables.yaml: row {row.run}: {match[0]} names no setting of the run")
            value = known[part]
        return str(value)

    return tuple(PLACEHOLDER.sub(setting, label) for label in row.labels)


def tables_of(registry: Registry, run: str) -> dict[str, str]:
    """Table -> the row's text, for every table that shows a run."""
    found = {}
    for key, table in registry.tables.items():
        for row in table.rows:
            if row.run == run:
                found[key] = " | ".join(row_labels(registry, row))
    return found


def paper_values(registry: Registry, run: str) -> dict[str, float]:
    """The paper's numbers for a run, from all its tables (the tables agree, which a test checks)."""
    values: dict[str, float] = {}
    for table in registry.tables.values():
        for row in table.rows:
            if row.run == run:
                pairs = zip(table.columns, row.paper or (None,) * len(table.columns), strict=True)
                values |= {column: value for column, value in pairs if value is not None}
    return values
