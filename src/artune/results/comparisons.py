"""The tests of a claim: each reads result files, compares two numbers and states the outcome."""

import csv
import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from artune.config.claims import Claim, CurveTest, SameTest, ScoreTest, TimeTest, VoteTest, minus, plus
from artune.config.glossary import COLUMNS, SCORES, renamed
from artune.config.paper import paper_values
from artune.config.registry import Registry
from artune.config.tables import VOTES
from artune.config.yaml_layers import leaves
from artune.errors import ArtuneError, no_such_file
from artune.results.measurers import Measurer, measurers
from artune.results.mixture import check_one_protocol
from artune.results.verdicts import (
    BOTH,
    CONTRARY,
    HOLDS,
    REWARD,
    UNTESTED,
    Comparison,
    Measure,
    difference_of,
    judge,
    limit_of,
    mean_of,
    median_of,
    preference,
)
from artune.runtime.files import read_json, read_jsonl

SHARE = 5  # a curve's start and end are its first and last 1 / SHARE of the iterations
SeedPairs = list[tuple[Measure, Measure]]  # left and right of a comparison, one pair per seed


class Evidence:
    """The files of one scale, read when a test asks for them.

    Args:
        registry: registry of the scale.
        results: ``results/{scale}``.
        seeds: number of seeds of every run.
    """

    def __init__(self, registry: Registry, results: Path, seeds: int):
        self.registry, self.results, self.seeds = registry, results, seeds
        self._json, self._lines = functools.cache(read_json), functools.cache(_log)
        self._scored: dict[Path, dict[str, Any]] = {}

    def _folders(self, run: str) -> list[Path]:
        return [self.results / "runs" / name for name in self.registry.seed_names(run, self.seeds)]

    def scores(self, run: str, metric: str) -> list[Measure | None]:
        """A run's score for every seed, None where it was not measured.

        Raises:
            ArtuneError: no such file, or it was scored by other settings than the files that were read before.
        """
        folders = self._folders(run)
        if not self._scored.keys() >= set(folders):
            self._scored |= {folder: self._json(folder / "scores.json") for folder in folders}
            check_one_protocol("claims", list(self._scored.values()), self.registry.evaluation)
        return [score_of(self._scored[folder], metric) for folder in folders]

    def logged(self, run: str, keys: str, file: str) -> list[list[float]]:
        """For every seed, a logged number (or the sum of several) over the iterations."""
        return [
            [sum(_number(line, key, folder / file) for key in plus(keys)) for line in self._lines(folder / file)]
            for folder in self._folders(run)
        ]

    def votes(self, setting: str, task: str) -> dict[str, str]:
        """The row of the human study's table for a setting and a task."""
        key, table = next((key, table) for key, table in self.registry.tables.items() if table.kind == "study")
        path = self.results / "tables" / f"{key}.csv"
        try:
            lines = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
        except FileNotFoundError as error:
            raise no_such_file(path) from error
        return next(line for line in lines if [line[label] for label in table.labels] == [setting, task])

    def paper_votes(self, setting: str, task: str) -> Measure:
        """The preference that the paper reports for a setting and a task."""
        table = next(table for table in self.registry.tables.values() if table.kind == "study")
        row = next(row for row in table.rows if row.labels == (setting, task))
        counts = dict(zip(table.columns, row.paper, strict=True))
        return preference(*(float(counts[choice] or 0) for choice in VOTES))


def _log(path: Path) -> list[dict[str, Any]]:
    return [renamed(line) for line in read_jsonl(path)]


def score_of(record: Mapping[str, Any], metric: str) -> Measure | None:
    """A score and its standard error; without one, a binomial score's is computed from the number of samples."""
    value, error = record["scores"].get(metric), record["scores"].get(f"{metric}_se")
    if value is None:
        return None
    if error is None and SCORES[metric].binomial:
        error = math.sqrt(value * (1 - value) / record["n"])
    return Measure(value, error)


def _number(line: Mapping[str, Any], key: str, path: Path) -> float:
    if line.get(key) is None:
        raise ArtuneError(f"{path}: a line has no {key}; train the run again")
    return float(line[key])


