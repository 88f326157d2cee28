"""The range in which a table's numbers are expected, from the trainings with other seeds and on other machines so far.

``docs/results-{scale}/expected.csv`` holds one line per number. A processor that rounds in another way trains another
tokenizer, and so every number of an embedded scale depends on it like on a seed.
"""

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from artune.config.glossary import SCORES
from artune.config.seeds import cut_seeds
from artune.config.tables import Table
from artune.errors import ArtuneError
from artune.runtime.files import read_json, write_text

LEAST = 3  # trainings from which a range is told


@dataclass(frozen=True)
class Seen:
    """A number that was measured once.

    Args:
        run: the run's name in ``config/experiments.yaml``, without its seeds.
        name: the run's name with all its seeds.
        metric: key of :data:`artune.config.glossary.SCORES`.
        value: the score.
        machine: the machine that trained it, in words.
        commit: version of the code.
    """

    run: str
    name: str
    metric: str
    value: float
    machine: str
    commit: str


@dataclass(frozen=True)
class Range:
    """The range in which one further training's number lies with 95 % probability.

    Args:
        low: lower end.
        high: upper end.
        trainings: number of trainings behind it.
        machines: number of machines behind it.
    """

    low: float
    high: float
    trainings: int
    machines: int


def read_seen(path: Path) -> list[Seen]:
    """The numbers of an ``expected.csv``; none if there is no such file. Raises ArtuneError: it is damaged."""
    if not path.exists():
        return []
    try:
        lines = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
        return [
            Seen(line["run"], line["name"], line["metric"], float(line["value"]), line["machine"], line["commit"])
            for line in lines
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise ArtuneError(f"{path}: not an expected.csv ({error}); restore it from the repository") from error


def numbers_of(folder: Path, metrics: Iterable[str], machine: str) -> list[Seen]:
    """The scores in a run's folder. Raises ArtuneError: it has no ``scores.json``."""
    record: Mapping[str, Any] = read_json(folder / "scores.json")
    commit = str((record.get("versions") or {}).get("commit") or "unknown")[:7]
    return [
        Seen(record["base"], record["run"], metric, float(f"{record['scores'][metric]:.6g}"), machine, commit)
        for metric in metrics
        if record["scores"].get(metric) is not None
    ]


def write_seen(path: Path, numbers: Iterable[Seen]) -> int:
    """Write an ``expected.csv``; a number that the same machine measured twice is kept once, the later one.

    Returns:
        How many numbers it holds.
    """
    latest = {(seen.machine, seen.name, seen.metric): seen for seen in numbers}
    table = io.StringIO()
    writer = csv.DictWriter(table, [field.name for field in fields(Seen)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(latest[key]) | {"value": f"{latest[key].value:.6g}"} for key in sorted(latest))
    write_text(path, table.getvalue())
    return len(latest)


def expected_range(values: Sequence[float], machines: int = 1) -> Range | None:
    """Student's 95 % prediction interval for one further value; None below three values.

    With mean m, standard deviation s and k values it is m ± t(.975, k - 1) s sqrt(1 + 1 / k).
    """
    from scipy.stats import t

    count = len(values)
    if count < LEAST:
        return None
    half = float(t.ppf(0.975, count - 1)) * stdev(values) * math.sqrt(1 + 1 / count)
    return Range(fmean(values) - half, fmean(values) + half, count, machines)


def range_of(seen: Iterable[Seen], run: str, metric: str) -> Range | None:
    """The expected range of a run's metric; None where too few trainings are known."""
    found = [number for number in seen if (number.run, number.metric) == (run, metric)]
    # The same training on two machines that round alike is one training.
    values = {(number.name, number.value) for number in found}
    return expected_range([value for _, value in sorted(values)], len({number.machine for number in found}))


def add_seen(path: Path, table: Table, runs: Path, machine: str) -> str:
    """Add the numbers of a table's runs, with all their seeds, to an ``expected.csv``.

    Args:
        path: the file; it is made if it is not there.
        table: the table's layout.
        runs: folder of the runs.
        machine: the machine that trained them, in words.
    """
    metrics = [metric for metric in (*table.columns, *table.extra) if metric in SCORES]
    shown = {cut_seeds(str(row.run))[0] for row in table.rows}
    folders = sorted(file.parent for file in runs.glob("*/scores.json") if cut_seeds(file.parent.name)[0] in shown)
    numbers = [seen for folder in folders for seen in numbers_of(folder, metrics, machine)]
    total = write_seen(path, [*read_seen(path), *numbers])
    return f"{path}: {total} numbers, {len(folders)} runs of {machine} among them"


def compare_with_seen(table: Table, rows: Sequence[Mapping[str, str]], seen: Sequence[Seen]) -> str:
    """A table's numbers beside their expected ranges, as lines of text, the last of which is the verdict.

    Args:
        table: the table's layout.
        rows: lines of its CSV.
        seen: the numbers of ``expected.csv``.
    """
    metrics = [metric for metric in (*table.columns, *table.extra) if metric in SCORES]
    width = max(len(row["run"]) for row in rows)
    lines, outside, counted = [], [], 0
    known = {(row["run"], metric): range_of(seen, row["run"], metric) for row in rows for metric in metrics}
    for row in rows:
        cells = []
        for metric in metrics:
            expected, column = known[row["run"], metric], SCORES[metric].column
            if expected is None or not row.get(metric):
                continue
            value, counted = float(row[metric]), counted + 1
            told = f"{expected.low:.{column.decimals}f} to {expected.high:.{column.decimals}f}"
            text = f"{column.heading} {value:.{column.decimals}f} ({told})"
            cells.append(text)
            if not expected.low <= value <= expected.high:
                outside.append(f"{text} of {row['run']}")
        if cells:
            lines.append(f"{row['run']:{width}}  {', '.join(cells)}")
    ranges = [found for found in known.values() if found]
    if not ranges:
        return "expected: no range is known for this table; docs/results-*/expected.csv has too few trainings of it"
    if several := sorted({row.get("seeds") or "1" for row in rows} - {"1"}):
        return f"expected: ranges are of one training, this table has the means of {' or '.join(several)}; use seeds: 1"
    least, machines = min(found.trainings for found in ranges), max(found.machines for found in ranges)
    behind = f"{least} or more trainings with other seeds on {machines} machine{'s' if machines > 1 else ''}"
    # One number in twenty lies outside its 95 % range by chance.
    allowed = max(1, round(counted / 10))
    if len(outside) <= allowed:
        told = f"; outside, as one in twenty is by chance: {'; '.join(outside)}" if outside else ""
        verdict = f"within: {counted - len(outside)} of {counted} numbers lie in the range of {behind}{told}"
    else:
        verdict = (
            f"outside: {len(outside)} of {counted} numbers lie outside the range of {behind}: {'; '.join(outside)}. "
            "Look at the tokenizer's PSNR and the prior's cross-entropy in results/*/pretrained/*/*.log, and at "
            "docs/results-*/README.md"
        )
    return "\n".join(["expected for one training (95 %) in brackets:", *lines, verdict])
