"""Numbers with standard errors, and the verdict on a claim that follows from the difference of two of them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, median, stdev

from artune.metrics import student

HOLDS, PARTLY, WITHIN, CONTRARY, UNTESTED = "holds", "holds in part", "within error", "does not hold", "not tested"
VERDICTS = (HOLDS, PARTLY, WITHIN, CONTRARY, UNTESTED)
# Who measured a comparison: the reward's own network, as in the paper; judges that no reward used; both alike, as where
# no network measures; a further judge, whose comparison is shown and decides nothing.
REWARD, JUDGES, BOTH, FURTHER = "reward", "judges", "both", "further"


@dataclass(frozen=True)
class Measure:
    """A number and its standard error (None: unknown)."""

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
    by: str = BOTH  # REWARD, JUDGES, BOTH or FURTHER
    network: str = ""  # name of the network that measured, if one did
    quantity: str = ""  # what was compared, whoever measured it: equal in all comparisons of the same scores


def difference_of(
    pairs: Sequence[tuple[Measure, Measure]], factor: float = 1.0, margin: float = 0.0
) -> tuple[float, float | None]:
    """Mean of ``left - factor * right - margin`` over seeds, and its standard error.

    The error combines the errors of the two measurements. With several seeds it is the larger of that and the standard
    error of the differences per seed, which includes the scatter between trainings.

    Args:
        pairs: left and right, one pair per seed.
        factor: factor of the right value.
        margin: number added to the right value.

    Returns:
        The difference and its error, which is None for a single seed if the error of a measurement is unknown.
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


def limit_of(pairs: Sequence[tuple[Measure, Measure]], factor: float = 1.0, margin: float = 0.0) -> float | None:
    """The size beyond which the sign of :func:`difference_of` counts; None without a known error.

    It is two standard errors of the measurements. With k seeds it is the larger of that and the standard error of the
    differences per seed times Student's 97.5% quantile with k - 1 degrees of freedom: 12.7 errors for 2 seeds, 4.3 for
    3, 2.8 for 5, since few seeds say little of their own scatter.
    """
    errors = [difference_of([pair], factor, margin)[1] for pair in pairs]
    known = [error for error in errors if error is not None]
    limits = [2 * math.hypot(*known) / len(pairs)] if len(known) == len(pairs) else []
    if len(pairs) > 1:
        limits.append(student.half_width([difference_of([pair], factor, margin)[0] for pair in pairs]))
    return max(limits, default=None)


def judge(difference: float, error: float | None, sign: int, limit: float | None = None) -> str:
    """The verdict on a difference, whose sign counts only beyond a limit.

    Args:
        difference: the measured difference.
        error: its standard error; without one (None) the verdict is "within error".
        sign: +1 if the claim is that the difference is positive, -1 if negative.
        limit: from :func:`limit_of`; None: two standard errors.
    """
    if error is None or abs(difference) <= (2 * error if limit is None else limit):
        return WITHIN
    return HOLDS if sign * difference > 0 else CONTRARY


def overall(verdicts: Sequence[str]) -> str:
    """The verdict on a claim from those on its comparisons; a single comparison to the contrary decides against it."""
    found = {verdict for verdict in verdicts if verdict != UNTESTED}
    if not found:
        return UNTESTED
    if CONTRARY in found:
        return CONTRARY
    return found.pop() if len(found) == 1 else PARTLY


def mean_of(values: Sequence[float]) -> Measure:
    """Mean over a part of a curve; its error accounts for the correlation between neighbours (lag 1)."""
    mean = fmean(values)
    left = [value - mean for value in values]
    power = sum(value**2 for value in left)
    alike = sum(a * b for a, b in pairwise(left)) / power if power else 0.0
    alike = min(max(alike, 0.0), 0.9)
    return Measure(mean, stdev(values) / math.sqrt(len(values)) * math.sqrt((1 + alike) / (1 - alike)))


def median_of(values: Sequence[float]) -> Measure:
    """Median, which the outliers of a busy machine do not shift, and its standard error for a normal distribution."""
    middle = median(values)
    spread = 1.4826 * median(abs(value - middle) for value in values)
    return Measure(middle, 1.2533 * spread / math.sqrt(len(values)))


def preference(ours: float, tie: float, pretrained: float) -> Measure:
    """Share of votes for ours minus the share for pretrained, with its multinomial error."""
    total = ours + tie + pretrained
    value = (ours - pretrained) / total
    return Measure(value, math.sqrt(max((ours + pretrained) / total - value**2, 0.0) / total))
