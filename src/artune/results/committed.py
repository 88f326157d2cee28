"""Committed tables, where the files of the runs are gone: both verdicts of every claim, and readable forms again."""

import csv
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from artune.config.paper import find_table, pairs_of
from artune.config.registry import Registry
from artune.errors import ArtuneError
from artune.results.baselines import ENDINGS, PROVENANCE
from artune.results.claims import Judged, claims_csv, count
from artune.results.comparisons import Evidence, compare_all, score_of
from artune.results.verdicts import BOTH, Comparison, Measure
from artune.runtime.files import write_text

if TYPE_CHECKING:
    from pandas import DataFrame

QUADRATURE = "errors of both rows in quadrature (paired ones need the samples, which are gone)"


class TableEvidence(Evidence):
    """The scores of runs of one seed, read from the CSV files of a folder of tables.

    Args:
        registry: registry of the scale.
        folder: folder with ``{table}.csv`` and an earlier ``claims.csv``.

    Raises:
        ArtuneError: a row has several seeds, whose differences seed by seed a table does not hold.
    """

    def __init__(self, registry: Registry, folder: Path):
        super().__init__(registry, folder, 1)
        self._records: dict[str, dict[str, Any]] = {}
        for key, table in registry.tables.items():
            for line in self.lines(key) if table.kind == "scores" else []:
                if (line["seeds"] or "1") != "1":
                    raise ArtuneError(f"{folder / key}.csv: {line['run']}: several seeds; judge from the runs' folder")
                if line["n"]:
                    numbers = {name: float(text) for name, text in line.items() if _is_number(text)}
                    record = self._records.setdefault(line["run"], {"scores": {}, "n": int(line["n"])})
                    record["scores"] |= numbers

    def lines(self, table: str) -> list[dict[str, str]]:
        """The lines of a table's CSV, empty without one."""
        path = self.results / f"{table}.csv"
        return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines())) if path.exists() else []

    def scores(self, run: str, metric: str) -> list[Measure | None]:
        """A run's score, None where no table has it."""
        record = self._records.get(run)
        return [None if record is None else score_of(record, metric)]

    def votes(self, setting: str, task: str) -> dict[str, str]:
        """The row of the human study's table for a setting and a task."""
        key, table = next((key, table) for key, table in self.registry.tables.items() if table.kind == "study")
        return next(line for line in self.lines(key) if [line[label] for label in table.labels] == [setting, task])


def _is_number(text: str | None) -> bool:
    try:
        float(text or "")
    except ValueError:
        return False
    return True


def judge_tables(registry: Registry, folder: Path) -> list[Judged]:
    """Judge every claim from a folder of tables.

    Seconds and curves stand in no table: their claims keep the verdict of the folder's claims.csv, which is the same on
    both sides.

    Raises:
        ArtuneError: the folder has no claims.csv, or as :class:`TableEvidence`.
    """
    evidence = TableEvidence(registry, folder)
    earlier = {line["id"]: line for line in evidence.lines("claims")}
    if not earlier:
        raise ArtuneError(
            f"{folder / 'claims.csv'}: no such file; the verdicts on seconds and curves are taken from it"
        )
    judged = []
    for key, claim in registry.claims.items():
        if reason := claim.why_not(registry.scale):
            judged.append(Judged(key, claim, (), reason))
        elif (claim.times or claim.curves) and key in earlier:
            line = earlier[key]
            verdict = line.get("verdict") or line["verdict_as_paper"]
            what, told = (line.get("measured") or line["measured_as_paper"]).split(": ", 1)
            kept = Comparison(what, verdict, told.removesuffix(f" ({verdict})"), by=BOTH)
            judged.append(Judged(key, claim, (kept,)))
        else:
            judged.append(Judged(key, claim, tuple(compare_all(claim, evidence))))
    return judged


def write_table_claims(registry: Registry, folder: Path, output: Path) -> str:
    """Write claims.csv by :func:`judge_tables`."""
    judged = judge_tables(registry, folder)
    shared = {"scale": registry.scale, "seeds": 1, "note": registry.about.note}
    write_text(output, claims_csv(judged, shared))
    return f"{output}: from the tables of {folder}: {count(judged)}"


