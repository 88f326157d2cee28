"""The range in which a table's numbers are expected, from the trainings with other seeds and on other machines so far.

``docs/results-{scale}/expected.csv`` holds one line per number, or per mean of several trainings where the single ones
were not kept. A processor that rounds in another way trains another
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
SIGNED = ("kid", "clip_score")  # beginnings of scores that may be negative; a range of the others ends at 0


@dataclass(frozen=True)
class Seen:
    """A score that was measured, of one training or as the mean of several.

    Args:
        run: the run's name in ``config/experiments.yaml``, without its seeds.
        name: the run's name with all its seeds; of a mean, words that say which trainings.
        metric: key of :data:`artune.config.glossary.SCORES`.
        value: the score.
        machine: the machine that trained it, in words.
        commit: version of the code.
        trainings: number of trainings whose mean it is.
        std: their sample standard deviation; 0 for one training.
        source: file that the number was taken from.
    """

    run: str
    name: str
    metric: str
    value: float
    machine: str
    commit: str
    trainings: int = 1
    std: float = 0.0
    source: str = "scores.json"


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
            Seen(
                run=line["run"],
                name=line["name"],
                metric=line["metric"],
                value=float(line["value"]),
                machine=line["machine"],
                commit=line["commit"],
                trainings=int(line.get("trainings") or 1),
                std=float(line.get("std") or 0.0),
                source=line.get("source") or "scores.json",
            )
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
    for key in sorted(latest):
        seen = latest[key]
        told = {"value": f"{seen.value:.6g}", "std": f"{seen.std:.6g}" if seen.trainings > 1 else ""}
        writer.writerow(asdict(seen) | told)
    write_text(path, table.getvalue())
    return len(latest)


def expected_range(values: Sequence[float], machines: int = 1) -> Range | None:
    """Student's 95 % prediction interval for one further value; None below three values.

    With mean m, standard deviation s and k values it is m ± t(.975, k - 1) s sqrt(1 + 1 / k).
    """
    return _interval(len(values), fmean(values), stdev(values), machines) if len(values) >= LEAST else None


def _interval(count: int, mean: float, spread: float, machines: int) -> Range:
    from scipy.stats import t

    half = float(t.ppf(0.975, count - 1)) * spread * math.sqrt(1 + 1 / count)
    return Range(mean - half, mean + half, count, machines)


def range_of(seen: Iterable[Seen], run: str, metric: str) -> Range | None:
    """The expected range of a run's metric; None where too few trainings are known."""
    found = [number for number in seen if (number.run, number.metric) == (run, metric)]
    # The same training on two machines that round alike is one training.
    kept = {(number.name, number.value): number for number in found}.values()
    count = sum(number.trainings for number in kept)
    if count < LEAST:
        return None
    mean = sum(number.trainings * number.value for number in kept) / count
    # The sum of squares about the common mean, of single trainings and of groups whose mean and spread are known.
    squares = sum(
        (number.trainings - 1) * number.std**2 + number.trainings * (number.value - mean) ** 2 for number in kept
    )
    spread = math.sqrt(squares / (count - 1))
    return _interval(count, mean, spread, len({number.machine for number in found}))


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


def compare_with_seen(
    table: Table, rows: Sequence[Mapping[str, str]], seen: Sequence[Seen], results: str = "results/*"
) -> str:
    """A table's numbers beside their expected ranges, as lines of text, the last of which is the verdict.

    The lines show the paper's columns; the verdict counts all scores that have a range.

    Args:
        table: the table's layout.
        rows: lines of its CSV.
        seen: the numbers of ``expected.csv``.
        results: folder of the scale, for the verdict.
    """
    metrics = [metric for metric in (*table.columns, *table.extra) if metric in SCORES]
    known = {(row["run"], metric): range_of(seen, row["run"], metric) for row in rows for metric in metrics}
    ranges = [found for found in known.values() if found]
    if not ranges:
        return "no range is known for this table; docs/results-*/expected.csv has too few trainings of it"
    if several := sorted({row.get("seeds") or "1" for row in rows} - {"1"}):
        return f"ranges are of one training, this table has the means of {' or '.join(several)}; use seeds: 1"
    texts, outside, far = {}, [], []
    counted = sum(bool(known[row["run"], metric] and row.get(metric)) for row in rows for metric in metrics)
    for row in rows:
        for metric in metrics:
            if (expected := known[row["run"], metric]) is None or not row.get(metric):
                continue
            text, value = _beside(metric, float(row[metric]), expected), float(row[metric])
            texts[row["run"], metric] = text
            if not expected.low <= value <= expected.high:
                outside.append(f"{SCORES[metric].column.heading} {text} of {row['run']}")
                far += [outside[-1]] if _is_far(value, expected, counted) else []
    shown = [metric for metric in table.columns if any(metric == name for _, name in texts)]
    headings = ["", *(SCORES[metric].column.title for metric in shown)]
    body = [[row["run"], *(texts.get((row["run"], metric), "") for metric in shown)] for row in rows]
    lines = ["Expected of one training (95 %) in brackets:", *_aligned([headings, *body])]
    return "\n".join([*lines, _verdict(len(texts), outside, far, ranges, results)])


def _beside(metric: str, value: float, expected: Range) -> str:
    """Text such as ``0.72 (0.25 to 1.61)``."""
    decimals = SCORES[metric].column.decimals
    low = expected.low if metric.startswith(SIGNED) else max(expected.low, 0.0)
    return f"{value:.{decimals}f} ({low:.{decimals}f} to {expected.high:.{decimals}f})"


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of text whose columns are aligned on the left, two spaces apart."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _is_far(value: float, expected: Range, counted: int) -> bool:
    """Whether a number is so far off that not even one of ``counted`` numbers would be by chance (5 %, Bonferroni)."""
    from scipy.stats import t

    ratio = t.ppf(1 - 0.025 / max(1, counted), expected.trainings - 1) / t.ppf(0.975, expected.trainings - 1)
    middle, half = (expected.low + expected.high) / 2, (expected.high - expected.low) / 2
    return abs(value - middle) > float(ratio) * half


def _verdict(counted: int, outside: Sequence[str], far: Sequence[str], ranges: Sequence[Range], results: str) -> str:
    """One line: whether the numbers lie within their ranges, and what to look at if not."""
    least, machines = min(found.trainings for found in ranges), min(found.machines for found in ranges)
    behind = f"{least} or more trainings with other seeds on {machines} machine{'s' if machines > 1 else ''}"
    # One number in twenty lies outside its 95 % range by chance.
    if len(outside) <= max(1, round(counted / 10)) and not far:
        told = f"; outside, as one in twenty is by chance: {'; '.join(outside)}" if outside else ""
        return f"within: {counted - len(outside)} of {counted} numbers lie in the range of {behind}{told}"
    return (
        f"outside: {len(outside)} of {counted} numbers lie outside the range of {behind}: {'; '.join(outside)}. "
        + (f"Too far for chance: {'; '.join(far)}. " if far else "")
        + f"Look at the tokenizer's PSNR and the prior's cross-entropy in {results}/pretrained/*/*.log "
        '(docs/tables.md, "Whether a run went well")'
    )
