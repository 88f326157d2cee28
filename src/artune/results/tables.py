"""Every table of the paper from ``scores.json`` files: values, errors, and the paper's numbers beside them.

The readable forms are written by :mod:`artune.results.table_text`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

from artune.config.glossary import AGAINST, SCORES, WHERE_COMPUTED
from artune.config.paper import find_table, pairs_of, row_labels
from artune.config.registry import Registry
from artune.config.seeds import cut_seeds
from artune.config.settings import results_name
from artune.config.tables import Row, Table
from artune.errors import ArtuneError, brief
from artune.metrics import student
from artune.results import baselines
from artune.results.mixture import check_one_protocol, code_versions, say_versions
from artune.runtime.files import read_json, write_text

if TYPE_CHECKING:
    from pandas import DataFrame

Scores = dict[str, Any]  # one scores.json
CORRECTED = "bias_corrected"  # suffix of a score's bias-corrected variant, which the tables show as well
OVER_SEEDS = ("std", "seeds_se", "seeds_half_width")  # suffixes of the columns of tables with several seeds
PROVENANCE = ("scale", "n", "seeds", "run", "reference", "protocol", "networks", "note", "status")
# The seeds of one row must agree in how they were sampled, otherwise their mean has no meaning. How rows were scored is
# compared by ``mixture.check_one_protocol``.
SAMPLING = ("cfg", "top_k", "top_p", "temperature")


def read_scores(folder: Path) -> Scores:
    """A run's ``scores.json``; ``trained_by`` holds the provenance in ``manifest.json`` if the run was trained here."""
    manifest = folder / "manifest.json"
    trained = read_json(manifest).get("provenance") if manifest.exists() else None
    return read_json(folder / "scores.json") | ({"trained_by": trained} if trained else {})


def _digits(value: float | None) -> float | None:
    """Round to six significant digits: no score is more precise, and the last bits of the arithmetic do not show."""
    return None if value is None else float(f"{value:.6g}")


def _metric(metric: str, records: Sequence[Scores]) -> dict[str, float | None]:
    """Value, standard errors and spread over seeds of one metric.

    ``_se`` is the evaluation's own standard error (finite number of samples); for the mean over k seeds it is
    ``sqrt(sum of squares) / k``. ``_std``, the sample standard deviation over seeds, also includes the scatter between
    trainings. With it come the standard error of the mean over seeds, ``_std / sqrt(k)``, and the half-width of the
    mean's 95% interval, which is Student's quantile (k - 1 degrees of freedom) times that error.
    """
    values = [record["scores"].get(metric) for record in records]
    errors = [record["scores"].get(f"{metric}_se") for record in records]
    complete = bool(values) and None not in values
    cells: dict[str, float | None] = {metric: _digits(fmean(values)) if complete else None}
    known = complete and None not in errors
    cells[f"{metric}_se"] = _digits(sum(error**2 for error in errors) ** 0.5 / len(errors)) if known else None
    several = complete and len(values) > 1
    found = (stdev(values), student.standard_error(values), student.half_width(values)) if several else (None,) * 3
    cells |= {f"{metric}_{kind}": _digits(value) for kind, value in zip(OVER_SEEDS, found, strict=True)}
    if CORRECTED in SCORES[metric].beside:
        corrected = [record["scores"].get(f"{metric}_{CORRECTED}") for record in records]
        has = bool(corrected) and None not in corrected
        cells[f"{metric}_{CORRECTED}"] = _digits(fmean(corrected)) if has else None
    return cells


def _error_of_mean(cells: Mapping[str, Any], metric: str, seeds: int) -> float | None:
    """The unit of a difference: the evaluation's standard error, or with several seeds that of their mean."""
    spread = cells[f"{metric}_std"]
    return cells[f"{metric}_se"] if spread is None else spread / seeds**0.5


