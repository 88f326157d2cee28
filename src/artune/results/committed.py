"""Both verdicts of every claim from a folder of committed tables, where the files of the runs are gone."""

import csv
from pathlib import Path
from typing import Any

from artune.config.registry import Registry
from artune.errors import ArtuneError
from artune.results.claims import Judged, claims_csv, count
from artune.results.comparisons import Evidence, compare_all, score_of
from artune.results.verdicts import BOTH, Comparison, Measure
from artune.runtime.files import write_text


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
