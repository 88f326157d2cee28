"""Standard error of a metric from its n leave-one-out values."""

from torch import Tensor


def standard_error(left_out: Tensor) -> float:
    """Jackknife standard error ``sqrt((n-1)/n sum_i (v_i - mean)^2)`` of leave-one-out values [n].

    A constant added to all values changes nothing. For the paired error of a difference of two metrics on the same
    samples, give the differences of their values.
    """
    n = len(left_out)
    return float(((left_out - left_out.mean()).square().sum() * (n - 1) / n).sqrt())