def check_row(registry: Registry, key: str, row: Row, records: Sequence[Scores]) -> None:
    """Refuse scores of another run, scale or preset, of other sampling, or of a seed that is there already."""
    for record in records:
        given = f"{cut_seeds(record['base'])[0]}{cut_seeds(record['run'])[1].inputs}"
        was = (given, results_name(record["scale"], record.get("preset", "paper")))
        if was != (row.run, registry.results_name):
            wanted = f"{row.run} at scale {registry.results_name}"
            raise ArtuneError(f"{key}: scores of {was[0]} at scale {was[1]} given for {wanted}")
        for name in SAMPLING:
            if record.get(name) != records[0].get(name):
                both = ", ".join(f"{other['run']} with {brief(other.get(name))}" for other in (records[0], record))
                raise ArtuneError(
                    f"{key}: {row.run}: its seeds were sampled by different settings ({name}: {both}); delete "
                    "scores.json and features.npz of the one that is out of date and give the same command again"
                )
    seeds = [record["seed"] for record in records]
    if len(set(seeds)) != len(seeds):
        raise ArtuneError(f"{key}: {row.run}: a seed is given twice ({seeds})")


def _score_cells(registry: Registry, table: Table, row: Row, records: Sequence[Scores]) -> dict[str, Any]:
    cells: dict[str, Any] = {}
    paper = dict(zip(table.columns, row.paper or (None,) * len(table.columns), strict=True))
    for metric in dict.fromkeys((*table.columns, *table.extra, *WHERE_COMPUTED)):
        cells |= _metric(metric, records)
        if metric in paper:
            here, theirs = cells[metric], paper[metric]
            cells[f"{metric}_paper"] = theirs
            both = here is not None and theirs is not None
            cells[f"{metric}_difference"] = _digits(here - theirs) if both else None
            error = _error_of_mean(cells, metric, len(records))
            cells[f"{metric}_difference_in_se"] = _digits((here - theirs) / error) if both and error else None
    for name in registry.evaluation.references:
        against = [{"scores": record.get("references", {}).get(name, {})} for record in records]
        for metric in AGAINST:
            found = _metric(metric, against)
            cells |= {f"{metric}_{name}": found[metric], f"{metric}_{name}_se": found[f"{metric}_se"]}
    reason = registry.unavailable(str(row.run))
    notes = [registry.about.note, registry.about.notes.get(str(row.run)), *_gaps(records)]
    cells |= {"scale": registry.scale, "run": row.run, "note": "; ".join(note for note in notes if note)}
    cells["status"] = "ok" if records else reason or "missing"
    if records:
        networks = records[0].get("networks") or {}
        cells |= {"n": records[0]["n"], "seeds": len(records)}
        cells |= {name: records[0].get(name) for name in ("reference", "protocol")}
        cells["networks"] = "; ".join(f"{role}: {name}" for role, name in networks.items())
    return cells


def _gaps(records: Sequence[Scores]) -> list[str]:
    """The reasons for numbers that the scores of a row lack."""
    found = dict(pair for record in records for pair in record.get("missing", {}).items())
    return [f"no {name}: {reason}" for name, reason in found.items()]


def _differences(
    registry: Registry, key: str, scores: Mapping[str, Sequence[Scores]], paired: baselines.Paired
) -> dict[str, dict[str, Any]]:
    """Run -> the cells of its differences to the baseline of its block."""
    table, cells = find_table(registry, key), {}
    everything = [record for records in scores.values() for record in records]
    metrics = (*table.columns, *table.extra, *judges_of(table, everything))
    for pair in pairs_of(registry, key):
        baseline, row = ({record["seed"]: record for record in scores.get(run, ())} for run in pair)
        found = baselines.difference_cells(metrics, row, baseline, pair, paired)
        cells[pair[1]] = {name: _digits(cell) if isinstance(cell, float) else cell for name, cell in found.items()}
    return cells