def compare_all(claim: Claim, evidence: Evidence) -> Iterator[Comparison]:
    """Every comparison of a claim."""
    for scores in claim.scores:
        for metric in (*scores.lower, *scores.higher):
            yield from compare_scores(scores, metric, evidence)
    for curve in claim.curves:
        for keys in (*curve.rises, *curve.falls):
            yield compare_curve(curve, keys, evidence)
    yield from (compare_times(times, evidence) for times in claim.times)
    yield from (compare_votes(votes, evidence) for votes in claim.votes)
    yield from (compare_settings(same, evidence) for same in claim.same)


def compare_scores(test: ScoreTest, metric: str, evidence: Evidence) -> Iterator[Comparison]:
    """Compare one score of two runs, or of two differences between runs, once for each who measures it."""
    for measurer in measurers(metric, evidence.registry.evaluation):
        found = _compare(test, metric, measurer, evidence)
        quantity = found.what.replace(COLUMNS[measurer.score].heading, COLUMNS[metric].heading, 1)
        yield replace(found, by=measurer.by, network=measurer.network, quantity=quantity)


def _compare(test: ScoreTest, metric: str, measurer: Measurer, evidence: Evidence) -> Comparison:
    """One comparison; the paper's values stand where it was measured as the paper measures."""
    sign, column = -1 if metric in test.lower else 1, COLUMNS[measurer.score]
    factor = "" if test.factor == 1.0 else f"{test.factor:g} times "
    margin = "" if test.margin == 0.0 else f" {'+' if test.margin > 0 else '-'} {abs(test.margin):g}"
    what = f"{column.heading} of {test.left} {'below' if sign < 0 else 'above'} {factor}that of {test.right}{margin}"
    theirs = [_paper(side, metric, evidence.registry) for side in (test.left, test.right)]
    known = [value for value in theirs if value is not None and measurer.by in (REWARD, BOTH)]
    paper, agrees = "", None
    if len(known) == 2:
        paper = " against ".join(f"{value:.{column.paper_decimals}f}" for value in known)
        agrees = sign * (known[0] - test.factor * known[1] - test.margin) > 0

    def untested(reason: str) -> Comparison:
        return Comparison(what, UNTESTED, paper=paper, paper_agrees=agrees, reason=reason)

    for run in (*minus(test.left), *minus(test.right)):
        if why := evidence.registry.unavailable(run):
            return untested(f"{run} is not to be had at this scale ({why})")
    if measurer.reason:
        return untested(measurer.reason)
    sides = [_measured(side, measurer.score, evidence) for side in (test.left, test.right)]
    pairs = [(left, right) for left, right in zip(*sides, strict=False) if left is not None and right is not None]
    if len(pairs) < min(map(len, sides)):
        return untested(f"{column.heading} is not measured at this scale")
    return _judged(what, pairs, sign, column.decimals, test.factor, test.margin, paper, agrees)


def _measured(runs: str, metric: str, evidence: Evidence) -> list[Measure | None]:
    """For every seed, the score of a run, or the difference between the scores of two runs."""
    first, *rest = (evidence.scores(run, metric) for run in minus(runs))
    if not rest:
        return first
    both = zip(first, rest[0], strict=False)
    return [None if a is None or b is None else Measure(*difference_of([(a, b)])) for a, b in both]


def _paper(runs: str, metric: str, registry: Registry) -> float | None:
    values = [paper_values(registry, run).get(metric) for run in minus(runs)]
    known = [value for value in values if value is not None]
    return None if len(known) < len(values) else known[0] - sum(known[1:])


