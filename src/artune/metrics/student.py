"""Student's t: the error of a mean over few seeds, and what it shows."""

import math
from collections.abc import Sequence
from statistics import stdev

LEVEL = 0.95  # of the intervals


def standard_error(values: Sequence[float]) -> float:
    """Standard error of the mean of k >= 2 values, one per seed: their sample standard deviation / sqrt(k)."""
    return stdev(values) / math.sqrt(len(values))


def quantile(seeds: int) -> float:
    """The number of standard errors over ``seeds`` >= 2 seeds within which a mean lies in 95% of cases.

    It is the 97.5% quantile of Student's distribution with seeds - 1 degrees of freedom: 12.7 for 2 seeds, 2.78 for 5.
    """
    from scipy.stats import t

    return float(t.ppf((1 + LEVEL) / 2, seeds - 1))


def half_width(values: Sequence[float]) -> float:
    """Half of the 95% interval of the mean of k >= 2 values."""
    return quantile(len(values)) * standard_error(values)


def two_sided(difference: float, error: float, seeds: int) -> float:
    """Two-sided p-value of a mean over ``seeds`` >= 2 seeds with the standard error ``error`` over them."""
    if error == 0:
        return 1.0 if difference == 0 else 0.0
    from scipy.stats import t

    return float(2 * t.sf(abs(difference) / error, seeds - 1))