def _score_columns(
    table: Table, several_seeds: bool, judges: Sequence[str], references: Sequence[str], compared: set[str]
) -> list[str]:
    columns = list(table.labels)
    printed = {
        metric
        for row in table.rows
        for metric, value in zip(table.columns, row.paper, strict=False)
        if value is not None
    }
    for metric in (*table.columns, *table.extra, *judges):
        columns.append(metric)
        columns += [f"{metric}_se"] if SCORES[metric].standard_error else []
        columns += [f"{metric}_{kind}" for kind in OVER_SEEDS] if several_seeds else []
        columns += [f"{metric}_{CORRECTED}"] if CORRECTED in SCORES[metric].beside else []
        beside = ("paper", "difference", "difference_in_se") if metric in printed else ()
        columns += [f"{metric}_{kind}" for kind in beside]
        columns += [name for ending in baselines.ENDINGS if (name := f"{metric}_{ending}") in compared]
    for name in references:
        for metric in (metric for metric in AGAINST if metric in columns):
            columns += [f"{metric}_{name}"] + ([f"{metric}_{name}_se"] if SCORES[metric].standard_error else [])
    return [*columns, *(name for name in baselines.PROVENANCE if name in compared), *PROVENANCE]


def judges_of(table: Table, records: Sequence[Scores]) -> list[str]:
    """The judges' scores that the records have beside a table's own columns."""
    judged = {metric for record in records for metric in record["scores"]}
    return [metric for metric in WHERE_COMPUTED if metric in judged and metric not in (*table.columns, *table.extra)]


def build_table(
    registry: Registry, key: str, scores: Mapping[str, Sequence[Scores]], paired: baselines.Paired | None = None
) -> "DataFrame":
    """A table of scores, with one row per row of ``tables.yaml``.

    Args:
        registry: registry of the scores' scale.
        key: name of the table, such as ``table1``.
        scores: base run -> its ``scores.json`` contents, one per seed. A run without any gets empty cells and a
            ``status``: the scale's reason why it is unavailable, otherwise ``missing``.
        paired: differences of rows of one seed to their baselines, from :func:`artune.results.baselines.read_paired`;
            without them only rows of several seeds have any.

    Returns:
        For every metric m: m (mean over seeds), m_se, m_std, m_seeds_se, m_seeds_half_width, m_paper, m_difference
        (here - paper), m_difference_in_se (the same in standard errors of the number here), m_vs_baseline (the
        difference to the baseline of the row's block), m_vs_baseline_se, in that order, m_se only where the metric has
        one, what is over seeds only where a row has several, the paper's only where it prints the metric; the judges'
        scores and the paper's by the reward's networks, where the scale has them; m_{reference} for every further
        reference; then the baseline's run and the seeds that both have, and the columns ``PROVENANCE``.

    Raises:
        ArtuneError: the table is unknown, scores are of another run, scale or preset, or the rows were evaluated by
            different settings.
    """
    from pandas import DataFrame

    table = find_table(registry, key)
    if table.kind != "scores":
        raise ArtuneError(f"{key}: holds votes; build it from the study's tally")
    lines = []
    differences = _differences(registry, key, scores, paired or {})
    for row in table.rows:
        records = sorted(scores.get(str(row.run), ()), key=lambda record: record["seed"])
        check_row(registry, key, row, records)
        labels = dict(zip(table.labels, row_labels(registry, row), strict=True))
        lines.append(labels | _score_cells(registry, table, row, records) | differences.get(str(row.run), {}))
    everything = [record for records in scores.values() for record in records]
    check_one_protocol(key, everything, registry.evaluation)
    several = any((line.get("seeds") or 0) > 1 for line in lines)
    compared = {name for cells in differences.values() for name in cells}
    judges = judges_of(table, everything)
    columns = _score_columns(table, several, judges, registry.evaluation.references, compared)
    frame = DataFrame([{column: line.get(column) for column in columns} for line in lines], columns=columns)
    numbers = [name for name in columns[len(table.labels) : -len(PROVENANCE)] if name not in baselines.PROVENANCE]
    kinds = {name: "float64" for name in numbers}
    kinds |= {name: "Int64" for name in ("n", "seeds", "baseline_seeds") if name in columns}
    frame = frame.astype(kinds)
    frame.attrs["code"] = say_versions(code_versions(everything))  # for the caption
    return frame


def write_csv(frame: "DataFrame", path: Path | str) -> None:
    """Write a table as CSV: UTF-8, LF, empty cells where there is no number, the same bytes every time."""
    write_text(path, frame.to_csv(index=False, lineterminator="\n", float_format="%.6g"))
