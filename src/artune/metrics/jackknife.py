"""Leave-one-out values of a metric of n samples, and its standard error from them."""

from typing import NamedTuple

from torch import Tensor


class Jackknifed(NamedTuple):
    """A metric of n samples: its value, and its values [n] without each sample, up to a constant."""

    value: float
    left_out: Tensor


def mean_left_out(values: Tensor) -> Jackknifed:
    """The mean of values [n], and the means without each of them, in float64."""
    values = values.double()
    return Jackknifed(float(values.mean()), (values.sum() - values) / (len(values) - 1))


def standard_error(left_out: Tensor) -> float:
    """Jackknife standard error ``sqrt((n-1)/n sum_i (v_i - mean)^2)`` of leave-one-out values [n].

    A constant added to all values changes nothing. For the paired error of a difference of two metrics on the same
    samples, give the differences of their values.
    """
    n = len(left_out)
    return float(((left_out - left_out.mean()).square().sum() * (n - 1) / n).sqrt())