def read_table(registry: Registry, key: str, path: Path) -> "DataFrame":
    """A table of scores from its CSV, as :func:`artune.results.tables.build_table` made it.

    A CSV that is older than the differences to the baselines gets them from its own numbers: rows of one seed with
    errors in quadrature, which are too large where two rows share labels and random numbers, as they do; rows of
    several seeds from ``{table}.seeds.csv`` beside it, or not at all.

    Raises:
        ArtuneError: the table holds votes, there is no such file, or it is not a CSV of this table.
    """
    from pandas import read_csv, to_numeric

    table = find_table(registry, key)
    if table.kind != "scores":
        raise ArtuneError(f"{key}: holds votes; make it again from the tally of the study")
    try:
        frame = read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise ArtuneError(f"{path}: not the CSV of a table ({error}); restore it from the repository") from error
    runs = [row.run for row in table.rows]
    absent = [name for name in (*table.labels, *table.columns, "run", "n", "seeds", "status") if name not in frame]
    if absent or list(frame["run"]) != runs:
        told = f"no column {absent[0]}" if absent else "other runs"
        raise ArtuneError(f"{path}: not the CSV of {key} as config/tables.yaml has it ({told}); give the one of {key}")
    words = {*table.labels, "scale", "run", "reference", "protocol", "networks", "note", "status", PROVENANCE[0]}
    for name in (name for name in frame if name not in words):
        frame[name] = to_numeric(frame[name].replace("", None))
    frame = frame.astype({name: "Int64" for name in ("n", "seeds", PROVENANCE[1]) if name in frame})
    return frame if PROVENANCE[0] in frame else _with_differences(frame, registry, key, path)


def _with_differences(frame: "DataFrame", registry: Registry, key: str, path: Path) -> "DataFrame":
    """An older CSV with differences to the baselines, as far as its numbers and the file beside it have them."""
    from pandas import DataFrame, concat

    table = find_table(registry, key)
    beside = path.with_suffix(".seeds.csv")
    seeded = list(csv.DictReader(beside.read_text(encoding="utf-8").splitlines())) if beside.exists() else []
    lines = frame.to_dict("records")
    found: dict[str, dict[str, Any]] = {}
    for first, second in pairs_of(registry, key):
        baseline, row = (next(line for line in lines if line["run"] == run) for run in (first, second))
        cells = {}
        for metric in (name for name in (*table.columns, *table.extra) if name in frame):
            base, own = _measured(baseline, metric), _measured(row, metric)
            if base and own and row["seeds"] == baseline["seeds"] == 1:
                cells[metric] = (own[0] - base[0], math.hypot(base[1], own[1]), 1)
        for line in seeded:
            if (line["first"], line["second"]) == (first, second):
                cells[line["metric"]] = (float(line["mean"]), float(line["se"]), int(line["seeds"]))
        for metric, (value, error, seeds) in cells.items():
            named = dict(zip((f"{metric}_{ending}" for ending in ENDINGS), (value, error), strict=True))
            found.setdefault(second, {}).update(named | dict(zip(PROVENANCE, (first, seeds), strict=True)))
    columns = dict.fromkeys(name for cells in found.values() for name in cells)
    added = DataFrame({name: [found.get(run, {}).get(name) for run in frame["run"]] for name in columns}, frame.index)
    frame = concat([frame, added], axis=1)
    if PROVENANCE[1] in frame:
        frame = frame.astype({PROVENANCE[1]: "Int64"})
    frame.attrs["errors"] = QUADRATURE
    return frame


def _measured(line: dict[Any, Any], metric: str) -> tuple[float, float] | None:
    """A row's score and its standard error; None without either."""
    numbers = {
        name: float(line[name]) for name in (metric, f"{metric}_se") if name in line and line[name] == line[name]
    }
    if metric not in numbers:
        return None
    measure = score_of({"scores": numbers, "n": line["n"]}, metric)
    return None if measure is None or measure.error is None else (measure.value, measure.error)