def compare_curve(test: CurveTest, keys: str, evidence: Evidence) -> Comparison:
    """Compare the end of a training with its start."""
    sign = 1 if keys in test.rises else -1
    what = (
        f"{keys} of {test.run} {'rises' if sign > 0 else 'falls'}: the last fifth of its iterations against the first"
    )
    pairs: SeedPairs = []
    for values in evidence.logged(test.run, keys, "metrics.jsonl"):
        part = max(2, len(values) // SHARE)
        pairs.append((mean_of(values[-part:]), mean_of(values[:part])))
    return _judged(what, pairs, sign, 4)


def compare_times(test: TimeTest, evidence: Evidence) -> Comparison:
    """Compare the seconds of two stages, as a ratio."""
    factor, sign, side = (test.below, -1, "below") if test.below else (test.above or 1.0, 1, "above")
    stages = ((test.left, test.stage), (test.right, test.of or test.stage))
    left, right = ([median_of(values) for values in evidence.logged(*stage, "timings.jsonl")] for stage in stages)
    pairs = list(zip(left, right, strict=False))  # the seeds that both have
    difference, error = difference_of(pairs, factor)
    sides = zip(*pairs, strict=True)
    seconds = " against ".join(f"{1000 * fmean(measure.value for measure in part):.3g} ms" for part in sides)
    ratio = fmean(a.value / b.value for a, b in pairs)
    return Comparison(
        what=f"{test.stage} of {test.left} {side} {factor:g} times {test.of or 'that'} of {test.right}",
        verdict=judge(difference, error, sign, limit_of(pairs, factor)),
        measured=f"{seconds}: {ratio:.3g} times",
        difference=difference,
        error=error,
        paper="" if test.paper is None else f"{test.paper:g} times",
        paper_agrees=None if test.paper is None else sign * (test.paper - factor) > 0,
    )


def compare_votes(test: VoteTest, evidence: Evidence) -> Comparison:
    """Compare people's preferences. Without votes nothing is tested; the automatic judge's counts are quoted."""
    settings = [test.setting, *([test.more_than] if test.more_than else [])]
    what = f"{test.setting}, {test.task}: share for ours less share for pretrained above "
    what += f"that with {test.more_than}" if test.more_than else "0"
    theirs = [evidence.paper_votes(setting, test.task) for setting in settings]
    paper, agrees = _percent(theirs), theirs[0].value > (theirs[1].value if test.more_than else 0.0)
    rows = [evidence.votes(setting, test.task) for setting in settings]
    if not all(row["ours"].isdigit() for row in rows):
        judged = [rows[0].get(f"judge_{choice}") for choice in VOTES]
        counts = f"automatic judge, not people: {judged[0]} ours, {judged[1]} tie, {judged[2]} pretrained"
        told = counts if all(judged) else ""
        return Comparison(what, UNTESTED, told, paper=paper, paper_agrees=agrees, reason="no votes yet")
    found = [preference(*(float(row[choice]) for choice in VOTES)) for row in rows]
    difference, error = difference_of([(found[0], found[1] if test.more_than else Measure(0.0, 0.0))])
    return Comparison(what, judge(difference, error, 1), _percent(found), difference, error, paper, agrees)


def _percent(measures: Sequence[Measure]) -> str:
    return " against ".join(
        f"{100 * measure.value:+.0f} ± {100 * (measure.error or 0.0):.0f} %" for measure in measures
    )


def compare_settings(test: SameTest, evidence: Evidence) -> Comparison:
    """Compare the settings of runs; nothing is measured, only the configuration is read."""
    specs = [evidence.registry.spec(run) for run in test.runs]
    trees = [leaves({key: spec[key] for key in test.sections}) for spec in specs]
    keys = dict.fromkeys(key for tree in trees for key in tree)
    differing = [key for key in keys if any(tree.get(key) != trees[0].get(key) for tree in trees)]
    told = f"they differ in {', '.join(differing)}" if differing else f"all {len(keys)} settings are equal"
    what = f"{', '.join(test.sections)} of {', '.join(test.runs)} are the same"
    return Comparison(what, CONTRARY if differing else HOLDS, told)


def _judged(
    what: str,
    pairs: SeedPairs,
    sign: int,
    decimals: int,
    factor: float = 1.0,
    margin: float = 0.0,
    paper: str = "",
    agrees: bool | None = None,
) -> Comparison:
    difference, error = difference_of(pairs, factor, margin)
    plain, spread = difference_of(pairs)
    sides = (_side([pair[at] for pair in pairs], decimals) for at in (0, 1))
    told = f"{' against '.join(sides)}: {plain:+.{decimals}f}" + _error(spread, decimals)
    verdict = judge(difference, error, sign, limit_of(pairs, factor, margin))
    return Comparison(what, verdict, told, difference, error, paper, agrees)


def _side(measures: Sequence[Measure], decimals: int) -> str:
    """Text such as ``0.86 ± 0.13``: the evaluation's standard error, or the standard deviation over several seeds."""
    values = [measure.value for measure in measures]
    return f"{fmean(values):.{decimals}f}" + _error(stdev(values) if len(values) > 1 else measures[0].error, decimals)


def _error(error: float | None, decimals: int) -> str:
    return "" if error is None else f" ± {error:.{decimals}f}"
