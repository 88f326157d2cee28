"""Numbers with errors, and what a difference of two of them says about a claim."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, median, stdev

HOLDS, PARTLY, WITHIN, CONTRARY, UNTESTED = "holds", "holds in part", "within error", "does not hold", "not tested"
VERDICTS = (HOLDS, PARTLY, WITHIN, CONTRARY, UNTESTED)


@dataclass(frozen=True)
class Measure:
    """A number and its standard error, None where it is not known."""

    value: float
    error: float | None = None


@dataclass(frozen=True)
class Comparison:
    """One test of a claim, in numbers for a program and in words for a reader."""

    what: str  # "FID of llamagen_l-ours below that of llamagen_l-argrpo"
    verdict: str
    measured: str = ""  # "0.86 ± 0.13 against 0.96 ± 0.13: -0.10 ± 0.18"
    difference: float | None = None  # left - factor * right - margin
    error: float | None = None  # standard error of the difference
    paper: str = ""  # "3.83 against 6.37"
    paper_agrees: bool | None = None  # whether the paper's own numbers have the claimed sign
    reason: str = ""  # why it was not tested


def difference_of(
    pairs: Sequence[tuple[Measure, Measure]], factor: float = 1.0, margin: float = 0.0
) -> tuple[float, float | None]:
    """Mean of ``left - factor * right - margin`` over seeds, and its standard error.

    The error is that of the two measurements combined. With several seeds it is the larger of that and the standard
    error of the differences seed by seed, which holds the trainings' scatter as well.

    Args:
        pairs: left and right, one pair a seed.
        factor: of the right one.
        margin: added to the right one.

    Returns:
        The difference, and None for the error where that of a measurement is not known.
    """
    differences = [left.value - factor * right.value - margin for left, right in pairs]
    squares = [
        left.error**2 + (factor * right.error) ** 2
        for left, right in pairs
        if left.error is not None and right.error is not None
    ]
    errors = [math.sqrt(sum(squares)) / len(pairs)] if len(squares) == len(pairs) else []
    if len(pairs) > 1:
        errors.append(stdev(differences) / math.sqrt(len(pairs)))
    return fmean(differences), max(errors, default=None)


def judge(difference: float, error: float | None, sign: int) -> str:
    """Whether a difference bears out a claim: its sign, beyond two standard errors.

    Args:
        difference: measured.
        error: its standard error; None is never enough.
        sign: +1 where the claim is that it is positive, -1 negative.
    """
    if error is None or abs(difference) <= 2 * error:
        return WITHIN
    return HOLDS if sign * difference > 0 else CONTRARY


def overall(verdicts: Sequence[str]) -> str:
    """The verdict on a claim from those of its comparisons: one to the contrary is enough against it."""
    found = {verdict for verdict in verdicts if verdict != UNTESTED}
    if not found:
        return UNTESTED
    if CONTRARY in found:
        return CONTRARY
    return found.pop() if len(found) == 1 else PARTLY


def mean_of(values: Sequence[float]) -> Measure:
    """Mean of a stretch of a curve; its error allows for neighbours being alike (correlation of lag 1)."""
    mean = fmean(values)
    left = [value - mean for value in values]
    power = sum(value**2 for value in left)
    alike = sum(a * b for a, b in pairwise(left)) / power if power else 0.0
    alike = min(max(alike, 0.0), 0.9)
    return Measure(mean, stdev(values) / math.sqrt(len(values)) * math.sqrt((1 + alike) / (1 - alike)))


def median_of(values: Sequence[float]) -> Measure:
    """Median, which a busy machine's outliers do not move, and its standard error under normal scatter."""
    middle = median(values)
    spread = 1.4826 * median(abs(value - middle) for value in values)
    return Measure(middle, 1.2533 * spread / math.sqrt(len(values)))


def preference(ours: float, tie: float, pretrained: float) -> Measure:
    """Share of votes for ours less the share for pretrained, with its multinomial error."""
    total = ours + tie + pretrained
    value = (ours - pretrained) / total
    return Measure(value, math.sqrt(max((ours + pretrained) / total - value**2, 0.0) / total))
